"""What a retention keeps: worked cases, the page's examples, and what must hold for all instants and rules."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.planning.retention import COUNTS, FUTURE, NO_RULES, SPANS, Kept, keep
from reconciler.policy.model import Retention
from reconciler.policy.units import Span

PAGE = Path(__file__).parents[2] / "docs" / "retention.md"
ZONES = ("UTC", "Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")


def at(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(text) for text in texts]


def instants_of(kept: Sequence[Kept]) -> list[datetime]:
    return [item.instant for item in kept]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A block of the page: settings, then a line a backup with its reasons, or `-`."""

    title: str
    rules: Mapping[str, int | str]
    now: datetime | None
    timezone: str
    lines: tuple[tuple[datetime, tuple[str, ...]], ...]


def examples() -> Iterator[Example]:
    for title, block in re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```retention\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        rows = [row for row in block.splitlines() if row]
        says = dict(row.split(": ", 1) for row in rows if re.match(r"[a-z]+: ", row))
        rules = dict(rule.split(": ") for rule in says["rules"].split(", "))
        dated = [row.split("  ") for row in rows if re.match(r"\d", row)]
        yield Example(
            title=title,
            rules={rule: int(value) if value.isdigit() else value for rule, value in rules.items()},
            now=datetime.fromisoformat(says["now"]) if "now" in says else None,
            timezone=says.get("timezone", "UTC"),
            lines=tuple((datetime.fromisoformat(when), () if why == "-" else tuple(why.split(", "))) for when, why in dated),
        )


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.title)
def test_example_of_the_page(example: Example) -> None:
    """What the page for operators says of a backup is what happens to it, and why."""
    kept = keep([when for when, _ in example.lines], example.rules, now=example.now, timezone=example.timezone)

    assert [(when, why) for when, why in example.lines if why] == [(item.instant, item.reasons) for item in kept]


def test_every_example_of_the_page_is_read() -> None:
    """An example that the reading of the page misses would be a promise that nobody checks."""
    assert PAGE.read_text().count("```retention") == len(list(examples())) == 6


WORKED = {
    "no backups, nothing kept": ({"keep_last": 3, "keep_within": "7d"}, "UTC", [], []),
    "fewer than asked: all stay": ({"keep_last": 9}, "UTC", ["2025-01-02T00:00Z", "2025-01-01T00:00Z"], [1, 1]),
    "zero is no rule": ({"keep_last": 0, "keep_within": Span()}, "UTC", ["2025-01-02T00:00Z", "2025-01-01T00:00Z"], [1, 1]),
    "a zero beside a rule adds nothing": (
        {"keep_last": 1, "keep_daily": 0},
        "UTC",
        ["2025-01-02T00:00Z", "2025-01-01T00:00Z"],
        [1, 0],
    ),
    "equal instants count one by one": (
        {"keep_last": 2},
        "UTC",
        ["2025-01-02T00:00Z", "2025-01-02T00:00Z", "2025-01-02T00:00Z"],
        [1, 1, 0],
    ),
    "30 December belongs to week 1 of the next year": (
        {"keep_weekly": 2},
        "UTC",
        ["2025-01-03T00:00Z", "2024-12-30T00:00Z", "2024-12-29T00:00Z", "2024-12-24T00:00Z"],
        [1, 0, 1, 0],
    ),
    "a Sunday evening is Monday further east": (
        {"keep_weekly": 1},
        "Asia/Tokyo",
        ["2025-06-02T10:00Z", "2025-06-01T16:00Z", "2025-06-01T14:00Z"],
        [1, 0, 0],
    ),
    "an hour shown twice is one hour": (
        {"keep_hourly": 2},
        "Europe/Madrid",
        ["2025-10-26T01:30Z", "2025-10-26T00:30Z", "2025-10-25T23:30Z", "2025-10-25T22:30Z"],
        [1, 0, 1, 0],
    ),
    "in UTC it is two": (
        {"keep_hourly": 2},
        "UTC",
        ["2025-10-26T01:30Z", "2025-10-26T00:30Z", "2025-10-25T23:30Z", "2025-10-25T22:30Z"],
        [1, 1, 0, 0],
    ),
    "the 31st a month back runs over": (
        {"keep_within": "1mo"},
        "UTC",
        ["2025-03-31T00:00Z", "2025-03-03T00:01Z", "2025-03-03T00:00Z", "2025-02-28T00:00Z"],
        [1, 1, 0, 0],
    ),
    "a day is by the calendar: 25 hours in autumn": (
        {"keep_within": "1d"},
        "Europe/Madrid",
        ["2025-10-26T11:00Z", "2025-10-25T10:01Z", "2025-10-25T10:00Z"],
        [1, 1, 0],
    ),
    "hours are hours: 24 of them are fewer than that day": (
        {"keep_within": "24h"},
        "Europe/Madrid",
        ["2025-10-26T11:00Z", "2025-10-25T11:01Z", "2025-10-25T10:01Z"],
        [1, 1, 0],
    ),
    "hours back from the second 02:30 of the night": (
        {"keep_within": "1h"},
        "Europe/Madrid",
        ["2025-10-26T01:30Z", "2025-10-26T00:31Z", "2025-10-26T00:30Z"],
        [1, 1, 0],
    ),
    "further back than the calendar": (
        {"keep_within_yearly": "9999y"},
        "UTC",
        ["2025-01-01T00:00Z", "2024-02-01T00:00Z", "2024-01-01T00:00Z", "0001-06-01T00:00Z"],
        [1, 1, 0, 1],
    ),
    "more days than the calendar has": (
        {"keep_within": Span(days=800_000)},
        "Europe/Madrid",
        ["2025-01-01T00:00Z", "0001-06-01T00:00Z"],
        [1, 1],
    ),
    "at the ends of the calendar, in a zone": (
        {"keep_daily": 2},
        "America/New_York",
        ["9999-12-31T23:59Z", "0001-01-01T00:00Z"],
        [1, 1],
    ),
    "a longer span beyond the oldest keeps it too": (
        {"keep_within_monthly": "1y"},
        "UTC",
        ["2025-06-20T00:00Z", "2025-06-10T00:00Z", "2025-06-01T00:00Z"],
        [1, 0, 1],
    ),
    "a span that ends before the oldest does not": (
        {"keep_within_monthly": "12d"},
        "UTC",
        ["2025-06-20T00:00Z", "2025-06-10T00:00Z", "2025-06-01T00:00Z"],
        [1, 0, 0],
    ),
    "minus one keeps all of a kind": (
        {"keep_daily": -1},
        "UTC",
        ["2025-06-03T02:00Z", "2025-06-03T01:00Z", "2025-06-02T00:00Z", "2025-06-01T09:00Z", "2025-06-01T08:00Z"],
        [1, 0, 1, 1, 1],
    ),
}


