"""When dumps are due: at the slots of a cron schedule, or at steps of the day that follow from the RPO. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from reconciler.policy.schedule import Schedule, Slots

AUTO: Final = "auto"
STEPS: Final = tuple(timedelta(minutes=minutes) for minutes in (1440, 720, 480, 360, 240, 180, 120, 90, 60, 30, 20, 15, 10, 5))
"""What a day can be cut into; each divides it, so that slots are the same instants whoever asks and whenever."""
SHORTEST_DUMP: Final = timedelta(minutes=1)
"""What a dump is taken to last at least: an RPO that is just the step would leave no time for the dump itself."""


class Timing:
    """What a policy says of when dumps are taken: a cron schedule, or `auto`. Immutable."""

    __slots__ = ("cron",)

    def __init__(self, cron: Schedule | None) -> None:
        self.cron = cron
        """None: `auto`."""

    @classmethod
    def parse(cls, text: str) -> "Timing":
        """Read `auto` or a cron schedule. Raises ValueError with the reason."""
        return cls(None if text == AUTO else Schedule.parse(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timing) and self.cron == other.cron

    def __hash__(self) -> int:
        return hash(self.cron)

    def __str__(self) -> str:
        return AUTO if self.cron is None else str(self.cron)

    def __repr__(self) -> str:
        return f"Timing({str(self)!r})"


class Steps(Slots):
    """Equal steps from each midnight of the zone on. On a day that a change of the clock lengthens there is one more."""

    __slots__ = ("every",)

    def __init__(self, every: timedelta) -> None:
        self.every = every

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steps) and self.every == other.every

    def __hash__(self) -> int:
        return hash(self.every)

    def of_day(self, day: date, timezone: str) -> list[datetime]:
        """From its midnight until before the next one."""
        start, end = _midnight(day, timezone), _midnight(day + timedelta(days=1), timezone)
        return [start + number * self.every for number in range(-(-(end - start) // self.every))]


@lru_cache(maxsize=256)
def _midnight(day: date, timezone: str) -> datetime:
    return datetime.combine(day, time(), tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def steps_for(rpo: timedelta, usual: timedelta | None) -> Steps:
    """Often enough for the RPO: when a dump fails that takes as long as usual, one retry still comes in time.

    A restore point's instant is the start of its dump, so the newest is as old as a step, the failed try and the retry together.
    The smallest step where none is small enough. `usual` None: no dump was taken yet.
    """
    room = rpo - 2 * max(usual or SHORTEST_DUMP, SHORTEST_DUMP)
    return Steps(next((step for step in STEPS if step <= room), STEPS[-1]))


class Window:
    """Minutes of the wall clock, as cron names them, in which nothing starts. Immutable."""

    __slots__ = ("_minutes",)

    def __init__(self, minutes: Schedule) -> None:
        self._minutes = minutes

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Read the five fields. Raises ValueError with the reason."""
        return cls(Schedule.parse(text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and self._minutes == other._minutes

    def __hash__(self) -> int:
        return hash(self._minutes)

    def __str__(self) -> str:
        return str(self._minutes)

    def __repr__(self) -> str:
        return f"Window({str(self)!r})"

    @property
    def whole_hours(self) -> bool:
        """Whether it closes each hour that it names as a whole, as windows usually do."""
        return self._minutes.whole_hours

    def covers(self, local: datetime) -> bool:
        """Whether that minute of the wall clock is closed."""
        return self._minutes.names(local)

    def left_at(self, when: datetime, local: datetime) -> datetime:
        """A later instant up to which all is closed; both arguments are the same instant, a full minute that it covers."""
        if self._minutes.whole_days:
            return datetime.combine(local.date() + timedelta(days=1), time(), tzinfo=local.tzinfo).astimezone(UTC)
        return when + timedelta(minutes=60 - local.minute if self._minutes.whole_hours else 1)


SEARCHED: Final = timedelta(days=370)


def closed_by(windows: Iterable[Window], when: datetime, timezone: str) -> Window | None:
    """The first of the windows that the instant lies in."""
    local = when.astimezone(ZoneInfo(timezone))
    return next((window for window in windows if window.covers(local)), None)


def opening(windows: Sequence[Window], when: datetime, timezone: str) -> datetime | None:
    """The first instant from `when` on that lies in no window, in UTC; None where a year brings none."""
    at = when
    while at <= when + SEARCHED:
        window = closed_by(windows, at, timezone)
        if window is None:
            return at
        minute = at.replace(second=0, microsecond=0)
        at = window.left_at(minute, minute.astimezone(ZoneInfo(timezone)))
    return None


def largest_wait(slots: Slots, windows: Sequence[Window], after: datetime, timezone: str) -> timedelta | None:
    """The longest time between two starts in the year that follows `after`, windows counted; None where they never open."""
    gap, newest, ends = timedelta(0), None, after + timedelta(days=366)
    for slot in slots.following(after - timedelta(days=366), timezone):
        starts = opening(windows, slot, timezone)
        if starts is None:
            return None
        if newest is not None and starts > after:
            gap = max(gap, starts - newest)
        newest = starts
        if slot > ends:
            return gap
    return gap
