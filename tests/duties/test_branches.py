"""Branches at the provider: ours go once their purpose is over, nobody else's is touched, the database's own is protected."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.duties.branches import ProtectBranch, SweepBranch
from reconciler.errors import Conflict, ReconcilerError
from reconciler.planning.plan import Plan
from reconciler.simulation.faults import Fault
from reconciler.simulation.host import Death
from reconciler.world.facts import Catalogue, Known
from reconciler.world.history import BranchFacts, Limits, Quota, branch_name
from tests.backups.faking import claim_text, stranger
from tests.building import (
    DAY,
    HOUR,
    NOW,
    catalogue,
    copy,
    history,
    id_of,
    kinds,
    observation,
    planned,
    policy,
    tombstone,
    unknown,
    window,
)
from tests.standing import Standing

WHOLE = copy(NOW - 9 * HOUR)
USE = id_of(NOW - HOUR, "other")
WANT = policy(pitr=window("1d"))
MAIN = history().value.branches[0]


def branch(name: str, *, id: str = "br-1", **fields: Any) -> BranchFacts:  # noqa: A002 - as the field is called
    given: dict[str, Any] = {"parent": "br-main", "created": NOW - HOUR, "expires": NOW + DAY, "marked": "hotel"} | fields
    return BranchFacts(id=id, name=name, **given)


def plan_of(*branches: BranchFacts, seen: Known[Catalogue] | Any = None, want: Any = WANT, **fields: Any) -> Plan:
    have = observation(kept=history(branches=(MAIN, *branches), **fields), primary=seen or catalogue([WHOLE]))
    return planned(want, have)


def swept(plan: Plan) -> list[str]:
    return [step.action.branch for step in plan.steps if isinstance(step.action, SweepBranch)]


def told(plan: Plan, severity: str) -> list[str]:
    return [finding.what for finding in plan.findings if finding.severity == severity]


OURS = branch(branch_name("hotel", WHOLE.id))


class TestOurs:
    def test_of_a_dump_that_is_over(self) -> None:
        """It goes, and says what left it."""
        plan = plan_of(OURS)

        assert ["br-1"] == swept(plan)
        assert f"left behind by the dump {WHOLE.id}" == plan.steps[-1].shown.why

    @pytest.mark.parametrize(
        "seen",
        [
            catalogue([WHOLE, copy(NOW - HOUR, "debris", salt="other", id=USE)]),
            catalogue([WHOLE], [tombstone(copy(NOW - HOUR, id=USE), NOW - HOUR)]),
            catalogue([WHOLE, copy(NOW - HOUR, "deleted", id=USE)], [tombstone(copy(NOW - HOUR, id=USE), NOW - HOUR)]),
        ],
    )
    def test_of_a_dump_that_died_or_went(self, seen: Known[Catalogue]) -> None:
        """Whatever trace there is of it: it was ours."""
        assert ["br-1"] == swept(plan_of(branch(branch_name("hotel", USE)), seen=seen))

    @pytest.mark.parametrize("writer", ["alive", "undecided"])
    @pytest.mark.parametrize("state", ["being_written", "whole"])
    def test_of_a_dump_that_goes_on(self, writer: Any, state: Any) -> None:
        """While its writer lives, or may, it stays, though its end has passed."""
        going = copy(NOW - HOUR, state, id=USE, writer=writer)
        plan = plan_of(branch(branch_name("hotel", USE), expires=NOW - HOUR), seen=catalogue([WHOLE, going]))

        assert swept(plan) == []

    def test_without_a_trace(self) -> None:
        """It may be another reconciler's, whose targets are not ours: until its end."""
        assert swept(plan_of(branch(branch_name("hotel", USE)))) == []
        assert ["br-1"] == swept(plan_of(branch(branch_name("hotel", USE), expires=NOW - HOUR)))

    def test_without_an_end(self) -> None:
        """Somebody took it away: it is told, and left."""
        plan = plan_of(branch(branch_name("hotel", USE), expires=None))

        assert swept(plan) == []
        assert [f"branch reconciler-hotel-{USE} has no end, and none of our targets knows what it is for"] == told(
            plan, "warning"
        )

    def test_while_a_target_is_unknown(self) -> None:
        """Who writes can't be seen: nothing but what is past its end could go, and the guard holds even that."""
        have = observation(kept=history(branches=(MAIN, OURS)), primary=catalogue([WHOLE]), offsite=unknown())
        plan = planned(policy(targets=("primary", "offsite"), pitr=window("1d")), have)

        assert [] == [held for held in (*plan.steps, *plan.blocked) if "branch" in str(held)]

    def test_children_first(self) -> None:
        """The one that nothing hangs on goes first."""
        child = branch(branch_name("hotel", USE), id="br-0", parent="br-1", expires=NOW - HOUR)

        assert ["br-0", "br-1"] == swept(plan_of(OURS, child))

    def test_with_somebody_elses_child(self) -> None:
        """It stays, and who hangs on it is told."""
        plan = plan_of(OURS, branch("preview", id="br-2", parent="br-1", marked=None, expires=None))

        assert swept(plan) == []
        assert [f"branch {OURS.name} of ours can't go: preview hangs below it"] == told(plan, "warning")

    @pytest.mark.parametrize(
        ("fields", "why", "cure"),
        [
            ({"is_protected": True}, "it is protected", "unprotect it, or delete it by hand"),
            ({"is_default": True}, "it is the default one", "make another the default one, or delete it by hand"),
        ],
    )
    def test_that_somebody_made_more_of(self, fields: dict[str, Any], why: str, cure: str) -> None:
        """It is never swept: what keeps it is told."""
        plan = plan_of(branch(OURS.name, expires=None, **fields))

        (finding,) = [finding for finding in plan.findings if finding.severity == "warning"]
        assert swept(plan) == []
        assert (f"branch {OURS.name} of ours can't go: {why}", cure) == (finding.what, finding.cure)


