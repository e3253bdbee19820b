"""Holds: one backup that nothing deletes, on whichever target it lies, until somebody releases it."""

from datetime import UTC, datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.erase import erase_object
from reconciler.backups.keeping import (
    Hold,
    HoldRecord,
    end_hold,
    end_of,
    hold_at,
    hold_in_store,
    keep_in_store,
    pass_on_hold,
    put_hold,
    read_hold_record,
    told,
)
from reconciler.duties.keeping import refuse_past, refuse_shortening
from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Unreachable
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Copy, Instant, Observation, State
from reconciler.world.ports import Target, World, custody_of


class HoldBackup(Action, frozen=True, kw_only=True, tag="hold_backup"):
    """Exempt one backup from every deletion."""

    effect = "create"
    waits = False

    backup: str
    targets: tuple[str, ...]
    who: str
    why: str
    until: Instant | None = None

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """On every target that has it. Where one does not take it, the others get it all the same, and it fails in the end."""
        now = world.clock.now()
        hold = Hold(who=self.who, why=self.why, at=now, until=self.until)
        refuse_past(self.until, now)
        failed: list[ReconcilerError] = []
        seen = [name for name in self.targets if self._may_be_put(world.targets[name], now, failed)]
        alone: list[str] = []
        done: list[str] = []
        for name in seen:
            try:
                alone += self._put(world.targets[name], hold)
                done.append(name)
            except (Absent, Unreachable, Refused) as error:
                failed.append(error)
        if failed and done:
            what = f"{self.backup} is held on {', '.join(done)}, and not everywhere: {failed[0].what}"
            brought = "the next `reconcile apply` brings it to the other copies"
            raise Refused(what, cure=f"{failed[0].cure}; {brought}" if failed[0].cure else brought) from failed[0]
        if failed:
            raise failed[0]
        return "; ".join((f"{self.backup} on {', '.join(done)}: {hold.says(now)}", *alone))

    def _may_be_put(self, target: Target, now: datetime, failed: list[ReconcilerError]) -> bool:
        """Not over one that nobody could read: it may last longer. Raises Refused where one is seen that does."""
        try:
            held = hold_at(target, layout.object_key(self.database, self.backup, layout.HOLD))
        except (Unreachable, Refused) as error:
            failed.append(error)
            return False
        refuse_shortening(held.says(now), held.until, self.until, cure=f"`reconcile backups release {self.backup}` first")
        return True

    def _put(self, target: Target, hold: Hold) -> list[str]:
        try:
            refused = keep_in_store(target, self.database, self.backup, hold)
        except Unreachable as error:
            # For us it is held all the same, and the record says what is still to be done.
            hold = msgspec.structs.replace(hold, unasked=True)
            alone = [f"{target.name} does not keep it by itself yet: {error.what}; the next `reconcile apply` asks it again"]
        else:
            hold = msgspec.structs.replace(hold, refused=hold.at if refused else None)
            alone = told(target, refused)
        put_hold(target, self.database, self.backup, hold)
        return alone


class SpreadHold(Action, frozen=True, kw_only=True, tag="spread_hold"):
    """Bring a hold to the other copies of its backup: those made since, and those that could not be seen when it was put.

    And to one whose store was to keep it by itself and gave no answer, or refused a day ago: it may be the very copy that the
    hold lies on.
    """

    effect = "create"

    backup: str
    origin: str
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """As it says now. Where one target does not take it, the others get it all the same, and it fails in the end."""
        now = world.clock.now()
        record = read_hold_record(world.targets[self.origin], layout.object_key(self.database, self.backup, layout.HOLD))
        if not record.hold.says(now):
            return f"{self.backup} is no longer held on {self.origin}"
        done: list[str] = []
        failed: list[ReconcilerError] = []
        for name in self.targets:
            try:
                done += self._bring(world.targets[name], record, now)
            except (Absent, Unreachable, Refused, Conflict) as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return "; ".join(done)

    def _bring(self, target: Target, record: HoldRecord, now: datetime) -> list[str]:
        try:
            # Where the copy went meanwhile, a hold alone would be taken for what is left of it.
            with target.read(layout.object_key(self.database, self.backup, layout.MANIFEST)):
                pass
        except Absent:
            return [f"{self.backup} is no longer on {target.name}"]
        refused = keep_in_store(target, self.database, self.backup, record.hold)
        if not pass_on_hold(target, self.database, self.backup, record.as_refused(now) if refused else record):
            return [f"{self.backup} on {target.name} is held for as long by now"]
        like = f", as on {self.origin}" if target.name != self.origin else ""
        return [f"{self.backup} on {target.name}{like}: {record.hold.says(now)}", *told(target, refused)]


