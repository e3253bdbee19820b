"""The window of the provider's history: raised when asked, never shortened unasked, and honest about how far it reaches."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.backups.changes import read_windows
from reconciler.backups.manifest import encode
from reconciler.duties import DUTIES
from reconciler.duties.pitr import NoteWindow, ShortenWindow, WidenWindow, due
from reconciler.errors import Conflict, ReconcilerError, Refused
from reconciler.planning.plan import Condition, Consent, Plan, agree, blocked_digest
from reconciler.planning.render import text
from reconciler.policy.model import DatabasePolicy, Pitr
from reconciler.simulation.faults import Fault
from reconciler.simulation.host import Death
from reconciler.targets.unusable import UnusableTarget
from reconciler.turn import survey
from reconciler.world.facts import Known
from reconciler.world.history import Change, HistoryFacts, Limits
from tests.backups.faking import catalogue as seen_catalogue
from tests.building import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    catalogue,
    change,
    copy,
    history,
    kinds,
    observation,
    planned,
    policy,
    unknown,
    watched,
    window,
)
from tests.standing import Standing

TODAY = NOW - 9 * HOUR
WEEK = window("7d")


def plan_of(pitr: Pitr, kept: Known[HistoryFacts], *changes: Change) -> Plan:
    """`changes`: since the window was seen first, long ago."""
    seen = [watched(DAY if changes else kept.value.window), *changes]
    return planned(policy(pitr=pitr), observation(kept=kept, noted=seen, primary=catalogue([copy(TODAY)])))


def condition(plan: Plan) -> Condition:
    (found,) = (one for one in plan.conditions if one.name == "pitr")
    return found


class TestPlan:
    def test_a_window_that_is_too_small(self) -> None:
        """It is raised, and from when on it really reaches back is said."""
        plan = plan_of(WEEK, history())

        assert [WidenWindow(database="hotel", project="quiet-hotel", was_seconds=86400, now_seconds=604800)] == [
            step.action for step in plan.steps
        ]
        assert "  ~ PITR window  1d → 7d  policy wants 7d; reaches back 7d from 2025-10-31 11:12Z on" in text([plan]).splitlines()
        assert condition(plan).status == "violated"

    def test_a_window_that_is_as_it_should_be(self) -> None:
        """Nothing is done, and what can be returned to is said."""
        plan = plan_of(WEEK, history(window=7 * DAY))

        assert plan.steps == ()
        assert ("met", "any instant since 2025-10-18 11:12Z (window 7d)") == (condition(plan).status, condition(plan).says)

    def test_a_window_that_is_too_large(self) -> None:
        """It destroys to shorten one: only with the digest of just that."""
        plan = plan_of(WEEK, history(window=30 * DAY))
        (held,) = plan.blocked

        assert plan.steps == ()
        assert isinstance(held.step.action, ShortenWindow)
        assert ("guard", "what goes by it never comes back") == (held.by, held.why)
        assert agree(Consent(), plan).steps == ()
        assert [held.step] == list(agree(Consent(allow_destructive=blocked_digest(plan)), plan).steps)
        assert f"--allow-destructive={blocked_digest(plan)}" in text([plan])

    @pytest.mark.parametrize("kept", ["1d", "30d"])
    def test_one_that_is_only_looked_at(self, kept: str) -> None:
        """The difference is reported, and nothing else."""
        plan = plan_of(window("7d", manage=False), history(window=window(kept).window))

        assert (plan.steps, plan.blocked) == ((), ())
        assert [f"the PITR window is {kept}, and the policy wants 7d; it is not ours to set"] == [
            finding.what for finding in plan.findings
        ]

    def test_one_that_the_account_can_not_have(self) -> None:
        """As much as there is is taken, and that it is not all is an error that says so."""
        plan = plan_of(window("30d"), history())
        after = plan_of(window("30d"), history(window=7 * DAY))

        assert ["1d → 7d"] == [step.shown.to for step in plan.steps]
        assert after.steps == ()
        for one in (plan, after):
            assert ["the policy wants a PITR window of 30d, and the plan launch has 7d at most"] == [
                finding.what for finding in one.findings if finding.severity == "error"
            ]
            assert condition(one).status == "violated"

    def test_one_larger_than_the_account_may_have(self) -> None:
        """Whoever has more than the plan gives (an old account) keeps it: it is less than wanted."""
        assert plan_of(window("30d"), history(window=14 * DAY)).blocked == ()

    def test_an_account_whose_limits_are_unknown(self) -> None:
        """It is asked for, and the provider has its say."""
        plan = plan_of(window("30d"), history(limits=Limits()))

        assert ["1d → 30d"] == [step.shown.to for step in plan.steps]

    def test_an_unknown_history(self) -> None:
        """Nothing is set, and the objective is unproven."""
        plan = planned(policy(pitr=WEEK), observation(kept=unknown("503"), primary=catalogue([copy(TODAY)])))

        assert plan.steps == ()
        assert ("unproven", "the history is unknown") == (condition(plan).status, condition(plan).says)
        assert ["history"] == [finding.where for finding in plan.findings]

    def test_no_history_at_all(self) -> None:
        """Violated, though such a policy does not load."""
        plan = planned(policy(pitr=WEEK), observation(primary=catalogue([copy(TODAY)])))

        assert (plan.steps, condition(plan).status) == ((), "violated")


class TestReach:
    @pytest.mark.parametrize(
        ("changes", "since", "status"),
        [
            ([], "2025-10-18 11:12Z", "met"),
            ([change(DAY, 7 * DAY, 2 * DAY)], "2025-10-22 11:12Z", "at_risk"),
            ([change(DAY, 7 * DAY, 6 * DAY)], "2025-10-18 11:12Z", "met"),
            ([change(DAY, 7 * DAY, 2 * DAY, done=False)], "2025-10-24 11:12Z", "at_risk"),
            ([change(DAY, 2 * DAY, 2 * DAY)], "2025-10-23 11:12Z", "at_risk"),
            ([change(7 * DAY, DAY, 3 * DAY), change(DAY, 7 * DAY, 2 * DAY, sequence=2)], "2025-10-22 11:12Z", "at_risk"),
            ([change(7 * DAY, HOUR, DAY), change(HOUR, 7 * DAY, DAY, sequence=2)], "2025-10-24 10:12Z", "at_risk"),
        ],
    )
    def test_a_window_that_was_widened(self, changes: list[Change], since: str, status: str) -> None:
        """Widening brings nothing back: it reaches as far as the old one did then, which only our records tell."""
        plan = plan_of(WEEK, history(window=7 * DAY), *changes)

        assert (status, f"any instant since {since} (window 7d)") == (
            condition(plan).status,
            condition(plan).says.partition(";")[0],
        )

    def test_a_young_branch(self) -> None:
        """It reaches back to its birth, and the plan is made again when it is whole."""
        born = NOW - DAY
        plan = plan_of(WEEK, history(window=7 * DAY, begins=born))

        assert "at_risk" == condition(plan).status
        assert condition(plan).says.endswith("reaches back 7d from 2025-10-31 11:12Z on")
        have = observation(kept=history(window=7 * DAY, begins=born), primary=catalogue([], changes=[watched(7 * DAY)]))
        assert born + 7 * DAY == due(policy(pitr=WEEK), have, NOW).next_at

    def test_a_branch_that_can_not_be_restored(self) -> None:
        """What the provider refuses is no history."""
        refusal = "restore from snapshot on target branch is still ongoing"
        plan = plan_of(WEEK, history(window=7 * DAY, refuses=refusal))

        assert ("violated", refusal) == (condition(plan).status, condition(plan).says)

    def test_records_that_can_not_be_seen(self) -> None:
        """Nobody knows then since when it reaches back: unproven, and the RPO is met all the same."""
        have = observation(kept=history(window=7 * DAY), primary=unknown(), offsite=catalogue([copy(TODAY)]))
        plan = planned(policy(pitr=WEEK, rpo="5m", targets=("primary", "offsite")), have)

        assert ("unproven", "primary unknown, where it is recorded when the window was widened") == (
            condition(plan).status,
            condition(plan).says,
        )
        assert ("met", "any instant of these days (window 7d; since when can't be told)") == (
            plan.conditions[0].status,
            plan.conditions[0].says,
        )

    def test_another_projects_records(self) -> None:
        """They say nothing of this one."""
        other = msgspec.structs.replace(change(DAY, 7 * DAY, HOUR), where="another")
        have = observation(kept=history(window=7 * DAY), noted=[watched(7 * DAY), other], primary=catalogue([copy(TODAY)]))

        assert condition(planned(policy(pitr=WEEK), have)).status == "met"


class TestProject:
    """The window is the project's, and any of its databases may have set it."""

    def widened(self, folder: Path) -> Standing:
        """By the turn of hotel, just now."""
        standing = Standing(folder)
        WIDEN.perform(standing.world, WANT)
        return standing

    def reach(self, standing: Standing, want: DatabasePolicy) -> str:
        found = survey(standing.world, want, DUTIES).plan
        return next(one.says for one in found.conditions if one.name == "rpo")

    def test_a_database_that_asks_for_no_window(self, tmp_path: Path) -> None:
        """What another one's turn widened reaches back no further for this one."""
        annex = msgspec.structs.replace(policy(name="annex", rpo="6h", targets=WANT.dumps.targets), source=WANT.source)

        assert "any instant since 2025-10-24 11:12Z (window 7d)" == self.reach(self.widened(tmp_path), annex).partition(",")[0]

    def test_one_whose_own_records_know_nothing_of_it(self, tmp_path: Path) -> None:
        """Shortened and widened again between two of its looks."""
        standing = Standing(tmp_path)
        standing.project.window = 7 * DAY
        annex = policy(name="annex", rpo="6h", targets=WANT.dumps.targets, pitr=WEEK)
        NoteWindow(database="annex", project="quiet-hotel", was_seconds=None, now_seconds=604800).perform(standing.world, annex)
        ShortenWindow(database="hotel", project="quiet-hotel", was_seconds=604800, now_seconds=86400).perform(
            standing.world, WANT
        )
        WIDEN.perform(standing.world, WANT)

        assert "any instant since 2025-10-24 11:12Z (window 7d)" == self.reach(standing, annex).partition(",")[0]

    def test_one_whose_home_is_another(self, tmp_path: Path) -> None:
        """The homes of all databases of the project are asked; where one is silent, nobody knows since when."""
        standing = self.widened(tmp_path)
        annex = policy(name="annex", rpo="6h", targets=("offsite",), pitr=WEEK)
        primary, offsite = (standing.world.targets[name] for name in ("primary", "offsite"))
        both = msgspec.structs.replace(
            standing.world, targets={"offsite": offsite}, homes={"primary": primary, "offsite": offsite}
        )
        silent = UnusableTarget("primary", Refused("403"))
        blind = msgspec.structs.replace(both, homes={"primary": silent, "offsite": offsite})

        found = survey(both, annex, DUTIES).plan
        blindly = survey(blind, annex, DUTIES).plan

        assert condition(found).says.startswith("any instant since 2025-10-24 11:12Z (window 7d)")
        assert ("unproven", "primary unknown, where it is recorded when the window was widened") == (
            condition(blindly).status,
            condition(blindly).says,
        )
        assert "note_window" not in kinds(blindly)

    def test_thousands_of_other_changes(self, tmp_path: Path) -> None:
        """However many snapshots were pruned since, when the window was widened is remembered."""
        standing = self.widened(tmp_path)
        for number in range(1, 1202):
            pruned = msgspec.structs.replace(change(DAY, DAY, HOUR, sequence=number), what="snapshot", was=f"snapshot {number}")
            path = tmp_path / "primary" / "hotel" / "changes" / f"{number:08d}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pruned))
        want = msgspec.structs.replace(WANT, objectives=policy(rpo="6h").objectives)

        assert "any instant since 2025-10-24 11:12Z (window 7d)" == self.reach(standing, want).partition(",")[0]

    def test_records_of_an_older_version(self) -> None:
        """They lie among the other changes, and count as they did."""
        seen = catalogue([copy(TODAY)], changes=[watched(DAY), change(DAY, 7 * DAY, 2 * DAY)])
        plan = planned(policy(pitr=WEEK), observation(kept=history(window=7 * DAY), noted=[], primary=seen))

        assert ("at_risk", "any instant since 2025-10-22 11:12Z (window 7d)") == (
            condition(plan).status,
            condition(plan).says.partition(";")[0],
        )


