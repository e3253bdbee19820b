"""The real clock, and chance: the one module that may ask for either."""

import secrets
import time
from datetime import UTC, datetime
from threading import Event


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards; the origin means nothing. Those in which the machine was suspended don't count."""
        return time.monotonic()

    def elapsed(self) -> float:
        """Such seconds, those in which the machine was suspended among them, where the system tells: Linux does."""
        try:
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        except (AttributeError, OSError):
            return time.monotonic()

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait, and say whether we were asked to stop meanwhile."""
        return stop.wait(seconds)


def token(size: int) -> str:
    """`size` random bytes as lower-case hex digits, from the system's source."""
    return secrets.token_hex(size)
