"""Simulated worlds with every fault there is: no rule is broken in any of them, and when the faults stop, all comes to rest."""

import pytest

from reconciler.simulation.play import play

WORLDS = 400
"""Some twenty thousand turns, thousands of simulated days; `make soak` plays as many as wished."""
KEPT = 100
"""Worlds whose provider keeps a history."""
TOGETHER = 10


@pytest.mark.parametrize("first", range(0, WORLDS, TOGETHER))
def test_no_rule_is_broken(first: int) -> None:
    """Replay one with `python -m reconciler.simulation SEED`."""
    broken = {seed: report.broken for seed in range(first, first + TOGETHER) if (report := play(seed)).broken}

    assert {} == broken, f"again: python -m reconciler.simulation {next(iter(broken))}"


@pytest.mark.parametrize("first", range(0, KEPT, TOGETHER))
def test_no_rule_is_broken_where_a_history_is_kept(first: int) -> None:
    """Replay one with `python -m reconciler.simulation SEED --kept`."""
    seeds = range(first, first + TOGETHER)
    broken = {seed: report.broken for seed in seeds if (report := play(seed, kept=True)).broken}

    assert {} == broken, f"again: python -m reconciler.simulation {next(iter(broken))} --kept"
