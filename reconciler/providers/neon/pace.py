"""How often Neon is asked: its rate limit is of a key, so all that uses one key in this process shares one pace."""

from hashlib import sha256
from threading import Event, Lock
from typing import Final

from reconciler.errors import Stopped
from reconciler.policy.secret import Revealed
from reconciler.world.ports import Clock

A_SECOND: Final = 10.0
"""Neon takes 700 a minute of one key, and 40 a second on a route (its rules for API clients, 2025-09). With the burst, no minute
has more than 640 of ours: the rest is for who else uses the key."""
AT_ONCE: Final = 40


class Pace:
    """Requests of one key, whatever project they are for. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left = float(AT_ONCE)
        self._at: float | None = None
        self._closed_until = 0.0

    def take(self, clock: Clock, stop: Event) -> float:
        """Return when a request may be sent; for how many seconds that was waited for. Raises Stopped."""
        with self._lock:
            now = clock.monotonic()
            since = now - self._at if self._at is not None else 0.0
            self._left, self._at = min(AT_ONCE, self._left + since * A_SECOND) - 1, now
            seconds = max(-self._left / A_SECOND, self._closed_until - now, 0.0)
        waited = 0.0
        while seconds > 0:
            if clock.wait(seconds, stop):
                raise Stopped("asked to stop while waiting for Neon's rate limit")
            waited += seconds
            with self._lock:
                # Another request may have been told to wait meanwhile.
                seconds = self._closed_until - clock.monotonic()
        return waited

    def close(self, clock: Clock, seconds: float) -> None:
        """Neon asked for patience: nobody with this key asks before that."""
        with self._lock:
            self._closed_until = max(self._closed_until, clock.monotonic() + seconds)


_PACES: Final[dict[str, Pace]] = {}
_GATES: Final[dict[tuple[str, str], Lock]] = {}
_SHARED: Final = Lock()


def digest_of(key: Revealed) -> str:
    """What a key is known by where nobody needs the key itself."""
    return sha256(key.expose().encode()).hexdigest()


def pace_of(key: Revealed) -> Pace:
    """The one of that key."""
    with _SHARED:
        return _PACES.setdefault(digest_of(key), Pace())


def gate_of(host: str, project: str) -> Lock:
    """Through which all that changes a project goes, one by one: Neon takes no two changes of a project at once."""
    with _SHARED:
        return _GATES.setdefault((host, project), Lock())
