"""Dumps in progress of a database at Neon: PostgreSQL's, told as Neon knows the database."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from reconciler.postgres.dump import PostgresDump
from reconciler.world.facts import Globals, Identity
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import DumpFile


class Point(NamedTuple):
    """Where a branch begins. All that was committed before the instant is in it."""

    instant: datetime
    lsn: str | None


class Renamed:
    """A dump, told as one of what the API knows its database as."""

    def __init__(self, inside: PostgresDump, identity: Identity) -> None:
        source = msgspec.structs.replace(inside.facts.source, identity=identity)
        self.facts = msgspec.structs.replace(inside.facts, source=source)
        self._inside = inside

    @property
    def globals(self) -> Globals:
        return self._inside.globals

    def chunks(self) -> Iterator[bytes]:
        """The archive, once."""
        return self._inside.chunks()

    @property
    def at_hand(self) -> str:
        """The table that is being dumped."""
        return self._inside.at_hand

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        """A directory archive, file by file."""
        self._inside.into_folder(folder, most=most, take=take, check=check)

    def lsn_after(self) -> str | None:
        """The source's WAL position now."""
        return self._inside.lsn_after()

    def fingerprint(self) -> Fingerprint | None:
        """In the dump's own snapshot."""
        return self._inside.fingerprint()


class BranchDump(Renamed):
    """A dump of a branch, told as one of what it was branched from, at the point where it was."""

    def __init__(self, inside: PostgresDump, identity: Identity, point: Point) -> None:
        super().__init__(inside, identity)
        self.facts = msgspec.structs.replace(self.facts, instant=point.instant, lsn_before=point.lsn or self.facts.lsn_before)

    def lsn_after(self) -> str | None:
        """The branch point: nothing of the source that came later can be in the dump."""
        return self.facts.lsn_before