class ReleaseBackup(Action, frozen=True, kw_only=True, tag="release_backup"):
    """Take a hold away."""

    effect = "change"

    backup: str
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Where there is none, nothing happens."""
        for name in self.targets:
            hold_in_store(world.targets[name], self.database, self.backup, held=False)
        for name in self.targets:
            target = world.targets[name]
            if custody_of(target).append_only:
                end_hold(target, self.database, self.backup, world.clock.now())
            else:
                erase_object(target, layout.object_key(self.database, self.backup, layout.HOLD))
        return f"{self.backup} on {', '.join(self.targets)}: released"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Each hold comes to every copy that lacks it, so that it outlives the target on which it was put, and to each store."""
    steps = (_spread(have.database, backup, now) for backup in have.backups() if backup.held)
    return Due(steps=tuple(step for step in steps if step is not None))


_OURS: tuple[State, ...] = ("whole", "deleted", "being_deleted", "damaged", "hidden", "impossible")
"""States in which a copy is a backup of ours, or may be one again."""
ASK_AGAIN = timedelta(days=1)
"""A store that refused to keep what is held: as often as a legal hold of somebody else's is looked at."""
_NEVER = datetime.min.replace(tzinfo=UTC)


def _spread(database: str, backup: Backup, now: datetime) -> Step | None:
    """From the hold that lasts longest."""
    origin = longest(backup)
    if origin is None:
        return None
    end = _end(backup.copies[origin])
    lacking = tuple(
        name
        for name, copy in sorted(backup.copies.items())
        if (_end(copy) < end or _asks_the_store(copy, now)) and _is_there(copy)
    )
    if not lacking:
        return None
    action = SpreadHold(database=database, backup=backup.id, origin=origin, targets=lacking)
    shown = Shown(
        does="hold",
        to=f"{origin} → {', '.join(lacking)}" if lacking != (origin,) else f"by the store of {origin}, too",
        why=f"backup of {instant(backup.instant)}",
        counted="backup|backups",
    )
    return Step(action=action, shown=shown)


def longest(backup: Backup) -> str | None:
    """Where the hold lies that lasts longest: the first of them, where several do. None where nothing of ours is held."""
    ends = {name: _end(copy) for name, copy in sorted(backup.copies.items()) if copy.held and copy.state != "foreign"}
    return max(ends, key=ends.__getitem__, default=None)


def _end(copy: Copy) -> datetime:
    return end_of(copy.held_until) if copy.held else _NEVER


def _asks_the_store(copy: Copy, now: datetime) -> bool:
    """Each turn while it gives no answer; once a day while it refuses, which costs nobody anything but a line."""
    refused = copy.held_refused
    return copy.held_unasked or (refused is not None and abs(now - refused) >= ASK_AGAIN)


def _is_there(copy: Copy) -> bool:
    """Whether its manifest is, of ours: what has none is no backup, and a hidden one gets the hold once it is back."""
    return copy.state in _OURS and copy.repository is not None


DUTY = Duty(name="holding", lane="keep", due=due, actions=(HoldBackup, SpreadHold, ReleaseBackup))