@pytest.mark.parametrize(("rules", "timezone", "instants", "stays"), WORKED.values(), ids=WORKED.keys())
def test_worked_case(rules: dict[str, object], timezone: str, instants: list[str], stays: list[int]) -> None:
    """A case worked by hand: 1 stays, 0 goes."""
    kept = keep(at(*instants), rules, timezone=timezone)

    assert [when for when, stay in zip(at(*instants), stays, strict=True) if stay] == instants_of(kept)


@pytest.mark.parametrize("rules", [None, {}, {"keep_last": 0}, {"grace": "7d", "min_verified": 1}, Retention()])
def test_no_rules(rules: Mapping[str, object] | Retention | None) -> None:
    """An empty or missing retention keeps everything, and says that this is why."""
    kept = keep(at("2025-01-02T00:00Z", "2025-01-01T00:00Z"), rules)

    assert all(item.reasons == (NO_RULES,) for item in kept)
    assert at("2025-01-02T00:00Z", "2025-01-01T00:00Z") == instants_of(kept)


def test_rules_of_a_policy() -> None:
    """The struct that a policy is read into keeps what a mapping of the same rules keeps."""
    hourly = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=7 * step) for step in range(400)]
    struct = Retention(keep_last=2, keep_daily=5, keep_weekly=4, keep_within=Span(days=3), keep_within_monthly=Span(months=2))
    mapping = {"keep_last": 2, "keep_daily": 5, "keep_weekly": 4, "keep_within": "3d", "keep_within_monthly": "2mo"}

    assert keep(hourly, mapping) == keep(hourly, struct)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"keep_lasst": 3}, '"keep_lasst" is not a retention rule; the rules are keep_last, keep_hourly'),
        ({"keep_last": "3"}, "keep_last is '3', which is no number of instants; give a whole number such as 7"),
        ({"keep_daily": -2}, "keep_daily is -2, which is no number of instants"),
        ({"keep_daily": True}, "keep_daily is True, which is no number of instants"),
        ({"keep_daily": 1.5}, r"keep_daily is 1\.5, which is no number of instants"),
        ({"keep_within": 7}, 'keep_within is 7, which is no span of time; give one such as "7d"'),
        ({"keep_within_daily": "soon"}, 'keep_within_daily is "soon": a span is a number with y, mo, w, d or h'),
    ],
)
def test_rule_that_cannot_be(rules: dict[str, object], says: str) -> None:
    """A rule that is none is refused in a sentence; guessing would prune."""
    with pytest.raises(ValueError, match=says):
        keep([], rules)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "Europe"])
