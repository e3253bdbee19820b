"""Programs that only npm has, installed once into this user's cache: tests that need one skip where npm is absent."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def program(package: str, version: str, name: str) -> list[str]:
    """How to run program `name` of that package. Skips the test, saying why, where it can't be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"{package} comes from npm, which is not installed here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backup-reconciler-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{package}-{version}"
    # Several workers of one run want it at the same time.
    with (cache / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _install(npm, f"{package}@{version}", folder)
    return [node, str(folder / "node_modules" / ".bin" / name)]


def _install(npm: str, what: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"]
    try:
        done = subprocess.run(
            [npm, "install", "--prefix", str(folder), *options, what], capture_output=True, text=True, timeout=280, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {what} within 280 s")
    if done.returncode:
        pytest.skip(f"npm could not install {what}: {done.stderr.strip()[-300:]}")
    (folder / "installed").touch()
