"""A target that nothing is ever deleted from: for any kind of store, whether or not its keys would allow it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from reconciler.errors import Refused
from reconciler.world.facts import LifecycleRule
from reconciler.world.ports import Blob, Custody, Listing, Stored, Target, Upload, custody_of


class _NothingGoes(Custody):
    """What the target inside says, and that nothing is deleted."""

    append_only = True

    def __init__(self, inside: Custody) -> None:
        self._inside = inside
        self.single_writer = inside.single_writer
        self.retain = inside.retain

    def default_retention(self) -> timedelta | None:
        return self._inside.default_retention()

    def lifecycle(self) -> tuple[LifecycleRule, ...]:
        return self._inside.lifecycle()


class AppendOnly:
    """Everything goes through but deletions. What was never finished is no object, and may be freed."""

    def __init__(self, target: Target) -> None:
        self._target = target

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
        return _NothingGoes(custody_of(self._target))

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        return self._target.list(prefix, versions=versions)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        return self._target.read(key, start=start, version=version)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        return self._target.write(key, chunks, expect=expect, keep_until=keep_until)

    def delete(self, key: str, *, version: str | None = None) -> NoReturn:
        raise Refused(f"{self.name}: {key} is not deleted: the target is append-only", cure="remove `append_only` if it may go")

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return self._target.unfinished(prefix)

    def abort(self, upload: Upload) -> None:
        self._target.abort(upload)
