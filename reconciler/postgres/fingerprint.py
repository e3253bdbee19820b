"""Takes a fingerprint: beside a dump in the dump's own snapshot, or of a restored database. In sessions of its own.

It may fail, or run out of time, and takes nothing with it: what it did not reach is recorded as uncovered, with the reason.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import LiteralString

import psycopg
from psycopg import sql

from reconciler.errors import ReconcilerError, Stopped
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.failures import from_psycopg
from reconciler.postgres.filters import NOTHING, LeftOut
from reconciler.postgres.fingerprint_rows import (
    SETTINGS,
    Table,
    method_of,
    read_large_objects,
    read_rows,
    read_sequences,
    read_tables,
    rewritten,
)
from reconciler.postgres.fingerprint_shape import WORDING, read_shape
from reconciler.postgres.session import Session, apply_settings, session, unlimited, watches_clients
from reconciler.world.fingerprint import Fingerprint, LargeObjects, Level, ObjectMark, SequenceMark, TableMark, Uncovered
from reconciler.world.ports import Clock

FREE: LiteralString = """
SELECT least(
    CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper
         THEN r.rolconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid) END,
    CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper
         THEN d.datconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.usesysid IS NOT NULL) END,
    current_setting('max_connections')::int - (SELECT count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL)
        - CASE WHEN r.rolsuper THEN 0
               ELSE current_setting('superuser_reserved_connections')::int
                    + coalesce(current_setting('reserved_connections', true)::int, 0) END)::int
FROM pg_roles r, pg_database d WHERE r.rolname = session_user AND d.datname = current_database()
"""
"""How many more sessions the role may open, by its own limit, the database's and the server's."""
BATCH_TABLES = 64
BATCH_BYTES = 8 << 20
"""Small tables are read together: over a distance, each question costs more than its answer."""
LOOK_SECONDS = 0.1
JOBS: dict[Level, int] = {"counts": 1, "checksums": 2}
"""Sessions beside the dump's. Counting is always done before the dump is; hashing takes a little longer than dumping."""


def take(
    conninfo: Conninfo,
    *,
    application_name: str,
    level: Level,
    clock: Clock,
    stop: Event,
    snapshot: str | None = None,
    jobs: int = 1,
    limit_seconds: float | None = None,
) -> Fingerprint:
    """Of the whole database, now; without a snapshot's name of one that nobody writes to. Raises Stopped, and nothing else.

    The role should own everything there, and needs BYPASSRLS for tables whose row security binds their owner.
    """
    taking = Taking(
        conninfo, application_name=application_name, level=level, clock=clock, stop=stop, snapshot=snapshot, jobs=jobs
    )
    with taking.running():
        return taking.result(within_seconds=limit_seconds)


def free_sessions(connection: Session) -> int:
    """How many more sessions the role may open, as far as it can be told."""
    free: int = connection.execute(FREE).fetchall()[0][0]
    return free


