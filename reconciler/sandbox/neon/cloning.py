"""A copy of a folder of files: sharing blocks where the file system can (btrfs, XFS), else plain."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reconciler.world.account import Account

_FICLONE = 0x40049409
"""Linux: this file shall share that one's blocks."""
_CANNOT = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS}


def clone_tree(source: Path, target: Path, account: Account | None, *, is_left_out: Callable[[Path], bool]) -> None:
    """Copy all below `source` but what is left out (files and folders, as paths relative to it).

    What vanishes meanwhile is no fault.
    """
    copy = _cloner(source, target)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        relative = here.relative_to(source)
        there = target / relative
        folders[:] = [name for name in folders if not is_left_out(relative / name)]
        there.mkdir(mode=0o700, exist_ok=True)
        _give(account, str(there))
        for name in names:
            if is_left_out(relative / name):
                continue
            with suppress(FileNotFoundError):
                copy(f"{folder}/{name}", f"{there}/{name}")
                _give(account, f"{there}/{name}")


def link_or_copy(source: Path, target: Path, account: Account | None) -> None:
    """The same file under another name, for what is never written again; a copy where there are no links."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        shutil.copyfile(source, target)
        _give(account, str(target))


def _give(account: Account | None, path: str) -> None:
    if account:
        with suppress(FileNotFoundError):
            os.chown(path, account.uid, account.gid)


def _cloner(source: Path, target: Path) -> Callable[[str, str], None]:
    """How a file is copied from this folder to that one: tried once, since it is the same for all."""
    probe, shared = source / "PG_VERSION", target.parent / f".{target.name}.probe"
    try:
        _share(str(probe), str(shared))
    except OSError as error:
        if error.errno not in _CANNOT and not isinstance(error, FileNotFoundError):
            raise
        return _plain
    finally:
        shared.unlink(missing_ok=True)
    return _share


def _share(source: str, target: str) -> None:
    with open(source, "rb") as read, open(target, "wb") as write:  # noqa: PTH123  # a thousand small files: plain names are quicker
        os.fchmod(write.fileno(), 0o600)
        fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())


def _plain(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    os.chmod(target, 0o600)  # noqa: PTH101  # see above
