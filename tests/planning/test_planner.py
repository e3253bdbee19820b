"""Plans as a whole: what must hold in any world, and over any number of turns."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.planning import render
from reconciler.planning.plan import Plan
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Known, Observation, Unknown
from tests.building import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    catalogue,
    copy,
    daily,
    kinds,
    observation,
    observation_of,
    planned,
    policy,
    retention,
    source,
    unknown,
    utc,
)
from tests.drawn import observations, policies, retentions, shuffled
from tests.situations import CLONE, SITUATIONS
from tests.worlds import PureWorld

quick = settings(max_examples=60, deadline=None)


def as_bytes(plan: Plan) -> bytes:
    return msgspec.json.encode(render.document([plan])) + render.text([plan]).encode()


def wished(plan: Plan) -> set[str]:
    """Ids of all that the duties ask for, blocked or not."""
    return {step.action.id for step in (*plan.steps, *(held.step for held in plan.blocked))}


@given(st.data())
@quick
def test_same_world_in_any_order(data: st.DataObject) -> None:
    """A plan does not depend on which target answered first, or on the order in which a catalogue tells its backups."""
    want, have = data.draw(policies()), data.draw(observations())
    other = data.draw(shuffled(have))

    assert as_bytes(planned(want, have)) == as_bytes(planned(want, other))


@given(policies(), observations())
@quick
def test_nothing_is_deleted_on_what_is_not_sure(want: DatabasePolicy, have: Observation) -> None:
    """Something unknown, a clock that is wrong, a freeze or an impossible date: no deletion of any kind is planned."""
    known = have.known().values()
    unsure = (
        bool(have.unknown())
        or isinstance(have.source, Unknown)
        or any(abs(one.store_time - NOW) > timedelta(seconds=60) or one.frozen for one in known)
        or any(held.state == "impossible" for one in known for held in one.copies)
    )

    plan = planned(want, have)

    assert not (unsure and [step for step in plan.steps if step.action.effect == "delete"])


@given(policies(), observations())
@quick
def test_nothing_asked_for_gets_lost(want: DatabasePolicy, have: Observation) -> None:
    """Every step that a duty asks for is in the plan once: to be done, or blocked with a reason."""
    plan = planned(want, have)

    ids = [step.action.id for step in plan.steps] + [held.step.action.id for held in plan.blocked]
    assert len(ids) == len(set(ids))
    assert all(held.why for held in plan.blocked)


@given(policies(), observations(healthy=True), st.floats(0, 1, exclude_max=True))
@quick
def test_next_at_is_when_the_clock_alone_wants_more(want: DatabasePolicy, have: Observation, part: float) -> None:
    """Until the instant that a plan names, an unchanged world asks for nothing new."""
    plan = planned(want, have)
    assert plan.next_at is not None
    assert plan.next_at > NOW
    later = NOW + timedelta(seconds=int((plan.next_at - NOW).total_seconds() * part))

    assert wished(planned(want, at(have, later), later)) <= wished(plan)


def at(have: Observation, later: datetime) -> Observation:
    """The same world, seen later."""
    seen = {
        name: Known(msgspec.structs.replace(one.value, store_time=later), later) if isinstance(one, Known) else one
        for name, one in have.catalogues.items()
    }
    source = Known(have.source.value, later) if isinstance(have.source, Known) else have.source
    return msgspec.structs.replace(have, catalogues=seen, source=source)


@given(policies(), observations())
@quick
def test_another_source_behind_the_name(want: DatabasePolicy, have: Observation) -> None:
    """Where the catalogues were begun for another source, nothing at all is done, and every objective is violated."""
    seen = {**have.catalogues, "primary": catalogue(daily(3, NOW))}
    begun = observation_of(seen, source(CLONE))

    plan = planned(want, begun)

    assert plan.steps == ()
    assert plan.foreign
    assert {"identity"} >= {held.by for held in plan.blocked}
    assert {"violated"} == {condition.status for condition in plan.conditions}
    assert {None} == {condition.restore_point for condition in plan.conditions}


@pytest.mark.parametrize("name", SITUATIONS)
def test_situation_planned_twice(name: str) -> None:
    """The same world plans to the same bytes."""
    first = [as_bytes(planned(want, have)) for want, have in SITUATIONS[name]()]
    second = [as_bytes(planned(want, have)) for want, have in SITUATIONS[name]()]

    assert first == second


def test_no_target_can_be_seen() -> None:
    """A plan that knows nothing says so, and takes no dump blindly."""
    plan = planned(policy(), observation(primary=unknown()))

    assert plan.blind
    assert [] == kinds(plan)


def test_clocks_that_differ_are_said_while_nothing_is_to_delete() -> None:
    """A wrong clock is found before the day on which a deletion would rest on it."""
    plan = planned(policy(), observation(primary=catalogue([copy(utc("2025-10-25 02:00"))], skew=2 * MINUTE)))

    assert [("error", "primary")] == [(finding.severity, finding.where) for finding in plan.findings]


def test_freeze_is_said_while_nothing_is_to_delete() -> None:
    """A freeze that nobody acknowledged stays in sight."""
    plan = planned(policy(), observation(primary=catalogue([copy(utc("2025-10-25 02:00"))], frozen="a drill failed")))

    assert ["deletions are frozen: a drill failed"] == [finding.what for finding in plan.findings]


turns = st.lists(st.tuples(retentions, st.integers(1, 30), st.sampled_from(((), ("offsite",), ("primary",)))), max_size=25)


def live(edits: Iterable[tuple[Retention | None, int, tuple[str, ...]]]) -> Iterable[tuple[PureWorld, Plan]]:
    """Turns, hours apart, before each of which somebody edits the retention or a target goes down."""
    world = PureWorld(policy("0 */3 * * *", ("primary", "offsite")), utc("2025-01-01 00:05"))
    for keep, hours, down in edits:
        dumps = msgspec.structs.replace(world.want.dumps, retention=keep)
        world.want, world.down = msgspec.structs.replace(world.want, dumps=dumps), set(down)
        yield world, world.turn()
        world.now += hours * HOUR


@given(turns)
@settings(max_examples=40, deadline=None)
def test_the_last_good_ones_stay(edits: list[tuple[Retention | None, int, tuple[str, ...]]]) -> None:
    """Whatever is edited and whatever fails in between, the two newest whole backups are never given up."""
    newest: list[str] = []
    for world, _ in live(edits):
        held = world.whole()
        newest = sorted(world.births, reverse=True)[:2]
        assert newest == held[:2]


@given(turns)
@settings(max_examples=40, deadline=None)
def test_second_plan_of_a_turn_is_empty(edits: list[tuple[Retention | None, int, tuple[str, ...]]]) -> None:
    """What a turn did need not be done again: planned anew in the world that it left, nothing is to be done."""
    for world, _ in live(edits):
        again = world.plan()

        assert [] == [kind for kind in kinds(again) if kind not in ("finish_deletion", "forget_tombstone")]


def test_missing_retention_over_a_year() -> None:
    """Without a retention nothing is ever given up."""
    world = PureWorld(policy("0 2 * * *"), utc("2025-01-01 02:05"))
    for _ in range(120):
        world.turn()
        world.now += DAY

    assert 120 == len(world.whole())


def test_editing_a_schedule() -> None:
    """A rarer, a more frequent or an impossible-to-miss schedule deletes nothing."""
    have = observation(primary=catalogue(daily(6, utc("2025-10-25 02:00"))))

    for schedule in ("0 2 * * *", "0 3 1 1 *", "* * * * *", "0 2 29 2 *"):
        plan = planned(policy(schedule, keep=retention(keep_last=9)), have)
        assert [] == [kind for kind in kinds(plan) if kind != "take_dump"]
        assert () == plan.blocked
