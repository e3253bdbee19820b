"""A directory archive as one stream: the tar that pg_dump would have written, which plain pg_restore reads from a pipe.

Uncompressed, the two formats hold the very same files. In a pipe they must come in the order in which pg_restore asks for them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from tarfile import GNU_FORMAT, TarInfo

from reconciler.backups.toc import TOC, large_object_files, read_toc

BLOCK = 512
END = bytes(2 * BLOCK)

Sized = tuple[int, Iterable[bytes]]
"""A file's length, and its bytes."""


def as_tar(toc: bytes, open_file: Callable[[str], Sized], only: Collection[str] | None = None) -> Iterator[bytes]:
    """The stream, of all files or of those that are named.

    Its last chunk holds the end of the last data, so that whoever gets all but it has not got the whole.

    Raises Corrupt for what is no table of contents, and what `open_file` and its chunks raise.
    """
    held = b""
    for chunk in _members(toc, open_file, only):
        if held:
            yield held
        held = chunk
    yield held + END


def _members(toc: bytes, open_file: Callable[[str], Sized], only: Collection[str] | None) -> Iterator[bytes]:
    yield from _member(TOC, len(toc), [toc])
    for entry in read_toc(toc):
        if not entry.file or (only is not None and entry.file not in only):
            continue
        if entry.kind == "BLOBS":
            yield from _large_objects(entry.file, open_file)
        else:
            yield from _member(entry.file, *open_file(entry.file))


def _large_objects(listing: str, open_file: Callable[[str], Sized]) -> Iterator[bytes]:
    """pg_restore takes the large objects that come, until it meets their list; of that it reads the name only.

    So the list comes in one chunk with the end of the last of them: pg_restore must not be done while chunks are left.
    """
    size, chunks = open_file(listing)
    listed = b"".join(chunks)
    held = b""
    for name in large_object_files(listed):
        for chunk in _member(name, *open_file(name)):
            if held:
                yield held
            held = chunk
    yield held + b"".join(_member(listing, size, [listed]))


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    info = TarInfo(name)
    info.size, info.mode = size, 0o600
    last = info.tobuf(GNU_FORMAT)
    for chunk in chunks:
        yield last
        last = chunk
    yield last + bytes(-size % BLOCK)
