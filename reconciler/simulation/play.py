"""A run: people meddle, reconcilers take turns, alone and together; then everything heals, and all must come to rest."""

from collections import Counter

import msgspec

from reconciler.planning.plan import Plan
from reconciler.simulation.people import heal, meddle
from reconciler.simulation.reconciling import Reconciler
from reconciler.simulation.stage import SCHEDULES, Stage
from reconciler.turn import survey

TURNS = 50
"""Of one world before it heals: enough for graces to pass."""
RESTS_WITHIN = 5
"""So many turns after the faults have stopped, and one after the next slot, nothing is left to do."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    turns: int
    faults: Counter[str]
    broken: tuple[str, ...]
    trace: tuple[str, ...]


def play(seed: int, *, turns: int = TURNS, quiet: bool = False) -> Report:
    """The same seed is the same world, and the same run."""
    run = Run(Stage(seed, quiet=quiet))
    run.live(turns)
    if not run.broken:
        run.come_to_rest()
    ledger = run.stage.ledger
    trace = tuple(f"{seconds / 3600:9.3f} h  {line}" for seconds, line in ledger.lines)
    return Report(seed=seed, turns=run.turns, faults=run.stage.faults.counted, broken=tuple(ledger.broken), trace=trace)


class Run:
    """One stage, and those who act on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.turns = stage, 0
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
        for reconciler in self.reconcilers[1:]:
            if reconciler.process is not None:
                reconciler.process.end_all()
        self.pass_time(60)
        for _ in range(RESTS_WITHIN):
            self.take_turns(self.reconcilers[:1])
            self.pass_time(120)
        slot = stage.want.dumps.schedule.next(stage.timeline.now(), "UTC")
        self.pass_time((slot - stage.timeline.now()).total_seconds() + 60)
        for _ in range(2):
            self.take_turns(self.reconcilers[:1])
            self.pass_time(3)
        if not self.broken:
            self._judge_rest()

    def _judge_rest(self) -> None:
        """Two looks give the same plan, it is empty but for what the guard holds back, and the objectives are met."""
        plans: list[Plan] = []
        for _ in range(2):
            self.reconcilers[0].act(
                self.stage.want, lambda world, duties: plans.append(survey(world, self.stage.want, duties).plan)
            )
        breaks = self.stage.ledger.breaks
        first = plans[0]
        if [step.action.id for step in first.steps] != [step.action.id for step in plans[1].steps]:
            breaks("same_world_same_plan", "two looks at one world plan differently")
        for step in first.steps:
            breaks("comes_to_rest", f"still to do: {step.shown.does} {step.shown.to} ({step.shown.why})")
        for held in first.blocked:
            if held.by != "guard":
                breaks("comes_to_rest", f"still blocked by {held.by}: {held.step.shown.does}: {held.why}")
        for condition in first.conditions:
            if condition.status != "met":
                breaks("comes_to_rest", f"{condition.name} is {condition.status}: {condition.says}")
        for left in self.stage.judge.unclaimed(self.stage.want.name):
            breaks("leaves_nothing", left)
        begun = {key.split("/")[2] for _, key in self.stage.ledger.drafts if key.startswith(f"{self.stage.want.name}/")}
        for backup in begun & self.stage.database.sessions.keys():
            breaks("leaves_nothing", f"a session of {backup}")
