"""A project at a provider that keeps a history, as it really is: what is true of it, whoever looks."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from reconciler.errors import Conflict, Refused
from reconciler.policy.firing import Firing
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.timeline import Timeline
from reconciler.world.history import MARK, BranchFacts, HistoryFacts, Limits, SnapshotFacts

MAIN = "br-main"
DAY = timedelta(days=1)
ALLOWED = Limits(plan="launch", window=7 * DAY, branches=20, roots=5, snapshots=10, protected=2, has_schedules=True)
AGE = timedelta(days=60)
"""Of the project when its world begins."""
EXPIRES_LATE = timedelta(hours=6)
"""What expires goes by a job in the background, not on the dot."""


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One change to the project. `was` and `now` are what it is about, before and afterwards; None: not there."""

    what: str
    by: SimulatedProcess | None
    """None: people, or the provider by itself."""
    was: object
    now: object


class Witness(Protocol):
    """Sees each change just before it takes effect."""

    def changing(self, project: "Project", deed: Deed) -> None: ...


class Project:
    """Branches by id, snapshots by id, and the settings. Names are unique, as they are at Neon."""

    def __init__(self, timeline: Timeline, *, window: timedelta = DAY, limits: Limits = ALLOWED) -> None:
        self.timeline, self.limits = timeline, limits
        self.id = "quiet-hotel"
        self.window = window
        self.oldest = timeline.now() - window
        """The earliest instant whose history was not dropped yet."""
        born = timeline.now() - AGE
        main = BranchFacts(id=MAIN, name="main", parent=None, created=born, created_by="ana", is_default=True, bytes=1 << 30)
        self.branches: dict[str, BranchFacts] = {MAIN: main}
        self.former: list[str] = []
        """The names of all branches that were ever made."""
        self.snapshots: dict[str, SnapshotFacts] = {}
        self.schedule: tuple[Firing, ...] = ()
        self.refuses = ""
        self.witness: Witness | None = None
        self._made = 0

    def trim(self) -> None:
        """What the clock alone does: history rolls off, and what expired goes."""
        now = self.timeline.now()
        self.oldest = max(self.oldest, now - self.window)
        parents = {branch.parent for branch in self.branches.values()}
        for branch in list(self.branches.values()):
            if branch.expires is not None and branch.expires + EXPIRES_LATE <= now and branch.id not in parents:
                del self.branches[branch.id]
        for snapshot in list(self.snapshots.values()):
            if snapshot.expires is not None and snapshot.expires <= now:
                del self.snapshots[snapshot.id]

    def facts(self) -> HistoryFacts:
        """As the provider tells it: when a window was widened, it does not."""
        self.trim()
        now = self.timeline.now()
        return HistoryFacts(
            project=self.id,
            branch=MAIN,
            clock=now,
            window=self.window,
            begins=max(now - self.window, self.branches[MAIN].created),
            latest=now,
            refuses=self.refuses,
            branches=tuple(sorted(self.branches.values(), key=lambda branch: (branch.created, branch.id))),
            snapshots=tuple(sorted(self.snapshots.values(), key=lambda snapshot: (snapshot.instant, snapshot.id))),
            schedule=self.schedule,
            limits=self.limits,
        )

    def set_window(self, window: timedelta, *, expect: timedelta | None, by: SimulatedProcess | None) -> None:
        """Raises Conflict where it is neither; Refused for more than the plan has."""
        self.trim()
        if expect is not None and self.window not in (expect, window):
            raise Conflict(f"{self.id}: the window is {self.window} by now")
        if self.limits.window is not None and window > self.limits.window:
            raise Refused(f"{self.id}: the plan has no such window", cure="change the plan")
        self._witnessed("window", self.window, window, by)
        self.window = window
        self.trim()

    def set_schedule(
        self, schedule: tuple[Firing, ...], *, expect: tuple[Firing, ...] | None, by: SimulatedProcess | None
    ) -> None:
        """Raises Conflict where it is neither."""
        if expect is not None and self.schedule not in (expect, schedule):
            raise Conflict(f"{self.id}: the schedule is another one by now")
        if schedule and self.limits.has_schedules is False:
            raise Refused(f"{self.id}: the plan has no schedules", cure="change the plan")
        self._witnessed("schedule", self.schedule, schedule, by)
        self.schedule = schedule

    def make_branch(
        self,
        name: str,
        point: datetime,
        *,
        parent: str = MAIN,
        until: datetime | None = None,
        marks: Mapping[str, str] | None = None,
        by: SimulatedProcess | None,
    ) -> BranchFacts:
        """Raises Conflict for a name that is taken, Refused outside the window and beyond the limit."""
        self.trim()
        now = self.timeline.now()
        if any(branch.name == name for branch in self.branches.values()):
            raise Conflict(f"{self.id}: there is a branch {name}")
        if self.limits.branches is not None and len(self.branches) >= self.limits.branches:
            raise Refused(f"{self.id}: one branch more is too many", cure="delete some")
        if not self.oldest <= point <= now:
            raise Refused(f"{self.id}: {point} is outside the window", cure="ask for another instant")
        made = BranchFacts(
            id=self._id("br"),
            name=name,
            parent=parent,
            created=now,
            created_by="ana" if by is None else "key",
            expires=until,
            marked=(marks or {}).get(MARK),
            bytes=1 << 30,
        )
        self._witnessed("branch", None, made, by)
        self.branches[made.id] = made
        self.former.append(name)
        return made

    def delete_branch(self, branch: BranchFacts, *, by: SimulatedProcess | None) -> None:
        """Raises Conflict where it is not that one any more, or may not go."""
        self.trim()
        there = self.branches.get(branch.id)
        if there is None:
            return
        if (there.name, there.parent, there.marked) != (branch.name, branch.parent, branch.marked):
            raise Conflict(f"{self.id}: {branch.id} is {there.name} by now")
        if there.is_default or there.is_protected:
            raise Conflict(f"{self.id}: {there.name} is default or protected")
        if any(child.parent == branch.id for child in self.branches.values()):
            raise Conflict(f"{self.id}: {there.name} has children")
        self._witnessed("branch", there, None, by)
        del self.branches[branch.id]

    def protect(self, branch: BranchFacts, *, by: SimulatedProcess | None) -> None:
        """Raises Conflict where it is not that one any more, Refused beyond the limit."""
        there = self.branches.get(branch.id)
        if there is None or there.name != branch.name:
            raise Conflict(f"{self.id}: {branch.id} is not {branch.name} any more")
        if there.is_protected:
            return
        protected = sum(one.is_protected for one in self.branches.values())
        if self.limits.protected is not None and protected >= self.limits.protected:
            raise Refused(f"{self.id}: one protected branch more is too many", cure="change the plan")
        safe = msgspec.structs.replace(there, is_protected=True)
        self._witnessed("protection", there, safe, by)
        self.branches[branch.id] = safe

    def take_snapshot(
        self, name: str, *, until: datetime | None = None, manual: bool = True, by: SimulatedProcess | None
    ) -> SnapshotFacts:
        """Raises Conflict for a name that is taken, Refused beyond the limit."""
        self.trim()
        if any(snapshot.name == name for snapshot in self.snapshots.values()):
            raise Conflict(f"{self.id}: there is a snapshot {name}")
        manuals = sum(snapshot.is_manual for snapshot in self.snapshots.values())
        if manual and self.limits.snapshots is not None and manuals >= self.limits.snapshots:
            raise Refused(f"{self.id}: one snapshot more is too many", cure="delete some")
        made = SnapshotFacts(
            id=self._id("snap"),
            name=name,
            branch=MAIN,
            instant=self.timeline.now(),
            expires=until,
            is_manual=manual,
            bytes=1 << 30,
        )
        self._witnessed("snapshot", None, made, by)
        self.snapshots[made.id] = made
        return made

    def delete_snapshot(self, snapshot: SnapshotFacts, *, by: SimulatedProcess | None) -> None:
        """Raises Conflict where it is not that one any more."""
        there = self.snapshots.get(snapshot.id)
        if there is None:
            return
        if (there.name, there.branch) != (snapshot.name, snapshot.branch):
            raise Conflict(f"{self.id}: {snapshot.id} is {there.name} by now")
        self._witnessed("snapshot", there, None, by)
        del self.snapshots[snapshot.id]

    def named(self, name: str) -> Iterator[BranchFacts]:
        """At most one."""
        return (branch for branch in self.branches.values() if branch.name == name)

    def _id(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made:04d}"

    def _witnessed(self, what: str, was: object, now: object, by: SimulatedProcess | None) -> None:
        if self.witness is not None:
            self.witness.changing(self, Deed(what=what, by=by, was=was, now=now))
