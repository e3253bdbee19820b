"""Waiting for a condition, with a bound: the sandbox's only way to wait."""

from collections.abc import Callable
from threading import Event
from typing import TypeVar

from reconciler.errors import Unreachable
from reconciler.world.clock import SystemClock

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.005
"""Between two looks; it doubles: most of what is waited for comes at once, and each look may go through all processes."""
_LONGEST_PAUSE_SECONDS = 0.05


def wait_for(look: Callable[[], T | None], *, seconds: float, what: str, cure: str = "") -> T:
    """The first result of `look` that is neither None nor False. Raises Unreachable, naming `what`, after `seconds`."""
    clock, never = SystemClock(), Event()
    deadline, pause = clock.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if clock.monotonic() >= deadline:
            raise Unreachable(f"waited {seconds:g} s in vain for {what}", cure=cure)
        clock.wait(pause, never)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def comes_true(look: Callable[[], bool], *, seconds: float) -> bool:
    """Whether `look` says True within `seconds`."""
    try:
        return wait_for(look, seconds=seconds, what="a condition")
    except Unreachable:
        return False
