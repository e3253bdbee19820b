"""Repositories for tests: a bare remote in a folder, and a target that pushes to it. Skips where git-lfs is not installed."""

import os
import shutil
import subprocess
from pathlib import Path
from threading import Event

import pytest

from reconciler.targets.git_lfs_repository import Repository
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Clock


def need_git_lfs() -> None:
    if shutil.which("git") is None or shutil.which("git-lfs") is None:
        pytest.skip("git and git-lfs are not installed here")


def git(folder: Path, *words: str) -> str:
    """Git itself, to look at the world without the code under test; no configuration of this user's."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    command = [str(shutil.which("git")), *author, *words]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert 0 == ran.returncode, ran.stderr
    return ran.stdout


def new_remote(folder: Path) -> Path:
    """An empty bare repository."""
    remote = folder / "remote.git"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    return remote


def git_lfs_target(
    folder: Path,
    *,
    pushed: bool = False,
    remote: Path | None = None,
    name: str = "backups.git",
    prefix: str = "",
    max_object: int = 1 << 30,
    clock: Clock | None = None,
) -> GitLfsTarget:
    """A target in that folder, which pushes to `remote`, or to a new one beside it if `pushed`."""
    need_git_lfs()
    clock = clock or SystemClock()
    there = remote or (new_remote(folder) if pushed else None)
    repository = Repository(
        "lfs",
        folder / name,
        branch="main",
        remote=there.as_uri() if there else None,
        login=None,
        environ=os.environ,
        clock=clock,
        stop=Event(),
    )
    return GitLfsTarget(repository, prefix=prefix, max_object=max_object, domain="git:test", clock=clock)