class TestForeign:
    @pytest.mark.parametrize(
        "foreign",
        [
            branch("preview", marked=None),
            branch(OURS.name, marked=None),
            branch(OURS.name, marked="another"),
            branch(branch_name("another", WHOLE.id), marked="another"),
            branch(f"{OURS.name}-2"),
            branch(f"x{OURS.name}"),
            branch(OURS.name, is_protected=True),
            branch(OURS.name, is_default=True),
            branch(OURS.name, parent=None),
            branch("reconciler-hotel-20251025T020000Z"),
        ],
    )
    def test_whatever_is_not_ours(self, foreign: BranchFacts) -> None:
        """By name and annotation, both exactly: nothing else is touched, past its end or not."""
        assert swept(plan_of(msgspec.structs.replace(foreign, expires=NOW - HOUR))) == []


class TestSweeping:
    def action(self, made: BranchFacts) -> SweepBranch:
        return SweepBranch(database="hotel", below=0, branch=made.id, name=made.name)

    @pytest.mark.parametrize("fault", [None, "lost answer", "no answer", "death before", "death after"])
    def test_whatever_happens(self, tmp_path: Path, fault: Fault | None) -> None:
        """It is gone in the end, its sisters are there, and a record says so."""
        standing = Standing(tmp_path, *([fault] if fault else []))
        made, _ = standing.branch(OURS.name), standing.branch("preview", marked=None)
        if fault:
            with pytest.raises((ReconcilerError, Death)):
                self.action(made).perform(standing.world, WANT)
        again = Standing(tmp_path)
        again.project.branches = standing.project.branches
        self.action(made).perform(again.world, WANT)

        assert ["main", "preview"] == sorted(again.branches())
        assert (OURS.name, "") in {(was, now) for was, now, _ in again.changes("branch")}

    def test_one_that_was_renamed(self, tmp_path: Path) -> None:
        """Somebody made it theirs: it stays."""
        standing = Standing(tmp_path)
        made = standing.branch(OURS.name)
        standing.project.branches[made.id] = msgspec.structs.replace(made, name="ana")
        with pytest.raises(Conflict):
            self.action(made).perform(standing.world, WANT)

        assert ["ana", "main"] == sorted(standing.branches())

    def test_one_that_somebody_writes_by(self, tmp_path: Path) -> None:
        """The intent is read afresh on each target."""
        standing = Standing(tmp_path)
        made = standing.branch(OURS.name)
        owner = standing.world.process.begin()
        key = layout.object_key("hotel", WHOLE.id, layout.INTENT)
        standing.world.targets["offsite"].write(key, [claim_text(owner)])
        with pytest.raises(Conflict, match="is being written"):
            self.action(made).perform(standing.world, WANT)
        standing.world.process.end(owner)
        standing.world.targets["offsite"].write(key, [claim_text(stranger())])

        self.action(made).perform(standing.world, WANT)

        assert ["main"] == standing.branches()


