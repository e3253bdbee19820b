"""An archive on disk for as long as a parallel restore reads it.

One file is in no folder, so that nothing stays however we end; a folder says whose it is, and the next turn finds it.
"""

import re
import shutil
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, cast

import msgspec

from reconciler.errors import Corrupt, Refused
from reconciler.postgres.disk import on_disk
from reconciler.postgres.flow import Watch
from reconciler.postgres.nameless import nameless, write
from reconciler.world.process import SystemProcess
from reconciler.world.staging import FolderStaging

CUSTOM = b"PGDMP"
TOC = "toc.dat"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """How a restore by several jobs is done: pg_restore must jump in the archive, which a stream does not let it."""

    jobs: int
    folder: Path
    raw_bytes: int
    """How long the archive is."""
    cure: str
    """What to do where the folder can't take it."""


@contextmanager
def spooled(chunks: Iterable[bytes], spool: Spool, watch: Watch) -> Iterator[Path]:
    """All of it, found sound, under a path for other programs of this user. What the chunks and the body raise goes through.

    Raises Refused, before a byte is read, where there is not room enough; Full where it fills up meanwhile.
    """
    on_its_disk = partial(on_disk, f"cannot keep the archive in {spool.folder}", cure=spool.cure)
    with on_its_disk():
        free = shutil.disk_usage(spool.folder).free
    if free < spool.raw_bytes:
        what = f"{spool.folder} has room for {free} bytes, and the archive takes {spool.raw_bytes}"
        raise Refused(what, cure=spool.cure)
    watched = _watched(chunks, watch)
    first = next(watched, b"")
    with ExitStack() as stack:
        if first.startswith(CUSTOM):
            with on_its_disk():
                file, path = stack.enter_context(nameless(spool.folder))
            for chunk in chain([first], watched):
                with on_its_disk():
                    write(file, chunk)
        else:
            staging = FolderStaging(spool.folder, SystemProcess(), cure=spool.cure)
            staging.sweep()
            path = stack.enter_context(staging.folder())
            with on_its_disk():
                _unpack(chain([first], watched), path)
        yield path


def beginning(path: Path) -> Iterator[bytes]:
    """Of the archive that lies there, as a stream that can be listed: all of it, or of a folder the table of contents."""
    if path.is_dir():
        info, toc = tarfile.TarInfo(TOC), (path / TOC).read_bytes()
        info.size = len(toc)
        yield info.tobuf(tarfile.GNU_FORMAT) + toc + bytes(-len(toc) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
        return
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _watched(chunks: Iterable[bytes], watch: Watch) -> Iterator[bytes]:
    for chunk in chunks:
        watch.check()
        yield chunk
        watch.moved()


def _unpack(chunks: Iterator[bytes], folder: Path) -> None:
    """A directory archive that comes as a tar, back into its files: several sessions read those, and no tar. Raises Corrupt."""
    stream = cast(IO[bytes], _Stream(chunks))
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if not NAME.fullmatch(member.name) or content is None:
                    raise Corrupt(f"the archive has a file {member.name!r}, which pg_dump does not write")
                with (folder / member.name).open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except tarfile.TarError as error:
        raise Corrupt(f"the archive is neither of format custom nor of format directory: {error}") from error
    # What is behind its end is checked too, where it was read from.
    deque(chunks, maxlen=0)


class _Stream:
    """Chunks of any size as what tarfile reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def read(self, count: int) -> bytes:
        """Fewer only at the end."""
        pieces = []
        while count:
            self._rest = self._rest or memoryview(next(self._chunks, b""))
            if not self._rest:
                break
            piece, self._rest = self._rest[:count], self._rest[count:]
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)
