"""Snapshots: taken by the provider's own schedule, or by us for each slot of ours and pruned by us."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.backups.changes import begun, recorded
from reconciler.duties.pitr import history_of
from reconciler.errors import Conflict, Finding
from reconciler.planning.identity import repository_id
from reconciler.planning.past import changes_of, fight, seen_history, setbacks
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import counted, instant
from reconciler.policy.firing import LONGEST, Firing, firings, order_of
from reconciler.policy.model import DatabasePolicy, Snapshots
from reconciler.policy.units import format_duration
from reconciler.world.facts import Observation
from reconciler.world.history import HistoryFacts, SnapshotFacts, slot_of, snapshot_name
from reconciler.world.ports import World

FLOOR = 2
"""Age alone never takes the last ones that are known to hold something."""
COUNTED_WITHIN = timedelta(hours=1)
"""A provider tells the size of a snapshot a while after it was taken; of one that failed, never."""


class _PutSchedule(Action, frozen=True, kw_only=True):
    """Put one schedule in the place of another, which was seen."""

    project: str
    was: tuple[Firing, ...]
    now: tuple[Firing, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Recorded: by that, a schedule of ours is told from one that somebody made by hand."""
        history = history_of(world)
        with recorded(world, want, what="schedule", where=self.project, was=words(self.was), now=words(self.now)):
            history.set_schedule(self.now, expect=self.was)
        return f"snapshot schedule of {self.project}: {words(self.now)}"


class SetSchedule(_PutSchedule, frozen=True, kw_only=True, tag="set_schedule"):
    """Let the provider take at least what it took."""

    effect = "change"


class ShrinkSchedule(_PutSchedule, frozen=True, kw_only=True, tag="shrink_schedule"):
    """Let the provider take less, or keep it shorter."""

    effect = "delete"
    destroys = True


class TakeSnapshot(Action, frozen=True, kw_only=True, tag="take_snapshot"):
    """Take one for a slot, under a name that no second one gets."""

    effect = "create"

    project: str
    name: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Met twice, it is one. Raises Conflict where one lies under that name that seems to have failed."""
        taken = history_of(world).take_snapshot(self.name)
        if _seems_failed(taken, world.clock.now()):
            raise Conflict(f"{self.project}: snapshot {self.name} is there, and seems to have failed", cure=_FAILED_CURE)
        return f"snapshot {taken.name} of {instant(taken.instant)}"


class DeleteSnapshot(Action, frozen=True, kw_only=True, tag="delete_snapshot"):
    """Delete one that we took, for good."""

    effect = "delete"

    name: str
    project: str
    repository: str
    snapshot: str
    """Its id."""

    @property
    def loses_snapshot(self) -> str | None:
        return self.name

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Seen afresh: still ours by its name, of this branch, too old, and not one of the last."""
        history = history_of(world)
        facts = history.facts()
        if want.snapshots is None:
            raise Conflict(f"the policy says nothing of snapshots of {self.database} any more")
        ours = _ours(self.database, self.repository, facts)
        found = next((snapshot for snapshot in ours if (snapshot.id, snapshot.name) == (self.snapshot, self.name)), None)
        if found is None:
            return f"snapshot {self.name} is gone already"
        if found not in _too_old(ours, facts.clock, want.snapshots.retain):
            raise Conflict(f"{facts.project}: snapshot {self.name} stays: it is one of the last, or young enough")
        with begun(world, want, what="snapshot", where=facts.project, was=found.name, now=""):
            history.delete_snapshot(found)
        return f"snapshot {self.name} deleted"


