"""A target seen through something: the base of wrappers that only care about effects. Written once, for every kind of store."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Literal

from reconciler.world.ports import Blob, CopiesWithin, CopyWithin, Custody, Listing, Stored, Target, Upload, custody_of

Verb = Literal["write", "delete", "abort"]


class Through:
    """Everything goes through to the target inside. A wrapper overrides `around`, and so meets every effect."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def around(self, verb: Verb, key: str) -> AbstractContextManager[None]:
        """Entered before each effect, left after it; what it raises on entering keeps the effect from happening."""
        return nullcontext()

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
        return self._target.versioned

    @property
    def custody(self) -> Custody:
        return custody_of(self._target)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Through."""
        return self._target.list(prefix, versions=versions)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """Through."""
        return self._target.read(key, start=start, version=version)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """An effect."""
        with self.around("write", key):
            return self._target.write(key, chunks, expect=expect, keep_until=keep_until)

    def copy_within(self, origin: Target, wanted: CopyWithin) -> bool:
        """An effect, if the target inside can."""
        if not isinstance(self._target, CopiesWithin):
            return False
        with self.around("write", wanted.key):
            return self._target.copy_within(origin, wanted)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """An effect."""
        with self.around("delete", key):
            self._target.delete(key, version=version)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """Through."""
        return self._target.unfinished(prefix)

    def abort(self, upload: Upload) -> None:
        """An effect."""
        with self.around("abort", upload.key):
            self._target.abort(upload)
