"""The port through which restores are rehearsed: a database that nobody needs, of the source's kind, gone afterwards."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NoReturn, Protocol

import msgspec

from reconciler.errors import ReconcilerError, Refused
from reconciler.policy.model import Check
from reconciler.world.evidence import Fault
from reconciler.world.facts import DumpFacts, Globals
from reconciler.world.fingerprint import Fingerprint


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """An archive that was read to its last byte."""

    entries: int


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """What came of restoring an archive."""

    did: str
    """In a sentence."""
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]
    """Entries that are never restored for a rehearsal, as the table of contents names them; what was not done for its safety."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing a restored database with the source's fingerprint."""

    did: str
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    """What proves nothing either way: not covered by the fingerprint, or of the surroundings."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking into a restored database."""

    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not looked at, and why."""


class Room(Protocol):
    """A scratch database, empty at first. All that is restored runs without rights; nothing of it can reach out or stay.

    Raises what `chunks` raises; Refused and Unreachable where the scratch server is to blame, never the archive. Whatever an
    archive or a check may be blamed for is a fault in the answer.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""

    def restore(self, chunks: Iterable[bytes], *, raw_bytes: int) -> Restoration:
        """Bring an archive back, and count what came."""

    def compare(self, expected: Fingerprint) -> Comparison:
        """Hold what came against what the dump's own snapshot held. After `restore`, before anything else is done there."""

    def inspect(self) -> Inspection:
        """What a restore can leave unfinished without an error: invalid indexes, unpopulated views, damaged pages."""

    def check(self, check: Check) -> Fault | None:
        """Run one check of the policy, in a transaction that only reads, under a role that only reads."""


class Scratch(Protocol):
    """Where restores are rehearsed."""

    @property
    def place(self) -> str:
        """For people."""

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        """Read an archive to its last byte, as pg_restore does. Raises Corrupt where it can't, Refused without tools."""

    def room(self, facts: DumpFacts, globals: Globals) -> AbstractContextManager[Room]:  # noqa: A002  the port's word for them
        """A new database like the source's: gone when the body ends, or by the next that is opened after a death.

        Raises Refused where there can be none like it on this machine (a major, a locale, a right that is missing).
        """


class NoScratch:
    """There is none: every rehearsal says so."""

    place = "nowhere"

    def __init__(self, why: ReconcilerError | None = None) -> None:
        self._why = why

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        """Raises Refused."""
        self._fail()

    def room(self, facts: DumpFacts, globals: Globals) -> AbstractContextManager[Room]:  # noqa: A002  the port's word
        """Raises Refused."""
        self._fail()

    def _fail(self) -> NoReturn:
        if self._why is not None:
            raise type(self._why)(self._why.what, cure=self._why.cure)
        raise Refused("there is no scratch database to rehearse in", cure="declare one under `scratch:` in the policy")
