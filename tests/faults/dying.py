"""Deaths at a chosen instant, of a child that is a fork of the test: what it did until then stays."""

import gc
import os
import signal
from collections.abc import Callable


def die() -> None:
    """Kill this process, as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies(work: Callable[[], object]) -> bool:
    """Do it in a child; whether that was killed. Otherwise it ended with the work, however that went."""
    # The child must not collect what others left here: a compressor waits for its threads, and a fork has none of them.
    gc.freeze()
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    gc.unfreeze()
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
