"""What the answer of a check must be: `>= 1`, `> 1000`, `= ready`, `!= 0`. Pure."""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

_WRITTEN: Final = re.compile(r"(>=|<=|!=|=|>|<)\s*(\S.*)", re.DOTALL)
_SLIPS: Final = {"==": "=", "=>": ">=", "=<": "<=", "=!": "!=", "!==": "!="}
"""Comparisons of other languages. Read as they stand, they would compare with a text that no answer is, and freeze deletions."""
_REASON: Final = "an expectation is a comparison and a value, as >= 1, > 1000, = ready, != 0"


class Expectation(str):
    """A comparison, as it is written. Numbers are compared as numbers where both sides are some, `=` and `!=` as text else."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Expectation":
        """Read one. Raises ValueError with the reason."""
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise ValueError(_REASON)
        slip = next((slip for slip in _SLIPS if text.strip().startswith(slip)), None)
        if slip is not None:
            raise ValueError(f"{slip} is no comparison; write {_SLIPS[slip]}")
        if match[1] not in ("=", "!=") and _number(match[2]) is None:
            raise ValueError(f"{match[1]} compares numbers; write = or != for text")
        return cls(text)

    def is_met_by(self, answer: str | None) -> bool:
        """Whether an answer, as PostgreSQL writes it as text, is as expected. A null is nothing and meets nothing."""
        match = _WRITTEN.fullmatch(self.strip())
        if match is None or answer is None:
            return False
        comparison, wanted = match[1], match[2].strip()
        left, right = _number(answer), _number(wanted)
        if left is None or right is None:
            return comparison in ("=", "!=") and (answer == wanted) is (comparison == "=")
        return {
            "=": left == right,
            "!=": left != right,
            ">": left > right,
            ">=": left >= right,
            "<": left < right,
            "<=": left <= right,
        }[comparison]


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
