"""How an objective stands, and that what can't be seen never makes it better."""

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.planning.objectives import judge
from reconciler.planning.plan import Condition
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Catalogue, Copy, Observation, Observed, State
from tests.building import DAY, HOUR, MINUTE, NOW, catalogue, copy, history, observation, policy, unknown, utc
from tests.drawn import TARGETS, observations, policies, without_partial

TODAY = utc("2025-10-25 02:00")
DAILY = policy(targets=("disk", "offsite"), rpo="26h", disaster="26h")
HERE = {"disk": "host:db.internal"}


def stand(have: Observation, want: DatabasePolicy = DAILY, now: datetime = NOW) -> dict[str, str]:
    """All but the copies, which have their own column where they are tried."""
    return {condition.name: condition.status for condition in judge(want, have, now) if condition.name != "copies"}


def copies_of(have: Observation, want: DatabasePolicy = DAILY) -> Condition:
    return next(condition for condition in judge(want, have, NOW) if condition.name == "copies")


def rpo(have: Observation, want: DatabasePolicy = DAILY, now: datetime = NOW) -> Condition:
    return judge(want, have, now)[0]


FRESH, OLD = copy(TODAY), copy(TODAY - DAY)
STANDS = [
    ("both fresh", [FRESH], [FRESH], "met", "met", "met"),
    ("the copy is late", [FRESH], [OLD], "met", "violated", "violated"),
    ("both old", [OLD], [OLD], "violated", "violated", "violated"),
    ("nothing anywhere", [], [], "violated", "violated", "violated"),
    ("never copied", [FRESH], [], "met", "violated", "violated"),
    ("only the copy is left", [], [FRESH], "met", "met", "violated"),
    ("offsite unknown", [FRESH], None, "met", "unproven", "unproven"),
    ("disk unknown", None, [FRESH], "met", "met", "unproven"),
    ("old, and the rest unknown", [OLD], None, "violated", "unproven", "violated"),
    ("old copy, and the rest unknown", None, [OLD], "violated", "violated", "violated"),
    ("nothing, and the rest unknown", [], None, "unproven", "unproven", "violated"),
    ("nothing offsite, and the rest unknown", None, [], "unproven", "violated", "violated"),
    ("all unknown", None, None, "unproven", "unproven", "unproven"),
]


def listed(held: list[Copy] | None) -> Observed[Catalogue]:
    return unknown() if held is None else catalogue(held)


@pytest.mark.parametrize(
    ("disk", "offsite", "rpo", "disaster", "copies"), [row[1:] for row in STANDS], ids=[row[0] for row in STANDS]
)
def test_objectives_stand(disk: list[Copy] | None, offsite: list[Copy] | None, rpo: str, disaster: str, copies: str) -> None:
    """`disk` fails together with the source, `offsite` does not."""
    have = observation(domains=HERE, disk=listed(disk), offsite=listed(offsite))
    assert ({"rpo": rpo, "disaster_rpo": disaster}, copies) == (stand(have), copies_of(have).status)


@pytest.mark.parametrize(
    ("last", "status"),
    [(None, "unproven"), (NOW - 25 * HOUR, "unproven"), (NOW - 27 * HOUR, "violated")],
    ids=["nobody remembers", "young enough", "too old by now"],
)
def test_silence_pages_somebody(last: datetime | None, status: str) -> None:
    """What was seen last is all that a restore could count on."""
    silent = msgspec.structs.replace(unknown(), last=last)
    have = observation(domains=HERE, disk=silent, offsite=silent)

    assert {"rpo": status, "disaster_rpo": status} == stand(have)


def test_what_one_target_remembers_says_nothing_of_another() -> None:
    """The copies outside are judged by what was seen outside."""
    young, old = (msgspec.structs.replace(unknown(), last=NOW - hours * HOUR) for hours in (3, 27))

    assert {"rpo": "unproven", "disaster_rpo": "violated"} == stand(observation(domains=HERE, disk=young, offsite=old))


def test_source_of_an_unknown_domain() -> None:
    """Where nobody knows what fails together with the source, no copy is proven to survive it."""
    have = observation(domain=None, disk=catalogue([FRESH]), offsite=catalogue([FRESH]))

    assert {"rpo": "met", "disaster_rpo": "unproven"} == stand(have)


