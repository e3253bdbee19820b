"""New timelines out of old ones, by PostgreSQL's own recovery, stopped before the first record that lies beyond the target.

PostgreSQL gives each a number of its own, so that the logs of a line of descent never mix.
"""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.errors import Unreachable
from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.archive import LEFT_OUT, close_log, lay_out
from reconciler.sandbox.neon.cloning import clone_tree
from reconciler.sandbox.neon.clusters import Clusters, Place
from reconciler.sandbox.neon.records import Timeline
from reconciler.sandbox.neon.work import Target
from reconciler.sandbox.patience import wait_for
from reconciler.sandbox.places import give
from reconciler.sandbox.serving import wait_until_ready

if TYPE_CHECKING:
    import psycopg

_SECONDS = 600
_PAUSED = "select pg_get_wal_replay_pause_state() = 'paused'"
_DEAF: dict[str, str] = {"max_logical_replication_workers": "0"}


def derive(clusters: Clusters, timeline: str, line: Sequence[Timeline], target: Target) -> Place:
    """Make the new timeline as `line[0]` was at the target; it runs when this returns. Where it left its parent.

    The target is an instant or an LSN behind that one's birth, and its log goes on behind it. What an earlier try left goes.
    """
    clusters.fresh(timeline)
    _lay_out(clusters, timeline, line, target)
    return _recover(clusters, timeline, target)


def stand_still(clusters: Clusters, timeline: str, line: Sequence[Timeline], target: Target) -> None:
    """A server that can be read and not written, as `line[0]` was at the target.

    It is derived and ended first: a recovery that merely pauses there still holds the locks of who was at work.
    """
    derive(clusters, timeline, line, target)
    clusters.rest(timeline)
    _signal(clusters, timeline, "standby.signal")
    clusters.start(timeline, {})
    wait_until_ready(clusters.data(timeline), clusters.log(timeline))


def thaw(clusters: Clusters, timeline: str, resting: str) -> Place:
    """Make the new timeline out of a cluster that was ended cleanly and stays so, a snapshot's; it runs when this returns."""
    clusters.fresh(timeline)
    clone_tree(clusters.data(resting), clusters.data(timeline), clusters.account, is_left_out=lambda path: path.name in LEFT_OUT)
    _ready_to_recover(clusters, timeline)
    return _recover(clusters, timeline, None)


def revive(clusters: Clusters, timeline: str, line: Sequence[Timeline]) -> None:
    """Make the cluster of a timeline anew whose files went and whose log, `line[0]`'s, is whole; it runs when this returns."""
    forget(clusters, timeline)
    _lay_out(clusters, timeline, line, Target())
    _recover(clusters, timeline, None)


def forget(clusters: Clusters, timeline: str) -> None:
    """Delete the cluster and keep its log, whole: `revive` brings it back."""
    clusters.rest(timeline)
    close_log(clusters, timeline)
    data = clusters.data(timeline)
    shutil.rmtree(data, ignore_errors=not data.exists())


def _lay_out(clusters: Clusters, timeline: str, line: Sequence[Timeline], target: Target) -> None:
    lay_out(clusters, timeline, line, target)
    _ready_to_recover(clusters, timeline)


def _ready_to_recover(clusters: Clusters, timeline: str) -> None:
    clusters.configure(timeline)
    _signal(clusters, timeline, "recovery.signal")


def _signal(clusters: Clusters, timeline: str, name: str) -> None:
    signal = clusters.data(timeline) / name
    signal.touch()
    give(clusters.account, signal)


def _recover(clusters: Clusters, timeline: str, target: Target | None) -> Place:
    # To its end the log is replayed without a pause, and by a server that is deaf: nothing else keeps it from its subscriptions.
    deaf = target is None or _stops_subscribed(clusters, timeline, target)
    if deaf:
        clusters.start(timeline, {**_settings(target), **_DEAF, "recovery_target_action": "promote"})
    with _connected(clusters, timeline) as connection:
        _wait(clusters, timeline, connection, "select not pg_is_in_recovery()")
        lsn, at = _ask(connection, "select pg_last_wal_replay_lsn()::text, clock_timestamp()")
    if deaf:
        _unsubscribe(clusters, timeline)
        clusters.rest(timeline)
    clusters.serve(timeline)
    return Place(lsn=log.parse(lsn), at=at)


def _stops_subscribed(clusters: Clusters, timeline: str, target: Target) -> bool:
    """Replay to the target, and look before anything can happen there. Goes on and says no, or ends the server and says yes."""
    clusters.start(timeline, _settings(target))
    with _connected(clusters, timeline) as connection:
        _wait(clusters, timeline, connection, _PAUSED)
        subscribed = _is_subscribed(connection)
        if not subscribed:
            connection.execute("select pg_wal_replay_resume()")
    if subscribed:
        clusters.rest(timeline)
    return subscribed


def _is_subscribed(connection: "psycopg.Connection") -> bool:
    """Whether to any publication; yes where that can't be told."""
    import psycopg

    # Whoever was at work at that place may have locked the catalogue, and holds the lock as long as the recovery pauses.
    connection.execute("set lock_timeout = '1s'")
    try:
        (found,) = _ask(connection, "select exists (select from pg_subscription where subenabled)")
    except psycopg.errors.LockNotAvailable:
        return True
    return bool(found)


def _unsubscribe(clusters: Clusters, timeline: str) -> None:
    """A clone takes nothing that its parent subscribed to: the publisher would take it for the parent."""
    from psycopg import sql

    with clusters.connect(timeline) as connection:
        found = connection.execute(
            "select datname, subname from pg_subscription join pg_database d on d.oid = subdbid where subenabled"
        ).fetchall()
    for database, name in found:
        with clusters.connect(timeline, database) as connection:
            connection.execute(sql.SQL("alter subscription {} disable").format(sql.Identifier(name)))
            connection.execute(sql.SQL("alter subscription {} set (slot_name = none)").format(sql.Identifier(name)))


def _settings(target: Target | None) -> dict[str, str]:
    settings = {"recovery_target_timeline": "latest", "recovery_target_action": "pause"}
    if target and target.lsn is not None:
        # Not inclusive: that would take the record which begins at this place, and all of it lies behind.
        return {**settings, "recovery_target_lsn": log.written(target.lsn), "recovery_target_inclusive": "off"}
    if target and target.at is not None:
        return {**settings, "recovery_target_time": target.at.isoformat(), "recovery_target_inclusive": "on"}
    return settings


def _connected(clusters: Clusters, timeline: str) -> "psycopg.Connection":
    def look() -> "psycopg.Connection | None":
        try:
            return clusters.connect(timeline)
        except Unreachable:
            _say_why_it_ended(clusters, timeline)
            return None

    return wait_for(look, seconds=_SECONDS, what=f"timeline {timeline} to recover", cure=f"read {clusters.log(timeline)}")


def _wait(clusters: Clusters, timeline: str, connection: "psycopg.Connection", question: str) -> None:
    import psycopg

    def look() -> bool:
        try:
            return bool(_ask(connection, question)[0])
        except psycopg.OperationalError:
            _say_why_it_ended(clusters, timeline)
            raise

    wait_for(look, seconds=_SECONDS, what=f"timeline {timeline} to recover", cure=f"read {clusters.log(timeline)}")


def _say_why_it_ended(clusters: Clusters, timeline: str) -> None:
    if not clusters.is_alive(timeline):
        wait_until_ready(clusters.data(timeline), clusters.log(timeline))


def _ask(connection: "psycopg.Connection", question: str) -> tuple[Any, ...]:
    return connection.execute(question.encode()).fetchone() or (None,)
