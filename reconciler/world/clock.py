"""The real clock, and chance: the one module that may ask for either."""

import secrets
import time
from datetime import UTC, datetime
from threading import Event

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards; the origin means nothing. On Linux those of a suspended machine count: to others it is
        silent meanwhile, and a lease that it held may be another's."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait, and say whether we were asked to stop meanwhile."""
        return stop.wait(seconds)


def token(size: int) -> str:
    """`size` random bytes as lower-case hex digits, from the system's source."""
    return secrets.token_hex(size)
