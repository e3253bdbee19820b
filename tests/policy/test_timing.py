"""What `auto` comes to, and when windows let something start: whatever the zone and its clock do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reconciler.policy.timing import SHORTEST_DUMP, STEPS, Steps, Timing, Window, largest_wait, opening, steps_for
from tests.policy.test_schedule import ZONES

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
INSTANTS = some.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31), timezones=some.just(UTC))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rpo", "usual", "expected"),
    [
        (6 * HOUR, None, 4 * HOUR),
        (6 * HOUR, 10 * MINUTE, 4 * HOUR),
        (6 * HOUR, HOUR, 4 * HOUR),
        (6 * HOUR, HOUR + MINUTE, 3 * HOUR),
        (26 * HOUR, HOUR, 24 * HOUR),
        (24 * HOUR, None, 12 * HOUR),
        (7 * 24 * HOUR, 5 * HOUR, 24 * HOUR),
        (15 * MINUTE, 2 * MINUTE, 10 * MINUTE),
        (HOUR, 2 * HOUR, 5 * MINUTE),
    ],
)
def test_step(rpo: timedelta, usual: timedelta | None, expected: timedelta) -> None:
    """The largest that leaves time for a dump that fails and for its retry."""
    assert Steps(expected) == steps_for(rpo, usual)


@given(some.timedeltas(MINUTE * 7, HOUR * 500), some.timedeltas(timedelta(0), HOUR * 100))
def test_step_and_objective(rpo: timedelta, usual: timedelta) -> None:
    """A step, the failed try and its retry together are never older than the RPO, where any step is small enough."""
    every = steps_for(rpo, usual).every

    assert every == STEPS[-1] or every + 2 * max(usual, SHORTEST_DUMP) <= rpo
    assert steps_for(rpo, usual + HOUR).every <= every <= steps_for(rpo + HOUR, usual).every


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        ("Europe/Madrid", "2025-10-25T22:00", ["05:00+01:00", "11:00+01:00", "17:00+01:00", "23:00+01:00", "00:00+01:00"]),
        # In spring, six hours after midnight it is seven; in autumn, five.
        ("Europe/Madrid", "2025-03-29T23:00", ["07:00+02:00", "13:00+02:00", "19:00+02:00", "00:00+02:00"]),
        # No midnight on that day: it begins at one.
        ("America/Havana", "2025-03-09T04:00", ["01:00-04:00", "07:00-04:00", "13:00-04:00", "19:00-04:00", "00:00-04:00"]),
    ],
)
def test_steps_when_the_clock_changes(zone: str, after: str, expected: list[str]) -> None:
    """They are counted in hours that pass, anew from each midnight."""
    found = Steps(6 * HOUR).upcoming(utc(after), zone, len(expected))

    assert expected == [slot.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")[11:] for slot in found]


@given(some.sampled_from(STEPS), some.sampled_from(ZONES), INSTANTS)
@settings(max_examples=200)
def test_steps_are_stable_and_never_farther_apart(every: timedelta, zone: str, now: datetime) -> None:
    """Backwards and forwards they are the same instants, and no clock change puts two farther apart than a step."""
    steps = Steps(every)
    latest, following = steps.latest(now, zone), steps.next(now, zone)

    assert latest is not None
    assert latest <= now < following <= latest + every
    assert following == steps.next(latest, zone) == steps.latest(following, zone)


def test_auto_as_it_is_written() -> None:
    """`auto` and nothing like it; all else is cron."""
    assert Timing(None) == Timing.parse("auto")
    assert "auto" == str(Timing.parse("auto"))
    assert "0 2 * * *" == str(Timing.parse("0 2 * * *"))
    with pytest.raises(ValueError, match="a schedule is five"):
        Timing.parse("Auto")


FRIDAY = "* 17-21 * * FRI"
WINDOWS = (FRIDAY, "* 2 * * *", "30-59 1 * * *", "0 12 * * *", "* * * * SUN", "* * 24-26 12 *", "* 23 * * *", "* 0 * * *")


@pytest.mark.parametrize(
    ("windows", "zone", "when", "expected"),
    [
        ([FRIDAY], "UTC", "2025-10-24T18:30:15", "2025-10-24T22:00"),
        ([FRIDAY], "UTC", "2025-10-24T16:59:59", "2025-10-24T16:59:59"),
        ([FRIDAY], "Europe/Madrid", "2025-10-24T15:00", "2025-10-24T20:00"),
        ([FRIDAY], "UTC", "2025-10-25T18:00", "2025-10-25T18:00"),
        # The hour from two to three comes twice that night, and is closed both times.
        (["* 2 * * *"], "Europe/Madrid", "2025-10-26T00:10", "2025-10-26T02:00"),
        (["* 23 * * *", "* 0 * * *"], "UTC", "2025-10-24T23:10", "2025-10-25T01:00"),
        (["* * * 12 *"], "UTC", "2025-12-03T12:00", "2026-01-01T00:00"),
        ([], "UTC", "2025-10-24T18:30:15", "2025-10-24T18:30:15"),
    ],
)
def test_opening(windows: list[str], zone: str, when: str, expected: str) -> None:
    """The first instant that no window covers, which is now where none does."""
    assert utc(expected) == opening([Window.parse(text) for text in windows], utc(when), zone)


@pytest.mark.parametrize("windows", [["* * * * *"], ["* 0-11 * * *", "* 12-23 * * *"]])
def test_windows_that_never_open(windows: list[str]) -> None:
    """It is said, and found in no time."""
    assert None is opening([Window.parse(text) for text in windows], utc("2025-10-24T18:30"), "Europe/Madrid")


@given(some.lists(some.sampled_from(WINDOWS), max_size=4, unique=True), some.sampled_from(ZONES), INSTANTS)
@settings(max_examples=300, deadline=None)
def test_opening_minute_by_minute(texts: list[str], zone: str, when: datetime) -> None:
    """Every minute before it is closed, and it is open itself: looking minute by minute finds the same."""
    windows = [Window.parse(text) for text in texts]

    found = opening(windows, when, zone)

    assert found is not None
    at = when
    while any(window.covers(at.astimezone(ZoneInfo(zone))) for window in windows):
        at = at.replace(second=0, microsecond=0) + MINUTE
    assert at == found


@pytest.mark.parametrize(
    ("schedule", "windows", "expected"),
    [
        ("0 * * * *", [], HOUR),
        ("0 * * * *", [FRIDAY], 6 * HOUR),  # from 16:00 to 22:00
        ("0 20 * * *", [FRIDAY], 26 * HOUR),  # from Thursday at 20:00 to Friday at 22:00
        ("0 2 * * *", [FRIDAY], 24 * HOUR),
    ],
)
def test_largest_wait(schedule: str, windows: list[str], expected: timedelta) -> None:
    """What lies between two starts at most once windows put some of them off."""
    slots = Timing.parse(schedule).cron
    assert slots is not None

    assert expected == largest_wait(slots, [Window.parse(text) for text in windows], utc("2025-10-24T18:30"), "UTC")


def test_largest_wait_of_windows_that_never_open() -> None:
    """There is none."""
    assert None is largest_wait(Steps(HOUR), [Window.parse("* * * * *")], utc("2025-10-24T18:30"), "UTC")