class Taking:
    """A fingerprint in the making, in threads of its own."""

    def __init__(
        self,
        conninfo: Conninfo,
        *,
        application_name: str,
        level: Level,
        clock: Clock,
        stop: Event,
        snapshot: str | None,
        jobs: int,
        left_out: LeftOut = NOTHING,
    ) -> None:
        self._conninfo, self._application_name, self._level = conninfo, application_name, level
        self._clock, self._stop, self._snapshot = clock, stop, snapshot
        self._left_out = left_out
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(jobs)]
        self._prepared = Event()
        self._lock = threading.Lock()
        self._lines: set[socket.socket] = set()
        self._over = ""
        self._failure = "it was not reached"
        """Why the first session, which reads all but tables, got no further."""
        self._listed = False
        self._queue: deque[tuple[Table, ...]] = deque()
        self._major, self._method = 0, ""
        self._tables: dict[str, TableMark] = {}
        self._roots: dict[str, str] = {}
        self._sequences: dict[str, SequenceMark] | None = None
        self._large_objects: LargeObjects | None = None
        self._shape: dict[str, dict[str, ObjectMark]] | None = None
        self._uncovered: dict[str, str] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Starts it; on leaving, whatever still runs of it is ended."""
        for thread in self._threads:
            thread.start()
        if not self._threads:
            self._failure = "the role may open no more sessions beside the dump's"
            self._prepared.set()
        try:
            yield
        finally:
            self.give_up("it was given up with the dump")

    def wait_until_prepared(self, seconds: float) -> None:
        """Until sequences and the list of tables are read, which a dump must not overtake; no longer than that."""
        ends = self._clock.monotonic() + seconds
        while not self._prepared.wait(LOOK_SECONDS) and self._clock.monotonic() < ends and not self._stop.is_set():
            pass
        if not self._prepared.is_set():
            # What is read of them from now on may be later than what the dump reads.
            self._note("sequences", f"they were not read within {seconds:.0f} s")

    def result(self, *, within_seconds: float | None) -> Fingerprint:
        """What it found, once it is done or the time is over. Raises Stopped."""
        ends = None if within_seconds is None else self._clock.monotonic() + within_seconds
        while any(thread.is_alive() for thread in self._threads):
            if self._stop.is_set():
                raise Stopped(f"stopped while the fingerprint of {self._conninfo.place} was taken")
            if ends is not None and self._clock.monotonic() >= ends:
                self.give_up(f"the time was over ({within_seconds:.0f} s after the dump)")
                break
            for thread in self._threads:
                thread.join(LOOK_SECONDS)
        return self._fingerprint()

    def _fingerprint(self) -> Fingerprint:
        with self._lock:
            uncovered = dict(self._uncovered)
            parts = {"sequences": self._sequences, "large objects": self._large_objects, "shape": self._shape}
            missed = [what for what, found in parts.items() if found is None]
            # Without the list, that no table is named proves nothing: one word stands for all of them.
            missed += [table.name for batch in self._queue for table in batch] if self._listed else ["tables"]
            for what in missed:
                uncovered.setdefault(what, self._over or self._failure)
            return Fingerprint(
                level=self._level,
                major=self._major,
                method=self._method,
                wording=WORDING,
                tables=dict(sorted(self._tables.items())),
                roots=dict(sorted(self._roots.items())),
                sequences=self._sequences or {},
                large_objects=self._large_objects,
                shape=self._shape,
                uncovered=tuple(Uncovered(what=what, why=why) for what, why in sorted(uncovered.items())),
            )

    def give_up(self, why: str) -> None:
        """End it, and with it the locks that it holds: what it did not reach is uncovered for that reason. For any thread."""
        with self._lock:
            self._over = self._over or why
            for line in self._lines:
                with suppress(OSError):  # already closed
                    line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)

    def _work(self, number: int) -> None:
        try:
            with session(self._conninfo, self._application_name) as connection, self._ended_from_outside(connection):
                apply_settings(connection, unlimited(connection.info.server_version // 10000) | SETTINGS)
                watches_clients(connection)
                if number == 0:
                    self._prepare(connection)
                self._prepared.wait()
                if number == 0:
                    # Its names and words are of now, not of the snapshot: the sooner they are read, the less can have changed.
                    self._attempt("shape", lambda: self._read_shape(connection))
                self._read_batches(connection, largest_first=number > 0)
                if number == 0:
                    self._attempt("large objects", lambda: self._read_large_objects(connection))
        except (ReconcilerError, psycopg.Error) as error:
            if number == 0:
                self._failure = self._said(error)
            else:
                self._note(f"session {number + 1}", self._said(error))
        finally:
            if number == 0:
                self._prepared.set()

    @contextmanager
    def _ended_from_outside(self, connection: Session) -> Iterator[None]:
        """Registers the line, so that a query that is under way can be cut; the server notices and ends it."""
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            with self._lock:
                self._lines.add(line)
                if self._over:
                    line.shutdown(socket.SHUT_RDWR)
            try:
                yield
            finally:
                with self._lock:
                    self._lines.discard(line)

    def _prepare(self, connection: Session) -> None:
        """Sequences and tables, before the dump reads any; then the other sessions may begin."""
        self._major = connection.info.server_version // 10000
        self._method = method_of(connection) if self._level == "checksums" else ""
        with self._transaction(connection):
            tables = read_tables(connection)
        self._attempt("sequences", lambda: self._read_sequences(connection))
        with self._lock:
            for table in tables:
                if table.name in self._left_out.relations:
                    continue
                if table.root is not None:
                    self._roots[table.name] = table.root
                why = table.skipped or ("its rows are left out of the dump" if table.name in self._left_out.rows else "")
                if why:
                    self._uncovered[table.name] = why
            self._queue.extend(_batches([table for table in tables if not self._is_left_out(table)]))
            self._listed = True
        self._prepared.set()

    def _is_left_out(self, table: Table) -> bool:
        return bool(table.skipped) or table.name in self._left_out.relations or table.name in self._left_out.rows

    def _read_sequences(self, connection: Session) -> None:
        with self._transaction(connection):
            found = read_sequences(connection)
        with self._lock:
            if "sequences" in self._uncovered:  # the dump was begun without them
                return
            self._sequences = {name: mark for name, mark in found.items() if name not in self._left_out.relations}

    def _read_batches(self, connection: Session, *, largest_first: bool) -> None:
        """The first session takes the smallest, so that much is covered early; the others the largest, which take longest."""
        while True:
            with self._lock:
                if self._over or not self._queue:
                    return
                batch = self._queue.pop() if largest_first else self._queue.popleft()
            try:
                self._read(connection, batch)
            except psycopg.Error as error:
                self._failed(batch, error)
                if connection.closed or connection.broken:
                    raise

    def _read(self, connection: Session, batch: tuple[Table, ...]) -> None:
        with self._transaction(connection, locking=batch):
            gone = rewritten(connection, batch)
            for table in (table for table in batch if table.oid in gone):
                self._note(table.name, "it was rewritten since the snapshot (TRUNCATE or ALTER TABLE)")
            whole = [table for table in batch if table.oid not in gone]
            marks = read_rows(connection, whole, self._level) if whole else []
        for table in (table for table in whole if table.stranger is not None and self._level == "checksums"):
            why = f"hashing its rows could call functions of {table.stranger} with this role's rights: they were counted"
            self._note(f"checksum of {table.name}", why)
        with self._lock:
            self._tables |= {table.name: mark for table, mark in zip(whole, marks, strict=True)}

    def _failed(self, batch: tuple[Table, ...], error: psycopg.Error) -> None:
        if len(batch) == 1 or self._over:
            for table in batch:
                self._note(table.name, self._said(error))
            return
        with self._lock:
            # One of them is the cause: apart, the others are read.
            self._queue.extendleft((table,) for table in reversed(batch))

    def _read_large_objects(self, connection: Session) -> None:
        with self._transaction(connection):
            self._large_objects = read_large_objects(connection, self._level)

    def _read_shape(self, connection: Session) -> None:
        with self._transaction(connection):
            shape = read_shape(connection, self._left_out.relations)
        if self._left_out.publications and shape.pop("publication", {}):
            self._note("publications", "they name tables that are left out, and so they are, too")
        self._shape = shape

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except psycopg.Error as error:
            self._note(what, self._said(error))

    @contextmanager
    def _transaction(self, connection: Session, *, locking: tuple[Table, ...] = ()) -> Iterator[None]:
        """In the dump's snapshot, which lives as long as the session that exported it; a lock is held no longer than needed."""
        statements: list[sql.Composable] = [sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")]
        if self._snapshot is not None:
            statements.append(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self._snapshot))
        if locking:
            names = sql.SQL(", ").join(table.identifier for table in locking)
            statements.append(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(names))
        try:
            connection.execute(sql.SQL("; ").join(statements))
            yield
        finally:
            if not connection.closed:
                connection.execute("ROLLBACK")

    def _note(self, what: str, why: str) -> None:
        with self._lock:
            self._uncovered[what] = self._over or why

    def _said(self, error: Exception) -> str:
        """Without the place, which the manifest names already."""
        if isinstance(error, psycopg.Error):
            error = from_psycopg(error, self._conninfo, "cannot read")
        what = error.what if isinstance(error, ReconcilerError) else type(error).__name__
        return what.removeprefix(f"cannot read {self._conninfo.place}: ")


def _batches(tables: list[Table]) -> Iterator[tuple[Table, ...]]:
    """Small ones together, in the order given, which is by size."""
    batch: list[Table] = []
    for table in tables:
        if batch and (len(batch) == BATCH_TABLES or sum(one.bytes for one in batch) + table.bytes > BATCH_BYTES):
            yield tuple(batch)
            batch = []
        batch.append(table)
    if batch:
        yield tuple(batch)
