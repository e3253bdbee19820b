"""A dump: one snapshot, held by a session of ours, and pg_dump reading in it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import msgspec
import psycopg

from reconciler.errors import Conflict, ReconcilerError, Unreachable
from reconciler.postgres import catalog, client
from reconciler.postgres.child import Child
from reconciler.postgres.conninfo import ChildAddress, Conninfo
from reconciler.postgres.failures import first_error, from_words, translated
from reconciler.postgres.filters import LeftOut, resolve
from reconciler.postgres.fingerprint import JOBS, Taking, free_sessions
from reconciler.postgres.flow import PATIENCE, Limit, Watch, read_blocks
from reconciler.postgres.globals import read_globals
from reconciler.postgres.hosted import entries_of_host
from reconciler.postgres.privileges import check_readable
from reconciler.postgres.session import (
    NOTICE_MILLISECONDS,
    Session,
    apply_settings,
    session,
    time_limit,
    unlimited,
    watches_clients,
)
from reconciler.postgres.staged import LOOK_SECONDS, Staged, StagedFile, check_room
from reconciler.postgres.words import Words
from reconciler.postgres.yielding import Yielding, yielding
from reconciler.world.facts import DumpFacts, Globals, Identity, SourceFacts
from reconciler.world.fingerprint import Fingerprint, Level
from reconciler.world.ports import AS_USUAL, Clock, DumpOptions

FINGERPRINT_SECONDS = 30.0
"""What a fingerprint has after the dump at least: a small database is dumped before a second session is open."""
DUMP_SESSIONS = 2
"""pg_dump's, and one that looks whether somebody waits behind it."""
PREPARE_SECONDS = 60.0
"""So long a dump waits until the sequences are read, which must not be read after it has read them."""
NEVER = Event()
LATE_SECONDS = 5.0
"""So much later than its limit a dump may end that nobody reads on from."""
LOCK_WAIT = "30s"
"""Longer, and our waiting request would make others wait behind it."""
HOLDERS = """
SELECT DISTINCT l.relation::regclass::text, a.pid, coalesce(nullif(a.application_name, ''), a.usename, '?')
FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND c.relkind IN ('r', 'p')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1 LIMIT 5
"""


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump or a restore needs beside the address."""

    clock: Clock
    stop: Event
    client_bin: Path | None = None
    patience: timedelta = PATIENCE
    lock_wait: str = LOCK_WAIT


class Way(NamedTuple):
    """How a dump is taken, and what its sessions are called."""

    manners: Manners
    options: DumpOptions
    name: str


class Held(NamedTuple):
    """What the snapshot's session found, the session itself, and what must end before it."""

    facts: DumpFacts
    globals: Globals
    connection: Session
    cleanup: ExitStack
    snapshot: str
    left_out: LeftOut
    taking: Taking | None = None


