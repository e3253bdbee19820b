"""The guard: what no deletion survives, and how much may be lost in a day."""

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.backups.layout import instant_of
from reconciler.planning.allowance import allow, given_up, goes_at
from reconciler.planning.plan import blocked_digest
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.evidence import Chain
from reconciler.world.facts import Known, Observation
from tests.building import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    blocked_kinds,
    catalogue,
    copy,
    daily,
    evidence,
    kinds,
    observation,
    planned,
    policy,
    retention,
    source,
    tombstone,
    unknown,
    utc,
)
from tests.drawn import observations, policies
from tests.worlds import PureWorld

TODAY = utc("2025-10-25 02:00")
FEW = retention(keep_last=3)
FOUR = daily(4, TODAY)
"""One more than `FEW` keeps."""


@pytest.mark.parametrize(
    ("have", "by", "says"),
    [
        (observation(primary=catalogue(FOUR), offsite=unknown()), "unknown", "offsite unknown"),
        (observation(unknown("refused"), primary=catalogue(FOUR)), "unknown", "the source unknown"),
        (
            observation(unknown("refused"), primary=catalogue(FOUR), b=unknown(), a=unknown()),
            "unknown",
            "a, b, the source unknown",
        ),
        (observation(primary=catalogue(FOUR, at=NOW - 16 * MINUTE)), "unknown", "primary was seen 16m ago"),
        (observation(primary=catalogue(FOUR, skew=timedelta(seconds=61))), "clock", "our clock and that of primary differ by 1m"),
        (
            observation(primary=catalogue(FOUR, skew=-timedelta(seconds=61))),
            "clock",
            "our clock and that of primary differ by 1m",
        ),
        (
            observation(source(clock=NOW - DAY), primary=catalogue(FOUR)),
            "clock",
            "our clock and that of the source differ by 24h",
        ),
        (
            observation(source(clock=NOW + 61 * SECOND), primary=catalogue(FOUR)),
            "clock",
            "our clock and that of the source differ by 1m",
        ),
        (
            observation(primary=catalogue(FOUR), b=catalogue(frozen="a drill failed")),
            "freeze",
            "b: deletions are frozen: a drill failed",
        ),
        (
            observation(primary=catalogue([*FOUR, copy(NOW + DAY, "impossible")])),
            "impossible",
            f"{copy(NOW + DAY).id} is dated in the future",
        ),
    ],
    ids=[
        "a target",
        "the source",
        "several",
        "seen long ago",
        "a clock ahead",
        "a clock behind",
        "the source's clock behind",
        "the source's clock ahead",
        "a freeze",
        "a date to come",
    ],
)
def test_nothing_may_go(have: Observation, by: str, says: str) -> None:
    """One thing that is not sure holds back every deletion, and is named."""
    plan = planned(policy(keep=FEW), have)

    assert ["prune_backup"] == blocked_kinds(plan)
    assert [(by, says)] == [(held.by, held.why) for held in plan.blocked]
    assert [] == [kind for kind in kinds(plan) if kind != "copy_backup"]


FIVE = daily(5, TODAY)
SHRUNK = [msgspec.structs.replace(FOUR[0], stored_bytes=1 << 20), *FOUR[1:]]


@pytest.mark.parametrize(
    ("have", "says", "named"),
    [
        (observation(evidence=[evidence(FIVE[0], "failed")], primary=catalogue(FIVE)), "failed its verification", "evidence 1"),
        (observation(primary=catalogue(SHRUNK)), "the one before it 300", FOUR[0].id),
    ],
    ids=["a copy that failed", "a dump that shrank"],
)
def test_what_alarms_stops_all(have: Observation, says: str, named: str) -> None:
    """Before the freeze that it asks for is written, too; and no longer than until a person has looked."""
    plan = planned(policy(keep=FEW), have)
    seen = have.known()["primary"]
    looked_at = Known(msgspec.structs.replace(seen, acknowledged=(named,)), NOW)

    assert ["prune_backup"] == blocked_kinds(plan)
    assert "freeze" == plan.blocked[0].by
    assert says in plan.blocked[0].why
    assert ["freeze_deletions"] == kinds(plan)
    assert ["prune_backup"] == kinds(planned(policy(keep=FEW), msgspec.structs.replace(have, catalogues={"primary": looked_at})))


