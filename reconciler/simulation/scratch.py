"""A scratch database of arithmetic: what is restored into it is a number of commits, or nothing that a database would take."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from reconciler.policy.model import Check
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import archive_of
from reconciler.world.evidence import Fault
from reconciler.world.facts import DumpFacts, Globals
from reconciler.world.fingerprint import Fingerprint, TableMark, differences
from reconciler.world.scratch import Comparison, Contents, Inspection, Restoration


class SimulatedRoom:
    """One rehearsal."""

    place = "simulated"

    def __init__(self, facts: DumpFacts, reach: Reach) -> None:
        self._facts, self._reach = facts, reach
        self._commits = -1

    def restore(self, chunks: Iterable[bytes], *, raw_bytes: int) -> Restoration:
        """Commits, if these are any."""
        raw = b"".join(chunks)
        self._reach.call("restore", "scratch", "", lambda: None)
        said = raw.rpartition(b"commits ")[2].strip()
        if said.isdigit() and raw == b"".join(archive_of(self._facts.source.identity, int(said))):
            self._commits = int(said)
            return Restoration(did="restored", faults=(), left_out=())
        fault = Fault(where="archive", what="no dump of this database", result="failed")
        return Restoration(did="tried", faults=(fault,), left_out=())

    def compare(self, expected: Fingerprint) -> Comparison:
        """One row a commit."""
        found = Fingerprint(level="counts", major=18, tables={"public.commits": TableMark(rows=self._commits)})
        faults = (Fault(where="fingerprint", what=what, result="failed") for what in differences(expected, found))
        return Comparison(did="compared", faults=tuple(faults), notes=())

    def inspect(self) -> Inspection:
        """There is nothing to look into."""
        return Inspection()

    def check(self, check: Check) -> Fault | None:
        """Nobody asks here."""
        return None


class SimulatedScratch:
    """Through one process's hands."""

    place = "simulated"

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        """Read to its last byte."""
        return Contents(entries=sum(1 for _ in chunks))

    @contextmanager
    def room(self, facts: DumpFacts, globals: Globals) -> Iterator[SimulatedRoom]:  # noqa: A002  the port's word
        """It may not come to be."""
        self._reach.call("open", "scratch", "", lambda: None)
        yield SimulatedRoom(facts, self._reach)
