"""What evidence makes of a plan: what stays, what is due, how the objectives stand. Pure."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.duties.retention import kept
from reconciler.duties.verification import VerifyBackup
from reconciler.planning.plan import Condition
from reconciler.policy.model import DatabasePolicy, Level, Verify
from reconciler.policy.relation import Relation
from reconciler.policy.units import Length
from reconciler.world.evidence import LEVELS, Evidence
from reconciler.world.facts import Copy, Observation
from tests.building import (
    DAY,
    HOUR,
    NOW,
    catalogue,
    daily,
    evidence,
    kinds,
    observation,
    planned,
    policy,
    retention,
    tombstone,
    utc,
)

TODAY = utc("2025-10-25 02:00")


def want(*, every: str = "7d", level: Level = "restore", targets: tuple[str, ...] = ("primary",), **rules: Any) -> DatabasePolicy:
    """With verification, and retention by these rules."""
    made = policy(targets=targets, keep=retention(**({"keep_last": 1} | rules)), rpo="26h")
    rule = Verify(every=Length.parse(every), level=level)
    return msgspec.structs.replace(made, dumps=msgspec.structs.replace(made.dumps, verify=rule))


def backups(count: int) -> list[Copy]:
    return [msgspec.structs.replace(one, content=f"bytes of {one.id}") for one in daily(count, TODAY)]


def seen(copies: list[Copy], *records: Evidence) -> Observation:
    return observation(evidence=records, primary=catalogue(copies))


def condition(have: Observation, wanted: DatabasePolicy, name: str) -> Condition:
    return next(one for one in planned(wanted, have).conditions if one.name == name)


def test_the_newest_proven_one_stays() -> None:
    """Expired or not, whatever retention says; and no second unproven one for its sake."""
    copies = backups(6)
    old = evidence(copies[4], ago=60 * DAY)

    stays = kept(want(), seen(copies, old), NOW)

    assert list(stays) == [copies[0].id, copies[4].id]
    assert stays[copies[4].id] == ("one of the newest 1 that a restore has proven",)


def test_while_none_is_proven() -> None:
    """The two newest whole ones stay; what failed is none of them, and neither is what only its hashes speak for."""
    copies = backups(5)

    records = (evidence(copies[0], "failed"), evidence(copies[4], level="toc"))

    assert {copies[1].id, copies[2].id} <= set(kept(want(), seen(copies, *records), NOW))
    assert copies[4].id not in kept(want(), seen(copies, *records), NOW)


@given(st.lists(st.tuples(st.sampled_from(("passed", "failed", "unproven")), st.integers(0, 40)), max_size=8), st.integers(1, 3))
def test_the_last_good_ones_stay(drawn: list[tuple[str, int]], least: int) -> None:
    """Whatever was found out, so many proven ones stay as are asked for, or all that there are, and the floor else."""
    copies = backups(8)
    records = [evidence(one, result, ago=ago * DAY) for one, (result, ago) in zip(copies, drawn, strict=False)]
    have = seen(copies, *records)

    stays = kept(want(min_verified=least), have, NOW)

    good = [record.backup for record in records if record.result == "passed"]
    bad = {record.backup for record in records if record.result == "failed"}
    assert set(good[:least]) <= set(stays)
    if len(good) < least:
        assert {one.id for one in [one for one in copies if one.id not in bad][:2]} <= set(stays)


def test_when_it_is_due() -> None:
    """Once in the time on each target; after what did not pass, a day later; never twice for one target."""
    copies = backups(2)
    both = ("primary", "offsite")
    have = observation(
        evidence=(evidence(copies[1], ago=2 * DAY), evidence(copies[1], "unproven", ago=2 * DAY, target="offsite")),
        primary=catalogue(copies),
        offsite=catalogue(copies),
    )

    plan = planned(want(targets=both), have)

    assert [(step.action.parameters["target"], step.action.parameters["backup"]) for step in plan.steps] == [
        ("offsite", copies[0].id)
    ]
    assert "last unproven" in plan.steps[0].shown.why
    assert "verify_backup" in kinds(planned(want(), seen(copies)))
    assert "verify_backup" in kinds(planned(want(), seen(copies, evidence(copies[1], "failed", ago=HOUR))))
    assert "verify_backup" not in kinds(planned(want(), seen(copies, evidence(copies[0], "failed", ago=HOUR))))
    assert "verify_backup" in kinds(planned(want(), seen(copies, evidence(copies[0], ago=8 * DAY))))
    assert "verify_backup" in kinds(planned(want(), seen(copies, evidence(copies[0], level="hash"))))


@pytest.mark.parametrize(("ago", "is_due"), [(2 * DAY, False), (8 * DAY, True)])
def test_when_hashes_are_due_that_nobody_can_decrypt(ago: timedelta, *, is_due: bool) -> None:
    """All was read: a key that is nowhere is no reason to read it every day, and none to stop deletions."""
    copies = backups(2)
    have = seen(copies, evidence(copies[0], "unproven", level="hash", ago=ago))

    plan = planned(want(level="hash"), have)

    assert is_due == ("verify_backup" in kinds(plan))
    assert "freeze" not in kinds(plan)
    assert not [found for found in plan.findings if found.severity == "error"]
    assert planned(want(), seen(copies, evidence(copies[0]))).next_at is not None


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ((), "unproven"),
        (("passed", 1), "met"),
        (("passed", 15), "unproven"),
        (("unproven", 1), "unproven"),
        (("failed", 1), "violated"),
    ],
)
def test_the_objective(records: Any, status: str) -> None:
    """What was not done proves nothing, and what expired proves nothing any more."""
    copies = backups(2)
    found = [evidence(copies[0], records[0], ago=records[1] * DAY)] if records else []

    assert condition(seen(copies, *found), want(), "verified").status == status


@pytest.mark.parametrize(
    ("earlier", "status", "says"),
    [
        (("passed", 2), "at_risk", "passed on primary 2d ago, and unproven since"),
        (("passed", 15), "unproven", "passed on primary 15d ago, too long, and unproven since"),
        (("failed", 2), "violated", "failed on primary 2d ago, and unproven since"),
        (("unproven", 2), "unproven", "unproven on primary 24h ago"),
    ],
)
@pytest.mark.parametrize("of", [0, 1], ids=["the same backup", "another one"])
def test_the_objective_where_the_last_try_could_tell_nothing(earlier: Any, status: str, says: str, of: int) -> None:
    """It is not bad and not good: what was found out before goes on counting, for as long as it does."""
    copies = backups(2)
    result, days = earlier
    found = [evidence(copies[of], result, ago=days * DAY), evidence(copies[0], "unproven", ago=DAY, sequence=2)]

    verified = condition(seen(copies, *found), want(), "verified")

    assert (status, says) == (verified.status, verified.says)


@pytest.mark.parametrize(("level", "of"), [("hash", 0), ("toc", 0), ("hash", 1)])
def test_what_a_lesser_look_found_bad(level: Level, of: int) -> None:
    """Whoever compares the hashes of a copy by hand, and finds it spoilt, has found out what a restore would have: nothing is
    verified for what was so before. It is no less bad for a reason that cost less to find."""
    copies = backups(2)
    found = [evidence(copies[of], ago=2 * DAY), evidence(copies[of], "failed", level=level, ago=25 * HOUR, sequence=2)]

    verified = condition(seen(copies, *found), want(), "verified")

    assert ("violated", "failed on primary 25h ago") == (verified.status, verified.says)
    assert "verify_backup" in kinds(planned(want(), seen(copies, *found)))
    again = evidence(copies[of], level=level, ago=HOUR, sequence=3)
    assert "met" == condition(seen(copies, *found, again), want(), "verified").status


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(("passed", "failed", "unproven")), st.sampled_from(LEVELS), st.integers(0, 600)),
        max_size=6,
    )
)
def test_partial_backups_prove_nothing_of_the_whole(drawn: list[tuple[bool, Any, Level, int]]) -> None:
    """Once a policy leaves nothing out any more, what was verified before stands as if it had not been: neither met nor missed
    by it, and what is due is due."""
    copies = [msgspec.structs.replace(one, partial=partial) for one, (partial, *_) in zip(backups(6), drawn, strict=False)]
    records = [
        evidence(one, result, level=level, ago=hours * HOUR, sequence=number, partial=one.partial)
        for number, (one, (_, result, level, hours)) in enumerate(zip(copies, drawn, strict=True), 1)
    ]
    wholes = [record for record in records if not record.partial]

    told, without = (planned(want(), seen(copies, *found)) for found in (records, wholes))

    verify = [[step.action for step in one.steps if isinstance(step.action, VerifyBackup)] for one in (told, without)]
    stands = [[stand for stand in one.conditions if stand.name == "verified"] for one in (told, without)]
    assert stands[0] == stands[1]
    assert verify[0] == verify[1]
    assert not {action.backup for action in verify[0]} & {one.id for one in copies if one.partial}


def test_partial_backups_of_a_policy_that_asks_for_them() -> None:
    """They are what is verified, as long as it does; then the newest whole one is, at once."""
    whole, partial = backups(2)[1], msgspec.structs.replace(backups(1)[0], partial=True)
    dumps = msgspec.structs.replace(want().dumps, exclude=(Relation("public", "scratchpad"),))
    leaving = msgspec.structs.replace(want(), dumps=dumps)
    met = seen([partial, whole], evidence(partial, partial=True))

    def verified(wanted: DatabasePolicy, have: Observation) -> list[str]:
        return [step.action.backup for step in planned(wanted, have).steps if isinstance(step.action, VerifyBackup)]

    assert [partial.id] == verified(leaving, seen([partial, whole]))
    assert "met" == condition(met, leaving, "verified").status
    assert "unproven" == condition(met, want(), "verified").status
    assert [whole.id] == verified(want(), met)


def test_what_failed() -> None:
    """It is no restore point, it is told, and it stops deletions until somebody has looked."""
    copies = backups(5)
    record = evidence(copies[0], "failed", sequence=7)
    have = seen(copies, record)

    plan = planned(want(), have)

    assert condition(have, want(), "rpo").restore_point == copies[1].instant
    assert any(finding.severity == "error" and copies[0].id in finding.what for finding in plan.findings)
    assert "freeze_deletions" in kinds(plan)
    looked_at = msgspec.structs.replace(catalogue(copies).value, acknowledged=("evidence 7",))
    calm = observation(evidence=(record,), primary=msgspec.structs.replace(catalogue(copies), value=looked_at))
    assert "freeze_deletions" not in kinds(planned(want(), calm))


def test_evidence_of_other_bytes() -> None:
    """A copy that was replaced is another copy."""
    copies = backups(3)
    record = evidence(copies[0], "failed", content="bytes that lay there once")

    assert "freeze_deletions" not in kinds(planned(want(), seen(copies, record)))
    assert condition(seen(copies, record), want(), "rpo").restore_point == copies[0].instant


def test_what_failed_takes_no_place_and_is_left_alone() -> None:
    """A good one never goes for its sake; and it goes only when somebody names it."""
    copies = backups(5)
    bad = evidence(copies[0], "failed")
    stays = kept(want(keep_last=3), seen(copies, bad), NOW)
    old = kept(want(keep_last=1), seen(copies, evidence(copies[4], "failed")), NOW)

    assert {copies[0].id, copies[1].id, copies[2].id, copies[3].id} == set(stays)
    assert ("failed its verification: left to people",) == stays[copies[0].id] == old[copies[4].id]


def test_the_last_good_ones_are_counted_without_what_failed() -> None:
    """A deletion whose grace has passed is not finished where only bad ones would be left beside one."""
    good, bad, going = backups(3)
    dying = msgspec.structs.replace(going, state="being_deleted", has_tombstone=True)
    have = observation(
        evidence=[evidence(bad, "failed")], primary=catalogue([good, bad, dying], [tombstone(dying, NOW - 8 * DAY)])
    )

    assert "finish_deletion" not in kinds(planned(want(), have))


def test_evidence_that_is_dated_ahead() -> None:
    """Written under a wrong clock: it keeps no verification from being made, meets nothing, and is told of."""
    copies = backups(3)
    ahead = evidence(copies[0], ago=-400 * DAY)
    have = seen(copies, ahead)

    assert "verify_backup" in kinds(planned(want(), have))
    assert "unproven" == condition(have, want(), "verified").status
    assert any("dated ahead" in finding.what for finding in planned(want(), have).findings)
