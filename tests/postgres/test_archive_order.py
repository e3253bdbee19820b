"""A directory archive whose tables changed their numbers."""

import re
import subprocess
from pathlib import Path

import pytest

from reconciler.errors import Corrupt
from reconciler.postgres.archive_order import largest_first
from tests.postgres.odd_schema import odd_database
from tests.servers.postgres import BINARIES, Server


def sql(server: Server, folder: Path) -> str:
    """What pg_restore would do, but for a key that differs each time."""
    argv = [str(BINARIES[server.major] / "pg_restore"), "--file=-", str(folder)]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def test_it_is_the_same_archive(postgres: Server, tmp_path: Path) -> None:
    """To the last byte of what is restored; read again, nothing is left to be changed."""
    database, folder = odd_database(postgres), tmp_path / "archive"
    postgres.run("pg_dump", "--format=directory", "--compress=0", f"--file={folder}", database=database)
    toc, before = (folder / "toc.dat").read_bytes(), sql(postgres, folder)

    def size(name: str) -> int:
        return (folder / name).stat().st_size

    ordered = largest_first(toc, size)
    (folder / "toc.dat").write_bytes(ordered.toc)

    assert ordered.toc != toc
    assert before == sql(postgres, folder)
    assert {*ordered.numbers} == {*ordered.numbers.values()}
    again = largest_first(ordered.toc, size)
    assert (ordered.toc, [*again.numbers]) == (again.toc, [*again.numbers.values()])


def test_a_table_of_contents_that_is_cut_off(postgres18: Server, tmp_path: Path) -> None:
    """Is none."""
    database, folder = postgres18.new_database("CREATE TABLE t (v int)"), tmp_path / "archive"
    postgres18.run("pg_dump", "--format=directory", "--compress=0", f"--file={folder}", database=database)
    toc = (folder / "toc.dat").read_bytes()

    with pytest.raises(Corrupt, match="ends within"):
        largest_first(toc[:-20], lambda _: 0)
