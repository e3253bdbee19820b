"""A backup taken and put back, in two calls."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reconciler.backups.tarred import as_tar
from reconciler.postgres.dump import Manners
from reconciler.postgres.piped import Pipes
from reconciler.postgres.restore import AS_IT_WAS, Choices, Part, Restored, restore_into
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.spool import Spool
from reconciler.postgres.url import parse
from reconciler.world.facts import DumpFacts, Globals, Identity
from tests.servers.postgres import Server


class Taken(NamedTuple):
    chunks: list[bytes]
    facts: DumpFacts
    globals: Globals


def as_directory(server: Server, database: str, folder: Path) -> Iterator[bytes]:
    """The database's directory archive, as it is read back: in one stream."""
    server.run("pg_dump", "--format=directory", "--compress=0", f"--file={folder}", database=database)

    def read(name: str) -> tuple[int, list[bytes]]:
        data = (folder / name).read_bytes()
        return len(data), [data[start : start + 700] for start in range(0, len(data), 700)]

    return as_tar((folder / "toc.dat").read_bytes(), read)


def take(source: PostgresSource) -> Taken:
    with source.dump("taken", expect=None) as dump:
        return Taken(list(dump.chunks()), dump.facts, dump.globals)


def put(
    url: str,
    taken: Taken,
    manners: Manners,
    *,
    sources: tuple[Identity, ...] = (),
    by_jobs: Spool | Pipes | None = None,
    part: Part | None = None,
    choices: Choices = AS_IT_WAS,
) -> Restored:
    return restore_into(
        parse(url, field="url"),
        taken.chunks,
        facts=taken.facts,
        globals=taken.globals,
        sources=sources,
        manners=manners,
        by_jobs=by_jobs,
        part=part,
        choices=choices,
    )
