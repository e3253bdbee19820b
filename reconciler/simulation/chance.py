"""Chance that can be had again: everything that is drawn in a simulated world follows from its seed."""

from random import Random  # noqa: TID251  # seeded: the same number makes the same world


class Chance(Random):
    """Draws by a seed."""

    def happens(self, share: float) -> bool:
        """True in that share of the cases."""
        return self.random() < share

    def token(self, size: int) -> str:
        """`size` bytes as hex digits."""
        return self.randbytes(size).hex()
