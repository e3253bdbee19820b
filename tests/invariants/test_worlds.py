"""Simulated worlds with every fault there is: no rule is broken in any of them, and when the faults stop, all comes to rest."""

import pytest

from reconciler.simulation.play import play

WORLDS = 40
"""Some two thousand turns; `make soak` plays as many as wished."""


@pytest.mark.parametrize("seed", range(WORLDS))
def test_no_rule_is_broken(seed: int) -> None:
    """Replay one with `python -m reconciler.simulation SEED`."""
    assert () == play(seed).broken