class TestProtection:
    def test_where_the_policy_asks(self) -> None:
        """Drift is seen, and mended."""
        want = policy(protect=True)

        assert [ProtectBranch(database="hotel", branch="br-main", name="main")] == [s.action for s in plan_of(want=want).steps]
        assert [] == kinds(plan_of())

    def test_where_it_is(self) -> None:
        """Nothing is left to do."""
        safe = history(branches=(msgspec.structs.replace(MAIN, is_protected=True),))
        plan = planned(policy(protect=True), observation(kept=safe, primary=catalogue([WHOLE])))

        assert (plan.steps, plan.findings) == ((), ())

    def test_where_the_plan_has_no_more(self) -> None:
        """An error, and nothing is tried again and again."""
        plan = plan_of(want=policy(protect=True), limits=Limits(protected=0))

        assert plan.steps == ()
        assert ["branch main can't be protected: 0 of 0 protected branches are there"] == told(plan, "error")

    def test_doing_it(self, tmp_path: Path) -> None:
        """It is protected, and recorded."""
        standing = Standing(tmp_path)
        ProtectBranch(database="hotel", branch="br-main", name="main").perform(standing.world, WANT)

        assert standing.project.branches["br-main"].is_protected
        assert [False, True] == [done for *_, done in standing.changes("protection")]

    def test_another_branch_by_now(self, tmp_path: Path) -> None:
        """What was planned speaks of another one."""
        standing = Standing(tmp_path)
        with pytest.raises(Conflict):
            ProtectBranch(database="hotel", branch="br-old", name="main").perform(standing.world, WANT)


def many(count: int, **fields: Any) -> list[BranchFacts]:
    return [branch(f"pr-{n}", id=f"br-{n}", marked=None, expires=None, **fields) for n in range(count)]


class TestLimits:
    @pytest.mark.parametrize(
        ("there", "severity", "said"),
        [
            (14, None, []),
            (15, "warning", ["branches run out: 16 of 20 are there"]),
            (19, "error", ["no more branches: 20 of 20 are there"]),
        ],
    )
    def test_branches(self, there: int, severity: str | None, said: list[str]) -> None:
        """Told before they are used up, with the oldest that nobody gave an end."""
        plan = plan_of(*many(there))
        found = [finding for finding in plan.findings if finding.severity in ("warning", "error")]

        assert (said, [severity] * len(said)) == ([one.what for one in found], [one.severity for one in found])
        assert all(f"{there} branches without an end: pr-0, pr-1, pr-2 and" in one.cure for one in found)

    def test_root_branches(self) -> None:
        """A restore and its undo need one each."""
        plan = plan_of(*many(3, parent=None))

        assert ["root branches run out: 4 of 5 are there"] == told(plan, "warning")

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"branches": (MAIN, *many(4, parent=None))}, "no root branch is left (5 of 5): a restore in place is refused"),
            ({"branches": (MAIN, *many(19))}, "no branch is left (20 of 20): nothing can be opened"),
            (
                {"limits": Limits(quotas=(Quota(name="compute time", used=100, limit=100),))},
                "the quota of compute time is used up",
            ),
        ],
    )
    def test_an_rpo_that_rests_on_it(self, fields: Any, says: str) -> None:
        """At risk where only the history meets it; a dump that meets it is enough."""
        have = observation(kept=history(**fields), primary=catalogue([WHOLE]))
        short, long = (planned(policy(rpo=rpo, pitr=window("1d")), have).conditions[0] for rpo in ("5m", "30h"))

        assert ("at_risk", True) == (short.status, short.says.endswith(says))
        assert long.status == "met"

    def test_quotas(self) -> None:
        """From four fifths on."""
        quotas = tuple(Quota(name=f"q{used}", used=used, limit=100) for used in (79, 80, 99, 100))
        plan = plan_of(limits=Limits(quotas=quotas))

        assert ["q80: 80 % of the quota is used", "q99: 99 % of the quota is used"] == told(plan, "warning")
        assert ["q100: 100 % of the quota is used"] == told(plan, "error")

    def test_limits_that_nobody_knows(self) -> None:
        """Nothing is told of them."""
        assert plan_of(*many(200), limits=Limits()).findings == ()

    def test_the_databases_own_branch(self) -> None:
        """Archived, restricted, or about to be deleted: each is told."""
        own = msgspec.structs.replace(MAIN, is_archived=True, restricted=("restore: detaching",), expires=NOW + DAY)
        plan = planned(WANT, observation(kept=history(branches=(own,)), primary=catalogue([WHOLE])))

        assert [
            "branch main is archived: whatever opens it first waits long",
            "branch main: the provider refuses to restore: detaching",
        ] == told(plan, "warning")
        assert ["branch main is the database's own, and is deleted 2025-10-26 11:12Z"] == told(plan, "error")

    @pytest.mark.parametrize(("ahead", "count"), [(DAY, 1), (3 * DAY, 0), (-DAY, 0)])
    def test_maintenance(self, ahead: Any, count: int) -> None:
        """A note, in the days before."""
        assert count == len(told(plan_of(maintenance=NOW + ahead), "note"))
