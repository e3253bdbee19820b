"""When a cron schedule fires: five fields, read by cronsim, laid on the calendar of a time zone.

The slots of a day are its matching wall-clock minutes. Where a zone's clock jumps ahead, a slot in the gap is the first minute
after it; where it goes back, a doubled minute is one slot, the first. Only a schedule for every hour has a slot in each of the
doubled hours: it promises an interval, and would else leave two hours between two slots. Forward and backward use the same days,
so they agree.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_FARTHEST: Final = timedelta(days=366 * 40)
"""A leap day on a given weekday comes every 28 years, every 40 where a century has no leap year: beyond, nothing comes."""
_PROBE: Final = (date(2000, 1, 1), date(2028, 1, 1))
"""28 years hold every pair of weekday and date."""

_RANGES: Final = {
    "minute": "a minute is 0 to 59",
    "hour": "an hour is 0 to 23",
    "day-of-month": "a day of the month is 1 to 31, or L for the last",
    "month": "a month is 1 to 12 or JAN to DEC",
    "day-of-week": "a day of the week is 0 to 7 or SUN to SAT, MON#1 for the first Monday of the month",
}
_NEVER: Final = "never fires: no such day comes in any year"
_ANY_DATE: Final = datetime(2000, 1, 1)  # noqa: DTZ001  # cronsim is asked for its fields only: no zone belongs to them
_STEPPED: Final = ((0, "minutes", 60, "hour"), (1, "hours", 24, "day"))


class Slots:
    """Instants that come day after day. Zones are given when they are asked for. What follows from them is hashable."""

    __slots__ = ()

    def of_day(self, day: date, timezone: str) -> list[datetime]:
        """Those that belong to a date of that zone, in UTC, ordered."""
        raise NotImplementedError

    def latest(self, now: datetime, timezone: str) -> datetime | None:
        """The newest slot that is not later than `now`, in UTC; None if there was none in forty years."""
        # A slot pushed out of a gap, or a fold at midnight, can lie on the neighbouring date.
        day = now.astimezone(ZoneInfo(timezone)).date() + _DAY
        for _ in range(_FARTHEST.days):
            slots = _of_day(self, day, timezone)
            position = bisect_right(slots, now)
            if position:
                return slots[position - 1]
            day -= _DAY
        return None

    def next(self, after: datetime, timezone: str) -> datetime:
        """The first slot later than `after`, in UTC."""
        return next(self.following(after, timezone))

    def upcoming(self, after: datetime, timezone: str, count: int) -> tuple[datetime, ...]:
        """The first `count` slots later than `after`, in UTC, oldest first."""
        return tuple(islice(self.following(after, timezone), count))

    def largest_gap(self, after: datetime, timezone: str) -> timedelta:
        """The longest time between two slots in the year that follows `after`."""
        return _largest_gap(self, after.astimezone(UTC).date(), timezone)

    def following(self, after: datetime, timezone: str) -> Iterator[datetime]:
        """All later than `after`, in UTC, oldest first, without end."""
        newest = after
        day = after.astimezone(ZoneInfo(timezone)).date() - _DAY
        while True:
            slots = _of_day(self, day, timezone)
            for slot in slots[bisect_right(slots, newest) :]:
                yield slot
                newest = slot
            day += _DAY


class Schedule(Slots):
    """A cron schedule such as `0 2 * * *`. Immutable; equal to another of the same text. Zones are given when it is asked."""

    __slots__ = ("_cron", "_every_hour", "_minutes", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError with the reason when the text is no schedule or never fires."""
        self.text = text
        self._cron = _read(text)
        self._every_hour = len(self._cron.hours) == 24
        self._minutes = tuple(time(hour, minute) for hour in sorted(self._cron.hours) for minute in sorted(self._cron.minutes))
        if not any(self._matches(_PROBE[0] + timedelta(days=day)) for day in range((_PROBE[1] - _PROBE[0]).days)):
            raise ValueError(_NEVER)

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "Schedule":
        """Read a schedule, each text once. Raises ValueError with the reason."""
        return Schedule(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Schedule({self.text!r})"

    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant, a sentence each."""
        fields = self.text.split()
        found = [said for place in _STEPPED if (said := _uneven(fields[place[0]], *place[1:]))]
        if fields[2] != "*" and fields[4] != "*":
            both = fields[2].startswith("*") or fields[4].startswith("*")
            how = "a day that is both" if both else "a day that is either"
            found.append(f"names days of the month ({fields[2]}) and days of the week ({fields[4]}): it fires on {how}")
        return tuple(found)

    def names(self, local: datetime) -> bool:
        """Whether that minute of a wall clock is one of its own."""
        return local.hour in self._cron.hours and local.minute in self._cron.minutes and self._matches(local.date())

    @property
    def whole_hours(self) -> bool:
        """Whether it names every minute of the hours that it names."""
        return len(self._cron.minutes) == 60

    @property
    def whole_days(self) -> bool:
        """Whether it names every minute of the days that it names."""
        return self.whole_hours and self._every_hour

    def _matches(self, day: date) -> bool:
        return day.month in self._cron.months and self._cron.match_day(day)

    def of_day(self, day: date, timezone: str) -> list[datetime]:
        """Its matching minutes of that date."""
        if not self._matches(day):
            return []
        zone = ZoneInfo(timezone)
        start = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
        if datetime.combine(day + _DAY, time(), tzinfo=zone).astimezone(UTC) - start == _DAY:
            return [start + timedelta(hours=at.hour, minutes=at.minute) for at in self._minutes]
        return sorted({slot for at in self._minutes for slot in self._instants(datetime.combine(day, at, tzinfo=zone))})

    def _instants(self, local: datetime) -> Iterator[datetime]:
        """What a wall-clock minute is in UTC on a day whose clock is changed."""
        first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
        if second < first:
            yield _after_gap(second, local)
            return
        yield first
        if self._every_hour:
            yield second


def _read(text: str) -> CronSim:
    fields = text.split()
    if len(fields) != 5 or len(text) > 256:
        said = f"has {len(fields)} field{'s' * (len(fields) != 1)}" if len(text) <= 256 else "is far too long"
        raise ValueError(f"{said}; a schedule is five: minute, hour, day of month, month, day of week, as 0 2 * * *")
    for position, field in enumerate(fields):
        try:
            _cron(position, field)
        except CronSimError as error:
            raise ValueError(_reason(list(_RANGES)[position], field)) from error
    try:
        return CronSim(text, _ANY_DATE)
    except CronSimError as error:
        raise ValueError(_NEVER) from error


def _cron(position: int, field: str) -> CronSim:
    """The field alone among stars, so that what is wrong is known to be wrong with it."""
    return CronSim(" ".join(field if place == position else "*" for place in range(5)), _ANY_DATE)


def _reason(name: str, field: str) -> str:
    if re.search(r"/0*(?:,|$)", field):
        return f"{field}: a step is a number from 1 up"
    backwards = re.search(r"(?<![0-9])([0-9]{1,2})-([0-9]{1,2})(?![0-9])", field)
    if backwards and int(backwards[1]) > int(backwards[2]):
        return f"{backwards[0]}: a range goes from the smaller to the larger"
    return _RANGES[name]


def _after_gap(before: datetime, local: datetime) -> datetime:
    """The first minute after the gap that `local` lies in; `before` is an instant shortly before it, in UTC."""
    zone = local.tzinfo
    offset = before.astimezone(zone).utcoffset()
    instant = before
    while instant.astimezone(zone).utcoffset() == offset:
        instant += _MINUTE
    return instant


def _uneven(field: str, unit: str, size: int, whole: str) -> str | None:
    """A step that doesn't divide its hour or day leaves one gap that is not like the others."""
    for term in field.split(","):
        step = int(term[2:]) if term.startswith("*/") else 1
        if step >= size:
            return f"{field} fires once in the {whole}, at 0: no {unit[:-1]} is {step} or more"
        if size % step:
            rest = size - (size - 1) // step * step
            return f"{term} is not every {step} {unit}: from the last one to the next {whole} it is {rest}"
    return None


@lru_cache(maxsize=4096)
def _of_day(schedule: Slots, day: date, timezone: str) -> tuple[datetime, ...]:
    """Each plan asks for the same few days."""
    return tuple(schedule.of_day(day, timezone))


@lru_cache(maxsize=1024)
def _largest_gap(schedule: Slots, first: date, timezone: str) -> timedelta:
    # A year and a day, so that a yearly schedule has its gap; and from the slot before, so that the first gap is whole.
    start = datetime.combine(first, time(), tzinfo=UTC)
    end = start + timedelta(days=367)
    gap, newest = timedelta(0), schedule.latest(start, timezone) or start
    for day in range(-1, 369):
        slots = schedule.of_day(first + timedelta(days=day), timezone)
        for one, other in pairwise([newest, *slots]):
            gap = max(gap, other - one)
        newest = max(slots[-1] if slots else newest, newest)
    return max(gap, schedule.next(newest, timezone) - newest if newest < end else gap)