class TestWatching:
    def plan(self, *changes: Change, kept: timedelta = 7 * DAY) -> Plan:
        have = observation(kept=history(window=kept), noted=changes, primary=catalogue([copy(TODAY)]))
        return planned(policy(pitr=window("7d", manage=False)), have)

    def test_a_window_that_was_never_seen(self) -> None:
        """It is noted; whether somebody widened it yesterday can't be told, and so it is at risk until it has been watched."""
        plan = self.plan()

        assert [NoteWindow(database="hotel", project="quiet-hotel", was_seconds=None, now_seconds=604800)] == [
            step.action for step in plan.steps
        ]
        assert ("at_risk", "watched since 2025-10-25 11:12Z") == (
            condition(plan).status,
            condition(plan).says.partition("; ")[2].partition(",")[0],
        )

    @pytest.mark.parametrize(("ago", "status"), [(6 * DAY, "at_risk"), (7 * DAY, "met")])
    def test_one_that_is_watched(self, ago: timedelta, status: str) -> None:
        """Once that is as long as the window, nothing is taken at anybody's word."""
        plan = self.plan(watched(7 * DAY, ago))

        assert ((), status) == (plan.steps, condition(plan).status)

    def test_one_that_somebody_else_widened(self) -> None:
        """It reaches back as far as it did when that was seen, and is noted with what it was."""
        plan = self.plan(watched(DAY))

        assert [NoteWindow(database="hotel", project="quiet-hotel", was_seconds=86400, now_seconds=604800)] == [
            step.action for step in plan.steps
        ]
        assert ("at_risk", "any instant since 2025-10-24 11:12Z (window 7d)") == (
            condition(plan).status,
            condition(plan).says.partition(";")[0],
        )

    def test_while_the_records_are_unknown(self) -> None:
        """Nothing is noted: what is not seen may be there."""
        have = observation(kept=history(window=7 * DAY), primary=unknown(), offsite=catalogue([copy(TODAY)]))

        assert "note_window" not in kinds(planned(policy(pitr=WEEK, targets=("primary", "offsite")), have))

    def test_noting(self, tmp_path: Path) -> None:
        """By the provider's clock; and only while it is so."""
        standing = Standing(tmp_path)
        note = NoteWindow(database="hotel", project="quiet-hotel", was_seconds=None, now_seconds=86400)
        note.perform(standing.world, WANT)
        standing.project.window = 2 * DAY
        with pytest.raises(Conflict):
            note.perform(standing.world, WANT)

        assert [("", "86400", True)] == standing.changes("window")


