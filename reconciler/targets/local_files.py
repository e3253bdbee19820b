"""Files and folders that outlive a power cut, and what the operating system's refusals mean. Knows nothing of keys or targets."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Final

from reconciler.errors import Full, ReconcilerError, Refused, Unreachable
from reconciler.world.clock import token
from reconciler.world.locks import is_at, lock
from reconciler.world.ports import Clock

LOCK_SECONDS: Final = 30.0
"""The lock is held for one rename and one fsync; who waits longer waits for a disk that hangs."""

_READ_WRITE: Final = "give the user that runs `reconcile` the right to read and write there"
_FILE_AS_FOLDER: Final = "move the file away that stands where a folder is needed"
_FOLDER_AS_FILE: Final = "move the folder away that stands where an object is to be"

_LET_GO: Final = "let a backup go: `reconcile backups delete ID --grace 0`, then `reconcile apply`"
_FULL: Final = {
    errno.ENOSPC: f"free space on this file system, or {_LET_GO}",
    errno.EDQUOT: f"raise the quota of this user, or {_LET_GO}",
}
_CURES: Final = {
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`), or use a file system that takes larger files",
    errno.EACCES: _READ_WRITE,
    errno.EPERM: _READ_WRITE,
    errno.EROFS: "mount the file system read-write",
    errno.EEXIST: _FILE_AS_FOLDER,
    errno.ENOTDIR: _FILE_AS_FOLDER,
    errno.EISDIR: _FOLDER_AS_FILE,
    errno.ENOTEMPTY: _FOLDER_AS_FILE,
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "put the file itself there: links inside a target are not followed",
    errno.EXDEV: "let the whole target lie on one file system",
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an OSError into Refused where a person can mend it, else into Unreachable. `what` is "disk: cannot … in …"."""
    try:
        yield
    except ReconcilerError:
        raise
    except OSError as error:
        said = f"{what}: {os.strerror(error.errno) if error.errno else error}"
        if error.errno in _FULL:
            raise Full(said, cure=_FULL[error.errno]) from error
        if error.errno in _CURES:
            raise Refused(said, cure=_CURES[error.errno]) from error
        raise Unreachable(said, cure="see whether the disk is in order and mounted") from error


@contextmanager
def locked(file: Path, clock: Clock, *, seconds: float = LOCK_SECONDS) -> Iterator[int]:
    """Hold an exclusive lock, among threads and processes of this machine. The kernel frees that of a killed process.

    Gives its descriptor: a child that inherits it holds the lock too, for as long as it lives.
    """
    descriptor = open_plain(file)
    try:
        deadline = clock.monotonic() + seconds
        while not lock(descriptor):
            if clock.monotonic() > deadline:
                raise Unreachable(
                    f"{file} has been locked by another process for {seconds:.0f} s", cure="see whether the disk hangs"
                )
            clock.wait(0.01, Event())
        yield descriptor
    finally:
        os.close(descriptor)


def open_plain(file: Path) -> int:
    """Open it to read and write, made where it is not there. Raises Refused where a stranger's pipe or device lies in its place.

    Raises OSError for a link: what is written would go to wherever that leads.
    """
    # Without O_NONBLOCK, some of what may lie there would wait for ever.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise Refused(f"{file} is no plain file", cure="move it away: it is made anew")


def seen(path: Path) -> os.stat_result | None:
    """What lies there itself, a link as such; None where nothing does. What can't be seen raises, and is not taken for gone."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_folder(folder: Path) -> None:
    """Make it, mode 0700, unless it is there; durably: a folder's name lives in its parent."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that can't sync a folder says so, and has nothing to sync
            raise
    finally:
        os.close(descriptor)


def remove_empty(folder: Path, *, below: Path) -> None:
    """Remove it and its parents as far as they are empty, and make what is left durable. `below` itself stays."""
    while folder != below:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass  # somebody was quicker; its parent may still be there
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            break
        folder = folder.parent
    sync_folder(folder)


def remove_unlocked(file: Path) -> None:
    """Remove it unless somebody holds its lock, or it is not ours to open."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if lock(descriptor) and is_at(file, descriptor):
            file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write every byte; the kernel may take fewer at a time."""
    rest = memoryview(chunk).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def finish(descriptor: int, now: datetime) -> os.stat_result:
    """Put the bytes on the disk under a modification time that no other write has: now, by the clock that tells the store's time.

    The digits below a millisecond are drawn: a kernel's tick is coarser than that, and inode numbers come again, so that two
    quick writes of one size would look alike.
    """
    drawn = int(now.timestamp() * 1000) * 1_000_000 + int(token(4), 16) % 1_000_000
    os.utime(descriptor, ns=(drawn, drawn))
    os.fsync(descriptor)
    return os.fstat(descriptor)
