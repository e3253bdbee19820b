"""One turn for one database: observe → plan → apply. Start reading here.

The policy says what is wanted; `observe` looks at what is there; `plan` compares, and is pure; `apply` does what is agreed and
looks again. There is no memory but the records in the world: a turn that was killed is simply followed by the next.
"""

from collections.abc import Iterable

import msgspec

from reconciler.apply import Applied, apply
from reconciler.backups.claim import Watch
from reconciler.errors import Conflict
from reconciler.observe import observe, observe_decided
from reconciler.planning.plan import Action, Consent, Duty, Plan
from reconciler.planning.planner import plan
from reconciler.policy.model import DatabasePolicy
from reconciler.world.events import Waiting
from reconciler.world.facts import Observation
from reconciler.world.ports import World


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a database, and the plan that follows from it."""

    have: Observation
    plan: Plan


def survey(world: World, want: DatabasePolicy, duties: Iterable[Duty]) -> Survey:
    """What is there, and what a turn would do. Changes nothing."""
    have = observe(world, want, Watch(world.clock, world.process))
    return Survey(have=have, plan=plan(duties, want, have, world.clock.now(), policy_digest=world.policy_digest))


def turn(world: World, want: DatabasePolicy, duties: Iterable[Duty], consent: Consent) -> Applied:
    """Make the world what the policy says, as far as it was consented to. Raises Conflict when another reconciler is at it.

    First what keeps backups, then, under a lease of its own, what proves them: a rehearsal of hours delays nobody's next dump.
    """
    duties = tuple(duties)
    watch = Watch(world.clock, world.process)
    world.staging.sweep()
    proving = tuple(action for duty in duties if duty.lane == "prove" for action in duty.actions)

    def proves(action: Action) -> bool:
        return isinstance(action, proving)

    def look() -> Plan:
        have = observe_decided(world, want, watch)
        return plan(duties, want, have, world.clock.now(), policy_digest=world.policy_digest)

    done = apply(world, want, look, consent, watch, within=lambda action: not proves(action))
    if any(proves(step.action) for step in done.after.steps):
        try:
            proven = apply(world, want, look, consent, watch, lane="prove", within=proves, first=done.after)
        except Conflict as busy:
            world.tell(Waiting(database=want.name, says=f"nothing is verified now: {busy.what}"))
        else:
            done = _after(done, proven)
    tried = {outcome.action for outcome in done.outcomes if outcome.result != "done"}
    left = {step.action.id for step in done.after.steps if not step.action.waits} - tried
    if not tried or not left:
        return done
    # What failed may call for what protects, and that waits for nobody and nothing.
    return _after(done, apply(world, want, look, consent, watch, within=lambda action: action.id in left, first=done.after))


def _after(one: Applied, other: Applied) -> Applied:
    return msgspec.structs.replace(other, outcomes=(*one.outcomes, *other.outcomes), digests=one.digests | other.digests)
