"""A history that somebody else keeps: instants that one can return to, branches, snapshots. Facts alone, and the names of ours.

All instants are aware and in UTC. What is listed is complete, or the facts were not returned.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from reconciler.policy.firing import Firing

_ID = r"\d{8}T\d{6}Z-[0-9a-f]{6}"
_BRANCH = re.compile(rf"reconciler-(?P<database>[a-z][a-z0-9_-]{{0,62}})-(?P<use>{_ID})")
_SNAPSHOT = re.compile(r"reconciler-(?P<database>[a-z][a-z0-9_-]{0,62})-(?P<repository>[0-9a-f]{8})-(?P<slot>\d{8}T\d{6}Z)")
_COMPACT = "%Y%m%dT%H%M%SZ"

MARK: Final = "backup-reconciler"
"""The key of the annotation that each branch of ours carries from the request that makes it. Its value is the database's name in
the policy."""


class BranchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One branch as the provider lists it. What the provider soft-deleted is not among them."""

    id: str
    name: str
    parent: str | None
    """Id; None of a root."""
    created: datetime
    created_by: str = ""
    """For people; empty where the provider does not tell."""
    expires: datetime | None = None
    """When the provider deletes it by itself (not on the dot)."""
    bytes: int | None = None
    """Its logical size; None where it is not counted yet."""
    is_default: bool = False
    is_protected: bool = False
    is_archived: bool = False
    restricted: tuple[str, ...] = ()
    """What the provider refuses to do with it, each with its reason, e.g. `restore: restore from snapshot … still ongoing`."""
    replaced: str | None = None
    """Id of the branch whose place it took, where it was restored from a snapshot."""
    marked: str | None = None
    """The value of our annotation `MARK`; None where it has none."""


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of the project."""

    id: str
    name: str
    branch: str
    """Id of the branch that it was taken of."""
    instant: datetime
    """What it holds: the asked instant, or when it was made."""
    expires: datetime | None = None
    """When the provider deletes it by itself; None: never."""
    is_manual: bool = True
    """Asked for by somebody, not by the provider's schedule."""
    bytes: int | None = None


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Something that runs out."""

    name: str
    """For people, e.g. `data transfer this month`."""
    used: float
    limit: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the account's plan allows. None: not known (a plan that we don't know the numbers of); then the provider refuses."""

    plan: str = ""
    """As the provider calls it; empty where the key may not ask."""
    window: timedelta | None = None
    """The longest."""
    branches: int | None = None
    roots: int | None = None
    """Branches without a parent."""
    snapshots: int | None = None
    """Asked for by somebody; scheduled ones don't count."""
    protected: int | None = None
    has_schedules: bool | None = None
    """Whether the provider takes snapshots by itself on this plan."""
    quotas: tuple[Quota, ...] = ()


class HistoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider keeps of one database's branch, and of all that shares the project with it."""

    project: str
    """For people, and what a fault of it is named by."""
    branch: str
    """Id of the branch that is protected."""
    clock: datetime
    """The provider's own clock when it was asked."""
    window: timedelta
    """The project's setting."""
    begins: datetime
    """The earliest instant that can be returned to, as far as the provider tells: max(clock − window, creation of the branch,
    its last reset or restore). A window that was widened reaches back less for a while: our records of changes tell that."""
    latest: datetime
    """The latest instant that can be returned to: the clock, or earlier where the provider says so."""
    refuses: str = ""
    """Why no instant can be returned to at present (a branch restored from a snapshot, say), or empty."""
    branches: tuple[BranchFacts, ...]
    """All of the project, oldest first; the protected one is among them."""
    snapshots: tuple[SnapshotFacts, ...]
    """All of the project, oldest first."""
    schedule: tuple[Firing, ...]
    """Of the protected branch, sorted as `order_of` has it; empty: none."""
    limits: Limits = Limits()
    maintenance: datetime | None = None
    """When the provider will restart what runs, where it says so: a dump dies with it."""

    @property
    def protected(self) -> BranchFacts:
        """The branch that is protected."""
        return next(branch for branch in self.branches if branch.id == self.branch)


def branch_name(database: str, use: str) -> str:
    """What a branch of ours is called, whose purpose has that id (a backup's, say). Names are unique in a project: a create
    whose answer was lost is found again by it."""
    return f"reconciler-{database}-{use}"


def snapshot_name(database: str, repository: str, slot: datetime) -> str:
    """What our snapshot for a slot of the schedule is called: the same slot never gets two. `repository`: its id."""
    return f"reconciler-{database}-{repository[:8]}-{slot.astimezone(UTC).strftime(_COMPACT)}"


def use_of(database: str, branch: BranchFacts) -> str | None:
    """The id of the purpose that we made it for; None where it is not ours. Read back exactly, and only with our annotation.

    A default or protected branch is nobody's scratch, whatever it is called.
    """
    found = _BRANCH.fullmatch(branch.name)
    if found is None or found["database"] != database or branch.marked != database:
        return None
    return None if branch.is_default or branch.is_protected or branch.parent is None else found["use"]


def slot_of(database: str, repository: str, snapshot: SnapshotFacts) -> datetime | None:
    """The slot that we took it for; None where it is not ours."""
    found = _SNAPSHOT.fullmatch(snapshot.name)
    if found is None or found["database"] != database or found["repository"] != repository[:8] or not snapshot.is_manual:
        return None
    try:
        return datetime.strptime(found["slot"], _COMPACT).replace(tzinfo=UTC)
    except ValueError:
        return None


What = Literal["window", "schedule", "protection", "snapshot", "branch"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one setting that we changed, or of one thing that we destroyed, at a provider.

    Written once before it is done and once after, so that neither a death nor a lost answer hides that it may have happened.
    """

    format: int = 1
    sequence: int
    at: Annotated[datetime, Meta(tz=True)]
    """By our clock; of a window, by the provider's where that one is ahead."""
    what: What
    where: str
    """The project, for people."""
    done: bool
    """False: it is about to be done."""
    was: str
    """What it was: a window in seconds, a schedule's or a branch's words."""
    now: str
    """What it is from then on; empty where it is gone."""
    policy: str
    """The policy's digest."""
