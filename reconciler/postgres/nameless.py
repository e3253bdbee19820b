"""A file for other programs of this user that has no name, where the system can do without: nothing of it stays then."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO


@contextmanager
def nameless(folder: Path | None = None) -> Iterator[tuple[IO[bytes], Path]]:
    """The open file, and a path that opens it again for as long as we live. Nothing waits for its closing. Raises OSError.

    `folder`: on which disk it lies; None: where the system has temporary files.
    """
    if Path(f"/proc/{os.getpid()}/fd").is_dir():
        with TemporaryFile(dir=folder, buffering=0) as file:
            yield file, Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    else:
        with NamedTemporaryFile(dir=folder, buffering=0, prefix=".reconcile-restore-") as named:
            yield named, Path(named.name)


def write(file: IO[bytes], chunk: bytes) -> None:
    """Every byte; the kernel may take fewer at a time. Raises OSError."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