def words(schedule: tuple[Firing, ...]) -> str:
    """A schedule for people and for records; empty: none."""
    return "; ".join(one.says() for one in schedule)


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Nothing rests on an Unknown history."""
    facts = seen_history(have)
    if facts is None:
        return Due()
    if want.snapshots is None or want.snapshots.via == "reconciler":
        left = tuple(_left_behind(want, have, facts))
        return _left_alone(want, have, facts, left) if want.snapshots is None else _by_us(want, want.snapshots, have, facts, left)
    return _by_schedule(want, want.snapshots, have, facts, now)


def _left_alone(want: DatabasePolicy, have: Observation, facts: HistoryFacts, left: tuple[Finding, ...]) -> Due:
    """What left the policy deletes nothing."""
    ours = _ours(have.database, repository_id(have) or "", facts)
    if ours:
        what = f"{counted(len(ours), 'snapshot')} of ours stay: the policy no longer speaks of snapshots"
        left += (
            Finding(severity="note", where=facts.project, what=what, cure="delete them at the provider, if nobody needs them"),
        )
    return Due(findings=left)


def _by_schedule(want: DatabasePolicy, asked: Snapshots, have: Observation, facts: HistoryFacts, now: datetime) -> Due:
    wanted = firings(asked.schedule, asked.retain)
    seen = tuple(sorted(facts.schedule, key=order_of))
    changes = changes_of(want, have, "schedule", facts)
    found: list[Finding] = []
    if said := fight(setbacks(changes, words(seen), now), "the snapshot schedule"):
        cure = "find out who (Terraform, a script, another policy), and let one of the two decide"
        found.append(Finding(severity="error", where=facts.project, what=said, cure=cure))
    if seen == wanted:
        return Due(findings=tuple(found))
    if facts.limits.has_schedules is False:
        plan = f"the plan {facts.limits.plan}" if facts.limits.plan else "this account's plan"
        what = f"the policy wants scheduled snapshots, and {plan} has none"
        found.append(Finding(severity="error", where=facts.project, what=what, cure="change the plan, or say via: reconciler"))
        return Due(findings=tuple(found))
    if seen and not asked.takeover and words(seen) not in {change.now for change in changes}:
        what = f"somebody made a snapshot schedule by hand: {words(seen)}; the policy wants {words(wanted)}"
        cure = "say takeover: true to replace it, or say in the policy what it says"
        found.append(Finding(severity="warning", where=facts.project, what=what, cure=cure))
        return Due(findings=tuple(found))
    kind = SetSchedule if _holds(wanted, seen) else ShrinkSchedule
    action = kind(database=have.database, project=facts.project, was=seen, now=wanted)
    shown = Shown(
        does="snapshot schedule", to=f"{words(seen) or 'none'} → {words(wanted)}", why=f'policy wants "{asked.schedule}"'
    )
    return Due(steps=(Step(action=action, shown=shown),), findings=tuple(found))


def _holds(wanted: tuple[Firing, ...], seen: tuple[Firing, ...]) -> bool:
    """Whether all that was taken is taken, and kept as long."""
    spans = {order_of(one): one.retention or LONGEST for one in wanted}
    return all(spans.get(order_of(one), timedelta(0)) >= (one.retention or LONGEST) for one in seen)


def _left_behind(want: DatabasePolicy, have: Observation, facts: HistoryFacts) -> Iterator[Finding]:
    """A schedule of ours that no policy asks for any more."""
    seen = words(tuple(sorted(facts.schedule, key=order_of)))
    if seen and seen in {change.now for change in changes_of(want, have, "schedule", facts)}:
        what = f"a snapshot schedule that we set goes on: {seen}"
        yield Finding(severity="note", where=facts.project, what=what, cure="turn it off at the provider, if nobody needs it")


def _by_us(want: DatabasePolicy, asked: Snapshots, have: Observation, facts: HistoryFacts, left: tuple[Finding, ...]) -> Due:
    repository = repository_id(have)
    if repository is None:
        # Their names hold the repository's id, so that two policies never prune each other's.
        note = Finding(severity="note", where=facts.project, what="snapshots begin after the first dump")
        return Due(findings=(*left, note))
    if have.unknown():
        return Due(findings=left)
    now, ours = facts.clock, _ours(have.database, repository, facts)
    left += (*_failed(ours, facts), *_of_other_branches(have.database, repository, facts))
    next_at = asked.schedule.next(now, want.timezone)
    steps = [_deletion(have, facts, repository, snapshot, asked.retain) for snapshot in _too_old(ours, now, asked.retain)]
    slot = asked.schedule.latest(now, want.timezone)
    if slot is None or _is_done(slot, have.database, repository, facts):
        return Due(steps=tuple(steps), findings=left, next_at=next_at)
    full = _full(facts)
    if full:
        what = f"no snapshot can be taken for slot {instant(slot)}: {full}"
        cure = "delete some that nobody needs, keep ours shorter (retain), or change the plan"
        left += (Finding(severity="error", where=facts.project, what=what, cure=cure),)
    else:
        name = snapshot_name(have.database, repository, slot)
        action = TakeSnapshot(database=have.database, project=facts.project, name=name)
        steps.append(Step(action=action, shown=Shown(does="take snapshot", to=facts.protected.name, why=f"slot {instant(slot)}")))
    return Due(steps=tuple(steps), findings=left, next_at=next_at)


def _is_done(slot: datetime, database: str, repository: str, facts: HistoryFacts) -> bool:
    """By one of that slot or of a later one. One whose size is not told yet will do for a while: it is not taken twice."""
    name = snapshot_name(database, repository, slot)
    # Names are unique in a project: after a restore, the slot's may be of the branch that was protected before.
    if any(one.name == name and one.branch != facts.branch for one in facts.snapshots):
        return True
    whole = (one for one in _ours(database, repository, facts) if not _seems_failed(one, facts.clock))
    return any((at := slot_of(database, repository, one)) is not None and slot <= at <= facts.clock for one in whole)


def _seems_failed(snapshot: SnapshotFacts, now: datetime) -> bool:
    return snapshot.bytes is None and snapshot.instant < now - COUNTED_WITHIN


_FAILED_CURE = "look at it at the provider; if it failed, delete it there, and the next turn takes the slot's snapshot again"


def _failed(ours: list[SnapshotFacts], facts: HistoryFacts) -> Iterator[Finding]:
    failed = [one for one in ours if _seems_failed(one, facts.clock)]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        what = f"snapshot {failed[0].name}{more} has no size {format_duration(COUNTED_WITHIN)} after it was taken: "
        what += "it seems to have failed, and does not count"
        yield Finding(severity="warning", where=facts.project, what=what, cure=_FAILED_CURE)


def _of_other_branches(database: str, repository: str, facts: HistoryFacts) -> Iterator[Finding]:
    """They were taken before the branch was restored from a snapshot, say. Whether anybody needs them, only people know."""
    others = [one for one in facts.snapshots if one.branch != facts.branch and slot_of(database, repository, one) is not None]
    if others:
        what = f"{counted(len(others), 'snapshot')} of ours {'is' if len(others) == 1 else 'are'} of another branch"
        cure = "they are never deleted here: delete them at the provider by hand, once nobody needs them"
        yield Finding(severity="note", where=facts.project, what=what, cure=cure)


def _full(facts: HistoryFacts) -> str:
    manual, limit = sum(snapshot.is_manual for snapshot in facts.snapshots), facts.limits.snapshots
    return f"{manual} of {limit} are there" if limit is not None and manual >= limit else ""


def _ours(database: str, repository: str, facts: HistoryFacts) -> list[SnapshotFacts]:
    """Of this branch, newest first."""
    found = [one for one in facts.snapshots if one.branch == facts.branch and slot_of(database, repository, one) is not None]
    return sorted(found, key=lambda one: (one.instant, one.name), reverse=True)


def _too_old(ours: list[SnapshotFacts], now: datetime, retain: timedelta) -> list[SnapshotFacts]:
    """Without the last ones whose size is told: of the others, nobody knows that they hold anything. None while those are few."""
    last = [one for one in ours if one.bytes is not None][:FLOOR]
    if len(last) < FLOOR:
        return []
    return [one for one in ours if one not in last and one.instant < now - retain]


def _deletion(have: Observation, facts: HistoryFacts, repository: str, snapshot: SnapshotFacts, retain: timedelta) -> Step:
    action = DeleteSnapshot(
        database=have.database, project=facts.project, name=snapshot.name, snapshot=snapshot.id, repository=repository
    )
    shown = Shown(
        does="delete",
        to=f"on {facts.project}",
        why=f"older than {format_duration(retain)}",
        counted="snapshot|snapshots",
        bytes=snapshot.bytes,
    )
    return Step(action=action, shown=shown)


DUTY = Duty(name="snapshots", lane="keep", due=due, actions=(SetSchedule, ShrinkSchedule, TakeSnapshot, DeleteSnapshot))
