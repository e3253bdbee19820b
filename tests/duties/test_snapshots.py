"""Snapshots: the provider's schedule as the policy says it, or ours, taken once a slot and pruned with care."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.duties.snapshots import DeleteSnapshot, SetSchedule, ShrinkSchedule, TakeSnapshot, words
from reconciler.errors import Conflict, ReconcilerError
from reconciler.planning.plan import Plan
from reconciler.policy.firing import Firing, firings
from reconciler.policy.schedule import Schedule
from reconciler.simulation.faults import Fault
from reconciler.simulation.host import Death
from reconciler.world.history import Change, Limits, SnapshotFacts, snapshot_name
from tests.building import (
    DAY,
    HOUR,
    NOW,
    REPOSITORY,
    catalogue,
    copy,
    history,
    observation,
    planned,
    policy,
    snapshots,
    unknown,
    utc,
)
from tests.standing import Standing

WHOLE = copy(NOW - 9 * HOUR)
DAILY = Firing(frequency="daily", hour=3, retention=7 * DAY)
SLOT = utc("2025-10-25 03:00")


def plan_of(asked: Any, *, changes: Any = (), begun: bool = True, **fields: Any) -> Plan:
    seen = catalogue([WHOLE] if begun else [], changes=changes, begun=begun)
    return planned(policy(snapshots=asked), observation(kept=history(**fields), primary=seen))


def kept_steps(plan: Plan) -> list[Any]:
    return [step.action for step in plan.steps if step.action.kind != "take_dump"]


def told(plan: Plan, severity: str) -> list[str]:
    return [finding.what for finding in plan.findings if finding.severity == severity]


def set_before(*schedules: tuple[Firing, ...], ago: timedelta = DAY) -> list[Change]:
    return [
        Change(sequence=number, at=NOW - ago, what="schedule", where="quiet-hotel", done=done, was="", now=words(one), policy="0")
        for number, one in enumerate(schedules, 1)
        for done in (False, True)
    ]


class TestWords:
    @pytest.mark.parametrize(
        ("cron", "lines"),
        [
            ("0 3 * * *", [("daily", 3, None)]),
            ("0 3,15 * * *", [("daily", 3, None), ("daily", 15, None)]),
            ("0 3 * * 0", [("weekly", 3, 7)]),
            ("0 3 * * 7", [("weekly", 3, 7)]),
            ("0 3 * * 1-3", [("weekly", 3, 1), ("weekly", 3, 2), ("weekly", 3, 3)]),
            ("0 0 31 * *", [("monthly", 0, 31)]),
        ],
    )
    def test_what_the_provider_knows(self, cron: str, lines: Any) -> None:
        """Whole hours, daily, weekly or monthly, in its own words."""
        assert lines == [(one.frequency, one.hour, one.day) for one in firings(Schedule.parse(cron), 7 * DAY)]

    @pytest.mark.parametrize(
        "cron",
        ["30 3 * * *", "*/5 3 * * *", "0 * * * *", "0 */6 * * *", "0 3 1 1 *", "0 3 1 * 1", "0 3 * * MON#1", "0 3 L * *"],
    )
    def test_what_it_does_not_know(self, cron: str) -> None:
        """Is refused with a reason."""
        with pytest.raises(ValueError, match=r"."):
            firings(Schedule.parse(cron), 7 * DAY)

    @pytest.mark.parametrize("retain", [timedelta(minutes=59), timedelta(days=36)])
    def test_how_long_it_keeps_none(self, retain: timedelta) -> None:
        """An hour to 35 days."""
        with pytest.raises(ValueError, match="from 1h to 35d"):
            firings(Schedule.parse("0 3 * * *"), retain)


class TestViaNeon:
    def test_no_schedule(self) -> None:
        """It is put."""
        plan = plan_of(snapshots())

        assert [SetSchedule(database="hotel", project="quiet-hotel", was=(), now=(DAILY,))] == kept_steps(plan)
        assert "none → daily at 3, kept 7d" == plan.steps[0].shown.to

    def test_the_wanted_one(self) -> None:
        """Nothing is done, whoever made it."""
        plan = plan_of(snapshots(), schedule=(DAILY,))

        assert (plan.steps, plan.findings) == ((), ())

    def test_one_made_by_hand(self) -> None:
        """It is reported, and replaced only where the policy says so."""
        hand = (Firing(frequency="daily", hour=5, retention=DAY),)
        plan = plan_of(snapshots(), schedule=hand)

        assert plan.steps == ()
        assert ["somebody made a snapshot schedule by hand: daily at 5, kept 1d; the policy wants daily at 3, kept 7d"] == told(
            plan, "warning"
        )
        assert ["shrink_schedule"] == [held.step.action.kind for held in plan_of(snapshots(takeover=True), schedule=hand).blocked]

    def test_ours_of_an_older_policy(self) -> None:
        """What we set ourselves needs no word of anybody."""
        old = (Firing(frequency="daily", hour=3, retention=DAY),)
        plan = plan_of(snapshots(), schedule=old, changes=set_before(old))

        assert [SetSchedule(database="hotel", project="quiet-hotel", was=old, now=(DAILY,))] == kept_steps(plan)

    @pytest.mark.parametrize(
        "old",
        [
            (Firing(frequency="daily", hour=3, retention=8 * DAY),),
            (Firing(frequency="daily", hour=3),),
            (DAILY, Firing(frequency="monthly", hour=3, day=1, retention=DAY)),
        ],
    )
    def test_less_than_there_was(self, old: tuple[Firing, ...]) -> None:
        """Fewer or kept shorter: it destroys, and waits for a person."""
        plan = plan_of(snapshots(), schedule=old, changes=set_before(old))

        assert plan.steps == ()
        assert [("shrink_schedule", "guard")] == [(held.step.action.kind, held.by) for held in plan.blocked]

    def test_a_plan_without_schedules(self) -> None:
        """An error that says so, and nothing is tried."""
        plan = plan_of(snapshots(), limits=Limits(plan="free", has_schedules=False))

        assert plan.steps == ()
        assert ["the policy wants scheduled snapshots, and the plan free has none"] == told(plan, "error")

    def test_somebody_who_keeps_turning_it_off(self) -> None:
        """It is put again, and told."""
        plan = plan_of(snapshots(), changes=set_before((DAILY,), (DAILY,), (DAILY,)))

        assert ["set_schedule"] == [action.kind for action in kept_steps(plan)]
        assert ["somebody keeps setting the snapshot schedule back: 3 times within 7d"] == told(plan, "error")

    def test_what_left_the_policy(self) -> None:
        """It goes on, and is told; what somebody else made is not ours to speak of."""
        left, hand = (
            plan_of(asked, schedule=(DAILY,), changes=changes) for asked, changes in ((None, set_before((DAILY,))), (None, ()))
        )

        assert (left.steps, hand.steps) == ((), ())
        assert ["a snapshot schedule that we set goes on: daily at 3, kept 7d"] == told(left, "note")
        assert told(hand, "note") == []


def ours(*slots: datetime, database: str = "hotel", repository: str = REPOSITORY, **fields: Any) -> tuple[SnapshotFacts, ...]:
    return tuple(
        msgspec.structs.replace(
            SnapshotFacts(
                id=f"snap-{n}", name=snapshot_name(database, repository, at), branch="br-main", instant=at, bytes=1 << 30
            ),
            **fields,
        )
        for n, at in enumerate(slots)
    )


BY_US = snapshots(via="reconciler")
WEEK = tuple(SLOT - number * DAY for number in range(7))


class TestViaReconciler:
    def test_a_slot_without_one(self) -> None:
        """It is taken, under a name of that slot."""
        plan = plan_of(BY_US, snapshots=ours(*WEEK[1:3]))

        assert [
            TakeSnapshot(database="hotel", project="quiet-hotel", name=snapshot_name("hotel", REPOSITORY, SLOT))
        ] == kept_steps(plan)

    @pytest.mark.parametrize(
        "others",
        [
            ours(SLOT, repository="00ff00ff00ff00ff"),
            ours(SLOT, is_manual=False),
            ours(SLOT - DAY, branch="br-other"),
            ours(SLOT, name="before the migration"),
        ],
    )
    def test_what_is_not_ours(self, others: Any) -> None:
        """It neither counts, nor is ever deleted."""
        old = tuple(msgspec.structs.replace(one, instant=NOW - 90 * DAY) for one in others)

        assert ["take_snapshot"] == [action.kind for action in kept_steps(plan_of(BY_US, snapshots=others + old))]

    def test_too_old_ones(self) -> None:
        """They go, one for one that came; the last two never by age."""
        plan = plan_of(BY_US, snapshots=ours(*WEEK, SLOT - 8 * DAY))
        last = plan_of(BY_US, snapshots=ours(SLOT - 30 * DAY, SLOT - 40 * DAY))

        assert ["snap-7"] == [action.snapshot for action in kept_steps(plan)]
        assert ["take_snapshot"] == [action.kind for action in kept_steps(last)]

    def test_one_that_failed_is_none_of_the_last(self) -> None:
        """It lies there under its name and holds nothing: the two that hold something stay, or all."""
        failed = ours(SLOT, SLOT - DAY, bytes=None)
        old = tuple(msgspec.structs.replace(one, id=f"old-{one.id}") for one in ours(*(SLOT - n * DAY for n in (30, 40, 50))))
        one, two, three = (kept_steps(plan_of(BY_US, snapshots=failed + old[:number])) for number in (1, 2, 3))

        assert [[], [], ["old-snap-2"]] == [
            [action.snapshot for action in steps if isinstance(action, DeleteSnapshot)] for steps in (one, two, three)
        ]

    def test_one_that_failed_long_ago(self) -> None:
        """It goes by age as any other, as two stay that hold something; and not while they don't."""
        failed = ours(SLOT - 8 * DAY, bytes=None, id="snap-failed")
        enough, few = (kept_steps(plan_of(BY_US, snapshots=failed + ours(*WEEK[:number]))) for number in (2, 1))

        assert [["snap-failed"], []] == [[action.snapshot for action in steps] for steps in (enough, few)]

    @pytest.mark.parametrize(("ago", "done"), [(HOUR, True), (HOUR + timedelta(seconds=1), False)])
    def test_one_without_a_size(self, ago: timedelta, done: bool) -> None:
        """For an hour it may be counted yet, and is not taken twice; then it is told, and the slot has none."""
        (without,) = ours(SLOT, bytes=None)
        plan = plan_of(BY_US, snapshots=(msgspec.structs.replace(without, instant=NOW - ago),))
        what = f"snapshot {without.name} has no size 1h after it was taken: it seems to have failed, and does not count"

        assert ([] if done else ["take_snapshot"]) == [action.kind for action in kept_steps(plan)]
        assert ([] if done else [what]) == told(plan, "warning")

    def test_the_slots_of_a_branch_that_was_protected_before(self) -> None:
        """After a restore from a snapshot, its name is taken: nothing is tried again and again, and people are told."""
        plan = plan_of(BY_US, snapshots=ours(*WEEK, SLOT - 90 * DAY, branch="br-before"))

        assert kept_steps(plan) == []
        assert ["8 snapshots of ours are of another branch"] == told(plan, "note")

    @pytest.mark.parametrize(
        "strangers",
        [{"database": "hotel-eu"}, {"repository": "00ff00ff00ff00ff"}, {"branch": "br-other"}],
    )
    def test_what_is_not_ours_is_no_share_of_it(self, strangers: dict[str, Any]) -> None:
        """However many there are, no more of ours may go."""
        there = ours(*(SLOT - n * DAY - HOUR for n in range(30)), **strangers)
        plan = plan_of(snapshots(via="reconciler", retain="1d"), snapshots=ours(*WEEK) + there)

        assert kept_steps(plan) == []
        assert "would lose 5 snapshots, at most 2 in 24h may go" == plan.blocked[0].why

    def test_losing_many_at_once(self) -> None:
        """A shorter retention takes no more than three in ten and one for each that was born, until a person looks."""
        plan = plan_of(snapshots(via="reconciler", retain="1d"), snapshots=ours(*WEEK))

        assert kept_steps(plan) == []
        assert [("delete_snapshot", "guard")] * 5 == [(held.step.action.kind, held.by) for held in plan.blocked]
        assert "would lose 5 snapshots, at most 2 in 24h may go" == plan.blocked[0].why

    def test_what_went_today(self) -> None:
        """It counts."""
        gone = [
            Change(sequence=n, at=NOW - HOUR, what="snapshot", where="quiet-hotel", done=True, was=f"s{n}", now="", policy="0")
            for n in range(4)
        ]
        plan = plan_of(BY_US, snapshots=ours(*WEEK, SLOT - 8 * DAY), changes=gone)

        assert "would lose 1 snapshot, at most 4 in 24h may go, 4 already gone" == plan.blocked[0].why

    def test_a_limit(self) -> None:
        """Told, and not tried again and again."""
        by_hand = ours(*(NOW - number * DAY for number in range(1, 101)), name="by hand")
        plan = plan_of(BY_US, snapshots=by_hand)

        assert plan.steps == ()
        assert ["no snapshot can be taken for slot 2025-10-25 03:00Z: 100 of 100 are there"] == told(plan, "error")

    def test_before_the_first_dump(self) -> None:
        """Their names hold the repository's id, which begins with it."""
        assert ["take_dump"] == [step.action.kind for step in plan_of(BY_US, begun=False).steps]

    def test_an_unknown_target(self) -> None:
        """Whose they are, and how many went, can't be told."""
        have = observation(kept=history(), primary=catalogue([WHOLE]), offsite=unknown())

        assert planned(policy(targets=("primary", "offsite"), snapshots=BY_US), have).steps == ()

    def test_what_left_the_policy(self) -> None:
        """It stays, and is told."""
        plan = plan_of(None, snapshots=ours(*WEEK))

        assert plan.steps == ()
        assert ["7 snapshots of ours stay: the policy no longer speaks of snapshots"] == told(plan, "note")


