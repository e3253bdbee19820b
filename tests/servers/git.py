"""Repositories for tests: a bare remote in a folder, and a target that pushes to it. Skips where git-lfs is not installed."""

import os
import shutil
import subprocess
from pathlib import Path
from threading import Event

import pytest

from reconciler.targets.git_lfs_repository import Repository
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.targets.git_program import Login
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Clock, Target


def need_git_lfs() -> None:
    if shutil.which("git") is None or shutil.which("git-lfs") is None:
        pytest.skip("git and git-lfs are not installed here")


def git(folder: Path, *words: str, given: str = "") -> str:
    """Git itself, to look at the world without the code under test; no configuration of this user's."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    command = [str(shutil.which("git")), *author, *words]
    ran = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False, timeout=60
    )
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
    branch: str = "main",
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
        branch=branch,
        remote=there.as_uri() if there else None,
        login=None,
        environ=os.environ,
        clock=clock,
        stop=Event(),
    )
    return GitLfsTarget(repository, prefix=prefix, max_object=max_object, domain="git:test", clock=clock)


def over(
    remote: str, folder: Path, *, name: str = "backups.git", login: Login | None = None, stop: Event | None = None
) -> GitLfsTarget:
    """One that pushes to any URL, as whom one likes, and hears when it is to stop."""
    repository = Repository(
        "lfs",
        folder / name,
        branch="main",
        remote=remote,
        login=login,
        environ=os.environ,
        clock=SystemClock(),
        stop=stop or Event(),
    )
    return GitLfsTarget(repository, prefix="", max_object=1 << 30, domain="x", clock=SystemClock())


def content(target: Target, key: str) -> bytes:
    with target.read(key) as blob:
        return b"".join(blob)


def keys(target: Target) -> list[str]:
    return [item.key for item in target.list("").items]


def hook(remote: Path, name: str, script: str) -> None:
    """Of the remote's own."""
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def large_files(root: Path) -> list[Path]:
    """All that lie below, of a repository or of the throwaway ones in it; links to one file are several."""
    return [path for path in root.rglob("lfs/objects/??/??/*") if path.is_file()]


def left_of_session(session: int) -> list[str]:
    """What still runs of it."""
    command = [str(shutil.which("ps")), "-o", "stat=,args=", "-s", str(session)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]
