"""Evidence: what a verification or a drill found out, of which copy, when, and for how long that counts. Data only."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reconciler.policy.model import Level

Moment = Annotated[datetime, Meta(tz=True)]

LEVELS: tuple[Level, ...] = ("hash", "toc", "restore")
"""Each reads every byte that the one before it reads, and does more with them."""

Result = Literal["passed", "failed", "unproven"]
RESULTS: tuple[Result, ...] = ("passed", "unproven", "failed")
"""Best first: the worst of its faults is what a rehearsal comes to."""

EVIDENCE_FORMAT = 1
AHEAD = timedelta(minutes=5)
"""Clocks differ a little."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was not as it must be, or that could not be told here."""

    where: str
    """The object, as PostgreSQL describes it, or the step that met it."""
    what: str
    result: Literal["failed", "unproven"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of one verification or drill. It speaks of one content of one copy: another content is another copy."""

    format: int = EVIDENCE_FORMAT
    sequence: int
    before: str | None
    """sha256 of the record before it, in hex digits; None for the first."""
    kind: Literal["verification", "drill"]
    name: str = ""
    """Of a drill, as the policy calls it."""
    database: str
    repository: str
    backup: str
    target: str
    content: str
    """Which content it was: what the target says of it, in short. Compared with `Copy.content`."""
    sha256: str
    """Of the archive as it is stored, in hex digits."""
    instant: Moment
    """The restore point."""
    partial: bool = False
    """Whether whole objects were left out of the backup, which may be gone by now."""
    level: Level
    result: Result
    started: Moment
    finished: Moment
    expires: Moment | None
    """From then on it says nothing of today; None: never."""
    did: tuple[str, ...] = ()
    """What was done, step by step, each with its outcome."""
    faults: tuple[Fault, ...] = ()
    left_out: tuple[str, ...] = ()
    """What was not brought back or not looked at, and could not have been here, each with its reason."""
    seconds: Mapping[str, float] = {}
    """How long each step took."""
    where: str = ""
    """The scratch server, for people."""
    policy: str
    """The policy's digest."""
    git_commit: str | None = None

    def is_ahead(self, now: datetime) -> bool:
        """Whether it was written under a wrong clock: until then nobody knows how old it is."""
        return self.finished > now + AHEAD

    def is_fresh(self, now: datetime) -> bool:
        """Whether it still counts."""
        return not self.is_ahead(now) and (self.expires is None or now < self.expires)

    @property
    def name_in_freeze(self) -> str:
        """How a person's acknowledgement names it."""
        return f"evidence {self.sequence}"


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """All evidence of one database as one target holds it, oldest first, and what is wrong with the chain."""

    records: tuple[Evidence, ...] = ()
    faults: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """sha256 of each record's text, also of those that can't be read: chains that begin with the same ones are one chain."""

    def goes_on(self, other: "Chain") -> bool:
        """Whether it is that chain and more of it: copies of records lack only the last ones."""
        return len(self.links) > len(other.links) and self.links[: len(other.links)] == other.links


def joined(home: Chain, others: Iterable[Chain]) -> Chain:
    """What home lost and another target has, in its place: so losing home loses no proof.

    Of a chain that is another one, what failed counts and nothing else: no record that is missing lets a copy pass for proven.
    """
    chains = list(others)
    longest = max((one for one in chains if one.goes_on(home)), key=lambda one: len(one.links), default=home)
    strange = [one for one in chains if longest.links[: len(one.links)] != one.links]
    records = list(longest.records)
    for record in (record for one in strange for record in one.records):
        if record.result == "failed" and record not in records:
            records.append(record)
    if strange:
        records.sort(key=lambda record: record.finished)
    return Chain(records=tuple(records), faults=home.faults, links=longest.links)


def outcome(faults: Iterable[Fault]) -> Result:
    """What these faults come to."""
    return max((fault.result for fault in faults), key=RESULTS.index, default="passed")
