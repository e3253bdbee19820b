"""Leftovers: what a death left behind, and deletions whose grace has passed."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from reconciler.backups import layout
from reconciler.backups.claim import ClaimRecord, describe, read_claim
from reconciler.backups.erase import erase, erase_object, erase_tombstones, put_off
from reconciler.backups.fetch import read_signed
from reconciler.backups.keeping import hold_at, keep_as_recorded
from reconciler.backups.layout import REMEMBERED
from reconciler.backups.manifest import NewerFormat, encode
from reconciler.backups.pins import give_way_to_readers
from reconciler.backups.tombstones import arrival, as_met, read_tombstone, refuse_denial, write_tombstone
from reconciler.duties.retention import FLOOR, min_verified_of
from reconciler.errors import Absent, Conflict, Corrupt, Finding, Locked, Refused
from reconciler.planning.guard import IMPOSSIBLE_CURE
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.proof import UNTRIED, proven, refuted, sound_on, standings
from reconciler.planning.text import age, counted, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Catalogue, Copy, Observation, Tombstone
from reconciler.world.ports import Target, World


class SweepDebris(Action, frozen=True, kw_only=True, tag="sweep_debris"):
    """Remove what a writer left that died before its manifest. It never was a backup."""

    effect = "delete"
    frees = True

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Ends its sessions, then data and intent, through a tombstone that names no slot: the slot is free again.

        A hold keeps what may be all that is left of a backup. What was to be a copy of one that lies elsewhere goes with it.
        """
        target, now = world.targets[self.target], world.clock.now().replace(microsecond=0)
        # Only once no writer can seal it any more does the absence of a manifest mean something.
        try:
            self._take_over(world, target)
        except Locked as locked:
            return f"{locked.what}: it stays for now"
        # Read, not listed: a store may list what is there a little later than it would give it.
        with suppress(Absent), target.read(self._root() + layout.MANIFEST):
            raise Conflict(f"{self.target}: {self.backup} has a manifest by now")
        if layout.look_at(target, self.database, self.backup).is_hidden:
            raise Conflict(f"{self.target}: {self.backup} is hidden, and no debris")
        elsewhere = lies_elsewhere(world, want, target, self.backup)
        ended = world.provider.source().end_sessions(self.backup)
        record = Tombstone(id=self.backup, at=now, due=now, reason="its writer died before the manifest", counts=False)
        with suppress(Conflict):
            write_tombstone(target, self.database, record, world.signatures)
        try:
            erased = erase(target, self.database, self.backup, now=now, though_held=elsewhere)
        except Locked as locked:
            until = put_off(target, self.database, record, locked, now=now, signatures=world.signatures)
            return f"{locked.what}; it is tried again {instant(until)}"
        erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {self.target}: {erased.says}" + (f", {ended} sessions ended" if ended else "")

    def _take_over(self, world: World, target: Target) -> None:
        """Claim the intent: a writer who only slept meets Conflict before its manifest, and seals nothing that we remove."""
        record, etag = read_claim(target, layout.object_key(self.database, self.backup, layout.INTENT))
        if record is not None and record.owner is not None and world.process.is_gone(record.owner) is False:
            raise Conflict(f"{self.target}: {self.backup} is being written by {describe(record)}")
        owner = world.process.begin()
        ours = ClaimRecord(owner=owner, counter=0, since=world.clock.now(), for_what=f"sweeping {self.backup}")
        try:
            target.write(layout.object_key(self.database, self.backup, layout.INTENT), [encode(ours)], expect=etag)
        finally:
            # Should we die now, or the answer be lost, the next turn sees at once that nobody is at it.
            world.process.end(owner)

    def _root(self) -> str:
        return layout.backup_root(self.database, self.backup)


def lies_elsewhere(world: World, want: DatabasePolicy, target: Target, backup: str) -> bool:
    """Whether a hold on it there is of a backup that another target has. Looked at only where one is: else nothing asks."""
    if not hold_at(target, layout.object_key(want.name, backup, layout.HOLD)).says(world.clock.now()):
        return False
    for name in want.dumps.targets:
        if name != target.name:
            # One that can't be read there says nothing of the next.
            with suppress(Absent, Corrupt, NewerFormat):
                read_signed(world.targets[name], want.name, backup, world.signatures)
                return True
    return False


