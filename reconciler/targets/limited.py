"""A target that is written to at no more than a rate: for any kind of store."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from threading import Event, Lock

from reconciler.errors import Stopped
from reconciler.world.ports import Clock, Stored, Target
from reconciler.world.through import Through

FREE_BYTES = 64 * 1024
"""Records are small, and must not wait behind a dump: a lease that is renewed late is lost. They count all the same."""
BURST_SECONDS = 1.0
"""How much of what was not used may be made up for at once."""
PIECES_A_SECOND = 4
"""A slow target would else get a large chunk at once, and then nothing for a long while."""


class Bucket:
    """One rate for whoever shares it: bytes are taken, and a debt is waited for by whoever made it."""

    def __init__(self, rate: int, clock: Clock, stop: Event) -> None:
        self.rate = rate
        self._clock, self._stop = clock, stop
        self._balance = rate * BURST_SECONDS
        self._at = clock.monotonic()
        self._lock = Lock()

    def take(self, count: int) -> float:
        """Takes them at once; for how many seconds the taker is ahead of the rate now."""
        with self._lock:
            now = self._clock.monotonic()
            self._balance = min(self.rate * BURST_SECONDS, self._balance + (now - self._at) * self.rate)
            self._at = now
            self._balance -= count
            return max(0.0, -self._balance / self.rate)

    def wait_for(self, count: int) -> None:
        """Takes them, and returns when they are due. Raises Stopped."""
        ahead = self.take(count)
        if ahead and self._clock.wait(ahead, self._stop):
            raise Stopped("asked to stop")


class Limited(Through):
    """Writing waits; all else goes through. The parts of one stream and streams side by side share the rate."""

    def __init__(self, target: Target, bucket: Bucket) -> None:
        super().__init__(target)
        self._bucket = bucket

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Through, as fast as the rate lets it."""
        if isinstance(chunks, Sequence) and sum(map(len, chunks)) <= FREE_BYTES:
            # As it is: what is no stream can be written again after a failure.
            self._bucket.take(sum(map(len, chunks)))
            return self._target.write(key, chunks, expect=expect, keep_until=keep_until)
        return self._target.write(key, self._slowly(chunks), expect=expect, keep_until=keep_until)

    def _slowly(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        most = max(1, self._bucket.rate // PIECES_A_SECOND)
        for chunk in chunks:
            for start in range(0, len(chunk), most):
                piece = chunk[start : start + most] if len(chunk) > most else chunk
                self._bucket.wait_for(len(piece))
                yield piece
