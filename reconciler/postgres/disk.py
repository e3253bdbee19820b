"""What this machine's disk refuses while a database is restored or read: said with its cure, and never of an archive."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from reconciler.errors import Full, Refused

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def on_disk(doing: str, *, cure: str) -> Iterator[None]:
    """Let an OSError leave as Full where there is no room, else as Refused. `doing` begins the sentence.

    Wrap the work on the disk alone: a `yield` inside would take the body's errors for the disk's.
    """
    try:
        yield
    except OSError as error:
        said = f"{doing}: {os.strerror(error.errno) if error.errno else error}"
        raise (Full if error.errno in NO_ROOM else Refused)(said, cure=cure) from error
