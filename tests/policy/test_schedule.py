"""A schedule fires when its zone's wall clock shows its time, once, whatever daylight saving does."""

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reconciler.policy.schedule import Schedule

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Madrid",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Kathmandu",
]
SLOTS = {
    "30 2 * * *": 50,
    "0 * * * *": 1100,
    "*/15 * * * *": 4200,
    "15 1,2,3 * * *": 140,
    "0 0 * * *": 50,
    "30 23 * * SUN": 8,
    "0 10 * * MON#1": 3,
    "59 1 L * *": 3,
    "0 */2 * * *": 550,
}
"""Schedules, and more than all the slots that each has in 43 days."""


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(schedule: str, zone: str, after: str, count: int) -> list[str]:
    """The next slots, as the wall clock of the zone shows them, with its offset."""
    found = Schedule(schedule).upcoming(at(after), zone, count)
    return [slot.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for slot in found]


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Madrid", "2025-03-29T12:00", ["2025-03-30T03:00+02:00", "2025-03-31T02:30+02:00"]),
        ("0,30 2,3 * * *", "Europe/Madrid", "2025-03-30T00:00", ["2025-03-30T03:00+02:00", "2025-03-30T03:30+02:00"]),
        ("30 2 * * *", "America/New_York", "2025-03-09T00:00", ["2025-03-09T03:00-04:00", "2025-03-10T02:30-04:00"]),
        ("10 2 * * *", "Australia/Lord_Howe", "2025-10-04T00:00", ["2025-10-05T02:30+11:00", "2025-10-06T02:10+11:00"]),
        ("0 0 * * *", "America/Havana", "2025-03-08T12:00", ["2025-03-09T01:00-04:00", "2025-03-10T00:00-04:00"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00", ["2011-12-31T00:00+14:00", "2012-12-30T12:00+14:00"]),
    ],
)
def test_a_slot_that_the_clock_jumps_over(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    """It is the first minute after the gap, once."""
    assert expected == slots(schedule, zone, after, 2)


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Madrid", "2025-10-25T12:00", ["2025-10-26T02:30+02:00", "2025-10-27T02:30+01:00"]),
        ("30 1 * * *", "America/New_York", "2025-11-01T12:00", ["2025-11-02T01:30-04:00", "2025-11-03T01:30-05:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2025-04-05T00:00", ["2025-04-06T01:45+11:00", "2025-04-07T01:45+10:30"]),
        ("0 0 * * *", "America/Havana", "2025-11-01T12:00", ["2025-11-02T00:00-04:00", "2025-11-03T00:00-05:00"]),
    ],
)
def test_a_slot_that_the_clock_shows_twice(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    """It is the first of the two."""
    assert expected == slots(schedule, zone, after, 2)


def test_every_hour_while_the_clock_goes_back() -> None:
    """A schedule for every hour promises an interval, and keeps it through the doubled one."""
    expected = ["2025-10-26T01:00+02:00", "2025-10-26T02:00+02:00", "2025-10-26T02:00+01:00", "2025-10-26T03:00+01:00"]
    assert expected == slots("0 * * * *", "Europe/Madrid", "2025-10-25T22:30", 4)


def test_the_first_monday_of_the_month() -> None:
    """`MON#1` is the month's first Monday."""
    expected = ["2025-11-03T10:00+00:00", "2025-12-01T10:00+00:00"]
    assert expected == slots("0 10 * * MON#1", "UTC", "2025-10-24T00:00", 2)


def test_now_is_a_slot() -> None:
    """It is the latest one then, and not the next."""
    now = at("2025-10-24T02:00")
    schedule = Schedule("0 2 * * *")

    assert now == schedule.latest(now, "UTC")
    assert now + timedelta(days=1) == schedule.next(now, "UTC")


def test_now_between_two_minutes() -> None:
    """Slots are whole minutes, in UTC."""
    now = at("2025-10-24T01:59:59.999999")

    assert at("2025-10-23T02:00") == Schedule("0 2 * * *").latest(now, "UTC")
    assert UTC is Schedule("0 2 * * *").next(now, "Asia/Kathmandu").tzinfo


def test_a_leap_day_that_must_be_a_monday() -> None:
    """Rare slots are found years away, both ways."""
    schedule = Schedule("0 0 29 2 *")

    assert at("2028-02-29") == schedule.next(at("2025-01-01"), "UTC")
    assert at("2024-02-29") == schedule.latest(at("2025-01-01"), "UTC")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", SLOTS)
def test_forward_and_backward_over_the_days_of_a_change(text: str, zone: str) -> None:
    """At every quarter of an hour, the latest slot is the last one of those that came going forward."""
    schedule = Schedule(text)
    for begin in _changes(zone):
        forward = schedule.upcoming(begin - timedelta(days=40), zone, SLOTS[text])
        assert forward[-1] > begin + timedelta(days=3)
        assert list(forward) == sorted(set(forward))
        for quarter in range(3 * 96):
            now = begin + timedelta(minutes=15 * quarter)
            assert forward[bisect_right(forward, now) - 1] == schedule.latest(now, zone), now


@settings(max_examples=150)
@given(
    some.sampled_from(sorted(SLOTS)),
    some.sampled_from(ZONES),
    some.datetimes(min_value=datetime(2015, 1, 1), max_value=datetime(2035, 1, 1), timezones=some.just(UTC)),
)
def test_any_instant(text: str, zone: str, now: datetime) -> None:
    """Between the latest slot and the next there is none, and each is found from the other."""
    schedule = Schedule(text)

    latest, following = schedule.latest(now, zone), schedule.next(now, zone)

    assert latest is not None
    assert latest <= now < following
    assert following == schedule.next(latest, zone)
    assert latest == schedule.latest(following - timedelta(microseconds=1), zone)
    assert (following.second, following.microsecond) == (0, 0)


@settings(max_examples=60)
@given(
    some.sampled_from(["UTC", "Europe/Madrid", "America/Havana"]),
    some.integers(min_value=0, max_value=59),
    some.integers(min_value=0, max_value=23),
)
def test_a_daily_schedule_over_a_year(zone: str, minute: int, hour: int) -> None:
    """It has one slot a day of the wall clock, no more and no less."""
    found = Schedule(f"{minute} {hour} * * *").upcoming(at("2025-01-01T12:00"), zone, 365)

    days = [slot.astimezone(ZoneInfo(zone)).date() for slot in found]
    assert [days[0] + timedelta(days=number) for number in range(365)] == days


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 fields; a schedule is five"),
        ("@daily", "has 1 field; a schedule is five"),
        ("0 2 * *", "has 4 fields; a schedule is five"),
        ("0 0 2 * * *", "has 6 fields; a schedule is five"),
        ("* " * 200, "is far too long"),
        ("61 2 * * *", "a minute is 0 to 59"),
        ("-1 2 * * *", "a minute is 0 to 59"),
        ("x 2 * * *", "a minute is 0 to 59"),
        ("1,,2 2 * * *", "a minute is 0 to 59"),
        ("² 2 * * *", "a minute is 0 to 59"),
        ("0 24 * * *", "an hour is 0 to 23"),
        ("0 2 0 * *", "a day of the month is 1 to 31"),
        ("0 2 32 * *", "a day of the month is 1 to 31"),
        ("0 2 * 13 *", "a month is 1 to 12 or JAN to DEC"),
        ("0 2 * FOO *", "a month is 1 to 12 or JAN to DEC"),
        ("0 2 * * 8", "a day of the week is 0 to 7 or SUN to SAT"),
        ("0 2 * * MON#6", "a day of the week is 0 to 7 or SUN to SAT"),
        ("*/0 2 * * *", r"\*/0: a step is a number from 1 up"),
        ("50-10 2 * * *", "50-10: a range goes from the smaller to the larger"),
        ("0 2 30 2 *", "never fires"),
        ("0 2 31 4,6,9,11 *", "never fires"),
        ("0 2 30 2 */1", "never fires"),
    ],
)
def test_what_is_no_schedule(text: str, reason: str) -> None:
    """It is refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/90 * * * *", ("*/90 fires once in the hour, at 0: no minute is 90 or more",)),
        ("*/7 * * * *", ("*/7 is not every 7 minutes: from the last one to the next hour it is 4",)),
        ("0 */5 * * *", ("*/5 is not every 5 hours: from the last one to the next day it is 4",)),
        ("0 2 1 * MON", ("names days of the month (1) and days of the week (MON): it fires on a day that is either",)),
        ("0 2 */2 * MON", ("names days of the month (*/2) and days of the week (MON): it fires on a day that is both",)),
        ("*/15 */6 * * *", ()),
        ("0 2 * * MON-FRI", ()),
        ("5-50/7 2 1,15 * *", ()),
    ],
)
def test_what_is_hardly_meant(text: str, expected: tuple[str, ...]) -> None:
    """It is allowed, and said."""
    assert expected == Schedule(text).warnings()


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("0 2 * * *", "UTC", timedelta(days=1)),
        ("0 2 * * *", "Europe/Madrid", timedelta(hours=25)),
        ("0 * * * *", "Europe/Madrid", timedelta(hours=1)),
        ("0 2,14 * * MON-FRI", "UTC", timedelta(hours=60)),
        ("0 0 1 * *", "UTC", timedelta(days=31)),
        ("0 0 1 1 *", "UTC", timedelta(days=365)),
        ("0 0 29 2 *", "UTC", timedelta(days=1461)),
        ("* 9 * * *", "UTC", timedelta(hours=23, minutes=1)),
    ],
)
def test_the_largest_gap(text: str, zone: str, expected: timedelta) -> None:
    """It is the longest time without a slot in the year to come."""
    assert expected == Schedule(text).largest_gap(at("2025-06-01T12:00"), zone)


def test_two_schedules_of_one_text() -> None:
    """They are equal, and print as they are written."""
    one = Schedule("0 2 * * *")

    assert one == Schedule.parse("0 2 * * *")
    assert len({one, Schedule("0 2 * * *")}) == 1
    expected = "0 2 * * *"
    assert expected == str(one)
    assert one != Schedule("0 3 * * *")


def _changes(zone: str) -> list[datetime]:
    """A day before each change of the zone's clock in 2025, or before some day where there is none."""
    days = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(365)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    changed = [days[number] - timedelta(days=1) for number in range(1, 365) if offsets[number] != offsets[number - 1]]
    return changed or [datetime.combine(date(2025, 6, 1), datetime.min.time(), tzinfo=UTC)]
