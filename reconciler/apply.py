"""Agreed steps → outcomes, round by round: first what changes and creates, then what deletes, under the lease."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import msgspec

from reconciler.backups import layout
from reconciler.backups.claim import Claim, ClaimRecord, Watch, beating, take
from reconciler.backups.fence import Fenced
from reconciler.backups.keeping import refuse_frozen
from reconciler.errors import Conflict, Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.hooks import hooked
from reconciler.planning.guard import FRESH
from reconciler.planning.plan import Action, Agreed, Consent, Lane, Outcome, Plan, Step, agree, blocked_digest
from reconciler.planning.text import age
from reconciler.policy.model import DatabasePolicy
from reconciler.world.events import Began, Ended, Waiting
from reconciler.world.ports import World

ROUNDS = 4
"""A dump, its copies, and what these bring: more rounds than that would mean that creating never ends."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a turn."""

    outcomes: tuple[Outcome, ...]
    not_approved: tuple[Step, ...]
    after: Plan
    """The last plan made: what is still due, blocked or unknown."""
    digests: frozenset[str] = frozenset()
    """Of what the guard held back in any plan that was made on the way."""


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and when the look that it rests on was begun."""

    at: datetime
    plan: Plan


Agree = Callable[[Plan], Agreed]


def apply(
    world: World,
    want: DatabasePolicy,
    look: Callable[[], Plan],
    consent: Consent,
    watch: Watch,
    *,
    lane: Lane = "keep",
    within: Callable[[Action], bool] = lambda _: True,
    first: Plan | None = None,
) -> Applied:
    """`look` observes and plans afresh; done is what lies `within` the lane. Raises Conflict when another living reconciler holds
    its lease; nothing was done then.

    `first`: what such a look has just given, where there was one.
    """
    digests: set[str] = set()

    def noted() -> Plan:
        fresh = look()
        digests.update(digest for digest in [blocked_digest(fresh)] if digest is not None)
        return fresh

    def agreed(plan: Plan) -> Agreed:
        both = agree(consent, plan)
        return msgspec.structs.replace(both, steps=tuple(step for step in both.steps if within(step.action)))

    applied = _apply(world, want, noted, agreed, watch, lane=lane, first=noted() if first is None else first)
    return msgspec.structs.replace(applied, digests=frozenset(digests))


def _apply(
    world: World, want: DatabasePolicy, look: Callable[[], Plan], agree_on: Agree, watch: Watch, *, lane: Lane, first: Plan
) -> Applied:
    agreed = agree_on(first)
    if not agreed.steps:
        return Applied(outcomes=(), not_approved=agreed.not_approved, after=first)
    if not any(step.action.waits for step in agreed.steps):
        done = tuple(outcome for step in agreed.steps for outcome in _perform(world, want, step))
        return Applied(outcomes=done, not_approved=agreed.not_approved, after=look())
    with _lease(world, want, watch, lane) as lease:
        outcomes, last = _create(world, want, look, agree_on, first=first, lease=lease)
        # What was seen under the lease, with nothing tried since, is as good as another look.
        return _delete(world, want, look, agree_on, first=first, lease=lease, before=outcomes, last=last or _look(world, look))


def _create(
    world: World,
    want: DatabasePolicy,
    look: Callable[[], Plan],
    agree_on: Agree,
    *,
    first: Plan,
    lease: Claim | Unreachable,
) -> tuple[tuple[Outcome, ...], Looked | None]:
    """Observe and plan again while that creates something new; what was tried in this turn is not tried again.

    With the last look, where it was made under the lease and nothing was tried since.
    """
    outcomes: dict[str, tuple[Outcome, ...]] = {}
    # What the first look asked for may have been done by whoever held the lease before us. Without one, creating alone is fine.
    last = None if isinstance(lease, Unreachable) else _look(world, look)
    fresh, effects = (first, ("create",)) if last is None else (last.plan, ("create", "change"))
    for _ in range(ROUNDS):
        steps = [step for step in agree_on(fresh).steps if step.action.effect in effects and step.action.id not in outcomes]
        if not steps:
            break
        last = None
        made = dict(_perform_all(world, want, steps, lambda: {step.action.id for step in agree_on(look()).steps}, lease))
        outcomes |= made
        if not any(outcome.result == "done" for several in made.values() for outcome in several):
            break
        last = _look(world, look)
        fresh = last.plan
    return tuple(outcome for several in outcomes.values() for outcome in several), last


def _look(world: World, look: Callable[[], Plan]) -> Looked:
    began = world.clock.now()
    return Looked(at=began, plan=look())


def _perform_all(
    world: World,
    want: DatabasePolicy,
    steps: Sequence[Step],
    still_planned: Callable[[], Collection[str]],
    lease: Claim | Unreachable,
) -> Iterator[tuple[str, tuple[Outcome, ...]]]:
    """Those that still are planned when their turn comes: after a copy of hours, another slot may be due."""
    looked, planned = world.clock.now(), {step.action.id for step in steps}
    for step in steps:
        if world.clock.now() - looked > FRESH:
            looked, planned = world.clock.now(), set(still_planned())
        if step.action.id in planned:
            yield step.action.id, _perform(_behind(world, step, lease, looked), want, step)


def _behind(world: World, step: Step, lease: Claim | Unreachable, looked: datetime) -> World:
    """What changes something needs the lease when it is done, too; what only creates does not."""
    if step.action.effect != "change" or isinstance(lease, Unreachable):
        return world
    return msgspec.structs.replace(world, fence=lambda: _check(world, lease, looked))


def _delete(
    world: World,
    want: DatabasePolicy,
    look: Callable[[], Plan],
    agree_on: Agree,
    *,
    first: Plan,
    lease: Claim | Unreachable,
    before: Sequence[Outcome],
    last: Looked,
) -> Applied:
    """A deletion rests on the lease and on a plan made afresh under it, and on nothing having failed before.

    What was given up long ago goes all the same: where it was room that lacked, nothing else would ever bring any. It was planned
    before anything was tried: what failed just now may still arrive.
    """
    looked, fresh = last.at, last.plan
    agreed = agree_on(fresh)
    if isinstance(lease, Unreachable):
        left = [_skipped(step, f"no lease: {lease.what}", lease.cure) for step in agreed.steps if step.action.effect != "create"]
        return Applied(outcomes=(*before, *left), not_approved=agreed.not_approved, after=fresh)
    failed = any(outcome.result == "failed" for outcome in before)
    long_ago = {step.action.id for step in agree_on(first).steps if step.action.frees}
    steps = [step for step in agreed.steps if _deletes(step) and (not failed or step.action.id in long_ago)]
    skipped = [_skipped(step, "something failed before it") for step in agreed.steps if _deletes(step) and step not in steps]
    if not steps:
        return Applied(outcomes=(*before, *skipped), not_approved=agreed.not_approved, after=fresh)
    fenced = {name: Fenced(target, lease, lambda: _still_fresh(world, looked)) for name, target in world.targets.items()}

    def fence() -> None:
        _check(world, lease, looked)
        # People freeze while a plan is carried out.
        refuse_frozen(world.targets[want.home], want.name, world.clock.now())

    behind = msgspec.structs.replace(world, targets=fenced, fence=fence)
    outcomes = [outcome for step in steps for outcome in _perform(behind, want, step)]
    return Applied(outcomes=(*before, *outcomes, *skipped), not_approved=agreed.not_approved, after=look())


def _still_fresh(world: World, looked: datetime) -> None:
    """A machine that was stopped meanwhile goes on with its lease renewed, and knows nothing of what happened since."""
    if world.clock.now() - looked > FRESH:
        raise Conflict(f"this rests on what was seen more than {age(FRESH)} ago", cure="run again")


def _check(world: World, lease: Claim, looked: datetime) -> None:
    """At a provider, an effect may have to wait for others' for long."""
    lease.check()
    _still_fresh(world, looked)


