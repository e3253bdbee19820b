"""Which backups stay and which are pruned, over the union of all targets."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.duties import retention as duty
from reconciler.duties.retention import FLOOR, PruneBackup, kept
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Catalogue, Copy, Known, Observation, Observed, State
from tests.building import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    catalogue,
    copy,
    daily,
    observation,
    observation_of,
    policy,
    retention,
    tombstone,
    utc,
)
from tests.drawn import TARGETS, observations, policies, without_partial

TODAY = utc("2025-10-25 02:00")
FEW = policy(keep=retention(keep_last=3))


def pruned(want: DatabasePolicy, have: Observation) -> list[PruneBackup]:
    return [step.action for step in duty.due(want, have, NOW).steps if isinstance(step.action, PruneBackup)]


def test_oldest_first() -> None:
    """A turn that is cut short has pruned the oldest."""
    backups = daily(5, TODAY)

    assert [backups[4].id, backups[3].id] == [action.backup for action in pruned(FEW, observation(primary=catalogue(backups)))]


def test_every_target_that_holds_it() -> None:
    """A backup goes as a whole."""
    backups = daily(4, TODAY)
    have = observation(primary=catalogue(backups), offsite=catalogue(backups), vault=catalogue(backups[:3]))

    assert [("offsite", "primary")] == [action.targets for action in pruned(FEW, have)]


@pytest.mark.parametrize("keep", [None, retention(), retention(grace="0s")])
def test_missing_retention(keep: Retention | None) -> None:
    """Without a rule, all stay."""
    assert [] == pruned(policy(keep=keep), observation(primary=catalogue(daily(400, TODAY))))


def test_age_alone_empties_nothing() -> None:
    """A database whose dumps stopped years ago keeps what its rules keep, counted from the newest."""
    have = observation(primary=catalogue(daily(9, TODAY - 900 * DAY)))

    assert 7 == len(kept(policy(keep=retention(keep_within="7d")), have, NOW))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_floor(count: int) -> None:
    """The two newest whole ones stay, though the rules keep one."""
    have = observation(primary=catalogue(daily(count, TODAY)))

    assert max(0, count - FLOOR) == len(pruned(policy(keep=retention(keep_last=1)), have))


def bad(*states: State) -> list[Copy]:
    """One of each, all newer than the good ones."""
    return [copy(NOW - (number + 1) * HOUR, state) for number, state in enumerate(states)]


def test_floor_among_bad_ones() -> None:
    """What is damaged, deleted or another's is none of the last good ones."""
    have = observation(primary=catalogue([*bad("damaged", "deleted", "foreign", "impossible"), *daily(3, TODAY)]))

    assert [one.id for one in daily(3, TODAY)][:2] == list(kept(policy(keep=retention(keep_last=1)), have, NOW))


def test_bad_ones_take_no_place() -> None:
    """A damaged, deleted or foreign backup fills no bucket of the retention."""
    have = observation(primary=catalogue([*bad("damaged", "deleted", "foreign"), *daily(3, TODAY)]))

    assert [] == pruned(FEW, have)


@pytest.mark.parametrize("left", ["a copy that is going", "its tombstone alone"])
def test_given_up_on_one_target(left: str) -> None:
    """As where a tombstone on another one was lost: it stays where it is kept, and nothing goes in its favour."""
    backups = daily(4, TODAY)
    going = [copy(backups[1].instant, "being_deleted", id=backups[1].id)] if left == "a copy that is going" else []
    stones = [tombstone(backups[1], NOW - 8 * DAY)]
    have = observation(primary=catalogue(backups), offsite=catalogue([backups[0], *going], stones))

    assert {one.id for one in backups} == set(kept(FEW, have, NOW))


@pytest.mark.parametrize("kind", ["manual", "imported", "before_recovery"])
def test_other_kinds_stay(kind: str) -> None:
    """Retention governs what the schedule made; the rest stays, and takes no place from it."""
    others = [copy(NOW - number * DAY, kind=kind, slot=None) for number in range(1, 9)]
    have = observation(primary=catalogue([*others, *daily(4, TODAY - 20 * DAY)]))

    assert [daily(4, TODAY - 20 * DAY)[3].id] == [action.backup for action in pruned(FEW, have)]


@pytest.mark.parametrize(("ends", "goes"), [(NOW + MINUTE, False), (NOW, True), (NOW - DAY, True), (None, False)])
def test_manual_backup_with_an_end(ends: object, goes: bool) -> None:
    """A manual backup stays until the instant that it was to be kept."""
    manual = copy(TODAY - 9 * DAY, kind="manual", slot=None, keep_until=ends)
    have = observation(primary=catalogue([*daily(3, TODAY), manual]))

    assert ([manual.id] if goes else []) == [action.backup for action in pruned(FEW, have)]


def test_end_of_a_manual_backup_is_awaited() -> None:
    """The clock alone lets a manual backup go: the plan names when."""
    manual = copy(TODAY - 9 * DAY, kind="manual", slot=None, keep_until=NOW + HOUR)

    assert NOW + HOUR == duty.due(FEW, observation(primary=catalogue([*daily(3, TODAY), manual])), NOW).next_at