class TestFight:
    def set_back(self, times: int) -> list[Change]:
        return [
            change(DAY, 7 * DAY, DAY - number * HOUR, done=done, sequence=number + 1)
            for number in range(times)
            for done in (False, True)
        ]

    @pytest.mark.parametrize(("times", "said"), [(0, 0), (1, 0), (2, 2), (5, 5)])
    def test_somebody_who_keeps_setting_it_back(self, times: int, said: int) -> None:
        """Once is drift, and mended; again and again is a fight, and reported. It is set all the same."""
        plan = plan_of(WEEK, history(), *self.set_back(times))
        told = [finding.what for finding in plan.findings if "setting the PITR window back" in finding.what]

        assert ["1d → 7d"] == [step.shown.to for step in plan.steps]
        assert [f"somebody keeps setting the PITR window back: {said} times within 7d, now it is 1d"] * (said > 0) == told

    def test_a_policy_that_changes_its_mind(self) -> None:
        """Our own changes follow one another: nobody set anything back."""
        steps = [(DAY, 7 * DAY, 3 * DAY), (7 * DAY, 2 * DAY, 2 * DAY), (2 * DAY, 7 * DAY, DAY)]
        ours = [change(*step, done=done) for step in steps for done in (False, True)]

        assert plan_of(WEEK, history(window=7 * DAY), *ours).findings == ()

    def test_databases_of_a_project_that_set_it_at_the_same_time(self) -> None:
        """Each records it: nobody set anything back."""
        ours = [change(DAY, 7 * DAY, HOUR, done=done) for done in (False, False, False, True, True, True)]

        assert [] == [finding for finding in plan_of(WEEK, history(window=7 * DAY), *ours).findings if "back" in finding.what]

    def test_what_was_only_noted(self) -> None:
        """Somebody else did it, and another database of the project saw it first."""
        noted = [change(7 * DAY, DAY, number * HOUR) for number in (5, 3, 1)]
        ours = [change(DAY, 7 * DAY, number * HOUR, done=done) for number in (6, 4, 2) for done in (False, True)]
        plan = plan_of(WEEK, history(), *sorted(noted + ours, key=lambda one: one.at))

        assert ["somebody keeps setting the PITR window back: 3 times within 7d, now it is 1d"] == [
            finding.what for finding in plan.findings if "back" in finding.what
        ]

    def test_changes_that_failed(self) -> None:
        """What was only begun was set back by nobody."""
        begun = [msgspec.structs.replace(one, done=False) for one in self.set_back(5)]

        assert [] == [finding for finding in plan_of(WEEK, history(), *begun).findings if "back" in finding.what]

    def test_a_fight_of_long_ago(self) -> None:
        """It is over."""
        old = [msgspec.structs.replace(one, at=one.at - 8 * DAY) for one in self.set_back(5)]

        assert plan_of(WEEK, history(window=7 * DAY), *old).findings == ()


