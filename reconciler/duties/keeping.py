"""Keeping and letting go: freezes that a finding asks for, pins of dead readers, and what a person asks for by name."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from reconciler.backups import layout
from reconciler.backups.claim import read_claim
from reconciler.backups.erase import erase_object, erase_tombstones
from reconciler.backups.fetch import read_manifest
from reconciler.backups.keeping import NO_FREEZE, Freeze, change_freeze, end_of, read_freeze
from reconciler.duties.retention import FLOOR, bury, deleted, removable_on
from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Unreachable
from reconciler.planning.alarms import alarm
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.proof import proven, refuted, sound_on
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Instant, Observation, Tombstone
from reconciler.world.ports import Target, World


class FreezeDeletions(Action, frozen=True, kw_only=True, tag="freeze_deletions"):
    """Stop every deletion of the database until somebody lifts it."""

    effect = "create"
    waits = False

    why: str
    who: str
    until: Instant | None = None

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """On every target that takes it, since any of them may leave the policy. Keeps what was acknowledged before."""
        now = world.clock.now()
        refuse_past(self.until, now)

        def frozen(before: Freeze) -> Freeze:
            refuse_shortening(before.says(now), before.until, self.until, cure=f"`reconcile unfreeze {self.database}` first")
            return Freeze(who=self.who, why=self.why, at=now, until=self.until, acknowledged=before.acknowledged)

        unwritten: list[ReconcilerError] = []
        for target in world.targets.values():
            try:
                change_freeze(target, self.database, frozen)
            except (Unreachable, Refused) as error:
                unwritten.append(error)
        if len(unwritten) == len(world.targets) or any(isinstance(error, Shortened) for error in unwritten):
            raise unwritten[0]
        but = f"; not written everywhere: {unwritten[0].what}" if unwritten else ""
        return f"nothing of {self.database} is deleted: {self.why}{but}"


class LiftFreeze(Action, frozen=True, kw_only=True, tag="lift_freeze"):
    """Let deletions go on; what the freeze was about is acknowledged."""

    effect = "change"

    who: str
    acknowledged: tuple[str, ...]
    """Backups that are as small as they should be."""

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Wherever it is. The records stay, as the memory of what was acknowledged."""
        key = layout.freeze_key(self.database)
        before = {name: read_freeze(target, key) for name, target in sorted(world.targets.items())}
        known = tuple(dict.fromkeys((*(one for freeze in before.values() for one in freeze.acknowledged), *self.acknowledged)))
        now = world.clock.now()
        for name, freeze in before.items():
            if freeze != NO_FREEZE or name == want.home:
                lifted = Freeze(who=self.who, why=freeze.why, at=now, lifted=True, acknowledged=known)
                change_freeze(world.targets[name], self.database, _over(freeze, lifted, name))
        return f"deletions of {self.database} go on"


def _over(known: Freeze, wanted: Freeze, target: str) -> Callable[[Freeze], Freeze]:
    """Nobody lifts a freeze that they have not seen."""

    def change(found: Freeze) -> Freeze:
        if found not in (known, wanted):
            raise Conflict(
                f"{target}: {found.who} wrote to freeze.json meanwhile", cure="look at `reconcile status`, then try again"
            )
        return wanted

    return change


class Shortened(Refused):
    """Somebody else wanted it to last longer."""


