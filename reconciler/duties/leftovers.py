"""Leftovers: what a death left behind, and deletions whose grace has passed."""

from contextlib import suppress
from datetime import datetime, timedelta

from reconciler.backups import layout
from reconciler.backups.erase import erase, erase_object, erase_tombstones
from reconciler.backups.manifest import encode
from reconciler.backups.records import read_tombstone
from reconciler.duties.retention import FLOOR
from reconciler.errors import Conflict, Finding, Refused
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Catalogue, Copy, Observation, Tombstone
from reconciler.world.ports import ABSENT, World

REMEMBERED = timedelta(days=30)
"""How long a tombstone outlives what it buried: no late copy brings it back."""


class SweepDebris(Action, frozen=True, kw_only=True, tag="sweep_debris"):
    """Remove what a writer left that died before its manifest. It never was a backup."""

    effect = "delete"

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Ends its sessions, then data and intent, through a tombstone that names no slot: the slot is free again."""
        target, now = world.targets[self.target], world.clock.now().replace(microsecond=0)
        if layout.MANIFEST in {item.key.rpartition("/")[2] for item in target.list(self._root()).items}:
            raise Conflict(f"{self.target}: {self.backup} has a manifest by now")
        ended = world.provider.source().end_sessions(self.backup)
        record = Tombstone(id=self.backup, at=now, due=now, reason="its writer died before the manifest", counts=False)
        with suppress(Conflict):
            target.write(layout.tombstone_key(self.database, self.backup, now), [encode(record)], expect=ABSENT)
        count = erase(target, self.database, self.backup)
        erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {self.target}: {count} objects removed" + (f", {ended} sessions ended" if ended else "")

    def _root(self) -> str:
        return layout.backup_root(self.database, self.backup)


class FinishDeletion(Action, frozen=True, kw_only=True, tag="finish_deletion"):
    """Remove a backup whose tombstone is due: manifest first, then data."""

    effect = "delete"

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Rests on the tombstones themselves, read afresh."""
        target, now = world.targets[self.target], world.clock.now()
        root = layout.backup_root(self.database, self.backup)
        keys = [item.key for item in target.list(root).items if item.key.startswith(root + "tombstone-")]
        stones = [read_tombstone(target, key, backup=self.backup) for key in keys]
        if not stones or max(stone.due for stone in stones) > now:
            raise Refused(f"{self.target}: {self.backup} may not be removed yet")
        count = erase(target, self.database, self.backup)
        if not any(stone.counts for stone in stones):
            erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {self.target}: {count} objects removed for good"


class RemoveIntent(Action, frozen=True, kw_only=True, tag="remove_intent"):
    """Remove the intent of a writer that died after the manifest."""

    effect = "delete"

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """The backup itself is untouched."""
        erase_object(world.targets[self.target], layout.object_key(self.database, self.backup, layout.INTENT))
        return f"{self.backup} on {self.target}: leftover intent removed"


class ForgetTombstone(Action, frozen=True, kw_only=True, tag="forget_tombstone"):
    """Remove the last trace of a backup that is gone everywhere, and has been for 30 days."""

    effect = "delete"

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Only where nothing else is left under the id."""
        target = world.targets[self.target]
        root = layout.backup_root(self.database, self.backup)
        if any(not item.key.startswith(root + "tombstone-") for item in target.list(root).items):
            raise Conflict(f"{self.target}: something lies under {self.backup} again")
        erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {self.target}: forgotten"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Only ever as the table of states says; everything else is reported."""
    steps: list[Step] = []
    findings: list[Finding] = []
    last_good = sum(backup.state == "whole" for backup in have.backups()) < FLOOR
    for target, catalogue in have.known().items():
        for copy in catalogue.copies:
            if copy.state == "being_deleted" and last_good:
                findings.append(_spared(target, copy))
            else:
                steps += _steps(have.database, target, copy)
            findings += _findings(target, copy)
        steps += _forgettable(have, target, catalogue, now)
        findings += [
            Finding(
                severity="warning",
                where=target,
                what=f"{key} is nothing that this program wrote",
                cure="move it away; it is never touched",
            )
            for key in catalogue.strays
        ]
    ends = (copy.due for catalogue in have.known().values() for copy in catalogue.copies if copy.due and copy.due > now)
    return Due(steps=tuple(steps), findings=tuple(findings), next_at=min(ends, default=None))


def _spared(target: str, copy: Copy) -> Finding:
    """A deletion decided when there were more: what it would take now may be the last good one."""
    what = f"backup {copy.id} stays though its grace has passed: fewer than {FLOOR} whole backups are left"
    return Finding(
        severity="error", where=target, what=what, cure="find out where the others went; it goes once there are newer ones"
    )


def _steps(database: str, target: str, copy: Copy) -> list[Step]:
    if copy.state == "debris":
        action: Action = SweepDebris(database=database, backup=copy.id, target=target)
        return [Step(action=action, shown=Shown(does="sweep debris", to=f"on {target}", why=f"{copy.id}: {copy.why}"))]
    if copy.state == "being_deleted":
        action = FinishDeletion(database=database, backup=copy.id, target=target)
        why = "deleted earlier, its grace has passed"
        return [
            Step(
                action=action,
                shown=Shown(does="remove", to=f"on {target}", why=why, counted="backup|backups", bytes=copy.stored_bytes),
            )
        ]
    if copy.state == "whole" and copy.writer == "gone":
        action = RemoveIntent(database=database, backup=copy.id, target=target)
        return [Step(action=action, shown=Shown(does="remove leftover intent", to=f"on {target}", why=copy.id))]
    return []


def _forgettable(have: Observation, target: str, catalogue: Catalogue, now: datetime) -> list[Step]:
    """A trace may go once no target holds the id any more; while one is unknown, nobody can say so."""
    left = {backup.id for backup in have.backups()}
    ids = sorted({stone.id for stone in catalogue.tombstones if stone.due + REMEMBERED <= now and stone.id not in left})
    if have.unknown():
        return []
    return [
        Step(
            action=ForgetTombstone(database=have.database, backup=key, target=target),
            shown=Shown(does="forget", to=f"on {target}", why="gone for 30 days", counted="tombstone|tombstones"),
        )
        for key in ids
    ]


_CURES = {
    "damaged": "use another copy of it; it counts as no restore point, and is never written over",
    "orphan": "nothing is done with it; look at what it is, and remove it by hand if nobody needs it",
    "hidden": "find out who deleted it; the object store still has it as a version",
    "foreign": "it neither counts nor is touched",
    "impossible": "find out whose clock was wrong; nothing is pruned while it is there",
}


def _findings(target: str, copy: Copy) -> list[Finding]:
    if copy.state in _CURES:
        severity = "error" if copy.state in ("damaged", "hidden", "impossible") else "warning"
        what = f"backup {copy.id} is {copy.state}: {copy.why}"
        return [Finding(severity="error" if severity == "error" else "warning", where=target, what=what, cure=_CURES[copy.state])]
    if copy.state == "being_written":
        return [Finding(severity="note", where=target, what=f"backup {copy.id} is being written {copy.why}")]
    if copy.state == "deleted":
        return [Finding(severity="note", where=target, what=f"backup of {instant(copy.instant)} is deleted: {copy.why}")]
    return []


DUTY = Duty(name="leftovers", lane="keep", due=due, actions=(SweepDebris, FinishDeletion, RemoveIntent, ForgetTombstone))
