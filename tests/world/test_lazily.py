"""What is reckoned once: it stays where it was reckoned, and nowhere else."""

import msgspec

from reconciler.world.facts import Observation
from reconciler.world.lazily import lazily
from tests.building import NOW, observation


class Counting(msgspec.Struct, frozen=True, dict=True):
    """Counts how often it is asked."""

    asked: list[int]

    @lazily
    def twice(self) -> int:
        """Of all that was asked."""
        self.asked.append(1)
        return 2 * len(self.asked)


def test_the_second_look_reckons_nothing() -> None:
    """Frozen as it is, the value stays; a changed one of the same reckons its own."""
    one = Counting(asked=[])

    assert (2, 2, 1) == (one.twice, one.twice, len(one.asked))
    assert 4 == msgspec.structs.replace(one).twice
    assert "Of all that was asked." == Counting.twice.__doc__


def test_an_observation_reckons_once_for_the_same_arguments() -> None:
    """Equal is not the same: another argument is reckoned afresh, and so is another observation."""
    have, other, asked = observation(), observation(), []

    def reckon(of: Observation, *what: object) -> int:
        asked.append((id(of), *what))
        return len(asked)

    same, equal = ["x"], ["x"]

    assert [1, 1, 2, 3, 4] == [have.once(reckon, *of) for of in ((same,), (same,), (equal,), (same, NOW), ())]
    assert 5 == other.once(reckon, same)