@given(observations(("whole", "deleted", "being_deleted"), healthy=True), policies(), st.data())
def test_nothing_goes_while_a_copy_is_refuted(have: Observation, want: DatabasePolicy, data: st.DataObject) -> None:
    """Whichever copy failed its verification: no plan deletes anything, until that was looked at."""
    lying = [(target, copy) for target, seen in have.known().items() for copy in seen.copies]
    assume(lying)
    target, copy = data.draw(st.sampled_from(lying))
    failed = Chain(records=(evidence(copy, "failed", target=target),))

    plan = planned(want, msgspec.structs.replace(have, evidence=Known(failed, NOW)))

    assert not any(step.action.effect == "delete" for step in plan.steps)


def test_clocks_nearly_agree() -> None:
    """A minute between two clocks is no reason to keep what may go."""
    have = observation(source(clock=NOW - 60 * SECOND), primary=catalogue(FOUR, skew=60 * SECOND))

    assert ["prune_backup"] == kinds(planned(policy(keep=FEW), have))


def test_what_was_deleted_while_our_clock_is_ahead() -> None:
    """Where all targets lie on this machine, only the source's clock tells that a grace has not passed."""
    gone = copy(TODAY - 9 * DAY, "being_deleted")
    seen = catalogue([*FOUR[:3], gone], [tombstone(gone, NOW - 8 * DAY)])

    plan = planned(policy(keep=FEW), observation(source(clock=NOW - 8 * DAY), primary=seen))

    assert ["finish_deletion"] == blocked_kinds(plan)
    assert [("source", "our clock and that of the source differ by 8d")] == [(one.where, one.what) for one in plan.findings]


def test_creations_while_deletions_are_held_back() -> None:
    """What holds deletions back never costs a dump."""
    have = observation(primary=catalogue(daily(4, TODAY - DAY), frozen="a drill failed"))

    plan = planned(policy(keep=FEW), have)

    assert ["take_dump"] == kinds(plan)
    assert ["prune_backup"] == blocked_kinds(plan)


def hundred(keep: int) -> Observation:
    """A hundred backups of the days before yesterday, so that `keep` of them leaves the rest to go."""
    return observation(primary=catalogue(daily(100, TODAY - 2 * DAY)))


@pytest.mark.parametrize(("keep", "going", "blocked"), [(70, 30, 0), (69, 0, 31), (1, 0, 98)])
def test_share_of_a_hundred(keep: int, going: int, blocked: int) -> None:
    """Of a hundred old backups thirty may go in a day; one more, and none does."""
    plan = planned(policy("0 2 1 1 *", keep=retention(keep_last=keep)), hundred(keep))

    assert (blocked, going) == (len(plan.blocked), len(plan.steps))


def test_one_may_always_go() -> None:
    """Where thirty per cent is less than one backup, one may go all the same."""
    have = observation(primary=catalogue(daily(3, TODAY - 3 * DAY)))

    assert 1 == allow(have, NOW).may_go


def test_what_was_born_today_may_be_lost_today() -> None:
    """Hourly backups that roll off are no loss of what was there."""
    born = daily(20, NOW - HOUR, HOUR)
    have = observation(primary=catalogue(born))

    assert 20 + 1 == allow(have, NOW).may_go


def test_born_today_and_erased_today() -> None:
    """With a short grace, what was born and erased within the day is known by its tombstone alone, and counts on both sides."""
    erased = daily(20, NOW - HOUR, HOUR)
    stones = [tombstone(one, NOW - 30 * MINUTE, grace=MINUTE) for one in erased]
    have = observation(primary=catalogue(tombstones=stones))

    assert (20 + 1, 20) == (allow(have, NOW).may_go, len(allow(have, NOW).gone))


def test_one_id_with_tombstones_on_two_targets() -> None:
    """A backup is lost once, however many targets tell of it."""
    lost = daily(6, TODAY - 2 * DAY)
    stones = [tombstone(one, NOW - HOUR) for one in lost]
    have = observation(
        primary=catalogue([msgspec.structs.replace(one, state="deleted") for one in lost], stones), offsite=catalogue([], stones)
    )

    assert 6 == len(allow(have, NOW).gone)


