"""An archive on disk for as long as a parallel restore reads it: in no folder, so that nothing stays however we end."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO

import msgspec

from reconciler.errors import Refused
from reconciler.postgres.flow import Watch


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """How a restore by several jobs is done: pg_restore must jump in the archive, which a stream does not let it."""

    jobs: int
    folder: Path
    raw_bytes: int
    """How long the archive is."""


@contextmanager
def spooled(chunks: Iterable[bytes], spool: Spool, watch: Watch) -> Iterator[Path]:
    """All of it, found sound, under a path for other programs of this user. What the chunks raise goes through.

    Raises Refused, before a byte is read, where there is not room enough.
    """
    try:
        free = shutil.disk_usage(spool.folder).free
        if free < spool.raw_bytes:
            what = f"{spool.folder} has room for {free} bytes, and the archive takes {spool.raw_bytes}"
            raise Refused(what, cure="name a folder with more as --spool, or restore without --jobs, which needs none")
        with _opened(spool.folder) as (file, path):
            for chunk in chunks:
                watch.check()
                file.write(chunk)
                watch.moved()
            file.flush()
            yield path
    except OSError as error:
        cure = "name another folder as --spool, or restore without --jobs, which needs none"
        raise Refused(f"cannot keep the archive in {spool.folder}: {error.strerror}", cure=cure) from error


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Where the system lets an open file be opened again through us, it never has a name."""
    if Path(f"/proc/{os.getpid()}/fd").is_dir():
        with TemporaryFile(dir=folder) as file:
            yield file, Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    else:
        with NamedTemporaryFile(dir=folder, prefix=".reconcile-restore-") as named:
            yield named, Path(named.name)
