"""Worlds whose provider keeps a history: what is wanted there, what people do to the project, and the rules for it.

The rules are written from the page, not from the code that they judge.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from reconciler.policy.firing import Firing
from reconciler.policy.model import Branches, DatabasePolicy, Pitr, Snapshots
from reconciler.policy.schedule import Schedule
from reconciler.policy.units import Duration
from reconciler.simulation.chance import Chance
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.ledger import Ledger, Turn
from reconciler.simulation.project import DAY, MAIN, Deed, Project
from reconciler.simulation.truth import SILENT, Folder, Truth
from reconciler.world.history import MARK, BranchFacts, SnapshotFacts

HOUR = timedelta(hours=1)
BY_HAND = (Firing(frequency="weekly", hour=5, day=1, retention=DAY),)


class KeptSettings(msgspec.Struct, frozen=True):
    """Of a source whose provider keeps a history, made of arithmetic."""

    history_site: str = "quiet-hotel"


def project_of(chance: Chance, project: Project) -> Project:
    """As somebody left it before the reconcilers came."""
    project.window = chance.choice((HOUR, DAY, DAY, 7 * DAY))
    project.oldest = project.timeline.now() - project.window
    return project


def with_history(want: DatabasePolicy, chance: Chance) -> DatabasePolicy:
    """The same, with what people ask of a history."""
    schedule = "0 3 * * *" if chance.happens(0.5) else "0 */2 * * *"
    snapshots = chance.choice(
        (
            None,
            Snapshots(schedule=Schedule.parse("0 3 * * *"), retain=Duration(days=7), via="neon"),
            Snapshots(schedule=Schedule.parse("0 3 * * *"), retain=Duration(days=2), via="neon", takeover=True),
            Snapshots(schedule=Schedule.parse(schedule), retain=Duration(hours=8), via="reconciler"),
        )
    )
    return msgspec.structs.replace(
        want,
        source=KeptSettings(),
        pitr=Pitr(window=Duration(days=chance.choice((1, 3, 7))), manage=chance.happens(0.9)),
        snapshots=snapshots,
        branches=Branches(protect=chance.happens(0.5)),
    )


def _silent(folder: Folder) -> timedelta:
    """For how long its intent was not renewed."""
    return folder.store.now() - folder.visible["intent.json"].stored.modified


class Keeper:
    """The witness of the project: holds each change against the rules."""

    def __init__(self, truth: Truth, ledger: Ledger) -> None:
        self._truth, self._ledger = truth, ledger
        self.made: dict[str, SimulatedProcess] = {}
        """Ids of branches and snapshots, by who made them."""
        self.names: set[str] = set()
        self.deleted: dict[str, datetime] = {}
        """Snapshots of ours that reconcilers deleted, by name."""

    def changing(self, project: Project, deed: Deed) -> None:
        """Every rule, then what follows from it."""
        if deed.by is None:
            return
        turn = self._ledger.turn_of(deed.by)
        self._ledger.note(f"{deed.by.host.name}/{deed.by.pid} {deed.what}: {_brief(deed.was)} → {_brief(deed.now)}")
        for wrong in self._wrong(project, deed, turn):
            self._ledger.breaks("history", wrong)
        if isinstance(deed.now, BranchFacts | SnapshotFacts) and deed.was is None:
            self.made[deed.now.id] = deed.by
            self.names.add(deed.now.name)
        if isinstance(deed.was, SnapshotFacts):
            self.deleted[deed.was.name] = project.timeline.now()

    def _wrong(self, project: Project, deed: Deed, turn: Turn | None) -> Iterator[str]:
        if turn is None:
            return  # It was asked for while somebody decided, and arrives when nobody does any more.
        want = turn.want
        match deed.what, deed.was, deed.now:
            case "window", timedelta() as was, timedelta() as now:
                yield from self._window(want, was, now)
            case "branch", BranchFacts() as branch, None:
                yield from self._branch(branch, deed.by)
            case "snapshot", SnapshotFacts() as snapshot, None:
                yield from self._snapshot(project, want, snapshot)
            case "schedule", was, _:
                if was == BY_HAND and not (want.snapshots and want.snapshots.takeover):
                    yield "a schedule made by hand is replaced"
            case _, None, BranchFacts() | SnapshotFacts() as made:
                if isinstance(made, BranchFacts) and made.name in self.names:
                    yield f"branch {made.name} is made a second time"
                if isinstance(made, SnapshotFacts):
                    yield from self._second(project, want, made)

    def _window(self, want: DatabasePolicy, was: timedelta, now: timedelta) -> Iterator[str]:
        if want.pitr is None or not want.pitr.manage or now != min(want.pitr.window, 7 * DAY):
            yield f"the window is set to {now}, which nobody wants"
        if now < was and not self._ledger.shortening:
            yield f"the window is shortened from {was} to {now}, and nobody approved"

    def _branch(self, branch: BranchFacts, by: SimulatedProcess | None) -> Iterator[str]:
        if branch.id not in self.made:
            yield f"branch {branch.name} is deleted, and is not ours"
        use = branch.name[-23:]
        for store in self._truth.stores.values():
            folder = self._truth.folder(store, "hotel", use)
            intent = folder.intent
            mine = intent is not None and intent.owner is not None and by is not None and intent.owner.token in by.tokens
            # One that was stopped for so long may be taken for dead, here as everywhere.
            if self._truth.lives(intent) and not mine and _silent(folder) < SILENT:
                yield f"branch {branch.name} is deleted under a living dump"

    def _snapshot(self, project: Project, want: DatabasePolicy, snapshot: SnapshotFacts) -> Iterator[str]:
        others = [one for one in project.snapshots.values() if one.id in self.made and one.id != snapshot.id]
        now = project.timeline.now()
        if snapshot.id not in self.made:
            yield f"snapshot {snapshot.name} is deleted, and is not ours"
        # Two may be of one instant: which of them is the last is nobody's to say.
        if sum(one.instant >= snapshot.instant for one in others) < 2:
            yield f"snapshot {snapshot.name} is deleted, and is one of the last two"
        if want.snapshots is None or snapshot.instant > now - want.snapshots.retain + timedelta(seconds=1):
            yield f"snapshot {snapshot.name} is deleted, and is young"

    def _second(self, project: Project, want: DatabasePolicy, made: SnapshotFacts) -> Iterator[str]:
        """A slot has one, under the id of one repository."""
        slot = None if want.snapshots is None else want.snapshots.schedule.latest(made.instant, want.timezone)
        whose = made.name[: -len("-20251020T000000Z")]
        there = [one for one in project.snapshots.values() if one.id in self.made and one.name.startswith(whose)]
        # One that was decided on before the slot came may have been taken after it.
        if slot is not None and sum(one.instant >= slot for one in there) > 1:
            yield f"snapshot {made.name} is the third one since the slot {slot}"

    def leftovers(self, project: Project, database: str) -> Iterator[str]:
        """What we made for it and nobody needs. What was made under another name goes by its end."""
        project.trim()
        ours = (branch for branch in project.branches.values() if branch.id in self.made)
        return (f"branch {branch.name}" for branch in ours if branch.name.startswith(f"reconciler-{database}-"))

    def reaches(self, project: Project, back: timedelta, slack: timedelta) -> bool:
        """Whether an instant so long ago can really be returned to."""
        project.trim()
        return not project.refuses and project.oldest <= project.timeline.now() - back + slack


def _brief(value: object) -> str:
    return value.name if isinstance(value, BranchFacts | SnapshotFacts) else str(value)


def a_window_is_set_back(project: Project, chance: Chance) -> bool:
    """By somebody's script. (Nobody but us widens one: that would be taken at its word.)"""
    project.set_window(min(project.window, chance.choice((HOUR, DAY))), expect=None, by=None)
    return True


