"""Sandboxes for tests: made in a folder of the test's own, and purged whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.down import down
from reconciler.sandbox.status import Status
from reconciler.sandbox.up import up


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Status]]:
    """One that is up. Shared by a worker's tests: leave it up and whole."""
    folder = tmp_path_factory.mktemp("shared") / ".sandbox"
    try:
        yield folder, up(folder, tell=lambda _: None)
    finally:
        down(folder, purge=True)


@pytest.fixture(scope="module")
def worn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Status]]:
    """One that is up, to kill parts of: other addresses, keys and processes than at first, after a while."""
    folder = tmp_path_factory.mktemp("worn") / ".sandbox"
    try:
        yield folder, up(folder, tell=lambda _: None, with_neon=False)
    finally:
        down(folder, purge=True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a sandbox may be made; purged at the end."""
    place = tmp_path / ".sandbox"
    yield place
    down(place, purge=True)
