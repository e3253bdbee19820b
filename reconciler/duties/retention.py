"""Retention: which backups stay, as a whole over the union of all targets, and the tombstones for those that go."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.erase import erase_object
from reconciler.backups.fetch import read_manifest
from reconciler.backups.keeping import read_hold
from reconciler.backups.pins import give_way_to_readers
from reconciler.backups.records import read_repository
from reconciler.backups.tombstones import read_tombstone, write_tombstone
from reconciler.errors import Absent, Conflict, Finding, Refused
from reconciler.planning.allowance import given_up
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.proof import proven, refuted, sound_on
from reconciler.planning.retention import Kept, keep
from reconciler.planning.text import age, instant
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Backup, Observation, Tombstone
from reconciler.world.ports import Signatures, Target, World

FLOOR = 2
"""While nothing was ever verified, so many of the newest whole ones stay, expired or not."""


class PruneBackup(Action, frozen=True, kw_only=True, tag="prune_backup"):
    """Announce the deletion of a backup on every target that holds it; until its grace has passed, it can come back."""

    effect = "delete"
    hooked = "prune"

    backup: str
    targets: tuple[str, ...]

    @property
    def loses(self) -> str:
        return self.backup

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Writes tombstones and removes nothing. Each manifest is read afresh: what is not ours is refused."""
        now = world.clock.now().replace(microsecond=0)
        grace = grace_of(want)
        stone = Tombstone(id=self.backup, at=now, due=now + grace, reason="not kept by retention")
        for name in self.targets:
            self._refuse_kept(world, name, now)
        bury(world, want, self.database, self.targets, stone)
        return f"{self.backup} on {', '.join(self.targets)}: {deleted(stone)}"

    def _refuse_kept(self, world: World, name: str, now: datetime) -> None:
        target = world.targets[name]
        manifest = read_manifest(target, self.database, self.backup, world.signatures)
        if manifest.kind != "scheduled" and not (manifest.keep_until is not None and manifest.keep_until <= now):
            raise Refused(f"{target.name}: {self.backup} is {manifest.kind}, and its time to be kept is not over")


def bury(world: World, want: DatabasePolicy, database: str, targets: Sequence[str], stone: Tombstone) -> None:
    """A tombstone on each target; none of them stays when somebody turns out to be reading the backup. Removes nothing else.

    Each manifest is read afresh. Raises Refused for what is not ours or on hold, Conflict when a reader is met.
    """
    placed: list[tuple[Target, str]] = []
    for name in targets:
        target = world.targets[name]
        manifest = read_manifest(target, database, stone.id, world.signatures)
        if manifest.repository != read_repository(target, layout.repository_key(database)).id:
            raise Refused(f"{target.name}: {stone.id} belongs to another repository")
        if held := read_hold(target, layout.object_key(database, stone.id, layout.HOLD), stone.at):
            raise Refused(f"{target.name}: {stone.id} is {held}", cure="release it first")
        if _place(target, database, msgspec.structs.replace(stone, slot=manifest.slot), world.signatures):
            placed.append((target, layout.tombstone_key(database, stone.id, stone.due)))
    try:
        give_way_to_readers(world, world.targets[want.home], database=database, backup=stone.id)
    except Conflict:
        for target, key in placed:
            erase_object(target, key)
        raise


def deleted(stone: Tombstone) -> str:
    """For people."""
    if stone.due <= stone.at:
        return "deleted for good; the next `reconcile apply` removes its bytes, or says when they may go"
    return f"deleted, can come back until {instant(stone.due)}"