def test_prune_that_a_death_cut_short() -> None:
    """A backup that one target already buried is no second loss: the next turn finishes the prune."""
    backups = daily(4, TODAY - 3 * DAY)
    half = backups[3]
    buried = catalogue(
        [*backups[:3], msgspec.structs.replace(half, state="deleted", has_tombstone=True)], [tombstone(half, NOW - MINUTE)]
    )
    have = observation(primary=buried, offsite=catalogue(backups))

    plan = planned(policy("0 2 1 1 *", ("primary", "offsite"), FEW), have)

    assert ["prune_backup"] == kinds(plan)
    assert () == plan.blocked


def test_damaged_ones_give_no_allowance() -> None:
    """A bucket whose data is gone does not free the guard to let the last whole ones go with it."""
    ruins = [copy(TODAY - number * DAY, "damaged") for number in range(10, 110)]
    have = observation(primary=catalogue([*ruins, *daily(9, TODAY)]))

    plan = planned(policy(keep=retention(keep_last=2)), have)

    assert 7 == len(plan.blocked)


def test_debris_is_no_loss() -> None:
    """Sweeping what never was a backup goes on while the guard holds the prunes."""
    have = observation(primary=catalogue([*daily(20, TODAY), copy(TODAY - HOUR, "debris")]))

    plan = planned(policy(keep=retention(keep_last=2)), have)

    assert ["sweep_debris"] == kinds(plan)
    assert 18 == len(plan.blocked)


edits = st.lists(st.tuples(st.sampled_from((1, 2, 5, 20, 60)), st.integers(1, 9)), min_size=2, max_size=8)