class PostgresDump:
    """A dump in progress; made by `open_dump`."""

    def __init__(self, address: ChildAddress, argv: Sequence[str], conninfo: Conninfo, held: Held, way: Way) -> None:
        self.facts = held.facts
        self.globals = held.globals
        self._connection = held.connection
        self._cleanup = held.cleanup
        self._argv = argv
        self._environment = address.environment
        self._conninfo = conninfo
        self._way = way
        self._taking = held.taking
        self._begun = way.manners.clock.monotonic()
        self._words = Words()

    def chunks(self) -> Iterator[bytes]:
        """The archive, once. Ends normally only after pg_dump was reaped with status 0."""
        child, watch = self._start("--format=custom", "--verbose")  # which says what table is at hand
        with self._yielding(child) as yielded, self._in_time(child):
            yield from read_blocks(child.stream, watch)
            code = child.finish(watch.check)
        if code != 0 and not yielded.to:
            watch.check()
        self._judge(code, yielded)

    def into_folder(self, folder: Path, *, most: int, take: Callable[[StagedFile], None], check: Callable[[], None]) -> None:
        """A directory archive, each file given to `take` as it can be read. Returns once all of them are read, and gone."""
        check_room(folder, most)
        jobs, archive = self._way.options.jobs, folder / "archive"
        # Not verbose: several processes would write into each other's lines, and into those that say why one failed.
        # Nobody restores from this folder, so it need not be synced to the disk; and its files go while it is written.
        child, watch = self._start("--format=directory", f"--jobs={jobs}", "--no-sync", f"--file={archive}")
        staged = Staged(archive, most=most, clock=self._way.manners.clock, group=child.group)
        try:
            with self._yielding(child) as yielded:
                self._hand_over(child, staged, watch, take, check)
                code = child.finish(watch.check)
            self._judge(code, yielded)
            for file in staged.rest():
                take(file)
            while not staged.is_empty():
                self._pause(staged, watch, check)
        except BaseException:
            staged.fail()
            # Whoever gave the folder takes it away now: nothing may write into it any more.
            staged.let_go()
            child.end()
            raise
        finally:
            staged.let_go()

    def _hand_over(
        self, child: Child, staged: Staged, watch: Watch, take: Callable[[StagedFile], None], check: Callable[[], None]
    ) -> None:
        while not child.has_ended:
            for file in staged.look():
                take(file)
            self._pause(staged, watch, check)

    def _pause(self, staged: Staged, watch: Watch, check: Callable[[], None]) -> None:
        moved = staged.moved_bytes()
        self._way.manners.clock.wait(LOOK_SECONDS, NEVER)
        if staged.moved_bytes() != moved:
            watch.moved()
        watch.check()
        check()

    def _start(self, *arguments: str) -> tuple[Child, Watch]:
        program, *rest = self._argv
        child = Child([program, *arguments, *rest], environment=self._environment, hear=self._words.hear)
        self._cleanup.callback(child.end)
        manners, options, _ = self._way
        limit = Limit(options.max_duration, "limits.max_duration") if options.max_duration is not None else None
        return child, Watch(manners.clock, manners.stop, manners.patience, self._doing, limit=limit)

    def _yielding(self, child: Child) -> AbstractContextManager[Yielding]:
        return self._watching(lambda _: self._let_go(child))

    def _let_go(self, child: Child) -> None:
        """Of all locks, for any thread: perhaps nobody reads on from the dump for a while."""
        child.hang_up()
        if self._taking is not None:
            self._taking.give_up("it was given up with the dump")

    @contextmanager
    def _in_time(self, child: Child) -> Iterator[None]:
        """Ends it when its time is over, also while its target takes nothing."""
        clock, most, over = self._way.manners.clock, self._way.options.max_duration, Event()
        if most is None:
            yield
            return
        seconds = most.total_seconds()
        begun, look = clock.monotonic(), min(LATE_SECONDS, seconds / 4)

        def look_on() -> None:
            while not clock.wait(look, over):
                if clock.monotonic() - begun > seconds:
                    self._let_go(child)
                    return

        Thread(target=look_on, name="in time", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _watching(self, give_way: Callable[[str], None]) -> AbstractContextManager[Yielding]:
        manners, options, name = self._way
        return yielding(self._conninfo, name, options.yield_to, manners.clock, give_way)

    def _judge(self, code: int, yielded: Yielding) -> None:
        """Nothing, if it ended well."""
        if code != 0 and yielded.to:
            raise Unreachable(f"{self._doing} yielded to {yielded.to} behind its locks", cure="it will be tried again")
        if code != 0:
            raise self._failure(code, self._words.complaints)

    @property
    def at_hand(self) -> str:
        """The table whose rows are read just now; empty for a directory archive, where it is several."""
        return self._words.at_hand

    @property
    def _doing(self) -> str:
        return f"dumping {self._conninfo.place}"

    def lsn_after(self) -> str | None:
        """The source's WAL position now. Raises Unreachable if the snapshot's session is gone."""
        with translated(self._conninfo, "cannot read the WAL position of"), time_limit(self._connection):
            return catalog.position(self._connection)

    def fingerprint(self) -> Fingerprint | None:
        """What the snapshot holds; after the dump it is given as long as that took, within the limits of both. Raises Stopped."""
        taking, most = self._taking, self._way.options.max_duration
        if taking is None:
            return None
        took = self._way.manners.clock.monotonic() - self._begun
        seconds = max(FINGERPRINT_SECONDS, took)
        if most is not None:
            seconds = max(0.0, min(seconds, most.total_seconds() - took))
        with ExitStack() as watched:
            try:
                watched.enter_context(self._watching(lambda to: taking.give_up(f"it gave way to {to}")))
            except ReconcilerError as error:
                taking.give_up(f"nobody could look who waits for it: {error.what}")
            return taking.result(within_seconds=seconds)

    def _failure(self, code: int, complaints: str) -> ReconcilerError:
        """Why pg_dump failed: first what can be seen from the snapshot's session, then what pg_dump said."""
        said = first_error(complaints) or (
            f"ended by signal {-code}, without a word" if code < 0 else f"exit code {code}, without a word"
        )
        try:
            with time_limit(self._connection):
                holders = self._connection.execute(HOLDERS).fetchall() if "LOCK TABLE" in said else []
        except psycopg.Error:
            return Unreachable(f"the server went away while {self._conninfo.place} was dumped", cure="it will be tried again")
        if "lock timeout" in said or holders:  # the server may speak another language than ours
            who = (
                "; ".join(f"{table} is locked by {name} (pid {pid})" for table, pid, name in holders)
                or "the lock's holder is gone by now"
            )
            waited = f"pg_dump waited {self._way.manners.lock_wait} for a lock in {self._conninfo.place}: {who}"
            return Unreachable(waited, cure="end that session, or wait: it will be tried again")
        if code < 0:
            return Unreachable(
                f"pg_dump of {self._conninfo.place} was ended by signal {-code}",
                cure="look at memory and at who kills; it will be tried again",
            )
        return from_words(said, self._conninfo, "pg_dump failed on")


@contextmanager
def open_dump(
    conninfo: Conninfo, backup_id: str, expect: Identity | None, manners: Manners, options: DumpOptions = AS_USUAL
) -> Iterator[PostgresDump]:
    """Open a snapshot and all that is known in it. On leaving, whatever still runs is ended, and the snapshot's session last.

    Raises Conflict if the identity is not the expected one; Refused if the role can't read the whole, or no client fits.
    """
    name = f"reconciler/{backup_id}"
    started = manners.clock.now()
    with session(conninfo, name) as connection, ExitStack() as cleanup:
        with translated(conninfo, "cannot prepare a dump of"), time_limit(connection):
            source = catalog.source_facts(connection)
            _check_source(source, expect, conninfo)
            program = client.for_dump(client.find("pg_dump", manners.client_bin), source.major)
            settings = _hold(connection, source.major)
            facts, snapshot = _begin(connection, source, started, program.version)
            left_out = resolve(connection, options.filters, conninfo.place, program.major)
            check_readable(connection, conninfo.place, without=left_out.relations)
            globals_ = read_globals(connection, passwords=options.passwords)
        info = connection.info
        pinned = conninfo.pinned(host=info.host, hostaddr=info.hostaddr, port=info.port)
        address = pinned.for_child(name, settings)
        argv = [
            str(program.folder / "pg_dump"),
            "--compress=0",
            "--no-password",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={manners.lock_wait}",
            # A role or database may have its clients in another one, which has not every character.
            f"--encoding={facts.encoding}",
            *map(os.fsdecode, left_out.arguments),
            f"--dbname={address.conninfo}",
        ]
        way = Way(manners, options, name)
        held = Held(facts, globals_, connection, cleanup, snapshot, left_out)
        if options.fingerprint is not None:
            held = held._replace(taking=_take_fingerprint(pinned, held, way, options.fingerprint))
        yield PostgresDump(address, argv, pinned, held, way)


def _take_fingerprint(conninfo: Conninfo, held: Held, way: Way, level: Level) -> Taking:
    """Begun before the dump, in sessions that the dump does not need."""
    with translated(conninfo, "cannot prepare a dump of"), time_limit(held.connection):
        free = free_sessions(held.connection)
    taking = Taking(
        conninfo,
        application_name=way.name,
        level=level,
        clock=way.manners.clock,
        stop=way.manners.stop,
        snapshot=held.snapshot,
        left_out=held.left_out,
        jobs=max(0, min(JOBS[level], free - DUMP_SESSIONS - way.options.jobs)),
    )
    held.cleanup.enter_context(taking.running())
    taking.wait_until_prepared(PREPARE_SECONDS)
    return taking


def _check_source(source: SourceFacts, expect: Identity | None, conninfo: Conninfo) -> None:
    client.check_supported(source.major, conninfo.place)
    if expect is not None and source.identity != expect:
        raise Conflict(
            f"{conninfo.place} is {source.identity}, and expected was {expect}",
            cure="correct the url; if it was moved on purpose, give it another name or prefix, and so a catalogue of its own",
        )


def _hold(connection: Session, major: int) -> dict[str, str]:
    """Make the session last, and say which settings pg_dump's session needs for the same."""
    settings = unlimited(major)
    apply_settings(connection, settings)
    return settings | ({"client_connection_check_interval": NOTICE_MILLISECONDS} if watches_clients(connection) else {})


def _begin(connection: Session, source: SourceFacts, started: datetime, client_version: str) -> tuple[DumpFacts, str]:
    """Take the snapshot, and say what it is: the facts and its exported name."""
    lsn_before = catalog.position(connection)
    # Bounds are read before the snapshot: what comes after them may or may not be in it, and the instant must not promise more.
    bounds = [started] + ([catalog.replayed_until(connection)] if source.standby else [])
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # The transaction's timestamp is that of BEGIN; the snapshot is taken by this, the first query.
    begun, snapshot = connection.execute("SELECT transaction_timestamp(), pg_export_snapshot()").fetchall()[0]
    found = catalog.locale(connection)
    facts = DumpFacts(
        source=source,
        instant=min(begun.astimezone(UTC), *bounds),
        lsn_before=lsn_before,
        encoding=found.encoding,
        collate=found.collate,
        ctype=found.ctype,
        locale_provider=found.provider,
        locale=found.locale,
        extensions=catalog.extensions(connection),
        client_version=client_version,
        hosted=entries_of_host(connection),
    )
    return facts, snapshot