def test_every_target_beside_the_source() -> None:
    """A policy whose targets all fail with the source is told so."""
    have = observation(
        domains=dict.fromkeys(("disk", "offsite"), "host:db.internal"), disk=catalogue([FRESH]), offsite=catalogue([FRESH])
    )

    condition = judge(DAILY, have, NOW)[1]
    assert ("violated", "every target fails together with the source (host:db.internal)") == (condition.status, condition.says)


@pytest.mark.parametrize(
    "state", ["being_written", "debris", "damaged", "orphan", "deleted", "being_deleted", "hidden", "foreign", "impossible"]
)
def test_no_restore_point(state: State) -> None:
    """Only a whole copy is something to return to, however fresh another is."""
    have = observation(
        domains=HERE, disk=catalogue([copy(NOW - HOUR, state), OLD]), offsite=catalogue([copy(NOW - HOUR, state), OLD])
    )

    assert {"rpo": "violated", "disaster_rpo": "violated"} == stand(have)
    assert OLD.instant == rpo(have).restore_point


@pytest.mark.parametrize(("age", "status"), [(26 * HOUR, "met"), (26 * HOUR + MINUTE, "violated")])
def test_objective_runs_from_the_instant(age: timedelta, status: str) -> None:
    """A dump that took twenty hours is as old as its snapshot, not as its end."""
    begun = NOW - age
    slow = copy(begun, started=begun, finished=begun + 20 * HOUR, slot=TODAY)
    want = policy("0 12 * * *", rpo="26h")

    status_now = rpo(observation(primary=catalogue([slow])), want).status
    assert (status == "violated") == (status_now == "violated")


HOURLY = policy("0 * * * *", rpo="90m")
RISKS = [
    # newest instant, minutes its dump took, now, what is so
    ("well in time", "10:00", 5, "10:20", "met"),
    ("the next one is in time, with a retry", "10:00", 14, "10:59", "met"),
    ("a dump and its retry take too long", "10:00", 16, "10:20", "at_risk"),
    ("the slot has passed, and its dump can still be in time", "10:00", 5, "11:15", "met"),
    ("the slot has passed, and its dump comes too late", "10:00", 10, "11:15", "at_risk"),
    ("too old", "10:00", 5, "11:31", "violated"),
]


@pytest.mark.parametrize(("newest", "took", "now", "status"), [row[1:] for row in RISKS], ids=[row[0] for row in RISKS])
def test_objective_at_risk(newest: str, took: int, now: str, status: str) -> None:
    """Met now, and no longer when the next dump, its usual duration and one retry counted, could be there."""
    instant = utc(f"2025-10-25 {newest}")
    have = observation(primary=catalogue([copy(instant, started=instant, finished=instant + took * MINUTE)]))

    assert status == rpo(have, HOURLY, utc(f"2025-10-25 {now}")).status


def test_the_last_try_died() -> None:
    """Debris of the newest slot is a try that came to nothing, and the next may too; the debris of another slot is history."""
    done, now = copy(utc("2025-10-25 10:00")), utc("2025-10-25 11:01")
    died = copy(now - MINUTE, "debris", slot=utc("2025-10-25 11:00"))
    older = msgspec.structs.replace(died, slot=utc("2025-10-25 10:00"))
    want = policy("0 * * * *", rpo="6h")

    found = rpo(observation(primary=catalogue([done, died])), want, now)

    assert "at_risk" == found.status
    assert "the last try, for slot 2025-10-25 11:00Z, died" in found.says
    assert "met" == rpo(observation(primary=catalogue([done, older])), want, now).status
    assert "met" == rpo(observation(primary=catalogue([done])), want, now).status


def test_objective_that_a_window_outlasts() -> None:
    """The next dump could be there only after the window, and that is too late."""
    have, now = observation(primary=catalogue([copy(utc("2025-10-25 10:00"))])), utc("2025-10-25 10:30")

    assert "met" == rpo(have, HOURLY, now).status
    assert "at_risk" == rpo(have, policy("0 * * * *", rpo="90m", never=("* 11 * * *",)), now).status


