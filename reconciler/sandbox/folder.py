"""The sandbox's folder: made, recognised, and held by one caller at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import Refused
from reconciler.sandbox.files import write_private
from reconciler.sandbox.patience import wait_for

_MARK = "README"
_SAYS = """\
Made by `reconcile sandbox up`: a PostgreSQL and an S3 server for trying and testing, and their keys.
`reconcile sandbox down` ends them; `reconcile sandbox down --purge` deletes all of this as well.
"""
_OTHERS_SECONDS = 120


def is_sandbox(folder: Path) -> bool:
    """Whether we made it."""
    try:
        return (folder / _MARK).read_text() == _SAYS
    except (OSError, UnicodeDecodeError):
        return False


def claim(folder: Path) -> None:
    """Make the folder, readable by its owner only.

    Raises Refused for one that holds other files: a purge would delete them.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_sandbox(folder):
            if any(folder.iterdir()):
                raise Refused(f"{folder} holds files and is no sandbox", cure="name another folder with --dir")
            write_private(folder / _MARK, _SAYS)
        folder.chmod(0o700)
        write_private(folder / ".gitignore", "*\n")
        (folder / "log").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make the sandbox in {folder}: {error.strerror}", cure="name another folder with --dir") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else starts or ends this sandbox meanwhile; waits for who does. Freed by the system if we die."""
    handle = wait_for(lambda: _try_lock(folder / "lock"), seconds=_OTHERS_SECONDS, what=f"another command that works on {folder}")
    try:
        yield
    finally:
        os.close(handle)


def _try_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have purged the folder, and our lock with it.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None
