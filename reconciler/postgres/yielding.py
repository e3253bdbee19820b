"""Gives way: while a dump runs, looks whether anybody waits behind its locks, and ends it when they wait for too long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg

from reconciler.errors import ReconcilerError
from reconciler.policy.units import format_duration
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.session import Session, session, time_limit
from reconciler.world.ports import Clock

WATCHER = "reconciler/watch"
MOST_SECONDS, LEAST_SECONDS = 5.0, 0.1
"""Between two looks: a quarter of the patience, within these. A look is one query of about a millisecond."""
LEAVE_SECONDS = 2.0

# Whoever waits for one that waits behind us waits behind us too, so the chain is followed by pg_blocking_pids alone.
WAITERS = """
SELECT coalesce(nullif(a.application_name, ''), a.usename, '?'), w.pid, extract(epoch FROM clock_timestamp() - w.waitstart),
       w.mode, coalesce(c.oid::regclass::text, w.locktype)
FROM pg_locks w JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_class c ON c.oid = w.relation
WHERE NOT w.granted AND w.waitstart < clock_timestamp() - %s AND a.application_name <> %s
  AND w.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND EXISTS (SELECT FROM pg_stat_activity ours
              WHERE ours.pid = ANY(pg_blocking_pids(w.pid)) AND ours.application_name = %s AND ours.usename = session_user)
ORDER BY w.waitstart LIMIT 1
"""


class Yielding:
    """What became of it: `to` says whom was given way to, and is empty while nobody was."""

    def __init__(self) -> None:
        self.to = ""


@contextmanager
def yielding(
    conninfo: Conninfo, application_name: str, patience: timedelta | None, clock: Clock, give_way: Callable[[str], None]
) -> Iterator[Yielding]:
    """Calls `give_way` once, from a thread of its own and with who it is, when somebody has waited for longer behind sessions of
    that name.

    Raises Unreachable or Refused where its session can't be opened; one that is lost later is opened anew.
    """
    outcome = Yielding()
    if patience is None:
        yield outcome
        return
    over = threading.Event()
    with ExitStack() as held:
        watch = _Watch(conninfo, application_name, patience, held)
        watch.connect()
        thread = threading.Thread(target=_look_on, args=(watch, clock, over, outcome, give_way), name="yielding", daemon=True)
        thread.start()
        try:
            yield outcome
        finally:
            over.set()
            # Its query takes a millisecond; where the server is frozen, closing the session below ends it.
            thread.join(LEAVE_SECONDS)


def _look_on(watch: "_Watch", clock: Clock, over: threading.Event, outcome: Yielding, give_way: Callable[[str], None]) -> None:
    seconds = min(MOST_SECONDS, max(LEAST_SECONDS, watch.patience.total_seconds() / 4))
    while not clock.wait(seconds, over):
        outcome.to = watch.waiter()
        if outcome.to:
            give_way(outcome.to)
            return


class _Watch:
    def __init__(self, conninfo: Conninfo, application_name: str, patience: timedelta, held: ExitStack) -> None:
        self.patience = patience
        self._conninfo, self._name, self._held = conninfo, application_name, held
        self._connection: Session | None = None

    def connect(self) -> Session:
        """Its own session: the snapshot's is busy, and one that waits for pg_dump would learn of nobody."""
        self._connection = self._held.enter_context(session(self._conninfo, WATCHER))
        return self._connection

    def waiter(self) -> str:
        """Who waits for too long, for people; empty when nobody does, or when it can't be seen just now."""
        try:
            connection = self._connection or self.connect()
            with time_limit(connection):
                rows = connection.execute(WAITERS, (self.patience, self._name, self._name)).fetchall()
        except (psycopg.Error, ReconcilerError):
            # The next look tries again. Where the server is gone for good, the dump itself fails of it.
            self._connection = None
            return ""
        return "".join(
            f"{name} (pid {pid}), which waited {format_duration(timedelta(seconds=float(waited)))} for {mode} on {what}"
            for name, pid, waited, mode, what in rows
        )
