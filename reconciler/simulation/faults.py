"""What may go wrong at a call, drawn by seed, and counted."""

from collections import Counter
from typing import Literal

import msgspec

from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.simulation.chance import Chance

Fault = Literal[
    "none", "death before", "death after", "no answer", "lost answer", "late effect", "refused", "pause", "slow", "stop"
]

EFFECTS: tuple[Fault, ...] = (
    "death before", "death after", "no answer", "lost answer", "late effect", "refused", "pause", "slow", "stop",
)  # fmt: skip
"""At a call that changes something."""
LOOKS: tuple[Fault, ...] = ("death before", "no answer", "refused", "pause", "slow", "stop")
"""At a call that only looks."""


SpellKind = Literal["unavailable", "forbidden", "read-only"]
SPELLS: tuple[SpellKind, ...] = ("unavailable", "forbidden", "read-only")


class Spell(msgspec.Struct, frozen=True, kw_only=True):
    """For a while a place does not answer, or says no."""

    kind: SpellKind
    until: float


class Faults:
    """`share` of the calls meet a fault of their own; spells take a whole place away."""

    def __init__(self, chance: Chance, *, share: float) -> None:
        self.chance, self.share = chance, share
        self.spells: dict[str, Spell] = {}
        self.counted: Counter[str] = Counter()

    def draw(self, *, changes: bool) -> Fault:
        """What happens at this call. Changes are where it hurts, so they are hit more often."""
        if self.chance.random() >= self.share * (4 if changes else 1):
            return "none"
        fault = self.chance.choice(EFFECTS if changes else LOOKS)
        self.counted[fault] += 1
        return fault

    def begin_spell(self, place: str, spell: Spell) -> None:
        """Until then."""
        self.spells[place] = spell
        self.counted[spell.kind] += 1

    def refusal(self, place: str, what: str, now: float, *, changes: bool) -> ReconcilerError | None:
        """How the place turns everything away at present, or None."""
        spell = self.spells.get(place)
        if spell is None:
            return None
        if spell.until <= now:
            del self.spells[place]
            return None
        if spell.kind == "unavailable":
            return Unreachable(f"{place}: no answer to {what}")
        if spell.kind == "forbidden" or changes:
            return Refused(f"{place}: 403 on {what}", cure="give the key its rights")
        return None

    def end(self) -> None:
        """From here on everything works."""
        self.share = 0.0
        self.spells.clear()
