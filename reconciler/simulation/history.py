"""A project's history as one process sees it: the port, with everything that may happen on the way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from reconciler.errors import Conflict, ReconcilerError, Unreachable
from reconciler.policy.firing import Firing
from reconciler.simulation.host import Death
from reconciler.simulation.project import Project
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import Database, SimulatedDump, SimulatedSource
from reconciler.world.facts import Identity
from reconciler.world.history import MARK, BranchFacts, HistoryFacts, SnapshotFacts, branch_name, use_of
from reconciler.world.ports import AS_USUAL, DumpOptions, Source, no_fence

T = TypeVar("T")

LIFE = timedelta(minutes=20)
"""Of a dump's branch, unless it is deleted sooner."""


class ThroughBranch(SimulatedSource):
    """Dumped by way of a branch of its own, as Neon's are."""

    def __init__(self, database: Database, reach: Reach, history: "SimulatedHistory") -> None:
        super().__init__(database, reach)
        self._history = history

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[SimulatedDump]:
        """The branch point is the backup's instant."""
        seen = self._history.facts()
        with (
            self._history.open(seen.clock, use=backup_id, until=seen.clock + LIFE),
            super().dump(backup_id, expect=expect, options=options) as dump,
        ):
            yield dump

    def end_sessions(self, backup_id: str) -> int:
        """With the branch they end."""
        for branch in self._history.facts().branches:
            if use_of(self._history.name, branch) == backup_id:
                self._history.delete_branch(branch)
        return super().end_sessions(backup_id)


class SimulatedHistory:
    """Of the database `name` of the policy."""

    def __init__(self, name: str, project: Project, database: Database, reach: Reach) -> None:
        self.name = self._name = name
        self._project, self._database, self._reach = project, database, reach
        self.fence: Callable[[], None] = no_fence

    def fenced(self, check: Callable[[], None]) -> "SimulatedHistory":
        """The same behind it."""
        made = SimulatedHistory(self.name, self._project, self._database, self._reach)
        made.fence = check
        return made

    def facts(self) -> HistoryFacts:
        """Complete, or it raises."""
        return self._ask("look at", "", self._project.facts)

    @contextmanager
    def open(self, point: datetime, *, use: str, until: datetime) -> Iterator[Source]:
        """The branch stays when the process dies, until it is swept or expires."""
        name = branch_name(self._name, use)
        make = partial(self._project.make_branch, name, point, until=until, marks={MARK: self._name}, by=self._reach.process)
        made = self._made("make branch", name, make, lambda: next(self._project.named(name), None))
        identity = Identity(provider="simulated", cluster=f"{self._project.id}/{made.id}", database="hotel")
        try:
            yield SimulatedSource(Database(self._database.timeline, identity, until=point), self._reach)
        except Death:
            raise
        except BaseException:
            with suppress(ReconcilerError):
                self.delete_branch(made)
            raise
        if self._reach.process.alive:
            # One that can't be deleted now is swept by a later turn.
            with suppress(ReconcilerError):
                self.delete_branch(made)

    def set_window(self, window: timedelta, *, expect: timedelta) -> None:
        """Raises Conflict, Refused."""
        self.fence()
        self._change("set window", "", partial(self._project.set_window, window, expect=expect, by=self._reach.process))

    def set_schedule(self, schedule: Sequence[Firing], *, expect: Sequence[Firing]) -> None:
        """Raises Conflict, Refused."""
        self.fence()
        put = partial(self._project.set_schedule, tuple(schedule), expect=tuple(expect), by=self._reach.process)
        self._change("set schedule", "", put)

    def take_snapshot(self, name: str, *, until: datetime | None = None) -> SnapshotFacts:
        """One that bears the name is ours."""
        take = partial(self._project.take_snapshot, name, until=until, by=self._reach.process)
        return self._made("take snapshot", name, take, lambda: self._snapshot(name))

    def delete_snapshot(self, snapshot: SnapshotFacts) -> None:
        """Raises Conflict."""
        self.fence()
        gone = partial(self._project.delete_snapshot, snapshot, by=self._reach.process)
        self._change("delete snapshot", snapshot.name, gone)

    def delete_branch(self, branch: BranchFacts) -> None:
        """Raises Conflict."""
        self.fence()
        self._change("delete branch", branch.name, partial(self._project.delete_branch, branch, by=self._reach.process))

    def protect(self, branch: BranchFacts) -> None:
        """Raises Conflict, Refused."""
        self.fence()
        self._change("protect", branch.name, partial(self._project.protect, branch, by=self._reach.process))

    def _snapshot(self, name: str) -> SnapshotFacts | None:
        return next((one for one in self._project.snapshots.values() if one.name == name), None)

    def _made(self, verb: str, name: str, make: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Looked for before it is made, and after an answer that was lost."""
        found = self._ask("look for", name, find)
        if found is not None:
            return found
        try:
            return self._change(verb, name, make)
        except (Unreachable, Conflict):
            found = self._ask("look for", name, find)
            if found is None:
                raise
            return found

    def _ask(self, verb: str, name: str, work: Callable[[], T]) -> T:
        return self._reach.call(verb, "history", name, work)

    def _change(self, verb: str, name: str, work: Callable[[], T]) -> T:
        return self._reach.call(verb, "history", name, work, changes=True)
