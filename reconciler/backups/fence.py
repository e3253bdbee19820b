"""A target whose every effect first checks that our lease still covers us."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from reconciler.backups.claim import Claim
from reconciler.world.ports import Blob, Custody, Listing, Stored, Target, Upload, custody_of


class Fenced:
    """The same target, for its lease's holder only. A holder who slept too long meets Conflict instead of another's work."""

    def __init__(self, target: Target, lease: Claim) -> None:
        self._target, self._lease = target, lease

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
        """As it is."""
        return self._target.list(prefix, versions=versions)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """As it is."""
        return self._target.read(key, start=start, version=version)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Under the lease only."""
        self._lease.check()
        return self._target.write(key, chunks, expect=expect, keep_until=keep_until)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Under the lease only."""
        self._lease.check()
        self._target.delete(key, version=version)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """As it is."""
        return self._target.unfinished(prefix)

    def abort(self, upload: Upload) -> None:
        """Under the lease only."""
        self._lease.check()
        self._target.abort(upload)
