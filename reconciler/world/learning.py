"""The kinds of records that msgspec has learnt to read."""

from threading import Lock
from typing import Final

import msgspec

_LEARNING: Final = Lock()
_LEARNT: Final[set[object]] = set()


def learnt(kind: type) -> None:
    """Call it before anything is read as that, wherever threads may.

    msgspec learns a kind, and those within it, when it first meets it; a second thread that meets one half learnt ends the whole
    process with a segmentation fault (msgspec 0.22).
    """
    if kind not in _LEARNT:
        with _LEARNING:
            msgspec.json.Decoder(kind)
            _LEARNT.add(kind)
