"""A backup taken and put back, in two calls."""

from typing import NamedTuple

from reconciler.postgres.dump import Manners
from reconciler.postgres.restore import Restored, restore_into
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.spool import Spool
from reconciler.postgres.url import parse
from reconciler.world.facts import DumpFacts, Globals, Identity


class Taken(NamedTuple):
    chunks: list[bytes]
    facts: DumpFacts
    globals: Globals


def take(source: PostgresSource) -> Taken:
    with source.dump("taken", expect=None) as dump:
        return Taken(list(dump.chunks()), dump.facts, dump.globals)


def put(url: str, taken: Taken, manners: Manners, *, sources: tuple[Identity, ...] = (), spool: Spool | None = None) -> Restored:
    return restore_into(
        parse(url, field="url"),
        taken.chunks,
        facts=taken.facts,
        globals=taken.globals,
        sources=sources,
        manners=manners,
        spool=spool,
    )