def refuse_past(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        raise Refused(f"{instant(until)} has passed", cure="give a date that lies ahead, or none")


def refuse_shortening(says: str, until: datetime | None, wanted: datetime | None, *, cure: str) -> None:
    """What another wanted to last longer is not ended by the way."""
    if says and end_of(until) > end_of(wanted):
        raise Shortened(f"it is so already, and for longer: {says}", cure=cure)


class DeleteBackup(Action, frozen=True, kw_only=True, tag="delete_backup"):
    """Delete a backup by name, whatever retention says of it; until its grace has passed, it can come back."""

    effect = "delete"

    backup: str
    targets: tuple[str, ...]
    who: str
    grace_seconds: int

    @property
    def loses(self) -> str:
        return self.backup

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Tombstones, as a prune writes them; the data goes when they are due."""
        now = world.clock.now().replace(microsecond=0)
        due = now + timedelta(seconds=self.grace_seconds)
        stone = Tombstone(id=self.backup, at=now, due=due, reason=f"deleted by {self.who}")
        bury(world, want, self.database, self.targets, stone)
        return f"{self.backup} on {', '.join(self.targets)}: {deleted(stone)}"


class UndeleteBackup(Action, frozen=True, kw_only=True, tag="undelete_backup"):
    """Bring a deleted or hidden backup back, if all of it is still there."""

    effect = "create"

    backup: str
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """A backup that is already partly gone stays deleted: half of one is none."""
        for name in self.targets:
            target = world.targets[name]
            _unhide(target, self.database, self.backup)
            self._refuse_half(world, target)
            erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {', '.join(self.targets)}: is back"

    def _refuse_half(self, world: World, target: Target) -> None:
        root = layout.backup_root(self.database, self.backup)
        sizes = {item.key: item.size for item in target.list(root).items}
        try:
            manifest = read_manifest(target, self.database, self.backup, world.signatures)
        except Absent as gone:
            raise Refused(f"{target.name}: {self.backup} is gone already", cure="use another backup") from gone
        if any(sizes.get(root + stored.name) != stored.stored_bytes for stored in manifest.objects):
            raise Refused(f"{target.name}: {self.backup} is partly gone already", cure="use another backup")


def _unhide(target: Target, database: str, backup: str) -> None:
    """Remove the delete markers that hide it, however many lie there: on a versioned store the versions below them are whole."""
    if not target.versioned:
        return
    items = target.list(layout.backup_root(database, backup), versions=True).items
    hidden = {item.key for item in items if item.marker and item.latest and not layout.is_tombstone(item.key)}
    for item in items:
        if item.marker and item.key in hidden and item.key.rpartition("/")[2] != layout.INTENT:
            target.delete(item.key, version=item.version)


class RemovePin(Action, frozen=True, kw_only=True, tag="remove_pin"):
    """Remove the pin of a reader that died: first, since it keeps what is to be deleted."""

    effect = "change"

    key: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Looked at afresh: a reader that lives keeps it."""
        target = world.targets[self.target]
        try:
            record, _ = read_claim(target, self.key)
        except Absent:
            return "the pin is gone"
        if record is not None and record.owner is not None and world.process.is_gone(record.owner) is False:
            raise Conflict(f"{self.target}: the reader of {self.key} lives")
        erase_object(target, self.key)
        return f"a dead reader's pin on {self.target} removed"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """A freeze when a dump shrank or a table lost its rows; dead readers' pins away."""
    pins = [
        Step(
            action=RemovePin(database=have.database, key=pin.key, target=target),
            shown=Shown(does="remove a dead reader's pin", to=f"on {target}", why=pin.says),
        )
        for target, catalogue in have.known().items()
        for pin in catalogue.pins
        if pin.writer == "gone"
    ]
    return Due(steps=(*_freeze(have, now), *pins))


def _freeze(have: Observation, now: datetime) -> list[Step]:
    why = alarm(have, now)
    if not why or any(catalogue.frozen for catalogue in have.known().values()):
        return []
    action = FreezeDeletions(database=have.database, why=why, who="reconcile")
    shown = Shown(does="freeze deletions", why=f"{why}; look, then `reconcile unfreeze {have.database}`")
    return [Step(action=action, shown=shown)]


def plan_delete(backup: Backup, have: Observation, *, who: str, grace: timedelta, min_verified: int) -> Step:
    """By name. Raises Refused where a rule stands against it: a hold, a reader, the last good ones."""
    targets = removable_on(backup, have)
    if not targets:
        states = ", ".join(f"{copy.state} on {name}" for name, copy in sorted(backup.copies.items()))
        raise Refused(f"{backup.id} is {states}: only whole ones are deleted by name, and none on an append-only target")
    for says in backup.held:
        raise Refused(f"{backup.id} is {says}", cure="release it first")
    if backup.id in have.pinned():
        raise Refused(f"{backup.id} is being read", cure="wait for the reader")
    bad, verified = refuted(have), proven(have)
    # A partial one does not stand in for one that holds the whole.
    others = [one for one in have.backups() if sound_on(one, bad) and one.id != backup.id and one.partial <= backup.partial]
    alike = [one.id for one in have.backups() if one.id in verified and one.partial <= backup.partial]
    if backup.id in verified and len(alike) <= min_verified:
        what = f"{backup.id} is one of the last {min_verified} that a restore has proven"
        raise Refused(what, cure="prove another first, with `reconcile backups verify`")
    if len(others) < FLOOR:
        raise Refused(f"{backup.id} is one of the last {FLOOR} whole backups", cure="take another first")
    action = DeleteBackup(
        database=have.database,
        backup=backup.id,
        targets=targets,
        who=who,
        grace_seconds=int(grace.total_seconds()),
    )
    return Step(
        action=action,
        shown=Shown(does="delete", to=f"on {', '.join(targets)}", why=f"by {who}", bytes=backup.stored_bytes),
    )


def plan_undelete(backup: Backup, have: Observation) -> Step:
    """Raises Refused for one that was not deleted."""
    where = _in_states(backup, ("deleted", "being_deleted", "hidden"))
    if not where:
        raise Refused(f"{backup.id} is {backup.state}: there is nothing to bring back")
    action = UndeleteBackup(database=have.database, backup=backup.id, targets=where)
    return Step(action=action, shown=Shown(does="undelete", to=f"on {', '.join(where)}", why="by name"))


def _in_states(backup: Backup, states: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, copy in sorted(backup.copies.items()) if copy.state in states)


DUTY = Duty(
    name="keeping",
    lane="keep",
    due=due,
    actions=(FreezeDeletions, LiftFreeze, DeleteBackup, UndeleteBackup, RemovePin),
)
