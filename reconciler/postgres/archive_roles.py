"""Gives the roles in an archive other names, on its way to pg_restore: in its table of contents, which comes first.

So every owner, right, default right, policy and user mapping is mapped at once, and a role of the old name that the server
may have gets nothing. Data is passed on as it is. PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c, WriteToc, is the format.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from tarfile import BLOCKSIZE, GNU_FORMAT, HeaderError, TarInfo
from types import MappingProxyType

from reconciler.errors import Corrupt, Refused

LARGEST_CONTENTS = 256 << 20
"""A table of contents is held in memory; ten thousand tables have some ten MiB of it."""
HEADERS = ("ACL", "DEFAULT ACL", "POLICY", "USER MAPPING")
"""Entries whose SQL names roles; owners stand beside the SQL."""
TOKEN = re.compile(r'"(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'|[A-Za-z_\x80-\U0010ffff][\w$]*|\s+|.', re.DOTALL)
TWO_WORDS = (("FOR", "ROLE"), ("SESSION", "AUTHORIZATION"), ("MAPPING", "FOR"))
"""After these, as after TO and FROM, comes a role."""
CUSTOM, TAR = 1, 3
"""Kinds of archive, as they are written down."""
OFFSET_IS_SET, OFFSET_IS_NOT_SET = 2, 1
NOT_ROLES = ("PUBLIC", "CURRENT_ROLE", "CURRENT_USER", "SESSION_USER", "DEFAULT")


def with_roles(chunks: Iterable[bytes], names: Mapping[str, str]) -> Iterator[bytes]:
    """The archive with its roles called by their new names; what is not among the names stays. Raises Corrupt."""
    if not names:
        yield from chunks
        return
    source, start, worth = iter(chunks), bytearray(), 0
    for chunk in source:
        start += chunk
        if len(start) < worth:
            continue
        made = _changed(start, names)
        if made is not None:
            yield from made
            yield from source
            return
        worth = len(start) * 3 // 2  # Reading it again for each chunk would take the square of its size.
    made = _changed(start, names)
    if made is None:
        raise Corrupt("the archive ends within its table of contents", cure="check the backup")
    yield from made


def toc_with_roles(toc: bytes, names: Mapping[str, str]) -> bytes:
    """The same for the file `toc.dat` of a directory archive. Raises Corrupt."""
    if not names:
        return toc
    try:
        return Contents(toc, names, TAR).changed()
    except IndexError as error:
        raise Corrupt("the archive ends within its table of contents", cure="check the backup") from error


def _changed(start: bytearray, names: Mapping[str, str]) -> tuple[bytes, bytes] | None:
    """The table of contents under other names, and what followed it; None where more bytes are needed."""
    try:
        if b"PGDMP".startswith(start[:5]):
            contents = Contents(bytes(start), names, CUSTOM)
            return contents.changed(), bytes(start[contents.at :])
        return _changed_tar(bytes(start), names)
    except IndexError as error:
        if len(start) > LARGEST_CONTENTS:
            raise Corrupt("the archive's table of contents has no end", cure="check the backup") from error
        return None


def _changed_tar(start: bytes, names: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The same for a directory archive, which comes as a tar: its table of contents is the first file."""
    if len(start) < BLOCKSIZE:
        raise IndexError
    try:
        info = TarInfo.frombuf(start[:BLOCKSIZE], "utf-8", "strict")
    except HeaderError as error:
        raise Corrupt("this is no archive that pg_dump wrote, of format custom or directory", cure="check the backup") from error
    if info.name != "toc.dat":
        raise Corrupt(f"the archive begins with {info.name!r} instead of its table of contents", cure="check the backup")
    end = BLOCKSIZE + info.size
    padded = end + -info.size % BLOCKSIZE
    if len(start) < padded:
        raise IndexError
    made = Contents(start[BLOCKSIZE:end], names, TAR).changed()
    info.size = len(made)
    return info.tobuf(GNU_FORMAT) + made + bytes(-len(made) % BLOCKSIZE), start[padded:]


def map_roles(statement: str, desc: str, names: Mapping[str, str]) -> str:
    """The SQL of one entry with its roles mapped. Names of other things are not touched, however they are called."""
    made: list[str] = []
    recent: tuple[str, ...] = ()
    expects = listed = False
    for match in TOKEN.finditer(statement):
        piece = match[0]
        if not piece.isspace():
            if desc == "POLICY" and piece in ("USING", "WITH"):
                # What follows is an expression, in which the same words mean other things.
                return "".join(made) + statement[match.start() :]
            is_name = piece[0] in '"_' or piece[0].isalpha()
            if expects and is_name:
                piece, expects, listed, recent = _mapped(piece, names), False, True, ()
            else:
                recent = (*recent, piece)[-2:]
                expects = recent[-1] in ("TO", "FROM") or recent in TWO_WORDS or (listed and piece == ",")
                listed = expects and listed
        made.append(piece)
    return "".join(made)


