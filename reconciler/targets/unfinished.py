"""Files being written, in a hidden folder of their own: none is taken for an object, and what a death leaves is found."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from reconciler.errors import Conflict, Refused
from reconciler.targets.local_files import finish, remove_unlocked, write_all
from reconciler.world.clock import token
from reconciler.world.locks import is_at, lock
from reconciler.world.ports import Clock, Upload

_UPLOAD_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A file with all its bytes on the disk, waiting to be put in its place."""

    path: Path
    status: os.stat_result


class Unfinished:
    """Such a folder. `folder` must be there before anything is written."""

    def __init__(self, target: str, folder: Path, clock: Clock) -> None:
        self._target = target
        self._folder = folder
        self._clock = clock

    @contextmanager
    def written(
        self, key: str, chunks: Iterable[bytes], translated: Callable[[], AbstractContextManager[None]]
    ) -> Iterator[Finished]:
        """The chunks as a file, gone when the block ends unless it was moved away. What `chunks` raises goes through."""
        with translated():
            self._sweep()
            path, descriptor = self._begin(key)
        try:
            # Open, and so locked, until it is in its place.
            with _closed(descriptor, translated):
                for chunk in chunks:
                    with translated():
                        write_all(descriptor, chunk)
                with translated():
                    status = finish(descriptor, self._clock.now())
                yield Finished(path=path, status=status)
        finally:
            # After a rename it is gone; after anything else it must not stay. A failure here must not hide the first one.
            with suppress(OSError):
                path.unlink()

    def aborted(self, key: str) -> Conflict:
        """What to raise where the file was taken away from its writer."""
        return Conflict(f"{self._target}: the unfinished write of {key} was aborted by another before its end")

    def list(self, prefix: str) -> Sequence[Upload]:
        """The port's `unfinished`."""
        try:
            names = sorted(entry.name for entry in self._folder.iterdir())
        except FileNotFoundError:
            return ()
        uploads = (_upload(name) for name in names)
        return tuple(upload for upload in uploads if upload is not None and upload.key.startswith(prefix))

    def abort(self, upload: Upload) -> None:
        """The port's `abort`."""
        if not _UPLOAD_ID.fullmatch(upload.upload_id):
            what = f"{self._target}: {upload.upload_id!r} names no unfinished write of ours"
            raise Refused(what, cure="take the names that `unfinished` gives")
        with suppress(FileNotFoundError):
            self._path(upload).unlink()

    def _begin(self, key: str) -> tuple[Path, int]:
        """A file of ours alone, locked as long as we write it: who can lock it knows that its writer is dead."""
        while True:
            path = self._path(Upload(key=key, upload_id=self._new_id(), begun=self._clock.now()))
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if lock(descriptor) and is_at(path, descriptor):
                return path, descriptor
            os.close(descriptor)  # swept before it was locked

    def _sweep(self) -> None:
        """Remove what writers left that died: of a record's write nothing else would ever tell."""
        for entry in os.scandir(self._folder):
            if _upload(entry.name) is not None:
                remove_unlocked(Path(entry.path))

    def _path(self, upload: Upload) -> Path:
        return self._folder / f"{upload.upload_id}.{quote(upload.key, safe=' ()+,=@')}"

    def _new_id(self) -> str:
        return f"{self._clock.now():%Y%m%dT%H%M%SZ}-{token(16)}"


@contextmanager
def _closed(descriptor: int, translated: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """At the end, when some file systems send what was written, and tell that they could not. A first failure goes before it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    with translated():
        os.close(descriptor)


def _upload(name: str) -> Upload | None:
    upload_id, _, quoted = name.partition(".")
    if not _UPLOAD_ID.fullmatch(upload_id):
        return None
    begun = datetime.strptime(upload_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return Upload(key=unquote(quoted), upload_id=upload_id, begun=begun)
