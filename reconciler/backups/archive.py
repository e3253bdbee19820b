"""The head of an archive: who dumped what, and out of which database, as pg_dump itself wrote it down."""

import re
from typing import Final

import msgspec

from reconciler.errors import Corrupt

CUSTOM, TAR = 1, 3
"""Kinds of archive as they are written down. A directory's table of contents says that it is a tar's."""
HEAD_BYTES = 16384
"""More than the head with three names in it, and the first few entries."""
FIRST_ENTRIES: Final = 8
"""The database's own is the fourth."""
_NAME: Final = r'(?:"(?:[^"]|"")*"|[^\s"]+)'
_CREATE: Final = re.compile(rf"CREATE DATABASE {_NAME} WITH TEMPLATE = template0 (.*);\s*", re.DOTALL)
_OPTION: Final = re.compile(r"(\w+) = (?:'((?:[^']|'')*)'|(\w+))")


class ArchiveHead(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself."""

    database: str
    server_version: str
    client_version: str
    encoding: str = ""
    """Of the database, as are the others; each is empty where the archive does not tell."""
    collate: str = ""
    ctype: str = ""
    locale_provider: str = ""
    locale: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in an archive."""

    number: int
    kind: str
    """In pg_dump's words: `TABLE`, `TABLE DATA`, `BLOBS`."""
    name: str
    statement: str
    """That makes it."""
    schema: str
    depends_on: tuple[int, ...]
    file: str
    """Of a directory archive, what holds its data; empty where it has none."""


def read_head(start: bytes, kind: int = CUSTOM) -> ArchiveHead:
    """From the first bytes of an archive, or of a directory's table of contents. Raises Corrupt for anything else."""
    cursor = Cursor(start)
    try:
        head = cursor.head(kind)
    except IndexError as error:
        raise Corrupt(
            f"this is no archive that pg_dump wrote with --format={'custom' if kind == CUSTOM else 'directory'}"
        ) from error
    try:
        entries = [cursor.entry() for _ in range(min(cursor.integer(), FIRST_ENTRIES))]
    except IndexError:
        return head
    return next((_like(head, entry.statement) for entry in entries if entry.kind == "DATABASE"), head)


def _like(head: ArchiveHead, create: str) -> ArchiveHead:
    """With what makes a database like that one."""
    match = _CREATE.fullmatch(create)
    if match is None:
        return head
    told = {name: quoted.replace("''", "'") or bare for name, quoted, bare in _OPTION.findall(match[1])}
    return msgspec.structs.replace(
        head,
        encoding=told.get("ENCODING", ""),
        collate=told.get("LC_COLLATE", told.get("LOCALE", "")),
        ctype=told.get("LC_CTYPE", told.get("LOCALE", "")),
        locale_provider=told.get("LOCALE_PROVIDER", "libc"),  # PostgreSQL 14 knows no other
        locale=told.get("BUILTIN_LOCALE", told.get("ICU_LOCALE", "")),
    )


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
        major, self._minor, _revision, self._int_size, self._offset_size, self._kind = self._take(6)
        if (major, self._kind) != (1, wanted):
            raise IndexError
        # Since 1.15 one byte names the algorithm; before it, an integer told the level.
        self._take(1 if self._minor >= 15 else 1 + self._int_size)
        for _ in range(7):
            self.integer()
        return ArchiveHead(database=self.text(), server_version=self.text(), client_version=self.text())

    def entry(self) -> Entry:
        """ReadToc, and what the format adds: a directory's file, or where in the archive the data lies."""
        number = self.integer()
        self.integer()  # whether a dumper was there
        self.text(), self.text()  # the catalog's oid, the object's
        name, kind = self.text(), self.text()
        self.integer()  # its section
        statement = self.text()
        self.text(), self.text()  # to drop, to copy it
        schema = self.text()
        self.text()  # tablespace
        self.text()  # access method
        if self._minor >= 16:
            self.integer()  # relkind
        self.text(), self.text()  # owner, and whether it has oids
        depends_on = []
        while (text := self.text_or_none()) is not None:
            depends_on.append(int(text) if text.isdecimal() else -1)
        file = self.text() if self._kind == TAR else ""
        if self._kind == CUSTOM:
            self._take(1 + self._offset_size)
        return Entry(
            number=number,
            kind=kind,
            name=name,
            statement=statement,
            schema=schema,
            depends_on=tuple(depends_on),
            file=file,
        )

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
