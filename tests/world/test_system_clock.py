"""The machine's clocks."""

import time
from errno import EINVAL

import pytest

from reconciler.world.clock import SystemClock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="needs Linux")
def test_a_suspended_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others count its silence, and nowhere else: nothing that it runs or watches could move meanwhile."""
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 3610.0}.__getitem__)

    assert 3610.0 == SystemClock().elapsed()
    assert 10.0 == SystemClock().monotonic()


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some sandboxes know the clock by name alone."""

    def refuse(clock: int) -> float:
        raise OSError(EINVAL, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime", refuse)
    before = time.monotonic()

    assert before <= SystemClock().elapsed() <= time.monotonic()


def test_it_goes_on() -> None:
    """Whatever clock there is."""
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.elapsed() <= clock.elapsed()