class TestObjectives:
    def judged(self, rpo: str, kept: Any, newest: timedelta, *, disaster: str | None = None) -> dict[str, str]:
        have = observation(kept=kept, primary=catalogue([copy(NOW - newest)]), domains={"primary": "elsewhere"})
        plan = planned(policy(pitr=window("1d"), rpo=rpo, disaster=disaster), have)
        return {one.name: one.status for one in plan.conditions if one.name != "pitr"}

    @pytest.mark.parametrize(
        ("kept", "status"),
        [
            (history(), "met"),
            (history(latest=NOW - HOUR), "violated"),
            (history(window=timedelta(0)), "violated"),
            (history(refuses="no"), "violated"),
            (None, "violated"),
            (unknown("503"), "violated"),
            (msgspec.structs.replace(unknown("503"), last=NOW - 4 * MINUTE), "unproven"),
            (msgspec.structs.replace(unknown("503"), last=NOW - 6 * MINUTE), "violated"),
        ],
    )
    def test_what_only_the_history_can_meet(self, kept: Any, status: str) -> None:
        """Any instant that it keeps is a restore point; silence pages after one RPO."""
        assert {"rpo": status} == self.judged("5m", kept, 9 * HOUR)

    @pytest.mark.parametrize("kept", [history(refuses="no"), unknown("503"), None])
    def test_what_a_dump_meets(self, kept: Any) -> None:
        """It is met whatever is known of the history."""
        assert {"rpo": "met"} == self.judged("26h", kept, 9 * HOUR)

    def test_a_disaster(self) -> None:
        """The history goes with its provider: copies elsewhere alone count."""
        assert {"rpo": "met", "disaster_rpo": "violated"} == self.judged("5m", history(), 9 * HOUR, disaster="6h")

    def test_what_is_said(self) -> None:
        """Since when, and that the window says so."""
        plan = planned(policy(pitr=window("1d"), rpo="6h"), observation(kept=history(), primary=catalogue([copy(TODAY)])))

        assert "  rpo 6h met: any instant since 2025-10-24 11:12Z (window 1d)" in text([plan]).splitlines()
        assert NOW == plan.conditions[0].restore_point


