"""A dump that gives way, and one that takes too long: ended, said, and nothing left behind."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from threading import Event

import pytest

from reconciler.errors import Unreachable
from reconciler.postgres.dump import Manners, PostgresDump
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from reconciler.world.ports import DumpOptions
from tests.postgres.processes import comes_true, is_blocked, sessions_end
from tests.postgres.test_dump_faults import LARGE
from tests.servers.postgres import Server

Open = Callable[[str], PostgresSource]
PATIENT = "SELECT count(*) FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1.5 s'"
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event_type = 'Lock'"
SOON = timedelta(seconds=1)


def waits(server: Server, statement: str, database: str) -> Callable[[], object]:
    return lambda: server.execute(f"SET application_name = 'migration'; {statement}", database)


def test_somebody_waits_behind_its_locks(postgres: Server, open_source: Open) -> None:
    """The dump ends, says to whom it gave way, and the migration goes on, though nobody reads on from the dump."""
    database = postgres.new_database(LARGE)
    source = open_source(postgres.url(database))

    with ThreadPoolExecutor() as pool, source.dump("gives-way", expect=None, options=DumpOptions(yield_to=SOON)) as dump:
        chunks = dump.chunks()
        next(chunks)
        altered = pool.submit(waits(postgres, "ALTER TABLE t ADD COLUMN c int", database))
        altered.result(timeout=30)
        with pytest.raises(Unreachable) as yielded:
            list(chunks)

    assert "yielded to migration (pid " in str(yielded.value)
    assert "for AccessExclusiveLock on public.t behind its locks" in str(yielded.value)
    assert "it will be tried again" == yielded.value.cure
    assert sessions_end(postgres, "reconciler/gives-way")
    assert sessions_end(postgres, "reconciler/watch")


@contextmanager
def standing_still(
    server: Server, database: str, name: str, opened: AbstractContextManager[PostgresDump]
) -> Iterator[PostgresDump]:
    """That dump, opened; its fingerprint has its lock on table t and reads nothing of it before the end, however fast all is."""
    with server.connect(database) as holder:
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with opened as dump:
            assert comes_true(lambda: is_blocked(server, name))
            ((reads,),) = server.execute(BLOCKED.format(name=name))
            os.kill(reads, signal.SIGSTOP)
            try:
                # It is given the lock though it stands still.
                holder.execute("ROLLBACK")
                yield dump
            finally:
                with suppress(ProcessLookupError):
                    os.kill(reads, signal.SIGCONT)


def test_somebody_waits_behind_the_fingerprint_after_the_dump(postgres18: Server, open_source: Open) -> None:
    """It gives way and the dump stays: what was not read of it is not covered, and that says to whom."""
    database = postgres18.new_database(LARGE)
    options = DumpOptions(yield_to=timedelta(milliseconds=200), fingerprint="checksums")
    opened = open_source(postgres18.url(database)).dump("late", expect=None, options=options)

    with ThreadPoolExecutor() as pool:
        with standing_still(postgres18, database, "reconciler/late", opened) as dump:
            archive = b"".join(dump.chunks())
            altered = pool.submit(waits(postgres18, "ALTER TABLE t ADD COLUMN c int", database))
            assert comes_true(lambda: is_blocked(postgres18, "migration"))
            marks = dump.fingerprint()
        altered.result(timeout=60)

    assert len(archive) > 20_000_000
    assert marks is not None
    (missed,) = [one.why for one in marks.uncovered if one.what == "public.t"]
    assert missed.startswith("it gave way to migration (pid ")
    assert "for AccessExclusiveLock on public.t" in missed


WIDE = (
    f"CREATE TABLE t ({', '.join(f'c{number} int' for number in range(1000))});"
    "INSERT INTO t (c0) SELECT 1 FROM generate_series(1, 400000)"
)
"""Takes seconds to be hashed."""


def test_somebody_waits_behind_the_fingerprint_of_a_dump_that_nobody_reads(postgres18: Server, open_source: Open) -> None:
    """With the dump, its fingerprint gives way too."""
    database = postgres18.new_database(WIDE)
    options = DumpOptions(yield_to=timedelta(milliseconds=200), fingerprint="checksums")

    with ThreadPoolExecutor() as pool, open_source(postgres18.url(database)).dump("stuck", expect=None, options=options) as dump:
        chunks = dump.chunks()
        next(chunks)
        altered = pool.submit(waits(postgres18, "ALTER TABLE t ADD COLUMN c int", database))
        altered.result(timeout=60)
        # It did not just come to its end.
        assert dump._taking is not None
        assert {} == dump._taking._tables
        with pytest.raises(Unreachable, match="yielded to migration"):
            list(chunks)

    assert sessions_end(postgres18, "reconciler/stuck")


def test_a_dump_that_takes_too_long_and_nobody_reads(postgres18: Server) -> None:
    """Its locks are gone when its time is over, though its target takes nothing; the limit is named once that goes on."""
    database, clock = postgres18.new_database(LARGE), Jumping()
    source = PostgresSource(parse(postgres18.url(database), field="url"), Manners(clock=clock, stop=Event()))

    options = DumpOptions(max_duration=timedelta(minutes=9))
    with ThreadPoolExecutor() as pool, source.dump("unread", expect=None, options=options) as dump:
        chunks = dump.chunks()
        next(chunks)
        clock.ahead = 540.0
        pool.submit(waits(postgres18, "ALTER TABLE t ADD COLUMN c int", database)).result(timeout=20)
        with pytest.raises(Unreachable, match=r"took longer than limits\.max_duration allows, and was ended after 9m"):
            list(chunks)


def test_a_fingerprint_has_no_more_time_than_its_dump(postgres18: Server, open_source: Open) -> None:
    """What `max_duration` leaves, and no more: the backup is there, and what was not read is said."""
    database = postgres18.new_database(LARGE)
    clock = Jumping()
    source = PostgresSource(parse(postgres18.url(database), field="url"), Manners(clock=clock, stop=Event()))
    options = DumpOptions(max_duration=timedelta(hours=1), fingerprint="checksums")
    opened = source.dump("in-time", expect=None, options=options)

    with standing_still(postgres18, database, "reconciler/in-time", opened) as dump:
        assert len(b"".join(dump.chunks())) > 20_000_000
        clock.ahead = 3600.0
        marks = dump.fingerprint()

    assert marks is not None
    assert ["the time was over (0 s after the dump)"] == [one.why for one in marks.uncovered if one.what == "public.t"]


def test_a_short_wait(postgres: Server, open_source: Open) -> None:
    """Who waits for less than that waits until the dump is done, and the dump is whole."""
    database = postgres.new_database(LARGE)
    options = DumpOptions(yield_to=timedelta(minutes=5))

    with ThreadPoolExecutor() as pool, open_source(postgres.url(database)).dump("goes-on", expect=None, options=options) as dump:
        chunks = dump.chunks()
        first = next(chunks)
        altered = pool.submit(waits(postgres, "ALTER TABLE t ADD COLUMN c int", database))
        assert comes_true(lambda: is_blocked(postgres, "migration"))
        rest = b"".join(chunks)
        altered.result(timeout=30)

    assert len(first + rest) > 20_000_000


def test_somebody_waits_behind_another(postgres: Server, open_source: Open) -> None:
    """Whoever waits for somebody else's lock is no reason to end."""
    database = postgres.new_database(f"{LARGE}; CREATE TABLE other (v int)")
    held = postgres.connect(database)
    held.execute("BEGIN")
    held.execute("SELECT FROM t")
    options = DumpOptions(yield_to=timedelta(milliseconds=400))

    with ThreadPoolExecutor() as pool, open_source(postgres.url(database)).dump("goes-on", expect=None, options=options) as dump:
        chunks = dump.chunks()
        first = next(chunks)
        held.execute("LOCK TABLE other IN ROW EXCLUSIVE MODE")
        altered = pool.submit(waits(postgres, "LOCK TABLE other IN SHARE MODE", database))
        assert comes_true(lambda: is_blocked(postgres, "migration"))
        assert comes_true(lambda: postgres.execute(PATIENT) == [(1,)])
        rest = b"".join(chunks)
        held.close()
        altered.result(timeout=30)

    assert len(first + rest) > 20_000_000


class Jumping(SystemClock):
    """Goes an hour ahead when told."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.mark.parametrize(("most", "ends"), [(timedelta(minutes=59), True), (timedelta(hours=2), False)])
def test_a_dump_that_takes_too_long(postgres18: Server, most: timedelta, ends: bool) -> None:
    """It is ended where it stands, and the sentence names the limit; one that is in time is whole."""
    database, clock = postgres18.new_database(LARGE), Jumping()
    manners = Manners(clock=clock, stop=Event(), patience=timedelta(hours=3))
    source = PostgresSource(parse(postgres18.url(database), field="url"), manners)
    said = ""

    with source.dump("too-long", expect=None, options=DumpOptions(max_duration=most)) as dump:
        chunks = dump.chunks()
        next(chunks)
        clock.ahead = 3600.0
        try:
            list(chunks)
        except Unreachable as error:
            said = str(error)

    assert ends == said.endswith("took longer than limits.max_duration allows, and was ended after 59m")
    assert ends == bool(said)
    assert sessions_end(postgres18, "reconciler/too-long")
