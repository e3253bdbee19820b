"""What holds for all tests: none of them times a wall clock, and their folders lie in memory where there is room."""

import os
import shutil
import signal
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Under nohup the one is ignored, in the background of a script the other, by all that tests start too: what they say of it would
# not be so.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MEMORY = Path("/dev/shm")  # noqa: S108  pytest makes a folder in it that is ours alone
ROOM_BYTES = 4 << 30
"""A container's own is often 64 MiB only, where a whole run needs hundreds."""


def memory() -> Path | None:
    """A file system in memory that is large enough, where programs may be started too; None: there is none.

    Everything that is written durably is synced to the disk, folder by folder: no test can lose power, and all would wait for it.
    """
    try:
        status = os.statvfs(MEMORY)
        fits = shutil.disk_usage(MEMORY).free >= ROOM_BYTES and os.access(MEMORY, os.W_OK)
    except OSError:
        return None
    return MEMORY if fits and not status.f_flag & os.ST_NOEXEC else None


# Whoever says where, or starts us as a worker that was told already, is heeded.
if (found := memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(found))
