"""Each rule, broken on purpose, must be noticed: a mutation that survives is a rule that nobody guards."""

import pytest

from reconciler.simulation.play import play
from tests.invariants.mutations import MUTATIONS, OF_HISTORY

SEEDS = 400
"""Worlds in which the rarest of them is sure to be met; most are met in the first few."""


@pytest.mark.parametrize("name", [*MUTATIONS, *OF_HISTORY])
def test_there_is_something_to_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a patch replaces is still where it was: whether its breaking is noticed takes longer to tell."""
    {**MUTATIONS, **OF_HISTORY}[name](monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("name", list(MUTATIONS))
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In some world a property fails."""
    MUTATIONS[name](monkeypatch)

    assert any(play(seed).broken for seed in range(SEEDS)), f"{name} survives {SEEDS} worlds"


@pytest.mark.soak
@pytest.mark.parametrize("name", list(OF_HISTORY))
def test_a_broken_rule_of_histories_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In some world whose provider keeps one."""
    OF_HISTORY[name](monkeypatch)

    assert any(play(seed, kept=True).broken for seed in range(SEEDS)), f"{name} survives {SEEDS} worlds"
