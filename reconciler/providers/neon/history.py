"""What Neon keeps of a project by itself: looked at, opened at an instant, and its settings changed. All through the API."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import msgspec

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused
from reconciler.policy.firing import Firing, order_of
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.providers.neon.answers import Branch, ScheduleAnswer, Snapshot, SnapshotsAnswer
from reconciler.providers.neon.api import NotThrough, OperationFailed
from reconciler.providers.neon.dumping import Renamed
from reconciler.providers.neon.project import INSTANT, Listed, NeonProject
from reconciler.providers.neon.reading import branch_facts, firing_of, limits_of, scheduled, snapshot_facts
from reconciler.providers.neon.source import NeonSource
from reconciler.world.facts import Identity, SourceFacts
from reconciler.world.history import BranchFacts, HistoryFacts, SnapshotFacts
from reconciler.world.ports import AS_USUAL, DumpOptions

SETTLED: Final = timedelta(seconds=5)
"""An instant that is younger is waited for: by time, Neon branches from what its storage has got so far, and says nothing of the
commits that it lacks."""


class BranchSource:
    """A database on a branch of ours, and nowhere else."""

    def __init__(self, conninfo: Conninfo, manners: Manners, identity: Identity) -> None:
        self._inside = PostgresSource(conninfo, manners)
        self._identity = identity

    def facts(self) -> SourceFacts:
        """As the API knows it."""
        return msgspec.structs.replace(self._inside.facts(), identity=self._identity)

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[Renamed]:
        """Raises Conflict for another identity."""
        if expect is not None and expect != self._identity:
            raise Conflict(f"{self._identity} is there, and expected was {expect}")
        with self._inside.dump(backup_id, expect=None, options=options) as dump:
            yield Renamed(dump, self._identity)

    def end_sessions(self, backup_id: str) -> int:
        """Those on the branch."""
        return self._inside.end_sessions(backup_id)


class NeonHistory:
    """Of one database of the policy. Looking wakes nothing."""

    def __init__(
        self, source: NeonSource, project: NeonProject, database: str, manners: Manners, *, changing: NeonProject | None = None
    ) -> None:
        """`changing`: the same project, for what changes or destroys something there."""
        self._source = source
        self._project = project
        self._changing = changing or project
        self._database = database
        self._manners = manners

    def fenced(self, check: Callable[[], None]) -> "NeonHistory":
        """Its changes wait for their turn, and for Neon: `check` is called when each is about to be sent."""
        changing = self._project.fenced(check)
        return NeonHistory(self._source, self._project, self._database, self._manners, changing=changing)

    def facts(self) -> HistoryFacts:
        """In five requests, whatever there is, if the key may ask for the plan; in four else."""
        project, clock = self._project.look()
        listed = self._project.branches()
        branch = self._source.among(listed)
        window = timedelta(seconds=project.history_retention_seconds)
        refused = [one.reason or one.name for one in branch.restricted_actions if one.name == "restore"]
        since = [clock - window, branch.created_at, *([branch.last_reset_at] if branch.last_reset_at else [])]
        return HistoryFacts(
            project=project.id,
            branch=branch.id,
            clock=clock,
            window=window,
            # A branch may have been made within the second that Neon's clock tells.
            begins=min(clock, max(since)),
            latest=clock,
            refuses=refused[0] if refused else "",
            branches=tuple(branch_facts(one, listed.marks.get(one.id)) for one in listed.branches),
            snapshots=tuple(snapshot_facts(one) for one in self._snapshots()),
            schedule=self._schedule(listed),
            limits=limits_of(project, listed.branches, self._project.plan(project)),
            maintenance=project.maintenance_scheduled_for,
        )

    @contextmanager
    def open(self, point: datetime, *, use: str, until: datetime) -> Iterator[BranchSource]:
        """Deleted on leaving, whatever happened; one that can't be deleted then is swept by a later turn, or ends by itself."""
        _, clock = self._project.look()
        if point > clock + timedelta(seconds=1):
            raise Refused(
                f"neon {self._project.api.project}: {point:{INSTANT}} lies ahead", cure="ask for an instant that has been"
            )
        if (young := point + SETTLED - clock) > timedelta(0):
            self._project.api.wait(young.total_seconds())
        parent = self._source.branch()
        wanted = self._source.wanted(use, parent, expires=until, instant=point)
        with _cured("ask for an instant inside the history window"), self._source.branched(use, wanted) as (made, address):
            identity = Identity(provider="neon", cluster=f"{self._project.api.project}/{made.id}", database=self._database)
            yield BranchSource(address, self._manners, identity)

    def set_window(self, window: timedelta, *, expect: timedelta) -> None:
        """Raises Conflict, and Refused where the plan has no such window."""
        wanted = int(window.total_seconds())

        def is_due() -> bool:
            project, _ = self._project.look()
            was = timedelta(seconds=project.history_retention_seconds)
            if was not in (window, expect):
                raise Conflict(f"neon {project.id}: the window is {was} by now, and expected was {expect}")
            return was != window

        def attempt() -> None:
            body = {"project": {"history_retention_seconds": wanted}}
            if is_due():
                self._changing.api.change("PATCH", "", "set the history window", body=body, still=is_due)

        with _cured("ask for a window that Neon's plan has, or choose a larger plan"):
            self._project.api.persist(attempt)

    def set_schedule(self, schedule: Sequence[Firing], *, expect: Sequence[Firing]) -> None:
        """Raises Conflict, and Refused where the plan has no schedules."""
        branch = self._source.branch()
        body = {"schedule": [msgspec.to_builtins(scheduled(firing)) for firing in schedule]}

        def is_due() -> bool:
            found = self._schedule_of(branch.id)
            if found not in (tuple(schedule), tuple(expect)):
                raise Conflict(f"neon {self._project.api.project}: {branch.name} has another snapshot schedule by now")
            return found != tuple(schedule)

        def attempt() -> None:
            path = f"/branches/{branch.id}/backup_schedule"
            if is_due():
                self._changing.api.change("PUT", path, "set the snapshot schedule", body=body, still=is_due)

        with _cured("ask for what Neon's schedule can express and its plan has; only root branches have one"):
            self._project.api.persist(attempt)

    def take_snapshot(self, name: str, *, until: datetime | None = None) -> SnapshotFacts:
        """Looked for by its name before and after: a lost answer makes no second one. What failed leaves none behind."""
        branch, doing = self._source.branch(), f"take snapshot {name}"
        query = {"name": name} | ({"expires_at": until.strftime(INSTANT)} if until is not None else {})

        def attempt() -> Snapshot:
            found = self._snapshot(name)
            if found is None:
                try:
                    # In the query string: Neon passes a body over, without a word.
                    self._project.api.change("POST", f"/branches/{branch.id}/snapshot", doing, query=query)
                except Conflict:
                    pass  # an earlier attempt of ours arrived meanwhile
                except NotThrough:
                    raise
                except OperationFailed:
                    with suppress(ReconcilerError):
                        self._discard(name, branch.id)
                    raise
                return self._project.api.until(lambda: self._snapshot(name), doing)
            self._project.api.settle(branch.id, doing)
            return found

        made = self._project.api.persist(attempt)
        if made.source_branch_id not in (None, branch.id):
            raise Conflict(f"neon {self._project.api.project}: there is a snapshot {name} of another branch already")
        return snapshot_facts(made)

    def _discard(self, name: str, branch: str) -> None:
        """Neon lists a snapshot whose making failed like any other; it has neither place nor size."""
        found = self._snapshot(name)
        if found is not None and found.source_branch_id == branch and found.lsn is None and snapshot_facts(found).bytes is None:
            self.delete_snapshot(snapshot_facts(found))

    def delete_snapshot(self, snapshot: SnapshotFacts) -> None:
        """Raises Conflict where the id has another name or branch by now."""

        def is_due() -> bool:
            found = next((one for one in self._snapshots() if one.id == snapshot.id), None)
            if found is not None and (found.name, found.source_branch_id or "") != (snapshot.name, snapshot.branch):
                raise Conflict(f"neon {self._project.api.project}: snapshot {snapshot.id} is {found.name} by now")
            return found is not None

        def attempt() -> None:
            path, doing = f"/snapshots/{snapshot.id}", f"delete snapshot {snapshot.name}"
            with suppress(Absent):
                if is_due():
                    self._changing.api.change("DELETE", path, doing, still=is_due)

        self._project.api.persist(attempt)

    def delete_branch(self, branch: BranchFacts) -> None:
        """Raises Conflict where the id is another's by now, is the default one or protected, or has children."""
        project = self._project.api.project

        def look() -> Branch | None:
            listed = self._project.branches()
            found = next((one for one in listed.branches if one.id == branch.id), None)
            if found is None:
                return None
            now = branch_facts(found, listed.marks.get(found.id))
            if (now.name, now.parent, now.marked) != (branch.name, branch.parent, branch.marked):
                raise Conflict(f"neon {project}: branch {branch.id} is not the {branch.name} that was seen")
            if now.is_default or now.is_protected or now.parent is None:
                raise Conflict(f"neon {project}: branch {branch.name} is a root, the default branch or protected")
            if any(one.parent_id == branch.id for one in listed.branches):
                raise Conflict(f"neon {project}: branch {branch.name} has children")
            return found

        self._changing.delete(look)

    def protect(self, branch: BranchFacts) -> None:
        """Raises Conflict where the id has another name by now, and Refused where the plan has no protected branch more."""

        def is_due() -> bool:
            found = next((one for one in self._project.branches().branches if one.id == branch.id), None)
            if found is None or found.name != branch.name:
                raise Conflict(f"neon {self._project.api.project}: branch {branch.id} is not {branch.name} any more")
            return not found.protected

        def attempt() -> None:
            path, body = f"/branches/{branch.id}", {"branch": {"protected": True}}
            if is_due():
                self._changing.api.change("PATCH", path, f"protect {branch.name}", body=body, still=is_due)

        self._project.api.persist(attempt)

    def _schedule(self, listed: Listed) -> tuple[Firing, ...]:
        branch = self._source.among(listed)
        return self._schedule_of(branch.id) if branch.parent_id is None else ()

    def _schedule_of(self, branch: str) -> tuple[Firing, ...]:
        answer = self._project.api.read(f"/branches/{branch}/backup_schedule", ScheduleAnswer, "look at the snapshot schedule")
        return tuple(sorted(map(firing_of, answer.schedule), key=order_of))

    def _snapshots(self) -> tuple[Snapshot, ...]:
        found = self._project.api.read("/snapshots", SnapshotsAnswer, "list snapshots").snapshots
        return tuple(sorted(found, key=lambda one: (one.timestamp or one.created_at, one.id)))

    def _snapshot(self, name: str) -> Snapshot | None:
        return next((one for one in self._snapshots() if one.name == name), None)


@contextmanager
def _cured(cure: str) -> Iterator[None]:
    """A refusal whose words are Neon's, with what to do about it."""
    try:
        yield
    except Refused as error:
        if "documentation" in error.cure:
            error.cure = cure
        raise
