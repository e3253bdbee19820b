"""What pg_dump and pg_restore say while they work: what is at hand, and complaints apart from what is only told."""

import re
from typing import Final

from reconciler.postgres.child import COMPLAINT_LINES

_TABLE: Final = re.compile(r'pg_dump: dumping contents of table "(.*)"')
_TOLD: Final = re.compile(r"pg_dump: (?!error:|fatal:|warning:|detail:|hint:)")
_RESTORE_TOLD: Final = re.compile(r"pg_restore: (?!error:|fatal:|warning:|detail:|hint:)")
_ENTRY: Final = re.compile(r"pg_restore: from TOC entry \d+; \d+ \d+ (.*)")


class Words:
    """Hears the stderr of `pg_dump --verbose`, line by line."""

    def __init__(self) -> None:
        self.at_hand = ""
        """The table whose rows are read just now, as the server calls it: text from outside."""
        self._complaints: list[str] = []

    def hear(self, line: str) -> None:
        """The first complaints are kept: they name the cause."""
        if _TOLD.match(line):
            # It goes on, so nothing before was an error: a table's name may have a line in it that looks like one.
            self._complaints.clear()
            match = _TABLE.fullmatch(line)
            self.at_hand = match[1] if match else self.at_hand
        elif len(self._complaints) < COMPLAINT_LINES:
            self._complaints.append(line)

    @property
    def complaints(self) -> str:
        """Raw: they may hold secrets, and are for translation only."""
        return "\n".join(self._complaints)


class RestoreWords:
    """Hears the stderr of `pg_restore --verbose --exit-on-error`, line by line."""

    def __init__(self) -> None:
        self.entry = ""
        """The entry that it failed on, if it was one: kind, name and owner, text from outside."""
        self._complaints: list[str] = []

    def hear(self, line: str) -> None:
        """What follows the name of an entry says why it failed."""
        if match := _ENTRY.fullmatch(line):
            self.entry = match[1]
            self._complaints.clear()
        elif not _RESTORE_TOLD.match(line) and len(self._complaints) < COMPLAINT_LINES:
            self._complaints.append(line)

    @property
    def failed_at(self) -> str:
        """The same without its owner, for people."""
        return self.entry.removesuffix("(no owner)").rpartition(" ")[0]

    @property
    def complaints(self) -> str:
        """Raw: they may hold secrets, and are for translation only."""
        return "\n".join(self._complaints)
