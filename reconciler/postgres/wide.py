"""Pipes as wide as they may be: fewer and larger reads and writes than with a system's default."""

import sys
from contextlib import suppress
from typing import Final

WIDE_BYTES: Final = 1 << 20
"""What Linux grants an ordinary user for a pipe; its default is 64 KiB."""
DEFAULT_BYTES: Final = 1 << 16


def widen(descriptor: int) -> None:
    """Where the system can, and the user's pipes are not at their limit: else it is slower, not wrong."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, WIDE_BYTES)


def width(descriptor: int) -> int:
    """How many bytes it holds while nobody reads."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return DEFAULT_BYTES