@pytest.mark.parametrize("where", ["primary", "offsite"])
def test_held_ones_stay(where: str) -> None:
    """A hold on any target keeps the backup on all, whatever kind it is."""
    backups = daily(6, TODAY)
    held = msgspec.structs.replace(backups[5], held="legal 2024-118")
    seen = {name: catalogue([*backups[:5], held if name == where else backups[5]]) for name in ("primary", "offsite")}

    assert [backups[4].id, backups[3].id] == [action.backup for action in pruned(FEW, observation_of(seen))]


def test_equal_instants() -> None:
    """Two backups of one instant stay or go together: nobody can say which one a rule meant."""
    twins = [copy(TODAY - DAY, salt=salt) for salt in ("a", "b")]
    have = observation(primary=catalogue([copy(TODAY), *twins]))

    assert 3 == len(kept(policy(keep=retention(keep_last=2)), have, NOW))


def test_days_are_cut_in_the_policys_zone() -> None:
    """Half past ten in the evening in UTC is the next day in Tokyo."""
    backups = [copy(utc("2025-10-24 22:30")), copy(utc("2025-10-24 01:00")), copy(utc("2025-10-23 01:00"))]
    have = observation(primary=catalogue(backups))

    stay = {zone: len(kept(policy(keep=retention(keep_daily=2), timezone=zone), have, NOW)) for zone in ("UTC", "Asia/Tokyo")}

    # In UTC the 24th has two, and the oldest of a short history stays; the floor keeps two in any case.
    assert {"UTC": 3, "Asia/Tokyo": 2} == stay


def test_reason_that_is_shown() -> None:
    """A manual backup whose time is over is not said to fall to retention; without grace nothing can come back."""
    manual = copy(TODAY - 9 * DAY, kind="manual", slot=None, keep_until=NOW)
    have = observation(primary=catalogue([*daily(4, TODAY), manual]))

    shown = [step.shown.why for step in duty.due(policy(keep=retention(keep_last=3, grace="0s")), have, NOW).steps]

    assert [
        "manual, its time to be kept is over; cannot come back: no grace",
        "not kept by retention; cannot come back: no grace",
    ] == shown


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_future_and_impossible_ones_cost_nothing(want: DatabasePolicy, have: Observation) -> None:
    """A backup that is dated ahead, by a little or by years, never takes the place of one that is kept."""
    ahead = [copy(NOW + MINUTE, salt="x"), copy(NOW + 400 * DAY, "impossible")]

    with_them = adding(have, ahead)

    assert kept(want, have, NOW).keys() <= kept(want, with_them, NOW).keys()


def adding(have: Observation, more: list[Copy]) -> Observation:
    seen: dict[str, Observed[Catalogue]] = {}
    for name, one in have.catalogues.items():
        seen[name] = catalogue([*one.value.copies, *more], one.value.tombstones) if isinstance(one, Known) else one
    return msgspec.structs.replace(have, catalogues=seen)


@given(policies(), st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True), st.data())
@settings(max_examples=80, deadline=None)
def test_where_the_copies_lie(want: DatabasePolicy, hours: list[int], data: st.DataObject) -> None:
    """What stays depends on which backups there are, not on who holds them."""
    backups = [copy(NOW - hour * HOUR) for hour in hours]
    spread: dict[str, list[Copy]] = {name: [] for name in TARGETS}
    for one in backups:
        for name in data.draw(st.sets(st.sampled_from(TARGETS), min_size=1)):
            spread[name].append(one)

    together = observation(primary=catalogue(backups))
    apart = observation_of({name: catalogue(held) for name, held in spread.items()})

    assert kept(want, together, NOW) == kept(want, apart, NOW)


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_prunes_in_any_world(want: DatabasePolicy, have: Observation) -> None:
    """Only whole, scheduled or expired, unheld backups are pruned; the two newest whole ones never are."""
    backups = {backup.id: backup for backup in have.backups()}
    newest = [backup.id for backup in have.backups() if backup.whole_on][:FLOOR]

    for action in pruned(want, have):
        backup = backups[action.backup]
        assert action.backup not in newest
        assert action.targets == backup.whole_on != ()
        assert not any(one.held for one in backup.copies.values())
        assert backup.kind == "scheduled" or (backup.keep_until is not None and backup.keep_until <= NOW)


@given(policies(), observations(healthy=True))
def test_a_partial_backup_takes_no_place_of_a_whole_one(want: DatabasePolicy, have: Observation) -> None:
    """Which whole backups stay, and why, does not depend on the partial ones; those stay by the same rules among themselves."""
    partial = {backup.id for backup in have.backups() if backup.partial}

    stays = kept(want, have, NOW)

    assert kept(want, without_partial(have), NOW) == {key: why for key, why in stays.items() if key not in partial}


def test_many_partial_backups_push_no_whole_one_out() -> None:
    """Somebody narrows what is dumped: the last backups of the whole are still there."""
    whole = [copy(NOW - (20 + number) * HOUR) for number in range(3)]
    partial = [copy(NOW - number * HOUR, partial=True) for number in range(10)]
    have = observation(primary=catalogue([*partial, *whole]))

    stays = kept(policy("0 * * * *", ("primary",), retention(keep_last=3)), have, NOW)

    assert {one.id for one in (*whole, *partial[:3])} == set(stays)
