"""A folder for scratch servers of tests: short enough for a socket, and open to the account that root lends."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def own_base() -> Iterator[Path]:
    """Not below pytest's own folder, whose mode keeps others out, and whose path is long."""
    folder = Path(tempfile.mkdtemp(prefix="sc-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def scratch_base() -> Iterator[Path]:
    """One test's own."""
    with own_base() as folder:
        yield folder


def left_in(base: Path) -> list[Path]:
    """What scratch servers left there."""
    return list(base.glob("reconciler-scratch-*/*"))


def running_in(base: Path) -> list[str]:
    """Processes of scratch servers that lie there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, where = (path / "cmdline").read_bytes(), str((path / "cwd").readlink())
        except OSError:
            continue
        if where.startswith(str(base)):
            found.append(words.decode(errors="replace"))
    return found
