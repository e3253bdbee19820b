"""A database as a growing number of commits: what a dump of it must hold follows from how many there were at its snapshot."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from reconciler.errors import Conflict, Refused
from reconciler.simulation.host import Death
from reconciler.simulation.reach import Reach
from reconciler.simulation.timeline import Timeline
from reconciler.world.facts import DumpFacts, Globals, Identity, SourceFacts
from reconciler.world.fingerprint import Fingerprint, TableMark
from reconciler.world.ports import AS_USUAL, DumpFile, DumpOptions, History

T = TypeVar("T")

COMMIT_SECONDS = 60.0
"""A commit a minute."""
HOTEL = Identity(provider="postgres", cluster="7423905183641200011", database="hotel")


class Database:
    """What the server holds, and who is connected to it."""

    def __init__(self, timeline: Timeline, identity: Identity = HOTEL, *, until: datetime | None = None) -> None:
        """`until`: it is a branch, which holds what was committed by then."""
        self.timeline, self.identity = timeline, identity
        self._until = until
        self.lost = 0
        """Commits that somebody undid."""
        self.sessions: dict[str, str] = {}
        """Of dumps, by backup id: the process that opened it."""

    def commits(self) -> int:
        """So far."""
        timeline = self.timeline
        seconds = timeline.seconds if self._until is None else (self._until - timeline.began).total_seconds()
        return int(seconds // COMMIT_SECONDS) - self.lost


def archive_of(identity: Identity, commits: int) -> list[bytes]:
    """What a dump of that many commits is, in the pieces in which it comes."""
    return [b"PGDMP simulated\n", f"{identity}\n".encode(), f"commits {commits}\n".encode()]


class SimulatedDump:
    """One snapshot."""

    at_hand = "public.commits"

    def __init__(self, source: "SimulatedSource", facts: DumpFacts, commits: int, options: DumpOptions) -> None:
        self._source, self._commits = source, commits
        self._marked = options.fingerprint is not None
        self.facts = facts
        self.globals = Globals(roles=(), memberships=(), settings=(), database_owner="hotel", database_acl=None)

    def chunks(self) -> Iterator[bytes]:
        """Each piece takes its time."""
        for piece in archive_of(self.facts.source.identity, self._commits):
            yield self._source.ask("dump", partial(bytes, piece))
        # Only a producer that was seen to end well has ended.
        self._source.ask("reap", lambda: None)

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        """Here are no folders."""
        raise Refused("a simulated database is dumped as a stream only")

    def lsn_after(self) -> str | None:
        return f"0/{self._commits:X}"

    def fingerprint(self) -> Fingerprint | None:
        """One row a commit."""
        return (
            Fingerprint(level="counts", major=18, tables={"public.commits": TableMark(rows=self._commits)})
            if self._marked
            else None
        )


class SimulatedSource:
    """The database through one process's hands."""

    def __init__(self, database: Database, reach: Reach) -> None:
        self._database, self._reach = database, reach

    def ask(self, verb: str, work: Callable[[], T]) -> T:
        """Through the process's reach."""
        return self._reach.call(verb, "source", "", work)

    def commits(self) -> int:
        """What the database, or the branch, holds."""
        return self._database.commits()

    def facts(self) -> SourceFacts:
        """Raises Unreachable or Refused."""
        return self.ask("look at", self._facts)

    def _facts(self) -> SourceFacts:
        database = self._database
        return SourceFacts(identity=database.identity, server_version="18.1", major=18, clock=database.timeline.now())

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[SimulatedDump]:
        """Its session stays when the process dies, until somebody ends it."""
        started = self._reach.process.host.now()
        facts = self.ask("connect to", self._facts)
        if expect is not None and expect != facts.identity:
            raise Conflict(f"the source is {facts.identity}, not {expect}")
        self._database.sessions[backup_id] = self._reach.process.host.name
        try:
            yield SimulatedDump(self, _dump_facts(facts, started), self._database.commits(), options)
        except Death:
            raise
        except BaseException:
            self._database.sessions.pop(backup_id, None)
            raise
        if self._reach.process.alive:
            self._database.sessions.pop(backup_id, None)

    def end_sessions(self, backup_id: str) -> int:
        """How many there were."""
        return self.ask("end sessions of", lambda: 0 if self._database.sessions.pop(backup_id, None) is None else 1)


def _dump_facts(source: SourceFacts, started: datetime) -> DumpFacts:
    return DumpFacts(
        source=source,
        instant=min(source.clock, started),
        lsn_before="0/1",
        encoding="UTF8",
        collate="C",
        ctype="C",
        locale_provider="libc",
        extensions={},
        client_version="pg_dump (PostgreSQL) 18.1",
    )


class SimulatedProvider:
    """Hosts one database."""

    domain = "host:db.internal"
    place = "simulated db.internal/hotel"

    def __init__(
        self, database: Database, reach: Reach, history: History | None = None, source: SimulatedSource | None = None
    ) -> None:
        self._source, self._history = source or SimulatedSource(database, reach), history

    def source(self) -> SimulatedSource:
        return self._source

    def history(self) -> History | None:
        """If there is one."""
        return self._history