def test_auto_keeps_its_objective() -> None:
    """Right after each dump, the next slot, a failed try and its retry lie within the objective, however long dumps take."""
    for took in (1, 30, 59, 61, 90, 110):
        taken = utc("2025-10-25 00:00")
        have = observation(primary=catalogue([copy(taken, started=taken, finished=taken + took * MINUTE)]))

        assert "met" == rpo(have, policy("auto", rpo="6h"), taken + took * MINUTE).status


def test_schedule_too_rare_for_the_objective() -> None:
    """A daily dump can't meet six hours: at risk from the moment that the dump is there."""
    want = policy(rpo="6h")

    assert "at_risk" == rpo(observation(primary=catalogue([FRESH])), want, TODAY + HOUR).status


def test_copies_are_judged_one_by_one() -> None:
    """The newest on each of them; one beyond the source's domain by the objective for disasters, where that is milder."""
    have = observation(domains=HERE, disk=catalogue([FRESH]), offsite=catalogue([OLD]))
    milder = policy(targets=("disk", "offsite"), rpo="26h", disaster="3d")

    assert ("violated", "newest on offsite is 33h12m old") == (copies_of(have).status, copies_of(have).says)
    assert ("met", OLD.instant) == (copies_of(have, milder).status, copies_of(have, milder).restore_point)


def test_copies_where_a_history_keeps_the_rpo() -> None:
    """No dump is taken every minute: then what a disaster may cost is what a target may lag; without that word, none lags."""
    have = observation(domains=HERE, disk=catalogue([FRESH]), offsite=catalogue([FRESH]), kept=history())
    said = policy(targets=("disk", "offsite"), rpo="5m", disaster="26h")

    assert ("met", timedelta(hours=26)) == (copies_of(have, said).status, copies_of(have, said).objective)
    assert "copies" not in {one.name for one in judge(policy(targets=("disk", "offsite"), rpo="5m"), have, NOW)}


def test_one_target_has_no_copies() -> None:
    """The RPO says all of it."""
    names = [condition.name for condition in judge(policy(rpo="26h"), observation(primary=catalogue([FRESH])), NOW)]
    assert ["rpo"] == names


def test_policy_without_objectives() -> None:
    """What is not asked for is not judged."""
    assert () == judge(policy(), observation(primary=catalogue([FRESH])), NOW)


@given(policies(), observations(), st.sampled_from(TARGETS))
@settings(max_examples=80, deadline=None)
def test_target_that_goes_out_of_sight(want: DatabasePolicy, have: Observation, name: str) -> None:
    """What was not met is never met because a target can no longer be seen."""
    hidden = msgspec.structs.replace(have, catalogues={**have.catalogues, name: unknown()})
    holds = ("met", "at_risk")

    seen, unseen = stand(have, want), stand(hidden, want)
    assert {key for key in unseen if unseen[key] in holds} <= {key for key in seen if seen[key] in holds}


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_disaster_is_never_better(want: DatabasePolicy, have: Observation) -> None:
    """What survives the loss of the source is among what can be restored: its newest point is never newer."""
    points = {condition.name: condition.restore_point for condition in judge(want, have, NOW)}

    assert (points["disaster_rpo"] or utc("1970-01-01 00:00")) <= (points["rpo"] or utc("1970-01-01 00:00"))


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_met_names_a_whole_copy(want: DatabasePolicy, have: Observation) -> None:
    """Every objective that holds rests on a copy that is whole, on a target that was seen, and young enough."""
    for condition in judge(want, have, NOW):
        whole = {one.instant for seen in have.known().values() for one in seen.copies if one.state == "whole"}
        if condition.status in ("met", "at_risk"):
            assert condition.restore_point is not None
            assert condition.restore_point in whole
            assert NOW - condition.objective <= condition.restore_point


@given(policies(), observations())
def test_no_objective_rests_on_a_partial_backup(want: DatabasePolicy, have: Observation) -> None:
    """Had none been taken, every objective would stand as it does."""
    assert judge(want, without_partial(have), NOW) == judge(want, have, NOW)


def test_a_partial_backup_is_no_restore_point() -> None:
    """However fresh and well it is."""
    have = observation(domains=HERE, disk=catalogue([copy(TODAY, partial=True)]), offsite=catalogue([]))

    assert "violated" == rpo(have).status
    assert "no restore point at all" == rpo(have).says