def test_zone_that_does_not_exist(zone: str) -> None:
    """A zone that is none is refused, with an example of one."""
    with pytest.raises(ValueError, match=f'"{re.escape(zone)}" is not a time zone; give a name such as "Europe/Madrid"'):
        keep([], {"keep_last": 1}, timezone=zone)


@pytest.mark.parametrize(
    ("instants", "now"), [([datetime(2025, 1, 1)], None), ([datetime(2025, 1, 1, tzinfo=UTC)], datetime(2025, 1, 1))]
)
def test_time_without_a_zone(instants: list[datetime], now: datetime | None) -> None:
    """A wall-clock time could be any of many instants, so none is guessed."""
    with pytest.raises(ValueError, match="2025-01-01 00:00:00 has no time zone"):
        keep(instants, {"keep_last": 1}, now=now)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Madrid", datetime(2025, 3, 30), 23),
        ("Europe/Madrid", datetime(2025, 10, 26), 25),
        ("America/New_York", datetime(2025, 3, 9), 23),
        ("America/New_York", datetime(2025, 11, 2), 25),
        ("Europe/Madrid", datetime(2025, 7, 1), 24),
    ],
)
def test_day_that_the_clock_is_changed_on(zone: str, day: datetime, hours: int) -> None:
    """A day of 23 or 25 hours is one daily bucket, no more and no less."""
    tz = ZoneInfo(zone)
    first, end = (moment.replace(tzinfo=tz).astimezone(UTC) for moment in (day - timedelta(days=1), day + timedelta(days=1)))
    hourly = [first + timedelta(hours=step) for step in range((end - first) // timedelta(hours=1))]

    kept = keep(hourly, {"keep_daily": 2}, timezone=zone)

    assert [end - timedelta(hours=1), end - timedelta(hours=1 + hours)] == instants_of(kept)


def test_instants_given_in_another_zone() -> None:
    """Whatever zone an instant is written in, its bucket is cut in the asked one, and it comes back as it was given."""
    madrid = ZoneInfo("Europe/Madrid")
    twice = [datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=madrid), datetime(2025, 10, 26, 2, 40, fold=0, tzinfo=madrid)]

    kept = keep(twice, {"keep_last": 1})

    assert twice[0] is kept[0].instant
    assert len(kept) == 1


def test_instants_that_look_alike() -> None:
    """Two of one zone are equal by their wall clocks, an hour apart: what was kept of the one is no answer for the other."""
    madrid, rules = ZoneInfo("Europe/Madrid"), Retention(keep_hourly=9)
    first, second = (datetime(2025, 10, 26, 2, 30, fold=fold, tzinfo=madrid) for fold in (0, 1))

    for pair, stays in (((first, first), 1), ((second, first), 2)):
        kept = keep(pair, rules)
        assert stays == len({item.instant.astimezone(UTC) for item in kept})
        assert kept[0].instant is pair[0]


class Changing:
    """Rules that somebody changes."""

    def __init__(self) -> None:
        self.__dict__.update(dict.fromkeys((*COUNTS, *SPANS)))


def test_rules_that_change() -> None:
    """They hold as they stand when they are asked, and what no rule can be is none, though it equals one."""
    instants, rules = at("2025-10-25T02:00Z", "2025-10-24T02:00Z", "2025-10-23T02:00Z"), Changing()
    for count in (1, 3, 2):
        rules.keep_last = count  # type: ignore[attr-defined]  # one of those above
        assert count == len(keep(instants, rules))  # type: ignore[arg-type]

    assert 1 == len(keep(instants, Retention(keep_last=1)))
    with pytest.raises(ValueError, match="keep_last is True"):
        keep(instants, Retention(keep_last=True))


class Unhashable(tzinfo):
    """As some libraries have them."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def utcoffset(self, at: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, at: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, at: datetime | None) -> str:
        return "two hours ahead"


def test_zones_of_any_kind() -> None:
    assert 1 == len(keep(at("2025-10-25T23:00Z", "2025-10-25T22:30Z"), Retention(keep_daily=1), timezone=Unhashable()))


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def process_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The process's own zone, as its environment and the C library have it."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def test_zone_of_the_process(process_zone: str) -> None:
    """The zone of the machine changes nothing: this is the answer in each."""
    instants = at("2025-06-02T23:30Z", "2025-06-02T22:30Z", "2025-06-02T21:30Z", "2025-06-02T12:00Z")

    kept = keep(instants, {"keep_daily": 2}, timezone="Europe/Madrid")

    assert at("2025-06-02T23:30Z", "2025-06-02T21:30Z") == instants_of(kept)


# What must hold for all. Few distinct instants in a few years: full buckets, equal ones and changed clocks are hit often.
moments = st.integers(0, 6000).map(lambda step: datetime(2023, 9, 1, tzinfo=UTC) + timedelta(minutes=210) * step)
many = st.lists(moments, max_size=40)
counts = st.dictionaries(st.sampled_from(COUNTS), st.integers(1, 12), max_size=3)
spans = st.dictionaries(
    st.sampled_from(SPANS),
    st.builds(Span, years=st.integers(0, 2), months=st.integers(0, 14), days=st.integers(0, 40), hours=st.integers(1, 30)),
    max_size=3,
)
all_rules = st.builds(lambda some, more: {**some, **more}, counts, spans)
rules_with_any = all_rules.filter(bool)
zones = st.sampled_from(ZONES)
often = settings(max_examples=80, deadline=None)


@often
@given(many, all_rules, zones, st.none() | moments)
def test_kept_are_among_the_given(instants: list[datetime], rules: dict[str, object], zone: str, now: datetime | None) -> None:
    """Nothing is made up, nothing comes more often than given, all have a reason, and the newest come first."""
    kept = instants_of(keep(instants, rules, now=now, timezone=zone))

    assert all(kept.count(instant) <= instants.count(instant) for instant in kept)
    assert all(item.reasons for item in keep(instants, rules, now=now, timezone=zone))
    assert sorted(kept, reverse=True) == kept


@often
@given(many.filter(bool), rules_with_any, zones)
def test_newest_stays(instants: list[datetime], rules: dict[str, object], zone: str) -> None:
    """Whatever the rules are, the newest is kept."""
    assert max(instants) == keep(instants, rules, timezone=zone)[0].instant


@often
@given(many, many, all_rules, zones, moments)
def test_future_changes_nothing(
    instants: list[datetime], others: list[datetime], rules: dict[str, object], zone: str, now: datetime
) -> None:
    """Instants later than now stay, and change neither what else stays nor why."""
    past = [instant for instant in instants if instant <= now]
    future = [instant for instant in others if instant > now]

    kept = keep(past + future, rules, now=now, timezone=zone)

    assert [(FUTURE,)] * len(future) == [item.reasons for item in kept if item.instant > now]
    assert keep(past, rules, timezone=zone) == tuple(item for item in kept if item.instant <= now)


@often
@given(many.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))), all_rules, zones)
def test_order_of_the_given(orders: tuple[list[datetime], list[datetime]], rules: dict[str, object], zone: str) -> None:
    """In what order instants are given makes no difference."""
    some, shuffled = orders

    assert keep(some, rules, timezone=zone) == keep(shuffled, rules, timezone=zone)


def _more(rule: object, extra: int) -> object:
    """The same rule, reaching further."""
    if isinstance(rule, Span):
        return Span(years=rule.years, months=rule.months + extra // 3, days=rule.days + extra, hours=rule.hours + extra)
    assert isinstance(rule, int)
    return rule + extra


@often
@given(many, rules_with_any, all_rules, zones, st.integers(0, 9))
def test_more_generous_rules(
    instants: list[datetime], rules: dict[str, object], added: dict[str, object], zone: str, extra: int
) -> None:
    """Larger numbers, longer spans and further rules never lose what the smaller ones kept, the oldest included."""
    larger = {**added, **{rule: _more(value, extra) for rule, value in rules.items()}}

    kept = instants_of(keep(instants, rules, timezone=zone))
    kept_by_larger = instants_of(keep(instants, larger, timezone=zone))

    assert all(kept.count(instant) <= kept_by_larger.count(instant) for instant in kept)


@often
@given(many, all_rules, zones, st.none() | moments)
def test_pruning_twice(instants: list[datetime], rules: dict[str, object], zone: str, now: datetime | None) -> None:
    """What stayed once stays again: a second turn over the same world prunes nothing."""
    kept = instants_of(keep(instants, rules, now=now, timezone=zone))

    assert kept == instants_of(keep(kept, rules, now=now, timezone=zone))