class FinishDeletion(Action, frozen=True, kw_only=True, tag="finish_deletion"):
    """Remove a backup whose tombstone is due: manifest first, then data. So is a sweep of debris done that was cut short."""

    effect = "delete"
    frees = True

    backup: str
    target: str

    @property
    def removes(self) -> str:
        return self.backup

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Rests on the tombstones themselves, read afresh."""
        target, now = world.targets[self.target], world.clock.now()
        stones = self._stones(world, target)
        latest = max(stones, key=lambda stone: stone.due, default=None)
        if latest is None or latest.due > now:
            raise Refused(f"{self.target}: {self.backup} may not be removed yet")
        give_way_to_readers(world, world.targets[want.home], database=self.database, backup=self.backup)
        never_was = not any(stone.counts for stone in stones)
        elsewhere = never_was and lies_elsewhere(world, want, target, self.backup)
        try:
            erased = erase(target, self.database, self.backup, now=now, though_held=elsewhere)
        except Locked as locked:
            until = put_off(target, self.database, latest, locked, now=now, signatures=world.signatures)
            return f"{self.backup} on {self.target}: kept until {instant(until)}, for it is locked"
        if never_was:
            erase_tombstones(target, self.database, self.backup)
        return f"{self.backup} on {self.target}: {erased.says}"

    def _stones(self, world: World, target: Target) -> list[Tombstone]:
        """All of them, each with the grace that it has. Raises Corrupt where one can't be believed."""
        held = layout.look_at(target, self.database, self.backup)
        stones = []
        for item in held.tombstones:
            stone = read_tombstone(target, item.key, backup=self.backup, signatures=world.signatures)
            refuse_denial(stone, f"{self.target}: {item.key}", has_manifest=held.has_manifest)
            stones.append(as_met(stone, arrival(held.tombstones), world.signatures))
        return stones


class RemoveIntent(Action, frozen=True, kw_only=True, tag="remove_intent"):
    """Remove the intent of a writer that died after the manifest."""

    effect = "delete"
    # It loses nothing, and holds a session: a copy that fails each turn must not keep it for ever.
    frees = True

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Ends its sessions, since the intent is what they are found by. The backup itself is untouched.

        Its writer may have died before it asked the store to keep what came with a hold: that is done first.
        """
        keep_as_recorded(world.targets[self.target], self.database, self.backup, world.clock.now())
        ended = world.provider.source().end_sessions(self.backup)
        try:
            erase_object(world.targets[self.target], layout.object_key(self.database, self.backup, layout.INTENT))
            done = f"{self.backup} on {self.target}: leftover intent removed"
        except Locked as locked:
            # It does no harm there, and goes as soon as the store lets it.
            done = f"{locked.what}: it stays for now"
        return done + (f", {ended} sessions ended" if ended else "")


class ForgetTombstone(Action, frozen=True, kw_only=True, tag="forget_tombstone"):
    """Remove the last trace of a backup that is gone everywhere, and has been for 30 days."""

    effect = "delete"

    backup: str
    target: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Only where nothing else of it is left."""
        target = world.targets[self.target]
        root = layout.backup_root(self.database, self.backup)
        names = (item.key.removeprefix(root) for item in target.list(root).items)
        if any(layout.is_of_backup(name) and not layout.is_tombstone(name) for name in names):
            raise Conflict(f"{self.target}: something lies under {self.backup} again")
        try:
            erase_tombstones(target, self.database, self.backup)
        except Locked as locked:
            return f"{locked.what}: it stays for now"
        return f"{self.backup} on {self.target}: forgotten"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Only ever as the table of states says; everything else is reported."""
    steps: list[Step] = []
    findings: list[Finding] = []
    held = {backup.id: "; ".join(backup.held) for backup in have.backups() if backup.held}
    read = dict.fromkeys(have.pinned(), "being read")
    held |= read
    there = {backup.id for backup in have.backups() if backup.whole_on}
    # Neither a partial backup nor one that failed its verification stands in for one that holds the whole.
    bad = refuted(have)
    whole = [backup for backup in have.backups() if sound_on(backup, bad)]
    last = {partial: _last_good(want, have, [one for one in whole if one.partial <= partial]) for partial in (False, True)}
    for target, catalogue in have.known().items():
        lost = {stone.id for stone in catalogue.tombstones if stone.counts}
        # Of nearly all there is nothing to say.
        left = [copy for copy in catalogue.copies if copy.state != "whole" or copy.writer == "gone"]
        for copy in sorted(left, key=lambda copy: copy.id, reverse=True):
            # What was to be a copy of a held backup is none, and would keep the next try away. Nor is it one while it is swept.
            never_was = copy.state == "debris" or (copy.state == "being_deleted" and copy.id not in lost)
            keeps = read if never_was and copy.id in there else held
            last_good = last[copy.partial](target, copy) if copy.id in lost else ""
            spared = _spared(target, copy, held=keeps.get(copy.id, ""), last_good=last_good)
            steps += _steps(have.database, target, copy) if spared is None and not catalogue.append_only else []
            findings += [spared] if spared is not None else _findings(target, copy)
        steps += [] if catalogue.append_only else _forgettable(have, target, catalogue, now)
        findings += _recoverable(target, catalogue.copies, held)
        findings += _begun_anew(target, catalogue.copies)
        findings += _doubted(target, catalogue.doubted)
        findings += [_stray(target, key) for key in sorted(catalogue.strays)]
    findings += _left_targets(want, have)
    return Due(steps=tuple(steps), findings=tuple(findings), next_at=_next_end(have, now))


def _next_end(have: Observation, now: datetime) -> datetime | None:
    """When the first grace ends, or the first tombstone may be forgotten."""
    graces = [copy.due for catalogue in have.known().values() for copy in catalogue.copies if copy.due is not None]
    ends = [end for catalogue in have.known().values() for end in have.once(_ends, catalogue).values()]
    first = min((end for end in ends if end > now - REMEMBERED), default=None)
    return min((end for end in (*graces, first and first + REMEMBERED) if end is not None and end > now), default=None)


def _ends(have: Observation, catalogue: Catalogue) -> Mapping[str, datetime]:
    """Of each backup that was lost there, when its grace was over. Not before its tombstone came: a thief's tells any date."""
    ends: dict[str, datetime] = {}
    came = catalogue.came
    for stone in catalogue.tombstones:
        if stone.counts:
            end = max(stone.due, came[stone.id]) if stone.id in came else stone.due
            ends[stone.id] = max(end, ends[stone.id]) if stone.id in ends else end
    return ends


