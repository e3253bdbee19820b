"""A place on this machine's disk for what can't be a stream: folders of ours, gone when we are."""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.errors import Refused
from reconciler.world.facts import Owner
from reconciler.world.ports import Process

PREFIX = "reconciler-"
CURE = "name a folder that may be written to as dumps.staging.path"
NEW = ".new"
"""Behind the name of a folder that is not locked yet."""


class FolderStaging:
    """Folders below one that is given, so that the next turn finds what a dead process left.

    A name says whose it is. Where that proves nothing (after a restart of the machine, in another container), the kernel does:
    each folder is locked for as long as its process lives. So the disk must be this machine's own.
    """

    def __init__(self, base: Path, process: Process, *, also: Collection[Path] = (), cure: str = CURE) -> None:
        """`also`: other places where such folders may have been left. `cure`: what to do where none can be made."""
        self._base, self._process, self._places, self._cure = base, process, {base, *also}, cure

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder that only we may look into. Raises Refused where none can be made."""
        owner = self._process.begin()
        path, lock = self._base / _name(owner), -1
        new = path.with_name(path.name + NEW)
        try:
            try:
                self._base.mkdir(parents=True, exist_ok=True)
                new.mkdir(mode=0o700)
                lock = _lock(new)
                new.rename(path)
            except OSError as error:
                what = f"cannot make a folder in {self._base}: {error.strerror}"
                raise Refused(what, cure=self._cure) from error
            yield path
        finally:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(path, ignore_errors=True)
            if lock >= 0:
                os.close(lock)
            self._process.end(owner)

    def sweep(self) -> int:
        """Remove what dead processes left there; how many folders."""
        swept, ours = 0, self._process.begin()
        self._process.end(ours)
        for entry in self._entries():
            with suppress(OSError):
                owner = _owner(entry.name.removesuffix(NEW))
                if owner is None or not entry.is_dir(follow_symlinks=False) or _is_of(ours, owner):
                    continue
                # In another container the same pid is somebody else: then only what is unlocked is proven.
                gone = self._process.is_gone(owner)
                if gone or (gone is None and not entry.name.endswith(NEW) and _is_unlocked(entry.path)):
                    shutil.rmtree(entry.path, ignore_errors=True)
                    swept += 1
        return swept

    def _entries(self) -> list[os.DirEntry[str]]:
        found: list[os.DirEntry[str]] = []
        for place in self._places:
            with suppress(OSError):
                found += os.scandir(place)
        return found


def _lock(path: str | Path) -> int:
    """The open folder, locked. The lock goes with us, however we end. Raises OSError where it is locked or can't be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_unlocked(path: str) -> bool:
    try:
        os.close(_lock(path))
    except OSError:
        return False
    return True


def _is_of(one: Owner, other: Owner) -> bool:
    """The same living process. What it has finished with is gone already, and the rest is not ours to judge."""
    return all(getattr(one, name) == getattr(other, name) for name in ("boot", "pid_namespace", "pid", "start_ticks"))


def _name(owner: Owner) -> str:
    """`reconciler-BOOT-NAMESPACE-PID-TICKS-TOKEN`, each without a dash."""
    boot, namespace = owner.boot.replace("-", ""), owner.pid_namespace.removeprefix("pid:[").removesuffix("]")
    return PREFIX + "-".join((boot, namespace, str(owner.pid), str(owner.start_ticks), owner.token))


def _owner(name: str) -> Owner | None:
    parts = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or len(parts) != 5 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        return None
    boot, namespace, pid, ticks, token = parts
    if len(boot) != 32:
        return None
    written = "-".join((boot[:8], boot[8:12], boot[12:16], boot[16:20], boot[20:]))
    return Owner(boot=written, pid_namespace=f"pid:[{namespace}]", pid=int(pid), start_ticks=int(ticks), token=token, host="")
