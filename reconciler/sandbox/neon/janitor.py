"""What happens by itself: idle computes rest, what expired goes, scheduled snapshots are taken, history is looked after."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from reconciler.errors import ReconcilerError
from reconciler.sandbox.neon import branches, snapshots
from reconciler.sandbox.neon.archive import take_base
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.garbage import collect
from reconciler.sandbox.neon.past import leave
from reconciler.sandbox.neon.records import Branch, Endpoint, Timeline
from reconciler.sandbox.neon.refusals import Refusal
from reconciler.sandbox.neon.retention import look, trim
from reconciler.sandbox.neon.schedules import latest_firing
from reconciler.sandbox.neon.work import SuspendCompute, Target

_ROUND_SECONDS = 2.0
_SUSPENDED_AFTER_SECONDS = 300
"""Neon's default."""
_NEW_BASE_AFTER = 24 * 2**20
"""Bytes of log: about as many as are replayed in half a second, and as a small cluster's files hold."""
_KEPT_BY_SCHEDULE_SECONDS = 3_024_000
_USED = """
    select exists (
        select from pg_stat_activity
        where pid <> pg_backend_pid()
          and (backend_type = 'client backend' and state <> 'idle' or backend_type in ('walsender', 'logical replication worker'))
    )
"""


class Janitor:
    """A thread that makes its round, when no operation is under way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._looked_at = now()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the round, and no other comes."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_ROUND_SECONDS):
            with self._engine.turn:
                self._round()

    def _round(self) -> None:
        engine, book = self._engine, self._engine.book
        for endpoint in list(book.state.endpoints.values()):
            self._attempt(partial(_suspend_if_idle, engine, endpoint))
        for branch in book.branches():
            if branch.expires_at and branch.expires_at <= now():
                self._attempt(partial(branches.delete, engine, branch.id, hard=False, method="ttl"))
            self._attempt(partial(self._keep_schedule, branch))
        for snapshot in list(book.state.snapshots.values()):
            if snapshot.expires_at and snapshot.expires_at <= now():
                self._attempt(partial(snapshots.delete, engine, snapshot.id))
        self._looked_at = now()
        for branch in book.branches():
            self._attempt(partial(_look_after, engine, branch))
        self._attempt(partial(_forget_deleted, engine))
        self._attempt(partial(leave, engine))
        self._attempt(partial(trim, engine))

    def _attempt(self, work: Callable[[], object]) -> None:
        """Whatever is in the way now may not be in the next round: a compute may die while it is looked at."""
        import psycopg

        with suppress(ReconcilerError, Refusal, OSError, psycopg.Error):
            work()

    def _keep_schedule(self, branch: Branch) -> None:
        for item in branch.schedule:
            firing = latest_firing(item, now())
            if firing > self._looked_at:
                kept = timedelta(seconds=item.retention_seconds or _KEPT_BY_SCHEDULE_SECONDS)
                name = f"{branch.name} {item.frequency} {firing:%Y-%m-%d %H:%M}"
                snapshots.take(self._engine, branch.id, Target(), name=name, expires_at=firing + kept, manual=False)


def _suspend_if_idle(engine: Engine, endpoint: Endpoint) -> None:
    """Connections that are idle don't keep a compute awake; a transaction does, even one that waits."""
    limit = endpoint.suspend_timeout_seconds or _SUSPENDED_AFTER_SECONDS
    if endpoint.state != "active" or limit < 0 or engine.doors.idle_seconds(endpoint.id) < limit:
        return
    timeline = engine.book.branch(endpoint.branch_id).timeline
    if engine.clusters.port(timeline) is not None and _is_used(engine, timeline):
        return
    with engine.book.changing():
        engine.book.must_be_idle()
        work = SuspendCompute(endpoint=endpoint.id)
        engine.book.schedule(("suspend_compute", work), branch=endpoint.branch_id, endpoint=endpoint.id)


def _is_used(engine: Engine, timeline: str) -> bool:
    with engine.clusters.connect(timeline) as connection:
        found = connection.execute(_USED).fetchone()
    return bool(found and found[0])


def _look_after(engine: Engine, branch: Branch) -> None:
    """Note where a running cluster's log stands; copy its files when the last copy is far behind."""
    timeline = engine.book.state.timelines.get(branch.timeline)
    if timeline is None or branch.state != "ready" or engine.clusters.port(timeline.id) is None:
        return
    look(engine, timeline)
    timeline = engine.book.state.timelines[timeline.id]
    if timeline.ticks[-1].lsn - _last_base(timeline) > _NEW_BASE_AFTER:
        base = take_base(engine.clusters, timeline.id)
        timeline = engine.book.state.timelines[timeline.id]
        engine.book.edit(timeline, bases=(*timeline.bases, base))


def _last_base(timeline: Timeline) -> int:
    return max([base.stop for base in timeline.bases], default=timeline.start)


def _forget_deleted(engine: Engine) -> None:
    book = engine.book
    with book.changing() as state:
        book.must_be_idle()
        gone = [branch for branch in state.branches.values() if branch.deletion and branch.deletion.until <= now()]
        for branch in gone:
            if endpoint := book.endpoint_of(branch.id):
                book.drop(endpoint)
            book.drop(branch)
    if gone:
        collect(engine)
