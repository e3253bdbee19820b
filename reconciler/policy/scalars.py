"""What unquoted text stands for in the core schema of YAML 1.2."""

import re
from collections.abc import Callable
from typing import Final

Scalar = bool | int | float | str | None

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...]] = (
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)
_LONGEST_NUMBER: Final = 32
"""Characters. Longer ones stay text: Python refuses to read thousands of digits, and no setting needs them."""


def meaning(text: str) -> Scalar:
    """The null, truth or number that it is, else the text itself: `on`, `NO`, `22:30` and dates are text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    return next((read(text) for pattern, read in _NUMBERS if pattern.fullmatch(text)), text)
