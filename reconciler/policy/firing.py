"""A provider's own snapshot schedule, and which cron schedules it can express. Whole hours, in UTC."""

from datetime import timedelta
from typing import Final

import msgspec

from reconciler.policy.schedule import Schedule
from reconciler.policy.units import format_duration

SHORTEST: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=35)
"""For how long a scheduled snapshot may be kept (Neon's documentation: cli/snapshots, 2026-09)."""


class Firing(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One line of it. `frequency` is daily, weekly or monthly in what we write; what is read may hold another word."""

    frequency: str
    hour: int | None = None
    day: int | None = None
    """Of the week, 1 is Monday; of the month."""
    month: int | None = None
    retention: timedelta | None = None
    """None: what the provider takes for long enough."""

    def says(self) -> str:
        """For people: `daily at 3, kept 7d`."""
        words = [self.frequency]
        words += [f"day {self.day}"] if self.day is not None else []
        words += [f"month {self.month}"] if self.month is not None else []
        words += [f"at {self.hour}"] if self.hour is not None else []
        kept = f"kept {format_duration(self.retention)}" if self.retention is not None else "kept as long as by default"
        return f"{' '.join(words)}, {kept}"


def firings(schedule: Schedule, retain: timedelta) -> tuple[Firing, ...]:
    """The lines that fire when the schedule does, sorted. Raises ValueError with the reason where there are none such."""
    if not SHORTEST <= retain <= LONGEST:
        raise ValueError(f"keeps a snapshot from {format_duration(SHORTEST)} to {format_duration(LONGEST)}")
    # A plain one: what is in an action is written as it is.
    retain = timedelta(seconds=retain // timedelta(seconds=1))
    minute, hour, day, month, weekday = schedule.text.split()
    if minute != "0":
        raise ValueError("fires on whole hours only: write 0 as the minute")
    if month != "*":
        raise ValueError("knows no months: write * as the month")
    if day != "*" and weekday != "*":
        raise ValueError("knows days of the week or days of the month, not both in one line")
    hours = _numbers(hour, "hour", 0, 23)
    days = _numbers(day, "day of month", 1, 31) if day != "*" else ()
    # Cron's Sunday is 0 and 7; the provider's is 7.
    weekdays = sorted({one or 7 for one in _numbers(weekday, "day of week", 0, 7)}) if weekday != "*" else ()
    lines = [Firing(frequency="monthly", hour=at, day=one, retention=retain) for one in days for at in hours]
    lines += [Firing(frequency="weekly", hour=at, day=one, retention=retain) for one in weekdays for at in hours]
    lines = lines or [Firing(frequency="daily", hour=at, retention=retain) for at in hours]
    return tuple(sorted(lines, key=order_of))


def order_of(firing: Firing) -> tuple[str, int, int, int]:
    """How lines are sorted: what is absent comes first."""
    return firing.frequency, firing.month or 0, firing.day or 0, -1 if firing.hour is None else firing.hour


def _numbers(field: str, name: str, first: int, last: int) -> tuple[int, ...]:
    found: set[int] = set()
    for term in field.split(","):
        low, dash, high = term.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"takes numbers only, one by one or as a range: {field} is no such {name}")
        found |= set(range(int(low), int(high if dash else low) + 1))
    if not found or min(found) < first or max(found) > last:
        raise ValueError(f"{field}: a {name} is {first} to {last}")
    if len(found) == last - first + 1 == 24:
        raise ValueError("takes no snapshot every hour")
    return tuple(sorted(found))
