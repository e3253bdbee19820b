"""What pg_dump says while it works: the table at hand, and complaints apart from what is only told."""

import re
from typing import Final

from reconciler.postgres.child import COMPLAINT_LINES

_TABLE: Final = re.compile(r'pg_dump: dumping contents of table "(.*)"')
_TOLD: Final = re.compile(r"pg_dump: (?!error:|fatal:|warning:|detail:|hint:)")


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
