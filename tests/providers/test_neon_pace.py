"""Neon's rate limit: no minute has more requests of one key than Neon takes, whatever threads and projects they are of."""

from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Stopped
from reconciler.policy.secret import Revealed
from reconciler.providers.neon.pace import AT_ONCE, Pace, gate_of, pace_of
from tests.backups.faking import MovedClock

TAKEN_A_MINUTE = 700


@given(pauses=st.lists(st.floats(min_value=0, max_value=90), max_size=60))
def test_no_minute_has_too_many(pauses: list[float]) -> None:
    """However they come: in bursts, after rests, evenly."""
    clock, pace, sent = MovedClock(), Pace(), list[float]()

    for pause in pauses:
        clock.wait(pause, Event())
        for _ in range(100):
            pace.take(clock, Event())
            sent.append(clock.monotonic())

    most = max((sum(at <= other < at + 60 for other in sent) for at in sent[::50]), default=0)
    assert most <= TAKEN_A_MINUTE


def test_few_requests_wait_for_nothing() -> None:
    clock, pace = MovedClock(), Pace()

    for _ in range(AT_ONCE):
        pace.take(clock, Event())

    assert clock.monotonic() == 0


def test_neon_asks_for_patience_and_gets_it_from_all_who_use_the_key() -> None:
    clock = MovedClock()
    pace_of(Revealed("one")).close(clock, 30)

    pace_of(Revealed("another")).take(clock, Event())
    other = clock.monotonic()
    pace_of(Revealed("one")).take(clock, Event())

    assert (other, clock.monotonic()) == (0, 30)


def test_asked_to_stop_while_waiting() -> None:
    clock, pace, stop = MovedClock(), Pace(), Event()
    pace.close(clock, 30)
    stop.set()

    with pytest.raises(Stopped):
        pace.take(clock, stop)


def test_a_project_has_one_gate_and_another_project_another() -> None:
    gate, other = gate_of("https://neon", "one"), gate_of("https://neon", "other")
    entered = Event()

    def enter() -> None:
        with gate_of("https://neon", "one"):
            entered.set()

    with gate:
        Thread(target=enter, daemon=True).start()
        assert not entered.is_set()
        assert other.acquire(blocking=False)
    assert entered.wait(10)
