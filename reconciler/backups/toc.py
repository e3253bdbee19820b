"""The table of contents of a directory archive: which file holds what."""

from collections.abc import Callable, Iterator, Sequence

from reconciler.backups.archive import TAR, Cursor, Entry
from reconciler.errors import Corrupt

TOC = "toc.dat"
MOST_ENTRIES = 10_000_000
"""A damaged count must not keep us busy."""


def read_toc(data: bytes) -> tuple[Entry, ...]:
    """All of `toc.dat`, in the order in which it is restored. Raises Corrupt for what pg_dump 12 to 18 did not write."""
    cursor = Cursor(data)
    try:
        cursor.head(TAR)
        count = cursor.integer()
        if not 0 <= count <= MOST_ENTRIES:
            raise IndexError
        return tuple(cursor.entry() for _ in range(count))
    except IndexError as error:
        raise Corrupt("this is no table of contents that pg_dump wrote with --format=directory") from error


def is_list(name: str) -> bool:
    """Whether a file says which others there are."""
    return name == TOC or name.endswith(".toc")


def files_of(entries: Sequence[Entry], read: Callable[[str], bytes]) -> Iterator[str]:
    """Every file that must be there beside the table of contents. `read` gives the lists of large objects. Raises Corrupt."""
    for entry in entries:
        if entry.file:
            yield entry.file
        if entry.kind == "BLOBS":
            yield from large_object_files(read(entry.file))


def large_object_files(text: bytes) -> tuple[str, ...]:
    """The files that a `blobs….toc` names, in its order: a line is an oid and a file. Raises Corrupt."""
    lines = [line.split() for line in text.decode("utf-8", "replace").splitlines()]
    if any(len(line) != 2 or not line[0].isdecimal() for line in lines):
        raise Corrupt("this is no list of large objects that pg_dump wrote")
    return tuple(line[1] for line in lines)
