"""The head of a custom-format archive: who dumped what, as pg_dump itself wrote it down."""

import msgspec

from reconciler.errors import Corrupt

CUSTOM, TAR = 1, 3
"""Kinds of archive as they are written down. A directory's table of contents says that it is a tar's."""
HEAD_BYTES = 4096
"""More than the head with three names in it."""


class ArchiveHead(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself."""

    database: str
    server_version: str
    client_version: str


def read_head(start: bytes, kind: int = CUSTOM) -> ArchiveHead:
    """From the first bytes of an archive, or of a directory's table of contents. Raises Corrupt for anything else."""
    try:
        return Cursor(start).head(kind)
    except IndexError as error:
        raise Corrupt(
            f"this is no archive that pg_dump wrote with --format={'custom' if kind == CUSTOM else 'directory'}"
        ) from error


class Cursor:
    """PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c: integers are a sign byte and little-endian bytes.

    Raises IndexError where the data ends or is something else.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def head(self, wanted: int) -> ArchiveHead:
        """ReadHead, of an archive of that kind."""
        if self._take(5) != b"PGDMP":
            raise IndexError
        major, self.minor, _revision, self._int_size, _offset_size, kind = self._take(6)
        if (major, kind) != (1, wanted):
            raise IndexError
        # Since 1.15 one byte names the algorithm; before it, an integer told the level.
        self._take(1 if self.minor >= 15 else 1 + self._int_size)
        for _ in range(7):
            self.integer()
        return ArchiveHead(database=self.text(), server_version=self.text(), client_version=self.text())

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError
        self._at += count
        return taken

    def integer(self) -> int:
        sign, *rest = self._take(1 + self._int_size)
        value = int.from_bytes(bytes(rest), "little")
        return -value if sign else value

    def text(self) -> str:
        """Nothing where there is none."""
        return self.text_or_none() or ""

    def text_or_none(self) -> str | None:
        """None is what ends a list."""
        size = self.integer()
        if size < 0:
            return None
        # It is in the database's own encoding; what is no UTF-8 is told as far as it goes.
        return self._take(size).decode("utf-8", "replace") if size else ""
