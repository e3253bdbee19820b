"""What a policy asks of its providers' histories and can't be: nothing is loaded that two databases would undo for each other."""

from collections.abc import Iterator
from datetime import timedelta

from reconciler.policy.firing import LONGEST, SHORTEST, firings
from reconciler.policy.model import DatabasePolicy, Policy, Snapshots
from reconciler.policy.nodes import Path
from reconciler.policy.units import format_duration

Row = tuple[Path, str, str]


def history_faults(policy: Policy) -> Iterator[Row]:
    """Where each stands, what is wrong, and the cure."""
    for database in policy.databases.values():
        yield from _of_one(database)
    yield from _windows(policy)
    yield from _schedules(policy)


def _of_one(database: DatabasePolicy) -> Iterator[Row]:
    if database.history_site is None:
        asked = {"pitr": database.pitr, "snapshots": database.snapshots, "branches": database.branches.protect}
        for key in (key for key, value in asked.items() if value):
            what = "asks for a history, and this source's provider keeps none"
            yield ("databases", database.name, key), what, "remove it; dumps alone protect this database"
        return
    if database.pitr is not None and database.pitr.window <= timedelta(0):
        yield ("databases", database.name, "pitr", "window"), "keeps no history at all", "say how long, as 7d"
    if database.snapshots is not None:
        yield from _snapshots(database, database.snapshots)


def _snapshots(database: DatabasePolicy, snapshots: Snapshots) -> Iterator[Row]:
    """What the provider's own schedule can't express."""
    path = ("databases", database.name, "snapshots")
    if snapshots.via == "reconciler":
        if snapshots.takeover:
            yield (*path, "takeover"), "speaks of the provider's schedule, which `via: reconciler` leaves alone", "remove it"
        if snapshots.retain <= timedelta(0):
            yield (*path, "retain"), "keeps nothing", "say how long, as 7d"
        return
    try:
        firings(snapshots.schedule, snapshots.retain)
    except ValueError as error:
        key = "schedule" if SHORTEST <= snapshots.retain <= LONGEST else "retain"
        cure = "write what it knows (daily, weekly, monthly on whole hours), or say via: reconciler"
        yield (*path, key), f"the provider's own schedule {error}", cure


def _windows(policy: Policy) -> Iterator[Row]:
    """A window is a setting of the whole project: with two, each turn would undo what the other did."""
    first: dict[str, DatabasePolicy] = {}
    for database in policy.databases.values():
        site, wanted = database.history_site, database.pitr
        if site is None or wanted is None or not wanted.manage:
            continue
        other = first.setdefault(site, database)
        if other.pitr is not None and other.pitr.window != wanted.window:
            said = f"{format_duration(wanted.window)} here, {format_duration(other.pitr.window)} for {other.name}"
            what = f"one project has one window, and {other.name} is of the same project: {said}"
            yield ("databases", database.name, "pitr", "window"), what, "say the same in both, the larger one"


def _schedules(policy: Policy) -> Iterator[Row]:
    """The provider's schedule is one of the whole branch."""
    first: dict[tuple[str, str], DatabasePolicy] = {}
    for database in policy.databases.values():
        site, wanted = database.history_site, database.snapshots
        if site is None or wanted is None or wanted.via != "neon":
            continue
        other = first.setdefault((site, str(getattr(database.source, "branch", ""))), database)
        asked = other.snapshots
        if asked is not None and (asked.schedule, asked.retain) != (wanted.schedule, wanted.retain):
            what = f"one branch has one schedule, and {other.name} is of the same branch and wants another"
            yield ("databases", database.name, "snapshots"), what, "say the same in both, or in one alone"
