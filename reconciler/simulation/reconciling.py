"""One reconciler's turn in the simulated world: the real turn, on simulated ports."""

from collections.abc import Callable
from typing import Literal

from reconciler.apply import Applied
from reconciler.duties import DUTIES
from reconciler.errors import Conflict
from reconciler.planning.plan import Consent, Duty, blocked_digest
from reconciler.policy.model import DatabasePolicy
from reconciler.simulation.history import SimulatedHistory, ThroughBranch
from reconciler.simulation.host import Death, Host, SimulatedProcess
from reconciler.simulation.ledger import Turn
from reconciler.simulation.reach import Reach, SimulatedClock
from reconciler.simulation.scratch import SimulatedScratch
from reconciler.simulation.signing import OURS, public
from reconciler.simulation.source import SimulatedProvider
from reconciler.simulation.stage import Stage
from reconciler.simulation.target import SimulatedTarget
from reconciler.turn import survey, turn
from reconciler.world.events import Began, Event
from reconciler.world.pool import InlinePool
from reconciler.world.ports import Signatures, World

PINNED = Signatures(public_keys=(public(),), signing_key=lambda: OURS)
Result = Literal["done", "conflict", "death"]


class Reconciler:
    """One on each host. Its process lives from turn to turn, as the loop's does, until it dies or is stopped."""

    def __init__(self, stage: Stage, host: Host) -> None:
        self.stage, self.host = stage, host
        self.process: SimulatedProcess | None = None
        self.applied: Applied | None = None

    def turn(self, want: DatabasePolicy) -> Result:
        """Whatever comes of it."""
        return self.act(want, lambda world, duties: self._turn(world, want, duties))

    def act(self, want: DatabasePolicy, work: Callable[[World, tuple[Duty, ...]], None]) -> Result:
        """Anything that a reconciler's process does, with the judge's eye among its duties."""
        stage, process = self.stage, self._begin()
        reach = Reach(process, stage.faults)
        mind = Turn(process, reach, want)
        stage.ledger.turns[id(process)] = mind
        self._forget()
        try:
            work(self._world(mind), (*DUTIES, stage.judge.eye(mind)))
        except Conflict as conflict:
            stage.ledger.note(f"{self.host.name}/{process.pid} gives way: {conflict}")
            return "conflict"
        except Death:
            stage.ledger.note(f"{self.host.name}/{process.pid} dies")
            self.process = None
            return "death"
        except Exception as error:  # noqa: BLE001 - whatever the turn lets through is a fault of the turn
            stage.ledger.breaks("no_bugs", f"a turn raised {type(error).__name__}: {error}")
        finally:
            if process.stop.is_set() or stage.chance.happens(0.3):
                process.end_all()
                self.process = None
            del stage.ledger.turns[id(process)]
        if self.applied is not None:
            self._judge(mind, self.applied)
        return "done"

    def _begin(self) -> SimulatedProcess:
        if self.process is None or not self.process.alive:
            self.process = self.host.start()
        return self.process

    def _turn(self, world: World, want: DatabasePolicy, duties: tuple[Duty, ...]) -> None:
        self.applied = turn(world, want, duties, self._consent(world, want, duties))

    def _consent(self, world: World, want: DatabasePolicy, duties: tuple[Duty, ...]) -> Consent:
        """Mostly all; sometimes what a saved plan holds, or what a person let through."""
        drawn = self.stage.chance.random()
        if drawn > 0.04 or self.stage.mended:
            return Consent()
        plan = survey(world, want, duties).plan
        if drawn > 0.02:
            return Consent(approved=frozenset(step.action.id for step in plan.steps))
        digest = blocked_digest(plan)
        if digest is not None:
            named = ((held.step.action.loses, held.step.action.removes) for held in plan.blocked)
            self.stage.ledger.asked |= {backup for pair in named for backup in pair if backup}
            self.stage.ledger.shortening |= any(held.step.action.destroys for held in plan.blocked)
        return Consent(allow_destructive=digest)

    def _judge(self, mind: Turn, applied: Applied) -> None:
        self.stage.judge.after(mind, applied)
        for outcome in applied.outcomes:
            self.stage.ledger.note(f"{self.host.name} {outcome.result}: {outcome.does}: {outcome.says}")
            if outcome.result == "done" and outcome.does.startswith("prune"):
                self.stage.judge.pruned(mind, outcome.says.partition(" ")[0])
            if "unforeseen" in outcome.says:
                self.stage.ledger.breaks("no_bugs", outcome.says)

    def _provider(self, reach: Reach, want: DatabasePolicy) -> SimulatedProvider:
        stage = self.stage
        if stage.project is None:
            return SimulatedProvider(stage.database, reach)
        history = SimulatedHistory(want.name, stage.project, stage.database, reach)
        return SimulatedProvider(stage.database, reach, history, ThroughBranch(stage.database, reach, history))

    def _hear(self, event: Event, mind: Turn) -> None:
        """The trace is made of what happens, not of what is told."""
        if isinstance(event, Began):
            mind.began = self.stage.ledger.timeline.now()

    def _forget(self) -> None:
        self.applied = None
        self.stage.ledger.shortening = False

    def _world(self, mind: Turn) -> World:
        stage, reach, want = self.stage, mind.reach, mind.want
        names = sorted({*want.dumps.targets, want.home})
        return World(
            targets={name: SimulatedTarget(stage.stores[name], reach) for name in names},
            domains={name: f"place:{name}" for name in names},
            provider=self._provider(reach, want),
            clock=SimulatedClock(reach),
            process=reach.process,
            pool=InlinePool(),
            cache=self.host.cache,
            stop=reach.process.stop,
            tell=lambda event: self._hear(event, mind),
            token=stage.chance.token,
            policy_digest="0" * 64,
            heart=reach.heart,
            scratch=SimulatedScratch(reach),
            signatures=PINNED if stage.signed else Signatures(),
        )
