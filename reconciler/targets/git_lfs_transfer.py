"""Large files on their way to a remote and back, each in a repository that is thrown away.

Nothing of them stays here: a copy would be read in place of what the remote holds, and prove nothing of it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from reconciler.errors import Absent, Corrupt, ReconcilerError
from reconciler.targets.git_program import Git, folder_of
from reconciler.targets.local_files import sync_folder
from reconciler.world.clock import token
from reconciler.world.locks import is_at, lock

_LOCK: Final = ".lock"

_GONE: Final = re.compile(
    r"remote missing object|\[(404|410)\]|object does not exist|repository or object not found|HTTP (404|410)\b", re.IGNORECASE
)
"""What git-lfs says of a file that the remote has not, or not in its length."""

_OTHER: Final = re.compile(r"has an invalid hash|expected OID \w+, got", re.IGNORECASE)
"""Of a file that is there with other bytes."""


class Transfer:
    """Up and down, for one remote. `folder` must be there by then. Safe to use from several threads and processes."""

    def __init__(self, target: str, folder: Path, git: Git, remote: str) -> None:
        self._target = target
        self._folder = folder
        self._git = git
        self._remote = remote

    def push(self, oid: str, file: Path) -> None:
        """Return when the remote has it; the file is gone from here in any case. Raises FileNotFoundError if it was aborted."""
        with self._thrown_away() as (root, git):
            place = large(root, oid)
            place.parent.mkdir(parents=True)
            file.rename(place)
            git.ask("lfs", "push", "--object-id", "origin", oid)
        if folder := folder_of(self._remote):
            _sync_large(folder, oid)

    @contextmanager
    def fetched(self, path: str, oid: str, size: int) -> Iterator[Path]:
        """The file that the remote holds, for as long as the block lasts. Raises Absent, Corrupt."""
        with self._thrown_away() as (root, git):
            if size:
                done = git.run("lfs", "smudge", given=pointer(oid, size), answers=subprocess.DEVNULL)
                if done.returncode:
                    raise self._lost(path, done.stderr.decode(errors="replace")) or git.fault("lfs smudge", done)
            else:
                _make_empty(large(root, oid))  # LFS moves no empty files
            yield large(root, oid)

    def _lost(self, path: str, told: str) -> ReconcilerError | None:
        """What the remote has not, or not as it was; None where it is something else that failed."""
        if _OTHER.search(told):
            return Corrupt(
                f"{self._target}: the large file of {path} in {self._remote} has other bytes than were written",
                cure="use another copy of this backup",
            )
        # Where the batch itself has no answer, the host has no LFS there: no loss of a file.
        if _GONE.search(told) and "batch response:" not in told:
            return Absent(
                f"{self._target}: the large file of {path} is not in {self._remote}", cure="use another copy of this backup"
            )
        return None

    @contextmanager
    def _thrown_away(self) -> Iterator[tuple[Path, Git]]:
        """An empty repository, gone when the block ends. Those of the dead go first, once no child of theirs is at work."""
        for held in self._folder.glob(f"*{_LOCK}"):
            self._sweep(held)
        root, descriptor = self._begin()
        try:
            self._git.ask("init", "--quiet", "--bare", "--template=", str(root), within=False)
            yield root, self._git.at(root, holding=descriptor)
        finally:
            try:
                _remove(root)
            finally:
                os.close(descriptor)

    def _begin(self) -> tuple[Path, int]:
        while True:
            root = self._folder / token(8)
            held = root.with_suffix(_LOCK)
            descriptor = os.open(held, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if lock(descriptor) and is_at(held, descriptor):
                return root, descriptor
            os.close(descriptor)  # swept before it was locked

    def _sweep(self, held: Path) -> None:
        try:
            descriptor = os.open(held, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if lock(descriptor) and is_at(held, descriptor):
                _remove(held.with_suffix(""))
        finally:
            os.close(descriptor)


def large(root: Path, oid: str) -> Path:
    """Where a bare repository has the large file of that sha256."""
    return root / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def pointer(oid: str, size: int) -> bytes:
    """What git itself holds of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def _make_empty(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.touch()


def _remove(root: Path) -> None:
    """The folder before its lock: what has no lock would never be found."""
    with suppress(FileNotFoundError):
        shutil.rmtree(root)
    root.with_suffix(_LOCK).unlink(missing_ok=True)


def _sync_large(folder: Path, oid: str) -> None:
    """Put it on the disk of a remote that is a folder: there, git-lfs leaves that to the kernel."""
    for root in (folder, folder / ".git"):
        place = large(root, oid)
        if place.is_file():
            with place.open("rb") as file:
                os.fsync(file.fileno())
            for parent in place.parents:
                if parent.is_relative_to(root):
                    sync_folder(parent)
