"""What pg_restore complains of, object by object: each error is told apart, and none is waved through."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from reconciler.world.evidence import Fault

SPOKEN: Final = "pg_restore: "
"""Begins whatever it says itself, if only that it connects."""
_LAST_WORDS: Final = "out of memory"
"""Without that beginning: there is no memory for more."""
_ENTRY: Final = re.compile(r"pg_restore: from TOC entry \d+; \d+ \d+ (.*)")
_ERROR: Final = re.compile(r"pg_restore: error: (.*)")
_IGNORED: Final = re.compile(r"pg_restore: warning: errors ignored on restore: (\d+)")
_CONTEXT: Final = re.compile(r'CONTEXT:\s+(?:PL/pgSQL|SQL) function "?([^"( ]+(?:\([^)]*\))?)"?')
_SAID: Final = re.compile(r".*?(?:ERROR|FATAL|PANIC):\s+(.*)")

_MISSING: Final = re.compile(
    r"does not exist|is not available|not accept data type|no unique or exclusion constraint matching|"
    r'invalid value for parameter "default_table_access_method"'
)
_NOT_OURS_TO_DO: Final = re.compile(
    r"permission denied|must be owner|must be superuser|must be member|must be able to|only superuser|"
    r"only roles with|superuser privilege|may not|security label provider|"
    r"transition data type cannot be"
)
_NO_ROOM: Final = re.compile(
    r"No space left|Disk quota exceeded|File too large|Read-only file system|Input/output error|Cannot allocate memory|"
    r"Too many open files|Resource temporarily unavailable|"
    r"out of memory|out of shared memory|could not resize shared memory|could not extend file|"
    r"server closed the connection|terminating connection|connection to server|no connection to the server|"
    r"lost synchronization|could not receive data|could not send data|PQputCopy|PQendcopy|canceling statement"
)
_HOLDS_VALUES: Final = re.compile(r"invalid input|invalid byte|out of range|too long|violates|duplicate key|malformed|COPY")
_QUOTED: Final = re.compile(r'"[^"]*"|\([^)]*\)=\([^)]*\)')

SHOWN_CHARACTERS: Final = 300

Kind = Literal["missing", "forbidden", "no room", "other"]


class Complaints:
    """Hears pg_restore's stderr, line by line."""

    def __init__(self) -> None:
        self._entry = "the archive"
        self._found: list[tuple[str, str, str]] = []
        """Entry, error, and the function that it happened in."""
        self._ignored = 0
        self._first = ""
        self._mute = ""

    def hear(self, line: str) -> None:
        """One line. What follows an error (its statement, its detail) holds what was restored, and is not kept."""
        self._first = self._first or line
        if match := _ENTRY.match(line):
            self._entry = match[1]
        elif match := _IGNORED.match(line):
            self._ignored = int(match[1])
        elif match := _ERROR.match(line):
            said = _SAID.fullmatch(match[1])
            self._found.append((self._entry, said[1] if said else match[1], ""))
        elif self._found and (match := _CONTEXT.match(line)):
            entry, error, inside = self._found[-1]
            self._found[-1] = (entry, error, inside or match[1])
        elif line == _LAST_WORDS:
            self._found.append((self._entry, line, ""))

    def end(self, code: int) -> None:
        """The program is done. One that failed and said nothing that we understood has failed all the same.

        But for one that never came to speak: it, its libraries or its guardian could not start.
        """
        if not code or self._found or self._ignored:
            return
        if not self._first.startswith(SPOKEN):
            self._mute = f"pg_restore could not be run: {self._first or f'exit code {code}, without a word'}"
        else:
            self._found.append(("the archive", f"pg_restore failed with exit code {code}, without a word that we know", ""))

    @property
    def stuck(self) -> str:
        """Why program or server could not go on, or empty: then nothing else that they said is a word about the archive."""
        return self._mute or next(
            (f"{entry}: {shown(error)}" for entry, error, _ in self._found if kind_of(error) == "no room"), ""
        )

    def faults(self, *, excused: bool) -> Iterator[Fault]:
        """One for each error. `excused`: something was left out, so that what misses it proves nothing."""
        for entry, error, inside in self._found:
            kind = kind_of(error)
            if _is_right(entry, kind):
                continue
            # What our own restrictions forbid may be missed by what comes after it.
            excused = excused or kind == "forbidden"
            yield _fault(entry, error, inside, kind, excused=excused)
        if self._ignored > len(self._found):
            more = self._ignored - len(self._found)
            yield Fault(where="the archive", what=f"{more} more errors that pg_restore ignored", result="failed")

    def rights(self) -> Iterator[str]:
        """What only a superuser may grant, each a sentence: nothing that a rehearsal compares or asks rests on it."""
        for entry, error, _ in self._found:
            if _is_right(entry, kind_of(error)):
                yield f"{entry}: {shown(error)}"


def _is_right(entry: str, kind: Kind) -> bool:
    return kind == "forbidden" and entry.startswith("ACL ")


def kind_of(error: str) -> Kind:
    """What sort of trouble the words tell of."""
    if _NO_ROOM.search(error):
        return "no room"
    if _NOT_OURS_TO_DO.search(error):
        return "forbidden"
    return "missing" if _MISSING.search(error) else "other"


def shown(error: str) -> str:
    """An error without the values of rows that it may quote."""
    words = " ".join(_QUOTED.sub('"…"', error).split() if _HOLDS_VALUES.search(error) else error.split())
    return words if len(words) <= SHOWN_CHARACTERS else words[:SHOWN_CHARACTERS] + "…"


def _fault(entry: str, error: str, inside: str, kind: Kind, *, excused: bool) -> Fault:
    said = shown(error)
    if kind == "forbidden":
        return Fault(where=entry, what=f"can't be restored without a superuser's rights: {said}", result="unproven")
    if kind == "missing" and excused:
        return Fault(where=entry, what=f"misses something that is not here: {said}", result="unproven")
    if kind == "missing" and inside:
        what = f"function {inside} needs a search_path, which a restore does not have: {said}"
        return Fault(where=entry, what=what, result="failed")
    return Fault(where=entry, what=said, result="failed")