@given(edits)
@settings(max_examples=12, deadline=None)
def test_losses_of_any_day(changes: list[tuple[int, int]]) -> None:
    """Whatever the retention is edited to: at each loss, the 24 hours before lost no more than were born in them, plus
    max(1, 30 %) of what was there."""
    world = PureWorld(policy("0 * * * *"), utc("2025-01-01 00:05"), memory=2 * DAY)
    for keep, hours in changes:
        dumps = msgspec.structs.replace(world.want.dumps, retention=Retention(keep_last=keep, grace=retention(grace="2d").grace))
        world.want = msgspec.structs.replace(world.want, dumps=dumps)
        for _ in range(hours):
            world.turn()
            lost, born, before = world.lost_and_born(world.now)
            if world.now in world.losses.values():
                assert lost <= born + max(1, 30 * before // 100)
            world.now += HOUR


def test_a_slip_of_the_retention() -> None:
    """After sixty days of daily backups, an edit from 60 to 2 is held back, whole and for good, until somebody allows it."""
    world = PureWorld(policy(keep=retention(keep_last=60)), utc("2025-01-01 02:05"))
    for _ in range(60):
        world.turn()
        world.now += DAY
    slip = msgspec.structs.replace(world.want.dumps, retention=FEW)
    world.want = msgspec.structs.replace(world.want, dumps=slip)

    for _ in range(5):
        plan = world.turn()
        assert {"guard"} == {held.by for held in plan.blocked}
        world.now += DAY

    assert {} == world.losses


ORDINARY = {
    "hourly, days and hours": ("0 * * * *", retention(keep_hourly=24, keep_daily=7, grace="1d"), HOUR),
    "hourly, no grace": ("0 * * * *", retention(keep_last=8, grace="0s"), HOUR),
    "hourly, a short grace": ("0 * * * *", retention(keep_last=24, grace="2h"), HOUR),
    "six-hourly": ("0 */6 * * *", retention(keep_last=8), 6 * HOUR),
    "daily, weekly, monthly": ("0 2 * * *", retention(keep_daily=30, keep_weekly=8, keep_monthly=12), DAY),
    "within two weeks": ("0 */6 * * *", retention(keep_within="14d"), 6 * HOUR),
    "within, thinned out": ("0 */2 * * *", retention(keep_within="1d", keep_within_daily="14d", grace="1d"), 2 * HOUR),
    "weekly": ("0 2 * * SUN", retention(keep_weekly=4), DAY),
    "daily, only the last": ("0 2 * * *", retention(keep_last=1), DAY),
}


MOST_TURNS = 1440


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_policy_over_months(name: str) -> None:
    """A policy as people write it never meets the guard, and what it keeps stays within bounds."""
    schedule, keep, step = ORDINARY[name]
    world = PureWorld(policy(schedule, keep=keep), utc("2025-01-01 02:05"), memory=2 * DAY)
    most = 0

    # Of an hourly one two months, which is in full swing after two weeks; of the others three.
    for _ in range(min(90 * DAY // step, MOST_TURNS)):
        assert () == world.turn().blocked
        most = max(most, len(world.whole()))
        world.now += step

    assert 2 <= len(world.whole()) <= most < 60
    assert world.losses


@pytest.mark.parametrize("days", [1, 3, 10])
def test_turns_that_did_not_run(days: int) -> None:
    """After days without a turn, an ordinary policy catches up without a person."""
    world = PureWorld(policy("0 * * * *", keep=retention(keep_hourly=24, keep_daily=7)), utc("2025-01-01 00:05"), memory=2 * DAY)
    for _ in range(120):
        world.turn()
        world.now += HOUR
    world.now += days * DAY

    for _ in range(30):
        assert () == world.turn().blocked
        world.now += HOUR


def planted(many: int, came: datetime, *, dated: datetime = NOW - 40 * DAY, grace: timedelta = 0 * DAY) -> Observation:
    """Ten daily backups; somebody put tombstones on the newer ones, and dated them as he liked."""
    there = daily(10, TODAY)
    taken = [msgspec.structs.replace(one, state="being_deleted", has_tombstone=True) for one in there[:many]]
    stones = [tombstone(one, dated, grace=grace) for one in taken]
    return observation(primary=catalogue([*there[many:], *taken], stones, came=came))


class TestTombstonesOfAnybody:
    """Where no keys are pinned, nobody can tell who gave a backup up: what counts is when that came to the store."""

    def test_within_what_may_go(self) -> None:
        """As many as retention might have pruned in a day go at once: one came today, and 30 % of the nine before it."""
        plan = planned(policy(), planted(3, NOW - HOUR))

        assert 3 == kinds(plan).count("finish_deletion")
        assert () == plan.blocked

    @pytest.mark.parametrize(("days", "go"), [(0, 3), (1, 6), (2, 8), (9, 8)])
    def test_more_at_once_go_day_by_day(self, days: int, go: int) -> None:
        """Whatever they say of themselves; the rest is blocked, with what to do, and can be let through by name."""
        plan = planned(policy(), planted(8, NOW - days * DAY - HOUR))

        assert go == kinds(plan).count("finish_deletion")
        assert ["finish_deletion"] * (8 - go) == blocked_kinds(plan)
        assert {("guard", True)} >= {(held.by, "backups undelete" in held.cure) for held in plan.blocked}
        assert (blocked_digest(plan) is None) == (go == 8)

    def test_they_are_losses_of_the_day_they_came(self) -> None:
        """Dated back, they would leave the whole allowance to others."""
        assert 8 == len(allow(planted(8, NOW - HOUR), NOW).gone)
        assert 0 == len(allow(planted(8, NOW - 25 * HOUR), NOW).gone)

    def test_one_that_a_pinned_key_vouches_for(self) -> None:
        """Whoever signed it went through the guard."""
        have = planted(8, NOW - HOUR)
        (name, seen), *_ = have.known().items()
        signed = msgspec.structs.replace(have, catalogues={name: Known(msgspec.structs.replace(seen, came={}), NOW)})

        assert () == planned(policy(), signed).blocked

    def test_elsewhere_they_let_nothing_go(self) -> None:
        """A copy that retention gives up is no second loss after one on another target, as long as what is gone may go."""
        there = daily(10, TODAY)
        for many, pruned, blocked in ((3, 3, 0), (7, 0, 7)):
            given_up = [msgspec.structs.replace(one, state="deleted", has_tombstone=True, due=NOW + DAY) for one in there[-many:]]
            stones = [tombstone(one, NOW - HOUR, grace=25 * HOUR) for one in given_up]
            offsite = catalogue([*there[:-many], *given_up], stones)
            keep = retention(keep_last=10 - many)
            plan = planned(
                policy(targets=("primary", "offsite"), keep=keep), observation(primary=catalogue(there), offsite=offsite)
            )

            assert (pruned, blocked) == (kinds(plan).count("prune_backup"), blocked_kinds(plan).count("prune_backup"))
            assert all("backups undelete" in held.cure for held in plan.blocked)

    def test_on_several_targets(self) -> None:
        """The last copy that is given up tells when; each goes by the same day."""
        seen = [planted(8, came).catalogues["primary"] for came in (NOW - 30 * DAY, NOW - HOUR)]
        have = observation(primary=seen[0], offsite=seen[1])
        plan = planned(policy(targets=("primary", "offsite")), have)

        assert 6 == kinds(plan).count("finish_deletion")
        assert 10 == len(plan.blocked)

    @pytest.mark.parametrize("came", [NOW - 2 * HOUR, NOW - HOUR, NOW - 59 * MINUTE])
    @pytest.mark.parametrize("counts", [True, False])
    @pytest.mark.parametrize("junk", [True, False])
    def test_beside_tombstones_of_what_never_was(self, came: datetime, counts: bool, junk: bool) -> None:
        """Ids that somebody made up, born today, free nothing: neither at once nor sooner, with or without some data."""
        doomed = planted(8, NOW - HOUR)
        made_up = [copy(NOW - 5 * HOUR - number * MINUTE, "deleted", salt="made up", repository=None) for number in range(20)]
        seen = doomed.known()["primary"]
        have = msgspec.structs.replace(
            doomed,
            catalogues={
                "primary": Known(
                    msgspec.structs.replace(
                        seen,
                        copies=(*seen.copies, *(made_up if junk else ())),
                        tombstones=(*seen.tombstones, *(tombstone(one, came, counts=counts) for one in made_up)),
                        came={**seen.came, **{one.id: came for one in made_up}},
                    ),
                    NOW,
                )
            },
        )

        assert 3 >= kinds(planned(policy(), have)).count("finish_deletion")
        for backup in seen.came:
            assert goes_at(doomed, backup) <= goes_at(have, backup)
        assert allow(have, NOW).may_go - len(allow(have, NOW).gone) <= allow(doomed, NOW).may_go - len(allow(doomed, NOW).gone)

    def test_removals_that_were_cut_short(self) -> None:
        """What is gone already slows the rest down no more than it did before."""
        there = daily(100, TODAY - 7 * DAY)
        stones = [tombstone(one, NOW - 6 * DAY, grace=6 * DAY) for one in there[10:]]
        left = [msgspec.structs.replace(one, state="being_deleted", has_tombstone=True) for one in there[10:15]]
        plan = planned(policy(), observation(primary=catalogue([*there[:10], *left], stones)))

        assert 5 == kinds(plan).count("finish_deletion")

    def test_dated_ahead(self) -> None:
        """It would count among the losses of each day until then, and no retention could prune any more."""
        assert 8 == len(allow(planted(8, NOW - HOUR, dated=utc("2099-01-01 00:00")), NOW).gone)
        assert 0 == len(allow(planted(8, NOW - 25 * HOUR, dated=utc("2099-01-01 00:00")), NOW).gone)

    @given(policies(), observations())
    @settings(max_examples=60, deadline=None)
    def test_in_any_world(self, want: DatabasePolicy, have: Observation) -> None:
        """A removal is put off, never brought forward; of those that came at one time, a day's share at most goes at once."""
        lost = given_up(have)
        for backup, came in lost.items():
            assert came <= goes_at(have, backup)
        for came in set(lost.values()):
            at_once = [backup for backup, at in lost.items() if at == came == goes_at(have, backup)]
            births = sum(instant_of(backup) > came - DAY - MINUTE for backup in {*lost, *(one.id for one in have.backups())})
            assert len(at_once) <= births + max(1, 30 * (len(lost) + len(have.backups())) // 100)