WIDEN = WidenWindow(database="hotel", project="quiet-hotel", was_seconds=86400, now_seconds=604800)
WANT = policy(pitr=WEEK, targets=("primary", "offsite"))


class TestDoing:
    def test_widening(self, tmp_path: Path) -> None:
        """It is set, and recorded before and after, on the home target alone."""
        standing = Standing(tmp_path)

        said = WIDEN.perform(standing.world, WANT)

        assert said == "PITR window of quiet-hotel: 1d → 7d"
        assert standing.project.window == 7 * DAY
        assert [("86400", "604800", False), ("86400", "604800", True)] == standing.changes("window")
        assert seen_catalogue(standing.world, "offsite").changes == ()

    def test_a_clock_that_is_behind(self, tmp_path: Path) -> None:
        """The window is recorded by the provider's, by which it is judged: else it would seem to have been as wide for days."""
        standing = Standing(tmp_path)
        standing.project.timeline.sleep(80 * 3600.0)

        WIDEN.perform(standing.world, WANT)

        recorded = read_windows(standing.world.targets["primary"], "quiet-hotel", standing.world.cache)
        assert [80, 80] == [(change.at - NOW) // HOUR for change in recorded]

    @pytest.mark.parametrize("fault", ["lost answer", "no answer", "refused", "death before", "death after"])
    def test_a_fault_on_the_way(self, tmp_path: Path, fault: Fault) -> None:
        """Whatever became of it, it is recorded as begun; done again, it is done, and the reach is told by the first time."""
        standing = Standing(tmp_path, fault)
        with pytest.raises((ReconcilerError, Death)):
            WIDEN.perform(standing.world, WANT)
        assert [("86400", "604800", False)] == standing.changes("window")

        again = Standing(tmp_path)
        again.project.window = standing.project.window
        WIDEN.perform(again.world, WANT)

        assert again.project.window == 7 * DAY
        assert [False, False, True] == [done for *_, done in again.changes("window")]

    def test_a_window_that_somebody_set_meanwhile(self, tmp_path: Path) -> None:
        """What was planned rests on another one: nothing is changed."""
        standing = Standing(tmp_path)
        standing.project.window = 2 * DAY
        with pytest.raises(Conflict):
            WIDEN.perform(standing.world, WANT)

        assert standing.project.window == 2 * DAY
