"""Places in the log: PostgreSQL's "0/1A2B3C" and the number it stands for."""

import re
from typing import Final

SEGMENT: Final = 1024 * 1024
"""Bytes of a file of the log. Small, so that a branch is small; Neon's own are 16 MiB."""
_FILES = 0x1_0000_0000 // SEGMENT
_FORM = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_NAME = re.compile(r"[0-9A-F]{24}")


def parse(text: str) -> int:
    """The number. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"{text!r} is no LSN")
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def written(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def is_segment(name: str) -> bool:
    """Whether a file of that name is a whole segment of the log."""
    return _NAME.fullmatch(name) is not None


def segment(lsn: int) -> int:
    """The number of the segment that holds this place, over all of the log."""
    return lsn // SEGMENT


def segment_of(name: str) -> int:
    """The same, of a segment's file name."""
    return int(name[8:16], 16) * _FILES + int(name[16:24], 16)
