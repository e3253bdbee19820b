"""A run: people meddle, reconcilers take turns, alone and together; then everything heals, and all must come to rest."""

from collections import Counter

import msgspec

from reconciler.duties import DUTIES
from reconciler.duties.verification import AGAIN
from reconciler.planning.plan import Plan
from reconciler.planning.planner import plan
from reconciler.planning.timing import RECENT
from reconciler.simulation.people import heal, look_into_freezes, meddle
from reconciler.simulation.readers import Readers
from reconciler.simulation.reconciling import Reconciler
from reconciler.simulation.stage import SCHEDULES, Stage
from reconciler.turn import Survey, survey
from reconciler.world.facts import Catalogue, Known, Observation, Observed

TURNS = 50
"""Of one world before it heals: enough for graces to pass."""
RESTS_WITHIN = 5
"""So many turns after the faults have stopped, and one after the next slot, nothing is left to do. Where backups are verified, a
day must have passed besides."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    turns: int
    faults: Counter[str]
    broken: tuple[str, ...]
    lines: tuple[tuple[float, str], ...]
    """What happened, each after so many seconds."""

    @property
    def trace(self) -> tuple[str, ...]:
        """The same for a reader."""
        return tuple(f"{seconds / 3600:9.3f} h  {line}" for seconds, line in self.lines)


def play(seed: int, *, turns: int = TURNS, quiet: bool = False, kept: bool = False) -> Report:
    """The same seed is the same world, and the same run. `kept`: one whose provider keeps a history."""
    run = Run(Stage(seed, quiet=quiet, kept=kept))
    run.live(turns)
    if not run.broken:
        run.come_to_rest()
    ledger, faults = run.stage.ledger, run.stage.faults.counted
    return Report(seed=seed, turns=run.turns, faults=faults, broken=tuple(ledger.broken), lines=tuple(ledger.lines))


class Run:
    """One stage, and those who act on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.turns = stage, 0
        self.readers = Readers(stage)
        self.reconcilers = [Reconciler(stage, host) for host in stage.hosts]

    @property
    def broken(self) -> bool:
        return bool(self.stage.ledger.broken)

    def live(self, turns: int) -> None:
        """Until so many turns were taken, or a rule is broken."""
        stage, chance = self.stage, self.stage.chance
        while self.turns < turns and not self.broken:
            between = SCHEDULES[stage.schedule]
            self.pass_time(between * chance.uniform(0.3, 1.2) if chance.happens(0.8) else chance.uniform(1, 300))
            if chance.happens(stage.meddling):
                meddle(stage)
            self.readers.come()
            some = chance.sample(self.reconcilers, chance.randint(1, len(self.reconcilers)))
            if chance.happens(0.8):
                some = some[:1]
            self.take_turns(some)

    def take_turns(self, some: list[Reconciler]) -> None:
        """One alone, or several at the same time."""
        want = self.stage.want
        self.turns += len(some)
        if len(some) == 1:
            some[0].turn(want)
        else:
            self.stage.faults.counted["together"] += 1
            self.stage.timeline.together([lambda one=one: one.turn(want) for one in some])  # type: ignore[misc]

    def pass_time(self, seconds: float) -> None:
        self.stage.timeline.sleep(self.stage.timeline.seconds + seconds)

    def come_to_rest(self) -> None:
        """Convergence: soon nothing is left to do, nothing lies about, and the objectives are met."""
        stage = self.stage
        heal(stage)
        self.readers.leave()
        for reconciler in self.reconcilers[1:]:
            if reconciler.process is not None:
                reconciler.process.end_all()
        self.pass_time(60)
        for _ in range(RESTS_WITHIN):
            self.take_turns(self.reconcilers[:1])
            look_into_freezes(stage)
            self.pass_time(120)
        if stage.verify is not None:
            # What could not be proven while the faults lasted is tried again after so long, reckoned by the clock that it had.
            ahead = stage.truth.dated_ahead(stage.want.name, stage.timeline.now())
            self.pass_time((AGAIN + ahead).total_seconds())
            self.take_turns(self.reconcilers[:1])
            look_into_freezes(stage)
        # A dump that the faults made long is the usual one until others outnumber it, and puts at risk so long.
        for _ in range(RECENT):
            self._pass_slot()
            if not any(one.name in ("rpo", "disaster_rpo") and one.status == "at_risk" for one in self._look().conditions):
                break
        if not self.broken:
            self._judge_rest()

    def _pass_slot(self) -> None:
        """The next dump, and what follows it."""
        slot = self.stage.want.slots().next(self.stage.timeline.now(), "UTC")
        self.pass_time((slot - self.stage.timeline.now()).total_seconds() + 60)
        for _ in range(2):
            self.take_turns(self.reconcilers[:1])
            look_into_freezes(self.stage)
            self.pass_time(3)

    def _judge_rest(self) -> None:
        """The plan is empty but for what the guard holds back, and the objectives are met."""
        breaks = self.stage.ledger.breaks
        first = self._look()
        for _ in range(2):
            # The clock alone may have made something due since.
            if first.steps:
                self.take_turns(self.reconcilers[:1])
                first = self._look()
        tampered = self.stage.ledger.tampered
        # What people spoilt can't be copied, however often it is tried; and while something fails, no deletion follows it.
        spoilt = [step for step in first.steps if step.action.parameters.get("backup") in tampered]
        behind = [step for step in first.steps if spoilt and step.action.effect == "delete"]
        for step in [step for step in first.steps if step not in spoilt and step not in behind]:
            breaks("comes_to_rest", f"still to do: {step.shown.does} {step.shown.to} ({step.shown.why})")
        for held in first.blocked:
            if held.by != "guard":
                breaks("comes_to_rest", f"still blocked by {held.by}: {held.step.shown.does}: {held.why}")
        for condition in first.conditions:
            # A window that was widened lately needs time alone; one that is only looked at is whatever somebody set.
            pitr = self.stage.want.pitr
            waits = condition.name == "pitr" and (condition.status == "at_risk" or (pitr is not None and not pitr.manage))
            if condition.status != "met" and not waits:
                breaks("comes_to_rest", f"{condition.name} is {condition.status}: {condition.says}")
        self._judge_leftovers()

    def _look(self) -> Plan:
        """The same world plans to the same bytes, in whatever order it was seen."""
        surveys: list[Survey] = []
        want = self.stage.want
        self.reconcilers[0].act(want, lambda world, duties: surveys.append(survey(world, want, duties)))
        have, now = surveys[0].have, self.stage.timeline.now()
        first, other = (plan(DUTIES, want, seen, now, policy_digest="") for seen in (have, _turned_round(have)))
        if first != other:
            self.stage.ledger.breaks("same_world_same_plan", "the order in which it was seen makes another plan")
        return surveys[0].plan

    def _judge_leftovers(self) -> None:
        ledger, want, breaks = self.stage.ledger, self.stage.want, self.stage.ledger.breaks
        for left in self.stage.judge.leftovers(want):
            if not any(backup and backup in left for backup in ledger.tampered):
                breaks("leaves_nothing", left)
        begun = {
            key.split("/")[2] for store, key in ledger.drafts if key.startswith(f"{want.name}/") and store in want.dumps.targets
        }
        if self.stage.project is not None:
            # With a branch its sessions go.
            for left in self.stage.keeper.leftovers(self.stage.project, want.name):
                breaks("leaves_nothing", left)
            return
        for backup in (begun & self.stage.database.sessions.keys()) - ledger.tampered - self.stage.judge.not_ours(want):
            breaks("leaves_nothing", f"a session of {backup}")


def _turned_round(have: Observation) -> Observation:
    """The same, seen in another order."""
    turned = {name: _turned(seen) for name, seen in reversed(list(have.catalogues.items()))}
    return msgspec.structs.replace(have, catalogues=turned)


def _turned(seen: Observed[Catalogue]) -> Observed[Catalogue]:
    if not isinstance(seen, Known):
        return seen
    catalogue = seen.value
    return Known(
        msgspec.structs.replace(catalogue, copies=catalogue.copies[::-1], tombstones=catalogue.tombstones[::-1]), seen.at
    )