def _place(target: Target, database: str, stone: Tombstone, signatures: Signatures) -> bool:
    """Whether it is new there. Met twice it is the same, as long as it is there: a lease that was lost is a conflict too."""
    try:
        write_tombstone(target, database, stone, signatures)
    except Conflict as lost:
        try:
            key = layout.tombstone_key(database, stone.id, stone.due)
            read_tombstone(target, key, backup=stone.id, signatures=signatures)
        except Absent:
            raise lost from None
        return False
    return True


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Backups that nothing keeps, oldest first."""
    stays = kept(want, have, now)
    whole = [backup for backup in have.backups() if backup.whole_on]
    going = [(backup, removable_on(backup, have)) for backup in reversed(whole) if backup.id not in stays]
    steps = [_step(want, have, backup, targets) for backup, targets in going if targets]
    ends = (backup.keep_until for backup in whole if backup.keep_until is not None and backup.keep_until > now)
    return Due(
        steps=tuple(steps), findings=tuple(_held(backup) for backup in whole if backup.held), next_at=min(ends, default=None)
    )


def _held(backup: Backup) -> Finding:
    """So that a hold is not forgotten."""
    where = ", ".join(name for name, copy in sorted(backup.copies.items()) if copy.held)
    what = f"backup {backup.id} is {'; '.join(backup.held)}"
    return Finding(severity="note", where=where, what=what, cure="`reconcile backups release ID` lets retention govern it again")


def removable_on(backup: Backup, have: Observation) -> tuple[str, ...]:
    """Targets with a whole copy that may be deleted there."""
    return tuple(name for name in backup.whole_on if name not in have.append_only())


def _step(want: DatabasePolicy, have: Observation, backup: Backup, targets: tuple[str, ...]) -> Step:
    action = PruneBackup(database=have.database, backup=backup.id, targets=targets)
    reason = "not kept by retention" if backup.kind == "scheduled" else f"{backup.kind}, its time to be kept is over"
    grace = grace_of(want)
    shown = Shown(
        does="prune",
        to=f"on {', '.join(targets)}",
        why=f"{reason}; " + (f"can come back for {age(grace)}" if grace else "cannot come back: no grace"),
        counted="backup|backups",
        bytes=backup.stored_bytes * len(targets),
    )
    return Step(action=action, shown=shown)


def grace_of(want: DatabasePolicy) -> timedelta:
    """How long a pruned backup can come back."""
    return (want.dumps.retention or Retention()).grace


def min_verified_of(want: DatabasePolicy) -> int:
    """So many backups that a restore has proven stay in any case."""
    return (want.dumps.retention or Retention()).min_verified


def _keep(want: DatabasePolicy, scheduled: Sequence[Backup], now: datetime) -> Sequence[Kept]:
    return keep([backup.instant for backup in scheduled], want.dumps.retention, now=now, timezone=want.timezone)


def kept(want: DatabasePolicy, have: Observation, now: datetime) -> Mapping[str, tuple[str, ...]]:
    """Every whole backup that stays, and why. Retention governs scheduled ones only; the rest stay until their own end."""
    return have.once(_kept, want, now)


def _kept(have: Observation, want: DatabasePolicy, now: datetime) -> Mapping[str, tuple[str, ...]]:
    whole = [backup for backup in have.backups() if backup.whole_on]
    pinned, bad, lost = have.pinned(), refuted(have), given_up(have)
    reasons: dict[str, tuple[str, ...]] = {}
    # Apart: a partial backup must not take the place of one that holds the whole; and one that failed takes nobody's.
    for partial in (False, True):
        alike = [backup for backup in whole if backup.kind == "scheduled" and backup.partial == partial]
        scheduled = [backup for backup in alike if sound_on(backup, bad)]
        if not scheduled:
            continue
        # What a tombstone condemns on any target stays where it is kept, and takes the place of none that nobody gave up.
        staying = [backup for backup in scheduled if not (backup.has_tombstone or backup.id in lost)]
        for those in (staying, scheduled) if len(staying) < len(scheduled) else (scheduled,):
            by_instant = {item.instant: item.reasons for item in _keep(want, those, now)}
            reasons |= {backup.id: by_instant[backup.instant] for backup in those if backup.instant in by_instant}
    for backup in whole:
        if backup.kind != "scheduled" and not (backup.keep_until is not None and backup.keep_until <= now):
            reasons[backup.id] = (backup.kind,)
        reasons[backup.id] = (*reasons.get(backup.id, ()), *backup.held)
        if not sound_on(backup, bad):
            reasons[backup.id] = (*reasons[backup.id], "failed its verification: left to people")
        if backup.id in pinned:
            reasons[backup.id] = (*reasons[backup.id], "being read")
        if not reasons[backup.id]:
            del reasons[backup.id]
    _keep_the_last_good(want, have, now, reasons)
    return reasons


def _keep_the_last_good(want: DatabasePolicy, have: Observation, now: datetime, reasons: dict[str, tuple[str, ...]]) -> None:
    """The newest that a restore has proven, expired or not; while there is none, the newest whole ones that nothing refutes."""
    verified, bad, least = proven(have), refuted(have), min_verified_of(want)
    for partial in (False, True):
        there = [backup for backup in have.backups() if backup.instant <= now and backup.partial == partial]
        good = [backup for backup in there if backup.id in verified][:least]
        for backup in good:
            reasons.setdefault(backup.id, (f"one of the newest {least} that a restore has proven",))
        if len(good) < least:
            for backup in [backup for backup in there if sound_on(backup, bad)][:FLOOR]:
                reasons.setdefault(backup.id, (f"one of the newest {FLOOR} while none is verified",))


DUTY = Duty(name="retention", lane="keep", due=due, actions=(PruneBackup,))
