"""Holds: one backup that nothing deletes, until somebody releases it."""

from datetime import datetime

from reconciler.backups import layout
from reconciler.backups.erase import erase_object
from reconciler.backups.keeping import Hold, hold_at, hold_in_store, put_hold
from reconciler.duties.keeping import refuse_past, refuse_shortening
from reconciler.errors import Refused, Unreachable
from reconciler.planning.plan import Action, Due, Duty
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Instant, Observation
from reconciler.world.ports import Target, World


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
        """On every target that has it."""
        now = world.clock.now()
        hold = Hold(who=self.who, why=self.why, at=now, until=self.until)
        refuse_past(self.until, now)
        key = layout.object_key(self.database, self.backup, layout.HOLD)
        for name in self.targets:
            held = hold_at(world.targets[name], key)
            refuse_shortening(held.says(now), held.until, self.until, cure="`reconcile backups release` first")
        for name in self.targets:
            put_hold(world.targets[name], self.database, self.backup, hold)
        # What ends by itself here would not end there.
        alone = [] if self.until else [says for name in self.targets if (says := self._hold_in_store(world.targets[name]))]
        return "; ".join((f"{self.backup} on {', '.join(self.targets)}: {hold.says(now)}", *alone))

    def _hold_in_store(self, target: Target) -> str:
        try:
            hold_in_store(target, self.database, self.backup, held=True)
        except (Unreachable, Refused) as error:
            return f"{target.name} does not keep it by itself: {error.what}; {error.cure}"
        return ""


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
            erase_object(world.targets[name], layout.object_key(self.database, self.backup, layout.HOLD))
        return f"{self.backup} on {', '.join(self.targets)}: released"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Nothing by itself."""
    return Due()


DUTY = Duty(name="holding", lane="keep", due=due, actions=(HoldBackup, ReleaseBackup))
