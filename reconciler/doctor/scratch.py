"""A corner of a target to try things in: `{database}/scratch/doctor-…/`, known to the layout, and gone afterwards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from reconciler.backups import layout
from reconciler.errors import Conflict, ReconcilerError, Refused, Stopped
from reconciler.world.ports import Stored, Target

OLD: Final = timedelta(hours=1)
"""No doctor takes that long: what is older was left by one that was killed."""


class Scratch:
    """One doctor's own folder on one target. Clear it in any case."""

    def __init__(self, target: Target, database: str, *, now: datetime, token: Callable[[int], str]) -> None:
        self.root: Final = f"{_all(database)}{layout.compact(now)}-{token(4)}/"
        self._target = target
        self._written: list[Stored] = []
        self._torn = False
        """Whether a write failed that may have left something unfinished."""

    def key(self, name: str) -> str:
        return self.root + name

    def write(
        self, name: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """As the target writes, and remembered: what can't be listed can be removed all the same."""
        taken = False

        def watched() -> Iterator[bytes]:
            nonlocal taken
            taken = True
            yield from chunks

        try:
            sent = chunks if isinstance(chunks, Sequence) else watched()
            stored = self._target.write(self.key(name), sent, expect=expect, keep_until=keep_until)
        except Conflict:
            raise  # nothing was written, and nothing is under way any more
        except Refused:
            # A clear no: nothing was written but what a stream had sent by then.
            self._torn = self._torn or taken
            raise
        except ReconcilerError:
            self._torn = True
            raise
        self._written.append(stored)
        return stored

    def clear(self) -> None:
        """Nothing is left when it returns; tries all of it before it raises what the first failure was.

        Where it may not look, it removes what it remembers: all but the markers of a versioned bucket, and what is unfinished.
        """
        try:
            _empty(self._target, self.root)
        except Stopped:
            raise
        except ReconcilerError:
            removed = [self._remove(stored) for stored in self._written]
            if self._torn or not all(removed) or any(stored.version for stored in self._written):
                raise

    def _remove(self, stored: Stored) -> bool:
        try:
            self._target.delete(stored.key, version=stored.version)
        except ReconcilerError:
            return False
        return True


def sweep(target: Target, database: str) -> int:
    """Remove what doctors left that were killed; how many there were. Ages are by the store's own clock."""
    listing = target.list(_all(database), versions=target.versioned)
    newest: dict[str, datetime] = {}
    uploads = ((upload.key, upload.begun) for upload in target.unfinished(_all(database)))
    for key, instant in [*((item.key, item.modified) for item in listing.items), *uploads]:
        root = key[: key.find("/", len(_all(database))) + 1]
        if root:
            newest[root] = max(instant, newest.get(root, instant))
    old = [root for root, instant in newest.items() if instant <= listing.store_time - OLD]
    for root in sorted(old):
        _empty(target, root)
    return len(old)


def _all(database: str) -> str:
    return f"{layout.root(database)}scratch/doctor-"


def _empty(target: Target, prefix: str) -> None:
    for upload in target.unfinished(prefix):
        target.abort(upload)
    # A marker goes after what it hides: the other way round, what was deleted would be there again for an instant.
    for item in sorted(target.list(prefix, versions=target.versioned).items, key=lambda item: (item.key, item.marker)):
        target.delete(item.key, version=item.version)
