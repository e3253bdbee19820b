"""Doing something again that had no answer: a few times, with growing waits, as far as that can't do harm."""

from collections.abc import Callable
from datetime import timedelta
from math import inf
from threading import Event
from typing import TYPE_CHECKING, Final, TypeVar

from reconciler.errors import Stopped, Unreachable
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS: Final = 5
"""With the waits below, about 10 s in all: longer troubles are the next turn's."""

FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 20.0

LONGEST_RETRY_AFTER: Final = timedelta(seconds=60)
"""A store that asks for more than this is left alone until the next turn."""


def persist(
    work: Callable[[], T],
    *,
    clock: Clock,
    stop: Event,
    may_retry: Callable[[], bool] = lambda: True,
    within: float = inf,
) -> T:
    """Do it, and again while it raises Unreachable: a few times, waiting longer each time, as long as the server asks at least.

    After `within` seconds it is not begun again.
    Raises the last Unreachable, which no other `persist` around this one repeats, or Stopped when asked to stop while waiting.
    The first attempt is made in any case: what cleans up after a stop must be able to.
    """
    import tenacity

    ends = clock.monotonic() + within
    growing = tenacity.wait_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)
    drawn = growing + tenacity.wait_random(0, FIRST_WAIT_SECONDS)

    def wait_seconds(state: "RetryCallState") -> float:
        asked = _retry_after(state.outcome.exception() if state.outcome else None)
        return max(drawn(state), asked.total_seconds())

    def worth_it(error: BaseException) -> bool:
        asked_enough = not isinstance(error, Unreachable) or error.was_persisted
        return not asked_enough and _retry_after(error) <= LONGEST_RETRY_AFTER and clock.monotonic() < ends and may_retry()

    def sleep(seconds: float) -> None:
        if clock.wait(seconds, stop):
            raise Stopped("asked to stop while waiting to try again")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(worth_it),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=wait_seconds,
        sleep=sleep,
        reraise=True,
    )
    try:
        return retrying(work)
    except Unreachable as error:
        error.was_persisted = True
        raise


def _retry_after(error: BaseException | None) -> timedelta:
    after = error.retry_after if isinstance(error, Unreachable) else None
    return after or timedelta(0)
