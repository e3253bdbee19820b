"""How far another clock is from ours, and whether that matters. Pure."""

from datetime import datetime, timedelta
from typing import Final

from reconciler.doctor.report import Passed, Verdict
from reconciler.errors import Finding, Severity

TOO_FAR: Final = timedelta(seconds=60)
"""Beyond this nothing is deleted: the plan's rule."""

NOTICEABLE: Final = timedelta(seconds=5)
"""A machine whose clock is kept by NTP is never that far off."""

RESOLUTION: Final = timedelta(seconds=1)
"""A Date header tells whole seconds, cut off."""


def offset(theirs: datetime, before: datetime, after: datetime) -> timedelta:
    """How far theirs is ahead (or, negative, behind), if they were asked between the two instants of ours."""
    if theirs > after:
        return theirs - after
    return min(timedelta(0), theirs + RESOLUTION - before)


def judge(where: str, ahead: timedelta) -> Verdict:
    """An error beyond a minute, a warning beyond five seconds."""
    if abs(ahead) <= NOTICEABLE:
        return Passed(where=where, what=f"its clock and ours agree to {NOTICEABLE.total_seconds():.0f} s")
    what = f"its clock is {abs(ahead).total_seconds():.0f} s {'ahead of' if ahead > timedelta(0) else 'behind'} ours"
    severity: Severity = "warning"
    if abs(ahead) > TOO_FAR:
        severity, what = "error", f"{what}: nothing is deleted while it is"
    return Finding(severity=severity, where=where, what=what, cure="keep the clock of this machine, and that one, by NTP")
