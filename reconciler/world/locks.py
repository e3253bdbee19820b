"""A file's lock tells that its maker lives: the kernel frees that of a killed process."""

import fcntl
import os
from pathlib import Path


def lock(descriptor: int) -> bool:
    """Whether it could be had at once. Held until the file is closed by all that inherited it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the name still leads to the open file: somebody may have removed it before it was locked."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
