"""Sandboxes for tests: made in a folder of the test's own, and purged whatever happens."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.sandbox import process
from reconciler.sandbox.down import down
from reconciler.sandbox.patience import wait_for
from reconciler.sandbox.status import Status
from reconciler.sandbox.up import up

NewSandbox = Callable[[], Path]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Status]]:
    """One that is up. Shared by the tests of a module: leave it up."""
    folder = tmp_path_factory.mktemp("shared") / ".sandbox"
    try:
        yield folder, up(folder, tell=lambda _: None)
    finally:
        down(folder, purge=True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a sandbox may be made; purged at the end."""
    place = tmp_path / ".sandbox"
    yield place
    down(place, purge=True)


def kill(pid: int | None) -> None:
    """As `kill -9`, and wait until the system has cleared it away."""
    assert pid is not None
    victim = next(found for found in _living() if found.pid == pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not process.is_alive(victim), seconds=10, what=f"process {pid} to be gone")


def _living() -> Iterator[process.Process]:
    for pid, _ in process._command_lines():
        if found := process._look_at(pid):
            yield found
