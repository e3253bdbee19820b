"""A directory archive read as a tar, by the real pg_restore of each major."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backups.archive import Entry
from reconciler.backups.tarred import as_tar
from reconciler.backups.toc import large_object_files, read_toc
from reconciler.errors import Corrupt
from reconciler.postgres.environment import child_environment
from tests.postgres.odd_schema import odd_database
from tests.servers.postgres import BINARIES, Server, postgres, postgres18, postgres_servers

__all__ = ["postgres", "postgres18", "postgres_servers"]

TABLES = """CREATE TABLE big AS SELECT n, repeat('x', 99) FROM generate_series(1, 20000) n; CREATE TABLE empty (v int);
CREATE SCHEMA "Odd; One"; CREATE TABLE "Odd; One"."a
b" (v text); INSERT INTO "Odd; One"."a
b" VALUES ('ü')"""
LARGE_OBJECTS = "SELECT lo_from_bytea(0, convert_to(repeat('lo' || n, 3000), 'UTF8')) FROM generate_series(1, 5) n"


def dumped(server: Server, database: str, folder: Path) -> Path:
    server.run("pg_dump", "--format=directory", "--compress=0", "--jobs=2", f"--file={folder}", database=database)
    return folder


def tar(folder: Path) -> Iterator[bytes]:
    def open_file(name: str) -> tuple[int, list[bytes]]:
        data = (folder / name).read_bytes()
        return len(data), [data[start : start + 5000] for start in range(0, len(data), 5000)]

    return as_tar((folder / "toc.dat").read_bytes(), open_file)


@pytest.fixture
def archive(postgres: Server, tmp_path: Path) -> tuple[str, Path]:
    database = odd_database(postgres)
    postgres.execute(f"{LARGE_OBJECTS}; {TABLES}", database)
    return database, dumped(postgres, database, tmp_path / "archive")


def test_it_restores_from_a_pipe(postgres: Server, archive: tuple[str, Path]) -> None:
    """The tar is the database: schema, rows and large objects are those of the original, in one transaction."""
    database, folder = archive
    copy = postgres.new_database()

    postgres.run("pg_restore", "--exit-on-error", "--single-transaction", database=copy, stdin=b"".join(tar(folder)))

    assert postgres.schema_text(database) == postgres.schema_text(copy)


def test_it_is_what_pg_dump_writes_as_tar(postgres18: Server, tmp_path: Path) -> None:
    """File for file, in the same order."""
    database = postgres18.new_database(f"{LARGE_OBJECTS}; {TABLES}")
    folder = dumped(postgres18, database, tmp_path / "archive")
    written = io.BytesIO(postgres18.run("pg_dump", "--format=tar", database=database))
    with tarfile.open(fileobj=written) as theirs, tarfile.open(fileobj=io.BytesIO(b"".join(tar(folder)))) as ours:
        names = [name for name in theirs.getnames() if name != "restore.sql"]

        assert names == ours.getnames()
        assert [_read(theirs, name) for name in names[1:]] == [_read(ours, name) for name in names[1:]]


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def test_its_end_is_in_the_last_chunk(postgres18: Server, tmp_path: Path) -> None:
    """pg_restore can't do without the last chunk: who holds it back keeps it from committing."""
    database = postgres18.new_database("CREATE TABLE t AS SELECT n FROM generate_series(1, 9) n")
    chunks = list(tar(dumped(postgres18, database, tmp_path / "archive")))

    rows = b"".join(b"%d\n" % number for number in range(1, 10))
    assert chunks[-1].startswith(rows)
    assert rows not in b"".join(chunks[:-1])


def test_its_end_after_large_objects(postgres18: Server, tmp_path: Path) -> None:
    """Of the list that follows them pg_restore reads only the name, and is done: so it is no chunk of its own."""
    database = postgres18.new_database("SELECT lo_from_bytea(0, 'the only one')")
    chunks = list(tar(dumped(postgres18, database, tmp_path / "archive")))

    assert b"the only one" in chunks[-1]
    assert b"blobs" in chunks[-1]


def test_the_table_of_contents(postgres: Server, archive: tuple[str, Path]) -> None:
    """Every entry as pg_restore lists it, and every file of the folder is some entry's, or a large object."""
    _, folder = archive
    argv = [str(BINARIES[postgres.major] / "pg_restore"), "--list", str(folder)]
    listed = subprocess.run(argv, env=child_environment(None), capture_output=True, text=True, check=True).stdout
    entries = read_toc((folder / "toc.dat").read_bytes())

    numbers = [int(line.partition(";")[0]) for line in listed.splitlines() if line and not line.startswith(";")]
    assert set(numbers) <= {entry.number for entry in entries}
    assert any(_is(entry, "TABLE DATA", "public", "big") for entry in entries)
    files = {entry.file for entry in entries if entry.file}
    lists = [entry.file for entry in entries if entry.kind == "BLOBS"]
    files |= {name for file in lists for name in large_object_files((folder / file).read_bytes())}
    assert {file.name for file in folder.iterdir()} == files | {"toc.dat"}


def _is(entry: Entry, kind: str, schema: str, name: str) -> bool:
    return (entry.kind, entry.schema, entry.name) == (kind, schema, name) and entry.file.endswith(".dat")


def test_what_is_no_table_of_contents(postgres18: Server, tmp_path: Path) -> None:
    """Torn anywhere, or something else, it is corrupt, and never a shorter archive."""
    folder = dumped(postgres18, postgres18.new_database("CREATE TABLE t (v int)"), tmp_path / "archive")
    whole = (folder / "toc.dat").read_bytes()

    for torn in [*(whole[:end] for end in range(0, len(whole), 97)), b"x" * 5000, b"PGDMP" + bytes(5000)]:
        with pytest.raises(Corrupt):
            read_toc(torn)
    with pytest.raises(Corrupt):
        large_object_files(b"one two three\n")
