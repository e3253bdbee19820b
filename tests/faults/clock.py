"""A clock that nobody waits for."""

from datetime import UTC, datetime, timedelta
from threading import Event

BEGIN = datetime(2025, 10, 25, 12, tzinfo=UTC)


class MovedClock:
    """Waiting moves it, and takes no time."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.waits)

    def elapsed(self) -> float:
        return self.monotonic()

    def wait(self, seconds: float, stop: Event) -> bool:
        self.waits.append(seconds)
        return stop.is_set()
