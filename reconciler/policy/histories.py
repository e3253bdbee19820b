"""What a policy asks of its providers' histories and can't be: nothing is loaded that two databases would undo for each other."""

from collections.abc import Iterator
from datetime import timedelta

from reconciler.policy.model import DatabasePolicy, Policy
from reconciler.policy.nodes import Path
from reconciler.policy.units import format_duration

Row = tuple[Path, str, str]


def history_faults(policy: Policy) -> Iterator[Row]:
    """Where each stands, what is wrong, and the cure."""
    for database in policy.databases.values():
        yield from _of_one(database)
    yield from _windows(policy)


def _of_one(database: DatabasePolicy) -> Iterator[Row]:
    if database.history_site is None:
        if database.pitr is not None:
            what = "asks for a history, and this source's provider keeps none"
            yield ("databases", database.name, "pitr"), what, "remove it; dumps alone protect this database"
        return
    if database.pitr is not None and database.pitr.window <= timedelta(0):
        yield ("databases", database.name, "pitr", "window"), "keeps no history at all", "say how long, as 7d"


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