def _mapped(token: str, names: Mapping[str, str]) -> str:
    bare = token[1:-1].replace('""', '"') if token[0] == '"' else token
    if bare not in names or (token[0] != '"' and token in NOT_ROLES):
        return token
    # A reserved word would read as something else.
    return '"' + names[bare].replace('"', '""') + '"'


class Contents:
    """A header and a table of contents, read entry by entry. IndexError: more bytes are needed."""

    def __init__(
        self, data: bytes, names: Mapping[str, str], kind: int, numbers: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """`numbers`: what entries are called that are called by another number from now on."""
        self._data, self.at, self._names, self._kind, self._numbers = data, 0, names, kind, numbers
        self.data_files: dict[int, str] = {}
        """Each table's rows: number → file, of a directory archive."""
        self._made = bytearray()
        self._copied = 0

    def changed(self) -> bytes:
        """All of it, with other names and numbers."""
        if self._take(5) != b"PGDMP":
            raise Corrupt("this is no archive that pg_dump wrote with --format=custom", cure="check the backup")
        major, minor, _, self._int_size, self._offset_size, kind = self._take(6)
        if (major, kind) != (1, self._kind) or not 14 <= minor <= 16:
            raise Refused(
                f"roles in an archive of version {major}.{minor} can't be mapped here",
                cure="restore it as it is, or with --no-roles, and REASSIGN OWNED",
            )
        self._minor = minor
        self._take(1 if minor >= 15 else 1 + self._int_size)
        for _ in range(7):
            self._integer()
        for _ in range(3):
            self._text()
        for _ in range(self._integer()):
            self._entry()
        return bytes(self._made) + self._data[self._copied : self.at]

    def _entry(self) -> None:
        begin = self.at
        number = self._integer()
        if number in self._numbers:
            self._replace(begin, self.at, b"\0" + self._numbers[number].to_bytes(self._int_size, "little"))
        self._integer()
        self._text()
        self._text()
        self._text()
        desc = (self._text() or b"").decode("utf-8", "replace")
        self._integer()
        self._replaced(lambda text: map_roles(text, desc, self._names) if desc in HEADERS else text)
        for _ in range(5):  # drop, copy, namespace, tablespace, access method
            self._text()
        if self._minor >= 16:
            self._integer()
        self._replaced(lambda owner: self._names.get(owner, owner))
        self._text()
        while self._dependency():
            pass
        if self._kind == TAR:
            file = (self._text() or b"").decode("utf-8", "replace")
            if file and desc == "TABLE DATA":
                self.data_files[number] = file
            return
        flag = self.at
        if self._take(1 + self._offset_size)[0] == OFFSET_IS_SET:
            # Written to a file, not to a pipe as ours are: what moves now would be looked for where it was.
            self._replace(flag, flag + 1, bytes([OFFSET_IS_NOT_SET]))

    def _dependency(self) -> bool:
        """False where there are no more."""
        begin = self.at
        text = self._text()
        if text and text.isdigit() and int(text) in self._numbers:
            new = str(self._numbers[int(text)]).encode()
            self._replace(begin, self.at, b"\0" + len(new).to_bytes(self._int_size, "little") + new)
        return text is not None

    def _replaced(self, change: Callable[[str], str]) -> None:
        begin = self.at
        found = self._text()
        if found is None:
            return
        old = found.decode("utf-8", "surrogateescape")
        new = change(old)
        if new != old:
            encoded = new.encode("utf-8", "surrogateescape")
            self._replace(begin, self.at, b"\0" + len(encoded).to_bytes(self._int_size, "little") + encoded)

    def _replace(self, begin: int, end: int, new: bytes) -> None:
        self._made += self._data[self._copied : begin] + new
        self._copied = end

    def _take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise IndexError
        self.at += count
        return taken

    def _integer(self) -> int:
        sign, *rest = self._take(1 + self._int_size)
        value = int.from_bytes(bytes(rest), "little")
        return -value if sign else value

    def _text(self) -> bytes | None:
        size = self._integer()
        return None if size < 0 else self._take(size)
