"""What a check came to: it passed, or a finding with its cure. How checks are done lies elsewhere."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from reconciler.errors import Finding, ReconcilerError, Severity, Stopped, Unreachable


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was looked at, or tried, and is as it must be."""

    where: str
    """`source`, `tools`, `hooks.before[0]` and the like, or the name of a target."""
    what: str


Verdict = Passed | Finding

T = TypeVar("T")


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """One database's surroundings."""

    database: str
    place: str
    passed: tuple[Passed, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings keep a backup or a restore from working."""
        return sum(finding.severity == "error" for finding in self.findings)


class Notes:
    """The verdicts on one place, in the order of the checks; the same thing found twice is told once."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.verdicts: list[Verdict] = []
        self.silent = False
        """Whether it gave no answer: asking on would only wait."""

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Take over what others judged."""
        self.verdicts += [verdict for verdict in verdicts if verdict not in self.verdicts]

    def passes(self, what: str) -> None:
        self.add([Passed(where=self.where, what=what)])

    def finds(self, severity: Severity, what: str, cure: str = "") -> None:
        self.add([Finding(severity=severity, where=self.where, what=what, cure=cure)])

    def attempt(self, work: Callable[[], T]) -> T | None:
        """What it returns, or None where it raised: that is a finding by now. Being asked to stop goes through."""
        try:
            return work()
        except Stopped:
            raise
        except ReconcilerError as error:
            self.silent = self.silent or isinstance(error, Unreachable)
            self.finds("error", error.what, error.cure)
            return None
