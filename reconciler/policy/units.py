"""Durations, calendar spans, sizes and time zones, as people write them in a policy."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_DURATION: Final = re.compile(r"(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_SPAN: Final = re.compile(r"(?:([0-9]+)y)?(?:([0-9]+)mo)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?")
_SIZE: Final = re.compile(r"([0-9]+)(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_FACTORS: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_MACHINE_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones that mean another zone on every machine, or none."""
_DIGITS: Final = 9
"""No number in a unit is longer: a slip of the keyboard, not a wish, and Python's dates end at year 9999."""


class Duration(timedelta):
    """A length of time that is written as `6h` and printed the same way. Arithmetic gives plain timedeltas."""

    def __str__(self) -> str:
        return format_duration(self)

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `6h`, `1h30m`, `2w`. Raises ValueError with the reason."""
        return cls(seconds=parse_duration(text) // timedelta(seconds=1))


class Length(Duration):
    """A duration that is not nothing: of what ends at once, or is due for ever, nothing ever comes."""

    @classmethod
    def parse(cls, text: str) -> "Length":
        """Read `6h`. Raises ValueError with the reason."""
        length = cls(seconds=parse_duration(text) // timedelta(seconds=1))
        if not length:
            raise ValueError("is no time at all; write one, as 6h")
        return length


class LockTime(Duration):
    """How long a store locks what is written: a minute at least, since it refuses a lock that is over before it arrives."""

    @classmethod
    def parse(cls, text: str) -> "LockTime":
        """Read `30d`. Raises ValueError with the reason."""
        length = cls(seconds=parse_duration(text) // timedelta(seconds=1))
        if length < timedelta(minutes=1):
            raise ValueError("is shorter than a minute, and locks nothing; write a longer one, as 30d")
        return length


class ByteSize(int):
    """A number of bytes that is written as `16MiB`."""

    @classmethod
    def parse(cls, text: str) -> "ByteSize":
        """Read `16MiB`, `1GB`, `512`. Raises ValueError with the reason."""
        return cls(parse_size(text))


class Rate(int):
    """Bytes in a second, written as `50MiB/s`."""

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read `50MiB/s`. Raises ValueError with the reason."""
        size, slash, second = text.partition("/")
        if (slash, second) != ("/", "s") or not parse_size(size):
            raise ValueError("a rate is a size a second, and not nothing, as 50MiB/s")
        return cls(parse_size(size))


class TimeZone(str):
    """The name of a zone that this machine's tz database knows, such as `Europe/Madrid`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "TimeZone":
        """Check the name. Raises ValueError with the reason."""
        try:
            known = text not in _MACHINE_ZONES and ZoneInfo(text) is not None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            known = False
        if not known:
            raise ValueError("no such time zone")
        return cls(text)


class Span:
    """A length of calendar time: a month is as long as the calendar says. Immutable; all parts are 0 or more."""

    __slots__ = ("days", "hours", "months", "years")

    # Not a struct: msgspec would read one from a mapping, and a span is written as text.
    years: int
    months: int
    days: int
    hours: int

    def __init__(self, *, years: int = 0, months: int = 0, days: int = 0, hours: int = 0) -> None:
        for name, value in (("years", years), ("months", months), ("days", days), ("hours", hours)):
            if value < 0:
                raise ValueError(f"{name} of a span can't be negative: {value}")
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Span is immutable: {name} can't be set")

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Years, months, days, hours."""
        return (self.years, self.months, self.days, self.hours)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __str__(self) -> str:
        return "".join(f"{value}{unit}" for value, unit in zip(self.parts, ("y", "mo", "d", "h"), strict=True) if value) or "0h"

    def __repr__(self) -> str:
        return f"Span({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read `1y6mo14d12h`; a week is seven days. Raises ValueError with the reason."""
        return parse_span(text)


@lru_cache(maxsize=1)
def time_zones() -> tuple[str, ...]:
    """All that this machine knows. Takes a walk through the tz database's folder, so it is done once."""
    return tuple(sorted(available_timezones() - _MACHINE_ZONES))


def parse_duration(text: str) -> timedelta:
    """The duration that `6h`, `15m`, `7d`, `90s`, `2w` or `1h30m` says. Raises ValueError with the reason."""
    weeks, days, hours, minutes, seconds = _numbers(
        _DURATION, text, "a duration is a number with w, d, h, m or s, as 6h or 1h30m (the largest unit first)"
    )
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The duration as a policy says it, cut to seconds: `7d` for whole days, else hours, minutes, seconds (`26h`, `2m41s`)."""
    if duration < timedelta(0):
        return f"-{format_duration(-duration)}"
    seconds = duration // timedelta(seconds=1)
    if seconds and seconds % 86400 == 0:
        return f"{seconds // 86400}d"
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"


def parse_size(text: str) -> int:
    """The bytes that `16MiB`, `1GB` or `512` says. Raises ValueError with the reason."""
    reason = "a size is a number with B, kB, MB, GB, TB or KiB, MiB, GiB, TiB, as 16MiB"
    match = _SIZE.fullmatch(text)
    if match is None or len(match[1]) > _DIGITS:
        raise ValueError(reason)
    return int(match[1]) * _FACTORS[match[2] or "B"]


def parse_span(text: str) -> Span:
    """The span that `1y6mo14d12h` or `2w` says. Raises ValueError with the reason."""
    years, months, weeks, days, hours = _numbers(
        _SPAN, text, "a span is a number with y, mo, w, d or h, as 1y6mo or 14d (the largest unit first; months are mo)"
    )
    span = Span(years=years, months=months, days=7 * weeks + days, hours=hours)
    if not any(span.parts):
        raise ValueError("a span of nothing keeps nothing")
    return span


def _numbers(pattern: re.Pattern[str], text: str, reason: str) -> list[int]:
    match = pattern.fullmatch(text)
    if match is None or not text:
        raise ValueError(reason)
    if any(len(digits or "") > 5 for digits in match.groups()):
        raise ValueError("longer than anybody will wait; five digits are enough")
    return [int(digits or 0) for digits in match.groups()]