def _last_good(want: DatabasePolicy, have: Observation, whole: Sequence[Backup]) -> Callable[[str, Copy], str]:
    """Why a copy is one of the last good ones while only these are whole; empty where it is none."""
    few = f"fewer than {FLOOR} whole backups are left" if len(whole) < FLOOR else ""
    verified, least, proofs = proven(have), min_verified_of(want), standings(have)
    are_short = sum(backup.id in verified for backup in whole) < least

    def why(target: str, copy: Copy) -> str:
        if few or not are_short or proofs.get((target, copy.id), UNTRIED).proven is None:
            return few
        return f"fewer than {least} whole ones that a restore has proven are left, and it is such a one"

    return why


def _spared(target: str, copy: Copy, *, held: str, last_good: str) -> Finding | None:
    """Why what would go stays: a hold, or a deletion decided when there were more, that now would take the last good one."""
    if held and copy.state in ("being_deleted", "debris"):
        what = f"backup {copy.id} is {copy.state.replace('_', ' ')} and stays: it is {held}"
        return Finding(severity="warning", where=target, what=what, cure="take the hold away once nobody needs it")
    if last_good and copy.state == "being_deleted":
        what = f"backup {copy.id} stays though its grace has passed: {last_good}"
        cure = "find out where the others went; it goes once there are newer ones"
        return Finding(severity="error", where=target, what=what, cure=cure)
    return None


def _recoverable(target: str, copies: Iterable[Copy], held: Container[str]) -> list[Finding]:
    """One note for all that is deleted and not gone yet: an hourly policy always has a hundred of them. What is held stays."""
    deleted = sorted((copy for copy in copies if copy.state == "deleted"), key=lambda copy: (copy.instant, copy.id))
    ends = min((copy.due for copy in deleted if copy.due is not None and copy.id not in held), default=None)
    if not deleted:
        return []
    first, last = instant(deleted[0].instant), instant(deleted[-1].instant)
    what = f"{counted(len(deleted), 'deleted backup')} can still come back: " + (first if first == last else f"{first} to {last}")
    return [Finding(severity="note", where=target, what=what + (f"; the first goes {instant(ends)}" if ends else ""))]


def _begun_anew(target: str, copies: Iterable[Copy]) -> list[Finding]:
    """Whoever may write over tombstones keeps what they condemn: it costs room, and must not go unseen."""
    anew = sorted((copy.anew, copy.id) for copy in copies if copy.anew is not None)
    if not anew:
        return []
    when, last = anew[-1]
    what = f"the grace of {counted(len(anew), 'deleted backup')} began anew: the tombstone of {last} came {instant(when)}"
    cure = "it was decided long before: find out who writes tombstones again, or copied them there"
    return [Finding(severity="warning", where=target, what=what, cure=cure)]


