"""Trying again, for any target: what had no answer is asked once more, as far as that can't do harm.

A stream can't be written twice, for it can't be produced twice; a target that can repeat a piece of it does so with `persist`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from math import inf
from threading import Event
from typing import TYPE_CHECKING, Final, TypeVar

from reconciler.errors import Absent, Conflict, Corrupt, Stopped, Unreachable
from reconciler.world.ports import Blob, Clock, CopiesWithin, CopyWithin, Custody, Listing, Stored, Target, Upload, custody_of

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS: Final = 5
"""With the waits below, about 10 s in all: longer troubles are the next turn's."""

FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 20.0

SILENT_SECONDS: Final = 30.0
"""How long a store that did not answer at all is asked without patience."""

PATIENT_SECONDS: Final = 30.0
"""No small request is begun again after that: a store that hangs costs one time-out of a socket, not five."""

HUNG_SECONDS: Final = 120.0
"""How long one that hung is not asked at all: a turn looks several times, and a dump to another target waits for each look."""

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


class Patience:
    """What is left of it with one store, however often that is opened."""

    def __init__(self) -> None:
        self.silent_until = 0.0
        self.hung_until = 0.0
        self.why = Unreachable("")
        """What it did not answer while it hung."""


class Retrying:
    """A target that bears short troubles of the one inside."""

    def __init__(self, target: Target, *, clock: Clock, stop: Event, patience: Patience | None = None) -> None:
        self._target = target
        self._clock = clock
        self._stop = stop
        self._patience = patience or Patience()

    @property
    def inside(self) -> Target:
        return self._target

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def place(self) -> str:
        return self._target.place

    @property
    def versioned(self) -> bool:
        return self._persist(lambda: self._target.versioned)

    @property
    def custody(self) -> Custody:
        return custody_of(self._target)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        return self._persist(lambda: self._target.list(prefix, versions=versions))

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """A stream that breaks is opened again where it broke; raises Corrupt if the object has changed meanwhile."""
        blob = self._persist(lambda: self._target.read(key, start=start, version=version))
        resumed = _Resumed(self._target, blob, reached=start, persist=self._go_on)
        return Blob(blob.stored, resumed, resumed.close)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Repeated only for a list or tuple of chunks. An earlier attempt that arrived after all is recognised by its bytes."""
        if not isinstance(chunks, Sequence):
            return self._target.write(key, chunks, expect=expect, keep_until=keep_until)
        unanswered: list[Unreachable] = []

        def attempt() -> Stored:
            try:
                return self._target.write(key, chunks, expect=expect, keep_until=keep_until)
            except Unreachable as error:
                unanswered.append(error)
                raise
            except Conflict:
                own = self._read_back(key, b"".join(chunks)) if unanswered else None
                if own is None:
                    raise
                return own

        return self._persist(attempt)

    def copy_within(self, origin: Target, wanted: CopyWithin) -> bool:
        """Once: the target inside repeats what of it may be repeated."""
        return isinstance(self._target, CopiesWithin) and self._target.copy_within(origin, wanted)

    def delete(self, key: str, *, version: str | None = None) -> None:
        self._persist(lambda: self._target.delete(key, version=version))

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return self._persist(lambda: self._target.unfinished(prefix))

    def abort(self, upload: Upload) -> None:
        self._persist(lambda: self._target.abort(upload))

    def _persist(self, work: Callable[[], T]) -> T:
        """A store that did not answer so often is asked just once for a while: a turn looks several times, and waits once.

        One that hung is not asked at all.
        """
        patience, began = self._patience, self._clock.monotonic()
        if began < patience.hung_until:
            raise Unreachable(patience.why.what, cure=patience.why.cure)
        try:
            result = persist(work, clock=self._clock, stop=self._stop, may_retry=self._has_hope, within=PATIENT_SECONDS)
        except Unreachable as error:
            now = self._clock.monotonic()
            patience.silent_until = now + SILENT_SECONDS
            if now - began >= PATIENT_SECONDS:
                patience.hung_until, patience.why = now + HUNG_SECONDS, error
            raise
        patience.silent_until = 0.0
        return result

    def _go_on(self, work: Callable[[], T]) -> T:
        """In the midst of a stream, where much would be lost: as often as it takes."""
        return persist(work, clock=self._clock, stop=self._stop)

    def _has_hope(self) -> bool:
        return self._clock.monotonic() >= self._patience.silent_until

    def _read_back(self, key: str, content: bytes) -> Stored | None:
        """What is stored, if it is these very bytes."""
        try:
            with self._target.read(key) as blob:
                same = blob.stored.size == len(content) and b"".join(blob) == content
                return blob.stored if same else None
        except Absent:
            return None


class _Resumed:
    """The chunks of an object, however often its stream breaks in between."""

    def __init__(self, target: Target, blob: Blob, *, reached: int, persist: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._target = target
        self._stored = blob.stored
        self._blob: Blob | None = blob
        self._reached = reached
        self._persist = persist

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._persist(self._pull)
        if not chunk:
            raise StopIteration
        self._reached += len(chunk)
        return chunk

    def close(self) -> None:
        if self._blob is not None:
            self._blob.__exit__()

    def _pull(self) -> bytes:
        """The next chunk, or none at the end."""
        if self._blob is None:
            self._blob = self._open_again()
        try:
            return next((chunk for chunk in self._blob if chunk), b"")
        except Unreachable:
            self.close()
            self._blob = None
            raise

    def _open_again(self) -> Blob:
        was = self._stored
        changed = f"{self._target.name}: {was.key} changed while it was being read, at byte {self._reached} of {was.size}"
        try:
            blob = self._target.read(was.key, start=self._reached, version=was.version)
        except Absent as gone:
            raise Corrupt(changed, cure="read it again from the beginning") from gone
        if blob.stored.etag != was.etag:
            blob.__exit__()
            raise Corrupt(changed, cure="read it again from the beginning")
        return blob


def _retry_after(error: BaseException | None) -> timedelta:
    after = error.retry_after if isinstance(error, Unreachable) else None
    return after or timedelta(0)
