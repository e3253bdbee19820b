"""Doing one thing that a person asked for by name, as every other action is done: under the lease, told, and with an outcome."""

import getpass
import shlex
import socket
from collections.abc import Callable
from datetime import datetime

import msgspec

from reconciler.apply import Applied, apply
from reconciler.backups.claim import Watch
from reconciler.cli.apply import document, say_unmatched
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.cli.session import Session
from reconciler.duties import DUTIES
from reconciler.errors import Refused
from reconciler.observe import observe
from reconciler.planning import render
from reconciler.planning.guard import hold_back
from reconciler.planning.plan import Consent, Plan, Step
from reconciler.planning.planner import plan, sift
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Observation
from reconciler.world.ports import World

Ask = Callable[[Observation], Step]
"""What to do, given a fresh look. Raises Refused where a rule stands against it."""
Warn = Callable[[Observation, datetime], str]
"""What becomes of what was done, given the look after it; empty where nothing has to be said."""


def do_one(
    call: Call,
    session: Session,
    want: DatabasePolicy,
    ask: Ask,
    *,
    allow_destructive: str | None = None,
    whosever: bool = False,
    elsewhere: str = "",
    warn: Warn | None = None,
) -> int:
    """Exit code 0 when it was done, 3 when a rule holds it back, 1 otherwise. `whosever`: even if the backups are another's.

    `elsewhere`: it is done only when no target is unknown, where the same may wait to be done; what becomes of that.
    """
    with progress(call) as tell:
        world = session.telling(tell).world_of(want, writable=True)
        watch = Watch(world.clock, world.process)
        consent = Consent(allow_destructive=allow_destructive)
        looker = _Looker(world, want, watch, ask, whosever=whosever)
        applied = apply(world, want, looker.look, consent, watch)
    if call.json:
        call.answer_json(document([_without_done(applied)]))
    else:
        call.answer(render.plain_outcomes(applied.outcomes) or render.text([applied.after], again=same(call)))
    if allow_destructive is not None:
        say_unmatched(call, [applied])
    if applied.outcomes:
        done = all(outcome.result == "done" for outcome in applied.outcomes)
        if done and elsewhere and looker.unknown:
            call.say(f"{', '.join(looker.unknown)} unknown: {elsewhere}")
            return 1
        if done and warn is not None and looker.last is not None and (said := warn(*looker.last)):
            call.say(said)
        return 0 if done else 1
    return 3 if applied.after.blocked else 1


def _without_done(applied: Applied) -> Applied:
    """What is left: a hold, say, could be set once more, and need not be."""
    done = {outcome.action for outcome in applied.outcomes if outcome.result == "done"}
    steps = tuple(step for step in applied.after.steps if step.action.id not in done)
    return msgspec.structs.replace(applied, after=msgspec.structs.replace(applied.after, steps=steps))


def same(call: Call) -> str:
    """What was typed, without a digest: the new one follows it."""
    words = list(call.words)
    for index, word in enumerate(call.words):
        if word == "--allow-destructive":
            words[index : index + 2] = []
        elif word.startswith("--allow-destructive="):
            words[index : index + 1] = []
    return shlex.join(["reconcile", *words])


class _Looker:
    """Plans the one step and nothing else; once it was asked for, a later look that refuses it means that it is done."""

    def __init__(self, world: World, want: DatabasePolicy, watch: Watch, ask: Ask, *, whosever: bool) -> None:
        self._world, self._want, self._watch, self._ask = world, want, watch, ask
        self._whosever = whosever
        self._asked = False
        self.unknown: tuple[str, ...] = ()
        """Targets that could not be seen at the last look."""
        self.last: tuple[Observation, datetime] | None = None

    def look(self) -> Plan:
        """Observes afresh each time."""
        now = self._world.clock.now()
        have = observe(self._world, self._want, self._watch)
        self.unknown, self.last = tuple(have.unknown()), (have, now)
        steps, blocked = (hold_back if self._whosever else sift)(self._steps(have), have, now)
        whole = plan(DUTIES, self._want, have, now, policy_digest=self._world.policy_digest)
        return msgspec.structs.replace(whole, steps=steps, blocked=blocked)

    def _steps(self, have: Observation) -> tuple[Step, ...]:
        try:
            step = self._ask(have)
        except Refused:
            if self._asked:
                return ()
            raise
        self._asked = True
        return (step,)


def whoever() -> str:
    """Who is asking, as far as the machine knows."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name}@{socket.gethostname()}"
