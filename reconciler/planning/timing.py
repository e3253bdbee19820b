"""How long dumps take, and so when they are due. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from statistics import median_high
from zoneinfo import ZoneInfo

from reconciler.errors import Finding
from reconciler.planning.plan import Due, Wait
from reconciler.planning.text import age, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.schedule import Slots
from reconciler.policy.timing import Steps
from reconciler.policy.units import format_duration
from reconciler.world.facts import Observation

RECENT = 5
"""Backups that the usual duration comes from: one that took unusually long decides nothing."""


def usual_duration(have: Observation) -> timedelta | None:
    """How long the newest dumps took, as their manifests say: the one in the middle. None while there is none."""
    return have.once(_usual_duration)


def _usual_duration(have: Observation) -> timedelta | None:
    took = list(islice(_durations(have), RECENT))
    return median_high(took) if took else None


def _durations(have: Observation) -> Iterator[timedelta]:
    for backup in have.backups():
        # The manifest is the same wherever the backup lies.
        for copy in [backup.copies[name] for name in backup.whole_on[:1]]:
            if copy.started is not None and copy.finished is not None:
                yield copy.finished - copy.started


def slots_of(want: DatabasePolicy, have: Observation) -> Slots:
    """When dumps of this very database are due."""
    return want.slots(usual_duration(have))


def waits(want: DatabasePolicy, have: Observation, what: str, now: datetime, *, which: str = "") -> Due | None:
    """What is due in a window: nothing but to wait. None where nothing keeps it from starting. `which`: follows the noun."""
    closed = want.closed_by(now)
    if closed is None:
        return None
    opens, never, told = want.opening(now), f'(never "{closed}")', f"{what}{which}"
    if opens is None:
        says = f"{told} waits for ever {never}"
        finding = Finding(severity="error", where=have.database, what=says, cure="leave times open in dumps.never")
        return Due(findings=(finding,), stuck=True)
    local = opens.astimezone(ZoneInfo(want.timezone))
    until = instant(opens) if local.utcoffset() == timedelta(0) else f"{instant(opens)} ({local:%H:%M} in {want.timezone})"
    finding = Finding(severity="note", where=have.database, what=f"{told} waits until {until} {never}")
    return Due(findings=(finding,), next_at=opens, waiting=(Wait(what=what, until=opens),))


def rhythm(want: DatabasePolicy, usual: timedelta | None) -> str:
    """When dumps are taken, for people: `"0 2 * * *"`, or what `auto` comes to."""
    slots = want.slots(usual)
    if not isinstance(slots, Steps):
        return f'"{want.dumps.schedule}"'
    every = f"auto, every {format_duration(slots.every)}"
    return every if usual is None else f"{every} (they take {age(usual)})"