def _deletes(step: Step) -> bool:
    return step.action.effect == "delete"


def _perform(world: World, want: DatabasePolicy, step: Step) -> tuple[Outcome, ...]:
    """What became of it, and of each hook after it that failed: that is a failure of its own, and no word against the action."""
    failures: list[ReconcilerError] = []
    action, does = step.action, f"{step.shown.does} {step.shown.to}".strip()
    world.tell(
        Began(action=action.id, database=want.name, says=does, expected_bytes=step.shown.expected_bytes or step.shown.bytes)
    )
    try:
        if world.stop.is_set():
            raise Stopped("asked to stop")
        with hooked(world, want, action, failures):
            world.fence()
            says = action.perform(world, want)
    except ReconcilerError as error:
        outcome = Outcome(action=action.id, database=want.name, does=does, result="failed", says=error.what, cure=error.cure)
    except Exception as error:  # noqa: BLE001 - a bug in one action must not keep the others from being done
        says = f"unforeseen {type(error).__name__}: {error}"
        outcome = Outcome(action=action.id, database=want.name, does=does, result="failed", says=says, cure="please report this")
    else:
        outcome = Outcome(action=action.id, database=want.name, does=does, result="done", says=says)
    world.tell(Ended(action=action.id, database=want.name, says=outcome.says, ok=outcome.result == "done"))
    after = f"hook after {does}"
    return (
        outcome,
        *(
            Outcome(action=action.id, database=want.name, does=after, result="failed", says=error.what, cure=error.cure)
            for error in failures
        ),
    )


def _skipped(step: Step, why: str, cure: str = "") -> Outcome:
    does = f"{step.shown.does} {step.shown.to}".strip()
    return Outcome(action=step.action.id, database=step.action.database, does=does, result="skipped", says=why, cure=cure)


@contextmanager
def _lease(world: World, want: DatabasePolicy, watch: Watch, lane: Lane) -> Iterator[Claim | Unreachable]:
    """One at a time. A home target that is down costs the deletions of this turn, never the dump."""
    owner = world.process.begin()
    record = ClaimRecord(owner=owner, counter=0, since=world.clock.now(), for_what=f"lane {lane} of {want.name}")
    claim = Claim(world.targets[want.home], layout.lease_key(want.name, lane), record, world.clock)
    try:
        try:
            take(
                claim,
                watch,
                lambda seconds: world.clock.wait(seconds, world.stop),
                lambda says: world.tell(Waiting(database=want.name, says=says)),
                cache=world.cache,
            )
        except (Unreachable, Refused, Corrupt) as error:
            yield Unreachable(error.what, cure=error.cure)
            return
        try:
            with beating(claim, heart=world.heart):
                yield claim
        finally:
            claim.give_back()
    finally:
        world.process.end(owner)
