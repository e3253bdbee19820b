"""A target that tells of each effect, before and after: the seam for progress, for logs, and for tests that die at effect n."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from reconciler.world.events import Effect, Tell
from reconciler.world.ports import Blob, Custody, Listing, Stored, Target, Upload, custody_of


class Telling:
    """Everything goes through. An effect that failed is told of before only."""

    def __init__(self, target: Target, tell: Tell) -> None:
        self._target = target
        self._tell = tell

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def place(self) -> str:
        return self._target.place

    @property
    def versioned(self) -> bool:
        return self._target.versioned

    @property
    def custody(self) -> Custody:
        return custody_of(self._target)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        return self._target.list(prefix, versions=versions)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        return self._target.read(key, start=start, version=version)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        with self._told("write", key):
            return self._target.write(key, chunks, expect=expect, keep_until=keep_until)

    def delete(self, key: str, *, version: str | None = None) -> None:
        with self._told("delete", key):
            self._target.delete(key, version=version)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return self._target.unfinished(prefix)

    def abort(self, upload: Upload) -> None:
        with self._told("abort", upload.key):
            self._target.abort(upload)

    @contextmanager
    def _told(self, verb: Literal["write", "delete", "abort"], key: str) -> Iterator[None]:
        self._tell(Effect(phase="before", verb=verb, target=self.name, key=key))
        yield
        self._tell(Effect(phase="after", verb=verb, target=self.name, key=key))
