"""A target that can't be changed: what `--plan` is given, so that planning can't write, by construction."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NoReturn

from reconciler.errors import Refused
from reconciler.world.ports import Blob, Custody, Listing, Stored, Target, Upload, custody_of


class ReadOnly:
    """Reads go through; whatever would change something raises Refused before it touches anything."""

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
        return custody_of(self._target)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        return self._target.list(prefix, versions=versions)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        return self._target.read(key, start=start, version=version)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        self._refuse("write", key)

    def delete(self, key: str, *, version: str | None = None) -> None:
        self._refuse("delete", key)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return self._target.unfinished(prefix)

    def abort(self, upload: Upload) -> None:
        self._refuse("abort", upload.key)

    def _refuse(self, verb: str, key: str) -> NoReturn:
        raise Refused(
            f"{self.name}: was about to {verb} {key}, but this run only looks", cure="use `reconcile --apply` to change anything"
        )
