"""A target as one process sees it: the port over a store, with everything that may happen on the way."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache

from reconciler.errors import Absent, ReconcilerError, Refused
from reconciler.simulation.host import Death
from reconciler.simulation.reach import Reach
from reconciler.simulation.store import Held, Store
from reconciler.world.ports import Blob, Custody, Listing, Stored, Upload

PIECE_BYTES = 1024 * 1024
LOCKED_FOR = timedelta(hours=5)
"""Longer than most graces, so that locks put deletions off; short enough that they end within a simulated run."""


class _Locking(Custody):
    retain = LOCKED_FOR


class SimulatedTarget:
    """The store through one process's hands."""

    def __init__(self, store: Store, reach: Reach) -> None:
        self._store, self._reach = store, reach
        self.name = store.name
        self.place = f"simulated://{store.name}"
        self.versioned = store.versioned
        self.custody = _Locking() if store.locks else Custody()

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Complete, or it raises."""

        def look() -> Listing:
            if prefix.count("/") == 1:
                self._reach.asked[self.name] = self._store.timeline.seconds
            return Listing(items=self._store.listing(prefix, versions=versions), store_time=self._store.now())

        if prefix.startswith("."):
            return self._reach.call("list", self.name, prefix, look)
        self._reach.listed[self.name] = None
        listing = self._reach.call("list", self.name, prefix, look)
        self._reach.listed[self.name] = self._store.changes
        return listing

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """Raises Absent."""
        _check(key)

        def look() -> Held:
            held = self._store.current(key) if version is None else self._store.version(key, version)
            if held is None:
                raise Absent(f"{self.name}: {key} is not there")
            return held

        held = self._reach.call("read", self.name, key, look)
        return Blob(held.stored, _pieces(held.content[start:]))

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """In one go what is there already; as an upload what is only coming."""
        _check(key)
        if isinstance(chunks, Sequence):
            return self._put(key, b"".join(chunks), expect, None, keep_until)
        upload = self._reach.call("begin", self.name, key, lambda: self._store.begin(key), changes=True)
        try:
            return self._put(key, b"".join(chunks), expect, upload, keep_until)
        except Death:
            # Nobody is left who could abort it.
            raise
        except BaseException:
            with suppress(ReconcilerError):
                self.abort(upload)
            raise

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Removing what is not there is fine."""
        _check(key)
        self._reach.call("delete", self.name, key, lambda: self._store.remove(key, version, by=self._reach.process), changes=True)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return self._reach.call("list uploads", self.name, prefix, lambda: self._store.unfinished(prefix))

    def abort(self, upload: Upload) -> None:
        self._reach.call("abort", self.name, upload.key, lambda: self._store.abort(upload), changes=True)

    def _put(self, key: str, content: bytes, expect: str | None, upload: Upload | None, keep_until: datetime | None) -> Stored:
        process = self._reach.process
        return self._reach.call(
            "write",
            self.name,
            key,
            lambda: self._store.put(key, content, expect=expect, by=process, until=keep_until, upload=upload),
            changes=True,
        )


def _check(key: str) -> None:
    if not _is_key(key):
        raise Refused(f"{key!r} is no key of an object", cure="part names by single slashes, none being `.` or `..`")


@lru_cache(maxsize=4096)
def _is_key(key: str) -> bool:
    return "\0" not in key and not any(segment in ("", ".", "..") for segment in key.split("/"))


def _pieces(content: bytes) -> Iterator[bytes]:
    if len(content) <= PIECE_BYTES:
        return iter((content,) if content else ())
    return _in_pieces(content)


def _in_pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
