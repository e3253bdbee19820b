"""Writing a file that the user named: whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from reconciler.errors import Refused


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file beside it, on disk before it takes its place; gone when the body raises. Raises Refused where that can't be.

    `mode`: what comes out of a database is for its owner's eyes, if nothing else is said.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.chmod(mode)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}", cure="name another place with --output or --out") from error


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
