"""Objects as plain files in a folder.

An object is a plain file. It comes by link or rename out of a hidden folder, so that nobody ever sees half of one:
data is on the disk before the name is, and the name before `write` returns.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from reconciler.errors import Absent, Conflict, Full, ReconcilerError, Refused, Unreachable
from reconciler.targets.keys import check_key
from reconciler.targets.local_files import (
    locked,
    make_folder,
    open_plain,
    remove_empty,
    seen,
    sync_folder,
    translated,
    write_all,
)
from reconciler.targets.unfinished import Finished, Unfinished
from reconciler.world.ports import ABSENT, Blob, Clock, Listing, Stored, Upload

HIDDEN: Final = ".reconciler"
"""At the top of the root: unfinished writes and the lock. Never listed, and no key may begin with it."""

_UNFINISHED: Final = f"{HIDDEN}/unfinished/"
"""Below it lies what is written; a link in its place would lead that elsewhere."""

CHUNK_BYTES: Final = 1 << 20

RESERVE_BYTES: Final = 1 << 16
"""Kept for small records on a full disk: a lease and some tombstones, without which nothing could be deleted there."""


class LocalTarget:
    """Implements the `Target` port. Writers on one machine exclude each other by `flock`; readers need no lock."""

    versioned: Final = False

    def __init__(self, name: str, root: Path, *, clock: Clock, domain: str = "host:localhost", mount: Path | None = None) -> None:
        """`mount`: what must be mounted for `root` to be the right folder."""
        self.name: Final = name
        self.domain: Final = domain
        self._root: Final = root
        self._mount: Final = mount
        self._clock = clock
        self._unfinished = Unfinished(name, root / HIDDEN / "unfinished", clock)

    @property
    def place(self) -> str:
        return str(self._root)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Everything under `prefix`. What is no plain file (a link, a socket) is shown as itself and never followed."""
        folder = prefix.rpartition("/")[0]
        if folder:
            _check(folder)
        with self._translated(f"list {prefix or 'all'}"):
            self._see_root()
            disk = self._disk()
            found = [item for item in self._walk(folder) if item.key.startswith(prefix)]
            # What is unmounted meanwhile looks like folders that somebody removed.
            self._see_root()
            if disk is not None and self._disk() != disk:
                raise Unreachable(
                    f"{self.name}: {self.place} went away while it was listed",
                    cure="see whether the disk is in order and mounted",
                )
        return Listing(items=tuple(sorted(found, key=lambda item: item.key)), store_time=self._clock.now())

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        path = self._path(key)
        with self._translated(f"read {key}"):
            self._see_root()
            self._refuse_links(key)
            if version is not None:
                raise Absent(f"{self.name}: {key} has no version {version}: a folder keeps none")
            try:
                # Without O_NONBLOCK, opening a FIFO that somebody left here would wait for ever.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as gone:
                raise Absent(f"{self.name}: {key} is not in {self.place}") from gone
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                raise Absent(f"{self.name}: {path} is no plain file, so no object")
            file = os.fdopen(descriptor, "rb", buffering=0)
            file.seek(start)

        def chunks() -> Iterator[bytes]:
            with file:
                while True:
                    with self._translated(f"read {key}"):
                        chunk = file.read(CHUNK_BYTES)
                    if not chunk:
                        return
                    yield chunk

        return Blob(_stored(key, status), chunks(), file.close)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        # What is a stream can't be produced twice, and is too large for what was kept.
        small = isinstance(chunks, Sequence) and sum(map(len, chunks)) < RESERVE_BYTES
        try:
            stored = self._write(key, chunks, expect)
        except Full:
            if not small or not self._give_up_reserve():
                raise
            return self._write(key, chunks, expect)
        self._keep_reserve()
        return stored

    def _write(self, key: str, chunks: Iterable[bytes], expect: str | None) -> Stored:
        path = self._path(key)
        with self._translated(f"write {key}"):
            self._make_root()
            self._refuse_links(key)
        with self._unfinished.written(key, chunks, lambda: self._translated(f"write {key}")) as finished:
            with self._translated(f"write {key}"), self._locked():
                self._put_in_place(finished, path, key, expect)
            return _stored(key, finished.status)

    def delete(self, key: str, *, version: str | None = None) -> None:
        path = self._path(key)
        if version is not None:
            return
        with self._translated(f"delete {key}"):
            self._see_root()
            self._refuse_links(key)
            there = seen(path)
            if there is None or stat.S_ISDIR(there.st_mode):
                return
            with self._locked():
                with suppress(FileNotFoundError):
                    path.unlink()
                remove_empty(path.parent, below=self._root)

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        with self._translated(f"list unfinished writes of {prefix or 'all'}"):
            self._see_root()
            self._refuse_links(_UNFINISHED)
            return self._unfinished.list(prefix)

    def abort(self, upload: Upload) -> None:
        _check(upload.key)
        with self._translated(f"abort {upload.key}"):
            self._refuse_links(_UNFINISHED)
            self._unfinished.abort(upload)

    @property
    def _lock(self) -> Path:
        """Its content is the reserve."""
        return self._root / HIDDEN / "lock"

    def _keep_reserve(self) -> None:
        """Where there is no room for it either, it is kept another time."""
        with suppress(OSError, ReconcilerError), self._reserve() as descriptor:
            if os.fstat(descriptor).st_size != RESERVE_BYTES:
                os.ftruncate(descriptor, 0)
                write_all(descriptor, os.urandom(RESERVE_BYTES))  # zeros take no room on a file system that compresses

    def _give_up_reserve(self) -> bool:
        """Whether there was one."""
        try:
            with self._reserve() as descriptor:
                kept = os.fstat(descriptor).st_size
                os.ftruncate(descriptor, 0)
        except (OSError, ReconcilerError):
            return False
        return kept > 0

    @contextmanager
    def _reserve(self) -> Iterator[int]:
        descriptor = open_plain(self._lock)
        try:
            status = os.fstat(descriptor)
            # By hard links, snapshots are made of a target, too: those have it as we left it.
            if status.st_nlink > 1 and status.st_size not in (0, RESERVE_BYTES):
                raise Refused(f"{self._lock} has another name, by which it may be somebody's", cure="move it away")
            yield descriptor
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        _check(key)
        return self._root / key

    def _see_root(self) -> None:
        """A missing root is an empty target; where its surroundings are missing too, a disk is more likely not mounted."""
        if self._mount is not None and not os.path.ismount(self._mount):
            raise Refused(f"{self.name}: nothing is mounted at {self._mount}", cure="mount the disk, or correct `mount`")
        # In this order: somebody else may be making it at this very moment.
        if os.path.lexists(self._root):
            if self._root.is_dir():
                return
            raise Refused(
                f"{self.name}: {self.place} is no folder" + (" (a link to nowhere)" if self._root.is_symlink() else ""),
                cure="let `path` name a folder, or one that can be made",
            )
        if not self._root.parent.is_dir():
            raise Refused(
                f"{self.name}: the folder {self._root.parent} that should hold {self.place} is missing",
                cure="mount the disk, correct `path`, or make that folder",
            )

    def _disk(self) -> int | None:
        """Which one the root is on; None where there is no root."""
        try:
            return self._root.stat().st_dev
        except FileNotFoundError:
            return None

    def _make_root(self) -> None:
        self._see_root()
        self._refuse_links(_UNFINISHED)
        for folder in (self._root, self._root / HIDDEN, self._root / HIDDEN / "unfinished"):
            make_folder(folder)

    def _refuse_links(self, key: str) -> None:
        folder = self._root
        for segment in key.split("/")[:-1]:
            folder = folder / segment
            if folder.is_symlink():
                raise Refused(
                    f"{self.name}: {folder} is a link, and links inside a target are not followed",
                    cure="put the folder itself there, or let `path` name the other place",
                )

    def _walk(self, folder: str) -> Iterator[Stored]:
        if folder:
            self._refuse_links(f"{folder}/x")
        folders = [folder]
        while folders:
            here = folders.pop()
            try:
                entries = list(os.scandir(f"{self._root}/{here}"))
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile, or never there
            for entry in entries:
                key = f"{here}/{entry.name}" if here else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if key != HIDDEN:
                        folders.append(key)
                    continue
                with suppress(FileNotFoundError):
                    yield _stored(key, entry.stat(follow_symlinks=False))

    def _put_in_place(self, finished: Finished, path: Path, key: str, expect: str | None) -> None:
        """Under the lock, so that no folder is removed as empty in between, and what is compared is what is replaced."""
        if expect == ABSENT and os.path.lexists(path):
            raise self._lost(key)
        if expect not in (None, ABSENT) and self._etag(path, key) != expect:
            raise self._lost(key)
        for folder in reversed([parent for parent in path.parents if parent.is_relative_to(self._root)]):
            make_folder(folder)
        try:
            if expect == ABSENT:
                self._link(finished.path, path)
            else:
                finished.path.rename(path)
        except (FileExistsError, FileNotFoundError) as error:
            # Over NFS, a request whose answer was lost is made once more, and meets what it did itself.
            there = seen(path)
            if there is None or not os.path.samestat(there, finished.status):
                raise (self._lost(key) if isinstance(error, FileExistsError) else self._unfinished.aborted(key)) from error
        sync_folder(path.parent)

    def _link(self, unfinished: Path, path: Path) -> None:
        """Refuses to replace by itself, where a rename would not, even against a writer that knows nothing of the lock."""
        try:
            os.link(unfinished, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            unfinished.rename(path)  # a file system without links (exFAT): the lock alone must do

    def _etag(self, path: Path, key: str) -> str | None:
        there = seen(path)
        return _stored(key, there).etag if there else None

    def _lost(self, key: str) -> Conflict:
        return Conflict(f"{self.name}: {key} is there already, or has changed since it was looked at; nothing was written")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One placing or removing at a time on this root."""
        self._refuse_links(_UNFINISHED)
        make_folder(self._root / HIDDEN)
        with locked(self._lock, self._clock):
            yield

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return translated(f"{self.name}: cannot {doing} in {self.place}")


def _check(key: str) -> None:
    check_key(key)
    if key == HIDDEN or key.startswith(f"{HIDDEN}/"):
        raise Refused(f"{key!r} is no key of an object: {HIDDEN} holds what is not finished", cure="use another name")


def _stored(key: str, status: os.stat_result) -> Stored:
    # A name that is no UTF-8 can't be a key of ours; it is shown so that it can be reported.
    shown = key if key.isascii() else os.fsencode(key).decode("utf-8", "backslashreplace")
    return Stored(
        key=shown,
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        modified=datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, UTC),
    )
