"""Which instants a retention keeps, and why: restic's `forget`, as a pure function over instants.

Knows nothing of backups, targets, holds or tombstones: who asks decides which instants take part, and what losing one means.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from reconciler.policy.units import Span, parse_span

NO_RULES: Final = "no rules: everything is kept"
FUTURE: Final = "future"
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_UNLIMITED: Final = -1  # as in restic, where -1 means "all of them"

Cut = Callable[[datetime], tuple[int, ...]]
"""From a local time to the bucket that it falls in."""

PERIODS: Final[Mapping[str, Cut]] = {
    "hourly": lambda local: (local.year, local.month, local.day, local.hour),
    "daily": lambda local: (local.year, local.month, local.day),
    "weekly": lambda local: local.isocalendar()[:2],
    "monthly": lambda local: (local.year, local.month),
    "yearly": lambda local: (local.year,),
}
COUNTS: Final = ("keep_last", *(f"keep_{period}" for period in PERIODS))
SPANS: Final = ("keep_within", *(f"keep_within_{period}" for period in PERIODS))
ELSEWHERE: Final = ("min_verified", "grace")
"""Part of a policy's retention too, but about verification and deletion: accepted, and without effect here."""


class Rules(Protocol):
    """The rules as attributes: a count, or how far back from the newest. None and zero mean that there is no such rule."""

    @property
    def keep_last(self) -> int | None: ...
    @property
    def keep_hourly(self) -> int | None: ...
    @property
    def keep_daily(self) -> int | None: ...
    @property
    def keep_weekly(self) -> int | None: ...
    @property
    def keep_monthly(self) -> int | None: ...
    @property
    def keep_yearly(self) -> int | None: ...
    @property
    def keep_within(self) -> Span | None: ...
    @property
    def keep_within_hourly(self) -> Span | None: ...
    @property
    def keep_within_daily(self) -> Span | None: ...
    @property
    def keep_within_weekly(self) -> Span | None: ...
    @property
    def keep_within_monthly(self) -> Span | None: ...
    @property
    def keep_within_yearly(self) -> Span | None: ...


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An instant that stays, and all the reasons why, such as `daily 3 of 30`."""

    instant: datetime
    reasons: tuple[str, ...]


def keep(
    instants: Iterable[datetime],
    rules: Mapping[str, object] | Rules | None,
    *,
    now: datetime | None = None,
    timezone: str | tzinfo = "UTC",
) -> tuple[Kept, ...]:
    """The instants that stay, newest first, each with its reasons; what is not in the answer may go.

    Hours, days, ISO weeks, months and years are cut in `timezone`, whatever the process's own zone is; a zone given by name is
    read from disk the first time. Equal instants count one by one, and the answer holds as many as were kept. An instant later
    than `now` fills no bucket, is not the newest that `keep_within` counts from, and stays as `future`. Without rules, all stay.

    Raises ValueError: an unknown rule or zone, a value that no rule can have, an instant without a zone.
    """
    ordered = sorted(instants, key=_utc, reverse=True)
    instants_utc = tuple(_utc(instant) for instant in ordered)
    ahead = 0 if now is None else sum(instant > _utc(now) for instant in instants_utc)
    counts, spans = _read(rules)
    asked = instants_utc, ahead, tuple(counts.items()), tuple(spans.items()), _zone(timezone)
    # Most looks find the same instants as the one before, and `now` says no more than which are ahead of it.
    reasons = (_reasons if isinstance(asked[-1], Hashable) else _reasons.__wrapped__)(*asked)
    return tuple(Kept(instant=instant, reasons=why) for instant, why in zip(ordered, reasons, strict=True) if why)


@lru_cache(maxsize=8)
def _reasons(
    ordered: tuple[datetime, ...],
    ahead: int,
    counts: tuple[tuple[str, int], ...],
    spans: tuple[tuple[str, Span], ...],
    zone: tzinfo,
) -> tuple[tuple[str, ...], ...]:
    """Of each instant, in UTC: those of another zone may be equal and an hour apart."""
    reasons: list[list[str]] = [[FUTURE] for _ in ordered[:ahead]] + [[] for _ in ordered[ahead:]]
    for place, reason in _picks(ordered[ahead:], dict(counts), dict(spans), zone):
        reasons[ahead + place].append(reason)
    return tuple(map(tuple, reasons))


def _picks(
    ordered: Sequence[datetime], counts: Mapping[str, int], spans: Mapping[str, Span], zone: tzinfo
) -> Iterator[tuple[int, str]]:
    """Places in `ordered` (newest first), each with one reason to stay."""
    if not ordered:
        return
    if not counts and not spans:
        yield from ((place, NO_RULES) for place in range(len(ordered)))
    local = [_at(instant, zone) for instant in ordered]
    for rule, count in counts.items():
        yield from _counted(rule.removeprefix("keep_"), count, local)
    for rule, span in spans.items():
        edge = _before(ordered[0], span, zone)
        near = sum(_utc(instant) > edge for instant in ordered)
        yield from _reached(rule.removeprefix("keep_within").removeprefix("_"), span, local, near)


def _counted(name: str, count: int, local: Sequence[datetime]) -> Iterator[tuple[int, str]]:
    filled = enumerate(_fill(local, len(local), PERIODS.get(name)), start=1)
    if count == _UNLIMITED:
        yield from ((place, f"{oldest}{name} {number}") for number, (place, oldest) in filled)
    else:
        yield from ((place, f"{oldest}{name} {number} of {count}") for number, (place, oldest) in islice(filled, count))


def _reached(name: str, span: Span, local: Sequence[datetime], near: int) -> Iterator[tuple[int, str]]:
    for place, oldest in _fill(local, near, PERIODS.get(name)):
        yield place, f"{oldest}{name} within {span}".lstrip()


def _fill(local: Sequence[datetime], near: int, cut: Cut | None) -> Iterator[tuple[int, str]]:
    """The first of each bucket among the `near` newest; without a cut, each of them.

    The oldest of all comes too, marked so, even where its bucket is full: as in restic, a history that is still shorter than its
    rules reaches back as far as it can.
    """
    full: tuple[int, ...] | None = None
    for place in range(near):
        bucket = cut(local[place]) if cut else (place,)
        if bucket != full:
            yield place, ""
        elif place == len(local) - 1:
            yield place, "oldest "
        full = bucket


def _before(newest: datetime, span: Span, zone: tzinfo) -> datetime:
    """The instant a span before the newest: years, months and days by the calendar of the zone, then hours as they pass.

    A day that a month lacks runs over into the next one, as in restic: one month before 31 March is 3 March (or 2 March).
    """
    years, months, days, hours = span.parts
    edge = _utc(newest)
    try:
        if years or months or days:  # hours alone leave the wall clock out: it shows 02:30 twice in an autumn night
            local = _at(newest, zone)
            year, month = divmod(12 * (local.year - years) + local.month - 1 - months, 12)
            if year < 1:
                return _EARLIEST
            first = local.replace(year=year, month=month + 1, day=1)
            edge = (first + timedelta(days=local.day - 1 - days)).astimezone(UTC)
        return edge - timedelta(hours=hours)
    except OverflowError:  # before the year 1: the rule reaches back over everything
        return _EARLIEST


def _read(rules: Mapping[str, object] | Rules | None) -> tuple[Mapping[str, int], Mapping[str, Span]]:
    """The rules that say something: how many of each, and how far back of each."""
    if rules is None:
        return {}, {}
    if isinstance(rules, Mapping):
        if unknown := sorted(str(key) for key in rules if key not in (*COUNTS, *SPANS, *ELSEWHERE)):
            raise ValueError(f'"{unknown[0]}" is not a retention rule; the rules are {", ".join((*COUNTS, *SPANS))}')
        given = {rule: rules.get(rule) for rule in (*COUNTS, *SPANS)}
    else:
        given = {rule: getattr(rules, rule) for rule in (*COUNTS, *SPANS)}
    counts = {rule: _count(rule, given[rule]) for rule in COUNTS}
    spans = {rule: _span(rule, given[rule]) for rule in SPANS}
    return {rule: count for rule, count in counts.items() if count}, {rule: span for rule, span in spans.items() if span}


def _count(rule: str, value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < _UNLIMITED:
        raise ValueError(f"{rule} is {value!r}, which is no number of instants; give a whole number such as 7, or -1 for all")
    return value


def _span(rule: str, value: object) -> Span | None:
    if isinstance(value, str):
        try:
            value = parse_span(value)
        except ValueError as fault:
            raise ValueError(f'{rule} is "{value}": {fault}') from fault
    if value is not None and not isinstance(value, Span):
        raise ValueError(f'{rule} is {value!r}, which is no span of time; give one such as "7d" or "1y6mo"')
    return value if value is not None and any(value.parts) else None


def _zone(timezone: str | tzinfo) -> tzinfo:
    if isinstance(timezone, tzinfo):
        return timezone
    if timezone == "UTC":
        return UTC
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        raise ValueError(f'"{timezone}" is not a time zone; give a name such as "Europe/Madrid" or "UTC"') from fault


def _utc(instant: datetime) -> datetime:
    """In UTC, where instants compare truly: two of one zone are compared by their wall clocks."""
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        raise ValueError(f"{instant} has no time zone, so it is no instant; give it one, e.g. UTC")
    return _at(instant, UTC)


def _at(instant: datetime, zone: tzinfo) -> datetime:
    if instant.tzinfo is zone:
        return instant
    try:
        return instant.astimezone(zone)
    except OverflowError:  # in the first or last hours of the calendar; within a day of right is right enough there
        return instant.replace(tzinfo=zone)
