"""Objects as files of a git repository's branch, the large ones by LFS, as a target: each write and each removal is a commit.

Nothing that was ever committed goes from the history, nor from where LFS keeps large files: a removal takes it out of the tip.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Final

from reconciler.errors import Absent, Conflict, Refused
from reconciler.targets.git_lfs_repository import Entry, Repository, data, quoted
from reconciler.targets.git_lfs_transfer import pointer
from reconciler.targets.keys import check_key
from reconciler.targets.unfinished import Finished, Unfinished
from reconciler.world.ports import ABSENT, Blob, Clock, Listing, Stored, Upload


class GitLfsTarget:
    """Implements the `Target` port. Writers on one machine exclude each other by `flock`, on several by the remote's pushes."""

    versioned: Final = False

    def __init__(self, repository: Repository, *, prefix: str, max_object: int, domain: str, clock: Clock) -> None:
        self._repository: Final = repository
        self._prefix = prefix
        self._max_object = max_object
        self._clock = clock
        self._unfinished = Unfinished(repository.target, repository.unfinished, clock)
        self._commits = 0
        self.domain: Final = domain

    @property
    def name(self) -> str:
        return self._repository.target

    @property
    def place(self) -> str:
        return f"{self._repository.place}#{self._prefix}" if self._prefix else self._repository.place

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Dated by the commits that wrote them.

        Without a remote, a file is listed as it lies here; with one, as the commit says.
        """
        with self._translated(f"list {prefix or 'all'}"):
            tip = self._repository.tip()
            found: list[Stored] = []
            if tip is not None:
                ages = self._repository.ages(tip)
                whole = self._prefix + prefix
                entries = (
                    each for each in self._repository.entries(tip, whole.rpartition("/")[0]) if self._is_below(each, whole)
                )
                there = (each for each in map(self._repository.held, entries) if each is not None)
                found = [self._stored(each, ages.get(each.path, ages[""])) for each in there]
        # A remote tells no time of its own.
        return Listing(items=tuple(sorted(found, key=lambda item: item.key)), store_time=self._clock.now())

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        path = self._path(key)
        if version is not None:
            raise Absent(f"{self.name}: {key} has no version {version}: only the branch's tip is read")
        with self._translated(f"read {key}"):
            tip = self._repository.tip()
            entry = self._entry(tip, path) if tip else None
            if tip is None or entry is None:
                raise Absent(f"{self.name}: {key} is not in {self.place}")
            entry = self._repository.held(entry)
            if entry is None:
                raise Absent(f"{self.name}: the large file of {path} is not in {self.place}")
            stored = self._stored(entry, int(self._clock.now().timestamp()))

        inner = self._repository.read(entry, start)

        def chunks() -> Iterator[bytes]:
            while True:
                with self._translated(f"read {key}"):
                    chunk = next(inner, b"")
                if not chunk:
                    return
                yield chunk

        return Blob(stored, chunks(), inner.close)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        path = self._path(key)
        doing = f"write {key}"
        with self._translated(doing):
            self._repository.make()
        sha256 = hashlib.sha256()
        measured = self._measured(key, chunks, sha256.update)
        with self._unfinished.written(key, measured, lambda: self._translated(doing)) as finished, self._translated(doing):
            oid = sha256.hexdigest()
            # To a remote before, since it takes its time. Here in one with the look: what was lost is there as soon as it is put.
            put = None if self._repository.remote is None else self._put_by(finished, oid, path, key)

            def change(tip: str | None) -> bytes:
                self._check(tip, path, key, expect)
                content = self._put_by(finished, oid, path, key) if put is None else put
                return b"M 100644 inline " + quoted(path) + b"\n" + data(content)

            with self._repository.lock():
                made = self._repository.commit(change, f"write {path}")
                self._tidy()
            entry = self._entry(made, path) if made else None
            if entry is None:
                raise Conflict(f"{self.name}: {key} was removed by another as it was written")
            return self._stored(entry, int(self._clock.now().timestamp()))

    def delete(self, key: str, *, version: str | None = None) -> None:
        path = self._path(key)
        if version is not None:
            return
        with self._translated(f"delete {key}"):
            tip = self._repository.tip()
            if tip is None or self._entry(tip, path) is None:
                return

            def change(tip: str | None) -> bytes | None:
                there = tip is not None and self._entry(tip, path) is not None
                return b"D " + quoted(path) + b"\n" if there else None

            with self._repository.lock():
                self._repository.commit(change, f"remove {path}")
                self._tidy()

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """Those of this machine."""
        with self._translated(f"list unfinished writes of {prefix or 'all'}"):
            return self._unfinished.list(prefix)

    def abort(self, upload: Upload) -> None:
        check_key(upload.key)
        with self._translated(f"abort {upload.key}"):
            self._unfinished.abort(upload)

    def _put_by(self, finished: Finished, oid: str, path: str, key: str) -> bytes:
        """What git is given: a record's own bytes, or the pointer to a large file, which is in its place by then."""
        try:
            if not self._is_large(path):
                return finished.path.read_bytes()
            self._repository.keep_large(oid, finished.path)
        except FileNotFoundError as gone:
            raise self._unfinished.aborted(key) from gone
        return pointer(oid, finished.status.st_size)

    def _check(self, tip: str | None, path: str, key: str, expect: str | None) -> None:
        """Raise Conflict where the tip is not as it is expected to be, Refused where a folder and a file would have one name."""
        entry = self._entry(tip, path) if tip else None
        there = self._repository.held(entry) if entry else None
        if expect is not None and (there.blob if there else ABSENT) != expect:
            raise Conflict(f"{self.name}: {key} is there already, or has changed since it was looked at; nothing was written")
        if tip and entry is None and self._is_in_the_way(tip, path):
            raise Refused(
                f"{self.name}: {key} would be a file where a folder is, or the other way round", cure="use another name"
            )

    def _is_in_the_way(self, tip: str, path: str) -> bool:
        parents = [path.rsplit("/", number)[0] for number in range(1, path.count("/") + 1)]
        return bool(self._repository.entries(tip, path)) or any(self._entry(tip, parent) for parent in parents)

    def _entry(self, tip: str, path: str) -> Entry | None:
        return next((each for each in self._repository.entries(tip, path) if each.path == path), None)

    def _measured(self, key: str, chunks: Iterable[bytes], heard: Callable[[bytes], None]) -> Iterator[bytes]:
        passed = 0
        for chunk in chunks:
            passed += len(chunk)
            if passed > self._max_object:
                what = f"{self.name}: {key} is larger than {self._max_object:,} bytes, the most that this target takes"
                raise Refused(what, cure="raise `max_object`, if the remote takes that much, or use another kind of target")
            heard(chunk)
            yield chunk

    def _stored(self, entry: Entry, seconds: int) -> Stored:
        return Stored(
            key=entry.path.removeprefix(self._prefix),
            size=entry.size,
            etag=entry.blob,
            modified=datetime.fromtimestamp(seconds, UTC),
        )

    def _is_below(self, entry: Entry, prefix: str) -> bool:
        return entry.path.startswith(prefix) and entry.path != ".gitattributes"

    def _is_large(self, path: str) -> bool:
        return not path.endswith(".json")

    def _path(self, key: str) -> str:
        check_key(key)
        path = self._prefix + key
        if any(segment.lower() in (".git", ".gitattributes", ".lfsconfig") for segment in path.split("/")):
            raise Refused(f"{key!r} is no key of an object: git has a use of its own for that name", cure="use another name")
        return path

    def _tidy(self) -> None:
        """Now and then: git looks for itself whether there is anything to do."""
        if self._commits % 200 == 0:
            self._repository.tidy()
        self._commits += 1

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return self._repository.translated(doing)
