"""The machine's clocks."""

import time

import pytest

from reconciler.world.clock import SystemClock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="needs Linux")
def test_a_suspended_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its monotonic clock stands still meanwhile, while others take its leases over."""
    clocks = {time.CLOCK_MONOTONIC: 10.0, time.CLOCK_BOOTTIME: 3610.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)

    assert 3610.0 == SystemClock().monotonic()


def test_it_goes_on() -> None:
    """Whatever clock there is."""
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