def _doubted(target: str, backups: Sequence[str]) -> list[Finding]:
    """One warning for all: whoever may write there can lay thousands."""
    if not backups:
        return []
    named = f"{counted(len(backups), 'backup')}, the newest {max(backups)}"
    what = f"of {named}, nothing lies there but a tombstone that can't be believed"
    cure = "no copy is put beside it: find out who wrote it, and remove its folder by hand, with all versions"
    return [Finding(severity="warning", where=target, what=what, cure=cure)]


def _left_targets(want: DatabasePolicy, have: Observation) -> list[Finding]:
    """Targets that the records name and the policy no longer gives this database: what lies there is nobody's duty now."""
    named = {
        name: place
        for catalogue in have.known().values()
        if catalogue.repository is not None
        for name, place in catalogue.repository.targets.items()
        if name not in have.catalogues
    }
    return [
        Finding(
            severity="note",
            where=want.name,
            what=f"target {name} ({place}) is none of {want.name} any more; its copies lie there untouched",
            cure=f"`reconcile forget {name}` ends this note",
        )
        for name, place in sorted(named.items())
    ]


def _stray(target: str, key: str) -> Finding:
    what = f"{key} is nothing that this program wrote"
    return Finding(severity="warning", where=target, what=what, cure="move it away; it is never touched")


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
    # A backup that was given up meanwhile keeps its session no longer than a whole one. Debris that is locked never was one.
    if (copy.state == "whole" or (copy.state == "deleted" and copy.identity is not None)) and copy.writer == "gone":
        action = RemoveIntent(database=database, backup=copy.id, target=target)
        return [Step(action=action, shown=Shown(does="remove leftover intent", to=f"on {target}", why=copy.id))]
    return []


def _forgettable(have: Observation, target: str, catalogue: Catalogue, now: datetime) -> list[Step]:
    """A trace may go once no target holds the id any more; while one is unknown, nobody can say so.

    One that buried mere debris remembers no backup: a sweep that was cut short left it, and it would keep copies of the id away.
    """
    if have.unknown():
        return []
    left = {backup.id for backup in have.backups()}
    here = {copy.id for copy in catalogue.copies}
    lost = have.once(_ends, catalogue)
    swept = {stone.id for stone in catalogue.tombstones} - lost.keys() - here
    long_ago = now - REMEMBERED
    over = {key for key, due in lost.items() if due <= long_ago and key not in left}
    return [_forget(have.database, target, key, "its debris is swept") for key in sorted(swept)] + [
        _forget(have.database, target, key, f"gone for {age(REMEMBERED)}") for key in sorted(over)
    ]


def _forget(database: str, target: str, backup: str, why: str) -> Step:
    action = ForgetTombstone(database=database, backup=backup, target=target)
    shown = Shown(does="forget", to=f"on {target}", why=why, counted="tombstone|tombstones")
    return Step(action=action, shown=shown)


_CURES = {
    "damaged": "it is no restore point, and is never written over: use another copy. Where another target has it whole, remove "
    "its folder here by hand, with all versions, and the next turn copies it anew",
    "orphan": "nothing is done with it; `reconcile backups adopt ID` makes a backup of it again, if all of it is there",
    "hidden": "find out who deleted it; `reconcile backups undelete ID` brings it back",
    "foreign": "it neither counts nor is touched",
    "impossible": IMPOSSIBLE_CURE,
}
_DENIED_CURE = "find out who wrote it; `reconcile backups undelete ID` takes the tombstone away"


def _findings(target: str, copy: Copy) -> list[Finding]:
    if copy.state in _CURES:
        severity = "error" if copy.state in ("damaged", "hidden", "impossible") else "warning"
        what = f"backup {copy.id} is {'an ' if copy.state == 'orphan' else ''}{copy.state}: {copy.why}"
        return [Finding(severity="error" if severity == "error" else "warning", where=target, what=what, cure=_CURES[copy.state])]
    if copy.state == "deleted" and copy.due is None:
        what = f"backup {copy.id} stays deleted, and is never removed by a tombstone that can't be believed: {copy.why}"
        return [Finding(severity="error", where=target, what=what, cure=_DENIED_CURE)]
    if copy.state == "being_written":
        return [Finding(severity="note", where=target, what=f"backup {copy.id} is being written {copy.why}")]
    return []


DUTY = Duty(name="leftovers", lane="keep", due=due, actions=(SweepDebris, FinishDeletion, RemoveIntent, ForgetTombstone))
