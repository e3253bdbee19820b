"""A part of a stored object while nobody may have it yet: in memory, or in a file without a name, until its hash was compared."""

import errno
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from reconciler.backups.manifest import Part
from reconciler.errors import Full, Refused
from reconciler.world.pool import ThreadPool

CHUNK_BYTES: Final = 1024 * 1024
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Kept:
    """One part, as it is stored. Gone when closed."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where the file is; None: in memory."""
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._data = bytearray()

    def __enter__(self) -> "Kept":
        if self._folder is not None:
            with _on_disk(self._folder):
                self._file = TemporaryFile(dir=self._folder, buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It is gone."""
        self._data = bytearray()  # or it would stay while the next one is read
        if self._file is not None:
            self._file.close()

    def take(self, source: Callable[[int], memoryview], part: Part) -> bool:
        """Whether these are the bytes that were written. `source` gives at most so many as are asked for, none at its end.

        Raises Full or Refused where the folder can't take them.
        """
        left, whole = part.size, sha256()
        while left and (piece := source(left)):
            left -= len(piece)
            whole.update(piece)
            self._keep(piece)
        return not left and whole.hexdigest() == part.sha256

    def _keep(self, piece: memoryview) -> None:
        if self._file is None:
            self._data += piece
            return
        with _on_disk(self._folder):
            while piece:
                piece = piece[self._file.write(piece) :]

    def pieces(self) -> Iterator[bytes]:
        """All of it, in small ones."""
        if self._file is None:
            for start in range(0, len(self._data), CHUNK_BYTES):
                yield bytes(memoryview(self._data)[start : start + CHUNK_BYTES])
            return
        self._file.seek(0)
        while piece := self._file.read(CHUNK_BYTES):
            yield piece


def one_ahead(parts: Iterator[Kept]) -> Generator[Kept, None, None]:
    """The same parts, each to be closed by whoever gets it; the next one is read meanwhile. To close it waits for that."""
    thread = ThreadPool(1)
    coming = thread.submit(partial(next, parts, None))
    try:
        while kept := coming.result():
            coming = thread.submit(partial(next, parts, None))
            yield kept
    finally:
        with suppress(Exception):  # who gets the parts was told, or wants no more
            if left := coming.result():
                left.close()


@contextmanager
def _on_disk(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot keep a part of a backup in {folder}: {error.strerror}"
        cure = "make room there, or name another folder for temporary files as TMPDIR"
        raise (Full if error.errno in NO_ROOM else Refused)(what, cure=cure) from error
