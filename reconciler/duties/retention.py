"""Retention: which backups stay, as a whole over the union of all targets, and the tombstones for those that go."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from reconciler.backups import layout
from reconciler.backups.manifest import decode, encode
from reconciler.backups.records import read_repository, read_tombstone, read_whole
from reconciler.errors import Absent, Conflict, Refused
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.retention import Kept, keep
from reconciler.planning.text import age, instant
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Backup, Observation, Tombstone
from reconciler.world.ports import ABSENT, Target, World

FLOOR = 2
"""While nothing was ever verified, so many of the newest whole ones stay, expired or not."""


class PruneBackup(Action, frozen=True, kw_only=True, tag="prune_backup"):
    """Announce the deletion of a backup on every target that holds it; until its grace has passed, it can come back."""

    effect = "delete"

    backup: str
    targets: tuple[str, ...]

    @property
    def loses(self) -> str:
        return self.backup

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Writes tombstones and removes nothing. Each manifest is read afresh: what is not ours is refused."""
        now = world.clock.now().replace(microsecond=0)
        grace = _grace(want)
        for name in self.targets:
            self._bury(world.targets[name], Tombstone(id=self.backup, at=now, due=now + grace, reason="not kept by retention"))
        return f"{self.backup} on {', '.join(self.targets)}: deleted, can come back until {instant(now + grace)}"

    def _bury(self, target: Target, tombstone: Tombstone) -> None:
        text, _ = read_whole(target, layout.object_key(self.database, self.backup, layout.MANIFEST))
        manifest = decode(text, backup=self.backup)
        if manifest.repository != read_repository(target, layout.repository_key(self.database)).id:
            raise Refused(f"{target.name}: {self.backup} belongs to another repository")
        if manifest.kind != "scheduled" and not (manifest.keep_until is not None and manifest.keep_until <= tombstone.at):
            raise Refused(f"{target.name}: {self.backup} is {manifest.kind}, and its time to be kept is not over")
        record = Tombstone(id=tombstone.id, at=tombstone.at, due=tombstone.due, reason=tombstone.reason, slot=manifest.slot)
        key = layout.tombstone_key(self.database, self.backup, tombstone.due)
        try:
            target.write(key, [encode(record)], expect=ABSENT)
        except Conflict as lost:
            # Met twice it is the same, as long as it is there: a lease that was lost is a conflict too.
            try:
                read_tombstone(target, key, backup=self.backup)
            except Absent:
                raise lost from None


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Backups that nothing keeps, oldest first."""
    stays = kept(want, have, now)
    whole = [backup for backup in have.backups() if backup.whole_on]
    steps = [_step(want, have, backup) for backup in reversed(whole) if backup.id not in stays]
    ends = (backup.keep_until for backup in whole if backup.keep_until is not None and backup.keep_until > now)
    return Due(steps=tuple(steps), next_at=min(ends, default=None))


def _step(want: DatabasePolicy, have: Observation, backup: Backup) -> Step:
    action = PruneBackup(database=have.database, backup=backup.id, targets=backup.whole_on)
    reason = "not kept by retention" if backup.kind == "scheduled" else f"{backup.kind}, its time to be kept is over"
    grace = _grace(want)
    shown = Shown(
        does="prune",
        to=f"on {', '.join(backup.whole_on)}",
        why=f"{reason}; " + (f"can come back for {age(grace)}" if grace else "cannot come back: no grace"),
        counted="backup|backups",
        bytes=backup.stored_bytes * len(backup.whole_on),
    )
    return Step(action=action, shown=shown)


def _grace(want: DatabasePolicy) -> timedelta:
    return (want.dumps.retention or Retention()).grace


def _keep(want: DatabasePolicy, scheduled: Sequence[Backup], now: datetime) -> Sequence[Kept]:
    return keep([backup.instant for backup in scheduled], want.dumps.retention, now=now, timezone=want.timezone)


def kept(want: DatabasePolicy, have: Observation, now: datetime) -> Mapping[str, tuple[str, ...]]:
    """Every whole backup that stays, and why. Retention governs scheduled ones only; the rest stay until their own end."""
    whole = [backup for backup in have.backups() if backup.whole_on]
    scheduled = [backup for backup in whole if backup.kind == "scheduled"]
    reasons: dict[str, tuple[str, ...]] = {}
    by_instant = {item.instant: item.reasons for item in _keep(want, scheduled, now)}
    for backup in scheduled:
        if backup.instant in by_instant:
            reasons[backup.id] = by_instant[backup.instant]
    for backup in whole:
        if backup.kind != "scheduled" and not (backup.keep_until is not None and backup.keep_until <= now):
            reasons[backup.id] = (backup.kind,)
        if any(copy.held for copy in backup.copies.values()):
            reasons[backup.id] = (*reasons.get(backup.id, ()), "on hold")
    for backup in [backup for backup in whole if backup.instant <= now][:FLOOR]:
        reasons.setdefault(backup.id, (f"one of the newest {FLOOR} while none is verified",))
    return reasons


DUTY = Duty(name="retention", lane="keep", due=due, actions=(PruneBackup,))
