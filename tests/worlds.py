"""A world of catalogues that evolves by the effects of a plan's actions: no objects, no I/O, time moved by hand."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump
from reconciler.duties.leftovers import FinishDeletion, ForgetTombstone, RemoveIntent, SweepDebris
from reconciler.duties.retention import PruneBackup
from reconciler.planning.plan import Action, Plan
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Catalogue, Copy, Observation, Observed, State, Tombstone
from tests.building import catalogue, copy, id_of, observation_of, planned, source, unknown


class PureWorld:
    """Targets that hold copies and tombstones. `turn` does what `apply` does: create until nothing is new, then delete."""

    def __init__(self, want: DatabasePolicy, now: datetime, *, memory: timedelta | None = None) -> None:
        """`memory`: tombstones of what is gone vanish after this, sooner than a plan would forget them, for speed."""
        self.want, self.now, self.memory = want, now, memory
        self.copies: dict[str, dict[str, Copy]] = {name: {} for name in want.dumps.targets}
        self.tombstones: dict[str, dict[str, Tombstone]] = {name: {} for name in want.dumps.targets}
        self.down: set[str] = set()
        self.births: dict[str, datetime] = {}
        self.losses: dict[str, datetime] = {}
        """When each backup was given up, for the first time."""

    def observe(self) -> Observation:
        """As the states of copies follow from their tombstones and the clock."""
        seen: dict[str, Observed[Catalogue]] = {
            name: unknown(at=self.now)
            if name in self.down
            else catalogue(
                (self._seen(name, held) for held in self.copies[name].values()), self.tombstones[name].values(), at=self.now
            )
            for name in self.want.dumps.targets
        }
        return observation_of(seen, source(at=self.now))

    def _seen(self, target: str, held: Copy) -> Copy:
        stone = self.tombstones[target].get(held.id)
        if stone is None:
            return held
        state: State = "deleted" if stone.due > self.now else "being_deleted"
        return msgspec.structs.replace(held, state=state, due=stone.due, has_tombstone=True)

    def plan(self) -> Plan:
        return planned(self.want, self.observe(), self.now)

    def turn(self) -> Plan:
        """One turn; the plan that its deletions came from."""
        self._forget()
        for _ in range(4):
            fresh = self.plan()
            creations = [step.action for step in fresh.steps if step.action.effect == "create"]
            if not creations:
                break
            self.do(creations)
        self.do(step.action for step in fresh.steps)
        return fresh

    def _forget(self) -> None:
        if self.memory is not None:
            for target, stones in self.tombstones.items():
                over = [
                    key for key, stone in stones.items() if stone.due + self.memory < self.now and key not in self.copies[target]
                ]
                for key in over:
                    del stones[key]

    def do(self, actions: Iterable[Action]) -> None:
        """The effect of each."""
        for action in actions:
            match action:
                case TakeDump():
                    self._born(action)
                case CopyBackup():
                    self.copies[action.target][action.backup] = self.copies[action.origin][action.backup]
                case PruneBackup():
                    self._bury(action)
                case FinishDeletion() | SweepDebris():
                    self.copies[action.target].pop(action.backup, None)
                case ForgetTombstone():
                    self.tombstones[action.target].pop(action.backup, None)
                case RemoveIntent():
                    held = self.copies[action.target][action.backup]
                    self.copies[action.target][action.backup] = msgspec.structs.replace(held, writer="none")

    def _born(self, action: TakeDump) -> None:
        self.births[id_of(self.now)] = self.now
        self.copies[action.target][id_of(self.now)] = copy(self.now, slot=action.slot)

    def _bury(self, action: PruneBackup) -> None:
        self.losses.setdefault(action.backup, self.now)
        grace = (self.want.dumps.retention or Retention()).grace
        for target in action.targets:
            slot = self.copies[target][action.backup].slot
            stone = Tombstone(id=action.backup, at=self.now, due=self.now + grace, slot=slot, reason="not kept by retention")
            self.tombstones[target][action.backup] = stone

    def whole(self) -> list[str]:
        """Ids with a whole copy that nothing condemns, on any target, newest first."""
        found = {
            key
            for target, held in self.copies.items()
            for key, one in held.items()
            if one.state == "whole" and key not in self.tombstones[target]
        }
        return sorted(found, reverse=True)

    def lost_and_born(self, until: datetime, window: timedelta = timedelta(hours=24)) -> tuple[int, int, int]:
        """In the window until then: how many were lost, how many were born, and how many were there before it."""
        since = until - window
        lost = sum(since < at <= until for at in self.losses.values())
        born = sum(since < at <= until for at in self.births.values())
        before = sum(at <= since and self.losses.get(key, until) > since for key, at in self.births.items())
        return lost, born, before
