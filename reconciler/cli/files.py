"""Writing a file that the user named: whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from reconciler.errors import Refused
from reconciler.world.clock import token


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file that takes its place whole, once it is on disk; nothing of it stays when the body raises or the program is killed.

    What a link leads to is replaced, not the link. `mode`: what comes out of a database is for its owner's eyes, if nothing else
    is said. Raises Refused where that can't be.
    """
    place = Path(os.path.realpath(path))
    try:
        with _nameless(place.parent) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            _put(file, place)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}", cure="name another place, or put this one in order") from error


def _nameless(folder: Path) -> IO[bytes]:
    """A file without a name, which the kernel frees with us; where the file system has none such, one beside the place."""
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EISDIR, errno.EINVAL):
            raise
    named: IO[bytes] = NamedTemporaryFile(dir=folder, prefix=".reconcile.", suffix=".part")  # noqa: SIM115 - the caller closes it
    return named


def _put(file: IO[bytes], place: Path) -> None:
    """Under another name first: a link never replaces, and what was there must not be gone for a moment."""
    part = place.parent / f".{place.name}.{token(4)}.part"
    if os.fstat(file.fileno()).st_nlink:
        os.link(file.name, part)
    else:
        # Without a folder's descriptor, the system call behind this would take the link in /proc for the file itself.
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(f"proc/self/fd/{file.fileno()}", part, src_dir_fd=root, follow_symlinks=True)
        finally:
            os.close(root)
    try:
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


STDOUT = Path("-")


def is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device, which is written into and never replaced; STDOUT counts as one."""
    return path == STDOUT or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def streaming(path: Path) -> Iterator[IO[bytes]]:
    """Into a pipe or a device, as it comes. Raises Refused where that can't be, e.g. when its reader has left."""
    try:
        # Without buffers: what a pipe did not take must not fail once more when this is closed.
        opened: IO[bytes] = os.fdopen(os.dup(1), "wb", 0) if path == STDOUT else path.open("wb", buffering=0)
        with opened as file:
            yield file
    except OSError as error:
        cure = "let its reader read to the end" if isinstance(error, BrokenPipeError) else "name another place with --output"
        raise Refused(f"cannot write into {path}: {error.strerror}", cure=cure) from error


def write_all(file: IO[bytes], chunk: bytes) -> None:
    """A pipe may take fewer bytes at a time."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def write_new(path: Path, content: bytes) -> bool:
    """For its owner only, on disk when this returns; False, and nothing is changed, where something is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}", cure="name another place with --out") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Refused(f"cannot write {path}: {error.strerror}", cure="name another place with --out") from error
    return True


def write_whole(path: Path, content: bytes) -> None:
    """All of it at once. What holds no data of a database may be read by everybody."""
    with replacing(path, mode=0o644) as file:
        file.write(content)
