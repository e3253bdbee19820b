"""Runs that can be had again, and a world in which nothing goes wrong."""

import pytest

from reconciler.simulation.play import play


def test_the_same_seed_is_the_same_run() -> None:
    """To the last line of the trace: a failure that can't be had again is worth nothing."""
    first, second = play(7), play(7)

    assert first.trace == second.trace
    assert first.faults == second.faults


@pytest.mark.parametrize("seed", range(5))
def test_a_quiet_world(seed: int) -> None:
    """Nothing fails, and no rule is broken."""
    report = play(seed, turns=20, quiet=True)

    assert () == report.broken
    assert {"together"} >= set(report.faults)
