"""An object store in memory: what lies in the bucket, whoever asks. Versions, markers, locks, conditions, uploads."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import md5
from itertools import chain
from threading import Lock
from typing import Protocol

import msgspec

from reconciler.errors import Conflict, Locked, Refused, Unreachable
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.timeline import Timeline
from reconciler.world.ports import Stored, Upload


class Held(msgspec.Struct, frozen=True, gc=False):
    """One version: what is said of it, and its bytes."""

    stored: Stored
    content: bytes
    until: datetime | None = None
    """No program deletes this version sooner; a marker may hide it."""


class Witness(Protocol):
    """Sees every change just before it happens. `by` is None for people."""

    def writing(
        self, store: "Store", key: str, content: bytes, by: SimulatedProcess | None, *, until: datetime | None
    ) -> None: ...

    def removing(self, store: "Store", key: str, version: str | None, by: SimulatedProcess | None) -> None: ...


class _Nobody:
    def writing(self, store: "Store", key: str, content: bytes, by: SimulatedProcess | None, *, until: datetime | None) -> None:
        """Looks away."""

    def removing(self, store: "Store", key: str, version: str | None, by: SimulatedProcess | None) -> None:
        """Looks away."""


class Store:
    """One bucket. `lag_seconds`: listings show what was there so long ago. `locks`: it keeps what it is asked to keep."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        *,
        versioned: bool,
        locks: bool = False,
        offset: float = 0.0,
        lag_seconds: float = 0.0,
    ) -> None:
        self.name, self.timeline, self.locks = name, timeline, locks
        self.versioned, self.offset, self.lag_seconds = versioned, offset, lag_seconds
        self.objects: dict[str, tuple[Held, ...]] = {}
        """By key, newest version last."""
        self._keys: list[str] = []
        """Of these, in order."""
        self.folders: dict[str, dict[str, Mapping[str, tuple[Held, ...]]]] = {}
        """By database and id of a backup, what lies below it, by name: another mapping after each change."""
        self.uploads: dict[str, Upload] = {}
        self.witness: Witness = _Nobody()
        self.changes = 0
        self._shown: dict[bool, dict[str, tuple[Stored, ...]]] = {False: {}, True: {}}
        """By whether versions are asked for: each key as listings show it."""
        self._now = (timeline.seconds, timeline.now() + timedelta(seconds=offset))
        self._listed: dict[tuple[str, bool], tuple[int, tuple[Stored, ...]]] = {}
        """The last listing of each prefix, and after how many changes it was made."""
        self._count = 0
        self._past: list[tuple[float, str, tuple[Held, ...]]] = []
        self._lock = Lock()

    def now(self) -> datetime:
        """Its own clock."""
        seconds = self.timeline.seconds
        if seconds != self._now[0]:
            self._now = seconds, self.timeline.now() + timedelta(seconds=self.offset)
        return self._now[1]

    def current(self, key: str) -> Held | None:
        """What a plain read finds."""
        versions = self.objects.get(key)
        return None if not versions or versions[-1].stored.marker else versions[-1]

    def version(self, key: str, version: str) -> Held | None:
        """That one alone."""
        return next(
            (held for held in self.objects.get(key, ()) if held.stored.version == version and not held.stored.marker), None
        )

    def put(
        self,
        key: str,
        content: bytes,
        *,
        expect: str | None,
        by: SimulatedProcess | None,
        until: datetime | None = None,
        upload: Upload | None = None,
    ) -> Stored:
        """Whole, and only if the condition holds. Completes the upload that brought it. Raises Conflict, Unreachable, Refused."""
        until = until if self.locks else None
        with self._lock:
            if until is not None and until <= self.now():
                raise Refused(f"{self.name}: {key} can't be kept until {until}, which has passed")
            if upload is not None and upload.upload_id not in self.uploads:
                raise Unreachable(f"{self.name}: the upload of {key} is gone")
            there = self.current(key)
            if expect is not None and expect != (there.stored.etag if there else ""):
                raise Conflict(f"{self.name}: {key} is not as expected")
            self.witness.writing(self, key, content, by, until=until)
            if upload is not None:
                del self.uploads[upload.upload_id]
            return self._add(key, content, marker=False, until=until)

    def remove(self, key: str, version: str | None, *, by: SimulatedProcess | None) -> None:
        """The object, or that version of it. A versioned store only hides an object. Raises Locked, but people may do all."""
        with self._lock:
            versions = self.objects.get(key, ())
            left = tuple(held for held in versions if version is None or (held.stored.version or "none") != version)
            if version is None and self.versioned:
                self.witness.removing(self, key, version, by)
                self._add(key, b"", marker=True)
            elif version is None and versions:
                self.witness.removing(self, key, version, by)
                self._set(key, ())
            elif version is not None and self.versioned and len(left) < len(versions):
                self._refuse_locked([held for held in versions if held not in left], by)
                self.witness.removing(self, key, version, by)
                self._set(key, left)

    def _refuse_locked(self, versions: Collection[Held], by: SimulatedProcess | None) -> None:
        for held in versions:
            if by is not None and held.until is not None and held.until > self.now():
                raise Locked(f"{self.name}: {held.stored.key} is locked until {held.until}", until=held.until)

    def wipe(self, key: str) -> None:
        """The object, with all its versions, as people do it; nobody is asked."""
        with self._lock:
            self._set(key, ())

    def listing(self, prefix: str, *, versions: bool) -> tuple[Stored, ...]:
        """Ordered by key; of a key, newest version first."""
        if self.lag_seconds:
            return self._list(prefix, versions=versions)
        seen = self._listed.get((prefix, versions))
        if seen is None or seen[0] != self.changes:
            seen = self._listed[prefix, versions] = self.changes, self._list(prefix, versions=versions)
        return seen[1]

    def _list(self, prefix: str, *, versions: bool) -> tuple[Stored, ...]:
        objects = self._view()
        keys = self.keys(prefix) if objects is self.objects else _below(prefix, sorted(objects))
        shown: Iterable[tuple[Stored, ...]]
        if objects is not self.objects:
            shown = (_shown(objects[key], versions=versions) for key in keys)
        else:
            shown = map(self._shown[versions].__getitem__, keys)
        return tuple(chain.from_iterable(shown))

    def keys(self, prefix: str) -> Sequence[str]:
        """Those that begin so, in order."""
        return _below(prefix, self._keys)

    def begin(self, key: str) -> Upload:
        """A write that is not complete yet."""
        self._count += 1
        upload = Upload(key=key, upload_id=f"upload-{self._count}", begun=self.now())
        self.uploads[upload.upload_id] = upload
        return upload

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return tuple(upload for upload in self.uploads.values() if upload.key.startswith(prefix))

    def abort(self, upload: Upload) -> None:
        self.uploads.pop(upload.upload_id, None)

    def _add(self, key: str, content: bytes, *, marker: bool, until: datetime | None = None) -> Stored:
        self._count += 1
        etag = "" if marker else f"{md5(content, usedforsecurity=False).hexdigest()}"
        stored = Stored(
            key=key,
            size=len(content),
            etag=etag,
            modified=self.now(),
            version=f"v{self._count}" if self.versioned else None,
            marker=marker,
        )
        before = self.objects.get(key, ()) if self.versioned else ()
        self._set(key, (*before, Held(stored, content, until)))
        return stored

    def _set(self, key: str, versions: tuple[Held, ...]) -> None:
        self.changes += 1
        if self.lag_seconds:
            self._past.append((self.timeline.seconds, key, self.objects.get(key, ())))
        if key not in self.objects and versions:
            insort(self._keys, key)
        for kind, shown in self._shown.items():
            if versions:
                shown[key] = _shown(versions, versions=kind)
        if versions:
            self.objects[key] = versions
        elif self.objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
        self._file(key, versions)

    def _file(self, key: str, versions: tuple[Held, ...]) -> None:
        database, _, below = key.partition("/backups/")
        backup, _, name = below.partition("/")
        if not name:
            return
        folders = self.folders.setdefault(database, {})
        left = {**folders.get(backup, {}), name: versions}
        if not versions:
            del left[name]
        if left:
            folders[backup] = left
        else:
            folders.pop(backup, None)

    def _view(self) -> dict[str, tuple[Held, ...]]:
        """What listings show: what is younger than the lag is not yet in them."""
        edge = self.timeline.seconds - self.lag_seconds
        if self._past:
            self._past = [change for change in self._past if change[0] > edge]
        if not self._past:
            return self.objects
        seen = dict(self.objects)
        seen |= {key: versions for _, key, versions in reversed(self._past)}
        return {key: versions for key, versions in seen.items() if versions}


_LAST = "\U0010ffff"
"""Behind every other character."""


def _below(prefix: str, keys: Sequence[str]) -> Sequence[str]:
    return keys[bisect_left(keys, prefix) : bisect_left(keys, prefix + _LAST)]


def _shown(held: tuple[Held, ...], *, versions: bool) -> tuple[Stored, ...]:
    """A key as listings show it: all its versions, newest first, or what is not hidden, if anything."""
    newest = held[-1].stored
    if versions:
        return newest, *(msgspec.structs.replace(one.stored, latest=False) for one in held[-2::-1])
    if newest.marker:
        return ()
    return (newest if newest.version is None else msgspec.structs.replace(newest, version=None),)
