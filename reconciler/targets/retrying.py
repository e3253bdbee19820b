"""Trying again, for any target: what had no answer is asked once more, as far as that can't do harm.

A stream can't be written twice, for it can't be produced twice; a target that can repeat a piece of it does so with `persist`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from threading import Event
from typing import Final, TypeVar

from reconciler.errors import Absent, Conflict, Corrupt, Unreachable
from reconciler.world.persist import persist
from reconciler.world.ports import Blob, Clock, Listing, Stored, Target, Upload
from reconciler.world.through import Through

T = TypeVar("T")

SILENT_SECONDS: Final = 30.0
"""How long a store that did not answer at all is asked without patience."""

PATIENT_SECONDS: Final = 30.0
"""No small request is begun again after that: a store that hangs costs one time-out of a socket, not five."""

HUNG_SECONDS: Final = 120.0
"""How long one that hung is not asked at all: a turn looks several times, and a dump to another target waits for each look."""


class Patience:
    """What is left of it with one store, however often that is opened."""

    def __init__(self) -> None:
        self.silent_until = 0.0
        self.hung_until = 0.0
        self.why = Unreachable("")
        """What it did not answer while it hung."""


class Retrying(Through):
    """A target that bears short troubles of the one inside."""

    def __init__(self, target: Target, *, clock: Clock, stop: Event, patience: Patience | None = None) -> None:
        super().__init__(target)
        self._clock = clock
        self._stop = stop
        self._patience = patience or Patience()

    @property
    def versioned(self) -> bool:
        return self._persist(lambda: self._target.versioned)

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
            chunk = next((chunk for chunk in self._blob if chunk), b"")
            if not chunk and self._reached < self._stored.size:
                # A store, or what is before it, may send less than was asked for without a word.
                raise Unreachable(
                    f"{self._where} ended there", cure="see whether something between here and the store cuts answers"
                )
            return chunk
        except Unreachable:
            self.close()
            self._blob = None
            raise

    @property
    def _where(self) -> str:
        return f"{self._target.name}: {self._stored.key}, at byte {self._reached} of {self._stored.size},"

    def _open_again(self) -> Blob:
        was, changed = self._stored, f"{self._where} changed while it was being read"
        try:
            blob = self._target.read(was.key, start=self._reached, version=was.version)
        except Absent as gone:
            raise Corrupt(changed, cure="read it again from the beginning") from gone
        if blob.stored.etag != was.etag:
            blob.__exit__()
            raise Corrupt(changed, cure="read it again from the beginning")
        return blob