WANT = policy(targets=("primary", "offsite"), snapshots=BY_US)
TAKE = TakeSnapshot(database="hotel", project="quiet-hotel", name=snapshot_name("hotel", REPOSITORY, SLOT))


class TestDoing:
    @pytest.mark.parametrize("fault", ["lost answer", "no answer", "death before", "death after", "refused"])
    def test_a_snapshot_and_a_fault(self, tmp_path: Path, fault: Fault) -> None:
        """An answer that was lost makes no second one."""
        standing = Standing(tmp_path, fault)
        try:
            TAKE.perform(standing.world, WANT)
        except (ReconcilerError, Death):
            again = Standing(tmp_path)
            again.project.snapshots = standing.project.snapshots
            TAKE.perform(again.world, WANT)

        assert [TAKE.name] == [one.name for one in standing.project.snapshots.values()]

    def test_a_slot_whose_snapshot_failed(self, tmp_path: Path) -> None:
        """What lies under its name is not taken for one, and is left to people."""
        standing = Standing(tmp_path)
        long_ago = standing.world.clock.now() - 2 * HOUR
        (failed,) = ours(SLOT, bytes=None, instant=long_ago)
        standing.project.snapshots = {failed.id: failed}
        with pytest.raises(Conflict, match="seems to have failed"):
            TAKE.perform(standing.world, WANT)

        assert {failed.id: failed} == standing.project.snapshots

    def test_deleting_one_of_the_last_that_hold_something(self, tmp_path: Path) -> None:
        """The newer ones turned out to have failed."""
        standing = Standing(tmp_path)
        old = tuple(msgspec.structs.replace(one, id=f"old-{one.id}") for one in ours(SLOT - 8 * DAY, SLOT - 9 * DAY))
        standing.project.snapshots = {one.id: one for one in ours(*WEEK, bytes=None) + old}
        with pytest.raises(Conflict):
            self.delete(old[1]).perform(standing.world, WANT)

        assert len(standing.project.snapshots) == 9

    def delete(self, one: SnapshotFacts) -> DeleteSnapshot:
        return DeleteSnapshot(database="hotel", project="quiet-hotel", name=one.name, snapshot=one.id, repository=REPOSITORY)

    def test_deleting(self, tmp_path: Path) -> None:
        """Only what is too old when it is done; recorded."""
        standing = Standing(tmp_path)
        standing.project.snapshots = {one.id: one for one in ours(*WEEK, SLOT - 8 * DAY)}
        young, old = standing.project.snapshots["snap-3"], standing.project.snapshots["snap-7"]
        self.delete(old).perform(standing.world, WANT)
        with pytest.raises(Conflict):
            self.delete(young).perform(standing.world, WANT)

        assert "snap-7" not in standing.project.snapshots
        assert len(standing.project.snapshots) == 7
        assert [(old.name, "", False)] == standing.changes("snapshot")

    def test_one_that_bears_another_name_by_now(self, tmp_path: Path) -> None:
        """Somebody keeps it: it is not ours any more."""
        standing = Standing(tmp_path)
        standing.project.snapshots = {one.id: one for one in ours(*WEEK, SLOT - 8 * DAY)}
        old = standing.project.snapshots["snap-7"]
        standing.project.snapshots["snap-7"] = SnapshotFacts(id="snap-7", name="keep", branch="br-main", instant=old.instant)
        self.delete(old).perform(standing.world, WANT)

        assert "keep" == standing.project.snapshots["snap-7"].name

    def test_a_schedule(self, tmp_path: Path) -> None:
        """It is put, and recorded: by that we know it again."""
        standing = Standing(tmp_path)
        action = SetSchedule(database="hotel", project="quiet-hotel", was=(), now=(DAILY,))
        action.perform(standing.world, policy(targets=("primary", "offsite"), snapshots=snapshots()))

        assert (DAILY,) == standing.project.schedule
        assert [("", words((DAILY,)), False), ("", words((DAILY,)), True)] == standing.changes("schedule")

    def test_a_schedule_that_somebody_made_meanwhile(self, tmp_path: Path) -> None:
        """It stays."""
        standing = Standing(tmp_path)
        standing.project.schedule = (Firing(frequency="weekly", hour=1, day=1),)
        with pytest.raises(Conflict):
            ShrinkSchedule(database="hotel", project="quiet-hotel", was=(DAILY,), now=()).perform(standing.world, WANT)

        assert "weekly" == standing.project.schedule[0].frequency
