"""Restoring by several jobs, from an archive that lies on disk meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import Corrupt, Full, ReconcilerError, Refused
from reconciler.postgres.dump import Manners
from reconciler.postgres.flow import Watch
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.spool import Spool, spooled
from tests.faults.files import no_file_longer_than
from tests.postgres.odd_schema import odd_database
from tests.postgres.taking import Taken, put, take
from tests.servers.postgres import Server

Open = Callable[[str], PostgresSource]
ROWS = "CREATE TABLE t AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, 20000) i; CREATE INDEX ON t (i)"


def spool(folder: Path, raw_bytes: int = 1) -> Spool:
    return Spool(jobs=2, folder=folder, raw_bytes=raw_bytes, cure="name another folder")


def tables(server: Server, database: str) -> list[str]:
    return [row[0] for row in server.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384", database)]


def with_chunks(taken: Taken, chunks: Iterator[bytes]) -> Taken:
    return taken._replace(chunks=chunks)  # type: ignore[arg-type]  # read once, as a stream is


def test_a_database_with_everything_comes_back(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """What several jobs restore has the very pg_dump text of the original."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")

    put(postgres.url(copy), take(open_source(postgres.url(original))), manners, by_jobs=spool(tmp_path))

    assert postgres.schema_text(original) == postgres.schema_text(copy)
    assert not list(tmp_path.iterdir())


def test_the_archive_has_no_name(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """A program that is killed leaves no data of a database in a folder."""
    taken = take(open_source(postgres.url(postgres.new_database(ROWS))))
    copy = postgres.new_database(options="TEMPLATE template0")
    seen: list[Path] = []

    def chunks() -> Iterator[bytes]:
        for chunk in taken.chunks:
            yield chunk
            seen.extend(tmp_path.iterdir())

    put(postgres.url(copy), with_chunks(taken, chunks()), manners, by_jobs=spool(tmp_path))

    assert ["t"] == tables(postgres, copy)
    assert seen == []


def test_no_room(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """Said before a byte is read."""
    taken = take(open_source(postgres.url(postgres.new_database(ROWS))))
    copy = postgres.new_database(options="TEMPLATE template0")

    with pytest.raises(Refused, match="has room for"):
        put(postgres.url(copy), with_chunks(taken, _never()), manners, by_jobs=spool(tmp_path, raw_bytes=1 << 60))
    assert tables(postgres, copy) == []


def test_no_such_folder(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """A sentence, and what to do."""
    taken = take(open_source(postgres.url(postgres.new_database(ROWS))))
    copy = postgres.new_database(options="TEMPLATE template0")

    with pytest.raises(Refused, match="cannot keep the archive in") as refusal:
        put(postgres.url(copy), taken, manners, by_jobs=spool(tmp_path / "nowhere"))
    assert refusal.value.cure == "name another folder"


def test_the_disk_fills_up(tmp_path: Path, manners: Manners) -> None:
    """Told as such."""
    watch = Watch(manners.clock, manners.stop, None, "reading")

    with (
        pytest.raises(Full, match=r"cannot keep the archive in .*File too large") as refusal,
        no_file_longer_than(4096),
        spooled([b"PGDMP" + bytes(3000)] * 2, spool(tmp_path), watch),
    ):
        pass
    assert refusal.value.cure == "name another folder"


def test_what_goes_wrong_in_the_restore(tmp_path: Path, manners: Manners) -> None:
    """Is no fault of the place where the archive lies, which is whole."""

    def restore() -> None:
        with spooled([b"PGDMP", b"", b"c"], spool(tmp_path), Watch(manners.clock, manners.stop, None, "reading")) as path:
            assert path.read_bytes() == b"PGDMPc"
            raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        restore()


def test_a_bad_archive_restores_nothing(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """It is read to its last byte before the first job begins."""
    taken = take(open_source(postgres.url(postgres.new_database(ROWS))))
    copy = postgres.new_database(options="TEMPLATE template0")

    def spoilt() -> Iterator[bytes]:
        yield from taken.chunks
        raise Corrupt("its last part is not what was written")

    with pytest.raises(Corrupt, match="its last part"):
        put(postgres.url(copy), with_chunks(taken, spoilt()), manners, by_jobs=spool(tmp_path))
    assert tables(postgres, copy) == []
    assert not list(tmp_path.iterdir())


def test_a_failure_on_the_way_says_what_it_left(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """Without one transaction a part of it stays, and must be dropped before anything else."""
    taken = take(
        open_source(postgres.url(postgres.new_database(f"{ROWS}; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")))
    )
    copy = postgres.new_database(options="TEMPLATE template0")
    role = postgres.new_role()
    postgres.execute(f"GRANT CREATE ON SCHEMA public TO {role}; REVOKE USAGE ON LANGUAGE sql FROM PUBLIC", copy)

    with pytest.raises(ReconcilerError) as failure:
        put(postgres.url(copy, user=role), taken, manners, by_jobs=spool(tmp_path))
    assert "part of it was restored: drop" in failure.value.cure
    assert not list(tmp_path.iterdir())


def _never() -> Iterator[bytes]:
    yield from [pytest.fail("nothing is to be read")]