def a_branch_of_somebody(project: Project, chance: Chance) -> bool:
    """A preview; one with a name like ours; one below another."""
    if len(project.branches) > 12:
        return False
    name = chance.choice(("preview", "preview-2", "reconciler-hotel", *project.former[-3:]))
    marks = {MARK: "another"} if chance.happens(0.3) else None
    if any(project.named(name)):
        return False
    parent = chance.choice(sorted(project.branches))
    until = project.timeline.now() + chance.uniform(0.1, 30) * HOUR if chance.happens(0.3) else None
    project.make_branch(name, project.timeline.now(), parent=parent, until=until, marks=marks, by=None)
    return True


def a_branch_is_deleted(project: Project, chance: Chance) -> bool:
    """Anybody's, by hand."""
    parents = {branch.parent for branch in project.branches.values()}
    free = sorted(key for key, branch in project.branches.items() if key != MAIN and key not in parents)
    if free:
        project.delete_branch(project.branches[chance.choice(free)], by=None)
    return bool(free)


def protection_is_taken_away(project: Project, chance: Chance) -> bool:
    """Drift."""
    project.branches[MAIN] = msgspec.structs.replace(project.branches[MAIN], is_protected=False)
    return chance.happens(1.0)


def a_schedule_by_hand(project: Project, chance: Chance) -> bool:
    """Or none."""
    project.set_schedule(BY_HAND if chance.happens(0.5) else (), expect=None, by=None)
    return True


def a_snapshot_by_hand(project: Project, chance: Chance) -> bool:
    """An old one, or one of today."""
    name = f"by hand {len(project.snapshots)}"
    if len(project.snapshots) > 6 or any(one.name == name for one in project.snapshots.values()):
        return False
    made = project.take_snapshot(name, by=None)
    project.snapshots[made.id] = msgspec.structs.replace(made, instant=made.instant - chance.choice((0, 90)) * DAY)
    return True


def a_snapshot_is_deleted(project: Project, chance: Chance) -> bool:
    """Anybody's, by hand."""
    if project.snapshots:
        del project.snapshots[chance.choice(sorted(project.snapshots))]
        return True
    return False


def a_restore_goes_on(project: Project, chance: Chance) -> bool:
    """For a while no instant can be returned to."""
    project.refuses = "" if project.refuses else "restore from snapshot is still ongoing"
    return chance.happens(1.0)


PROJECT_DEEDS: Mapping[str, Callable[[Project, Chance], bool]] = {
    deed.__name__: deed
    for deed in (
        a_window_is_set_back,
        a_branch_of_somebody,
        a_branch_is_deleted,
        protection_is_taken_away,
        a_schedule_by_hand,
        a_snapshot_by_hand,
        a_snapshot_is_deleted,
        a_restore_goes_on,
    )
}


def mend(project: Project, made: Mapping[str, object]) -> None:
    """What is not ours goes, and nothing is refused any more."""
    project.refuses = ""
    project.snapshots = {key: one for key, one in project.snapshots.items() if key in made}
    for branch in project.branches.values():
        # What somebody hung below one of ours.
        if branch.parent is not None and branch.id not in made:
            project.branches = {key: one for key, one in project.branches.items() if key == MAIN or key in made}
            break
