"""When a dump is due, and where it lands."""

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.duties.dumps import TakeDump, due, plan_dump
from reconciler.planning.plan import Due
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.relation import Relation
from reconciler.policy.timing import Window
from reconciler.world.facts import Catalogue, Known, Observation, Observed, SourceFacts
from tests.building import (
    DAY,
    HOTEL,
    HOUR,
    MINUTE,
    NOW,
    REPOSITORY,
    catalogue,
    copy,
    daily,
    history,
    observation,
    observation_of,
    planned,
    policy,
    source,
    tombstone,
    unknown,
    utc,
)
from tests.drawn import observations, policies
from tests.situations import CLONE

SLOT = utc("2025-10-25 02:00")
WANT = policy()
DONE = copy(SLOT)
LATER = copy(NOW - HOUR, slot=SLOT)


def dumps(asked: Due) -> list[TakeDump]:
    return [step.action for step in asked.steps if isinstance(step.action, TakeDump)]


TAKEN = {
    "a manifest names it": catalogue([DONE]),
    "a manifest of a later backup names it": catalogue([LATER]),
    "its data is damaged": catalogue([msgspec.structs.replace(DONE, state="damaged")]),
    "it was deleted, and can come back": catalogue([msgspec.structs.replace(DONE, state="deleted")]),
    "a tombstone names it": catalogue(tombstones=[tombstone(DONE, NOW - MINUTE)]),
    "a living intent names it": catalogue([copy(NOW - MINUTE, "being_written", slot=SLOT)]),
    "an undecided intent names it": catalogue([copy(NOW - MINUTE, "being_written", slot=SLOT, writer="undecided")]),
}


@pytest.mark.parametrize("seen", TAKEN.values(), ids=TAKEN)
def test_slot_is_done(seen: Known[Catalogue]) -> None:
    """What a slot has, or had, or is about to have, is not dumped again."""
    assert [] == dumps(due(WANT, observation(primary=seen), NOW))


FREE = {
    "nothing there": catalogue(),
    "the day before was done": catalogue([copy(SLOT - DAY)]),
    "its writer died": catalogue([copy(NOW - MINUTE, "debris", slot=SLOT)]),
    "its debris is half swept": catalogue(
        [copy(NOW - MINUTE, "being_deleted", slot=SLOT)], [tombstone(copy(NOW - MINUTE), NOW, counts=False)]
    ),
    "a tombstone that does not count names it": catalogue(tombstones=[tombstone(DONE, NOW, counts=False, slot=SLOT)]),
    "a tombstone names it that came before it": catalogue(tombstones=[tombstone(DONE, SLOT - HOUR)]),
    "the same, with some data": catalogue(
        [copy(SLOT, "deleted", repository=None)], [tombstone(DONE, NOW - MINUTE)], came=SLOT - HOUR
    ),
    "another's backup names it": catalogue([copy(SLOT, "foreign")]),
    "a backup of a day to come names it": catalogue([copy(NOW + DAY, "impossible", slot=SLOT)]),
    "a manual one since": catalogue([copy(NOW - HOUR, kind="manual", slot=None)]),
    "data without a manifest": catalogue([copy(SLOT, "orphan")]),
}


@pytest.mark.parametrize("seen", FREE.values(), ids=FREE)
def test_slot_is_free(seen: Known[Catalogue]) -> None:
    """A slot that has no backup, and will have none, is dumped."""
    assert [SLOT] == [action.slot for action in dumps(due(WANT, observation(primary=seen), NOW))]


PARTIAL = msgspec.structs.replace(DONE, partial=True)
PARTS = {
    "it is there": catalogue([PARTIAL]),
    "it was deleted": catalogue([msgspec.structs.replace(PARTIAL, state="deleted")], [tombstone(PARTIAL, NOW - MINUTE)]),
}


@pytest.mark.parametrize("seen", PARTS.values(), ids=PARTS)
def test_slot_that_a_partial_backup_has(seen: Known[Catalogue]) -> None:
    """It is done while the policy leaves something out; once it asks for the whole, it has none."""
    leaving = msgspec.structs.replace(WANT, dumps=msgspec.structs.replace(WANT.dumps, exclude=(Relation("public", "log"),)))
    both = observation(primary=seen, offsite=catalogue([DONE]))

    assert [] == dumps(due(leaving, observation(primary=seen), NOW))
    assert [SLOT] == [action.slot for action in dumps(due(WANT, observation(primary=seen), NOW))]
    assert [] == dumps(due(WANT, observation(primary=catalogue([LATER, *seen.value.copies])), NOW))
    assert [] == dumps(due(leaving, both, NOW))


@pytest.mark.parametrize("ahead", [DAY, 365 * DAY])
@pytest.mark.parametrize("state", ["whole", "being_written", "damaged"])
def test_slot_that_lies_ahead(ahead: object, state: str) -> None:
    """A backup taken while our clock was a year ahead (its instant is the source's, and right) doesn't stop dumps for a year."""
    slip = copy(NOW - DAY, state, slot=SLOT + ahead)  # type: ignore[arg-type, operator]

    assert [SLOT] == [action.slot for action in dumps(due(WANT, observation(primary=catalogue([slip])), NOW))]


EARLY = catalogue([copy(SLOT - 20 * HOUR, slot=SLOT)])
"""Taken while our clock was a day ahead; its instant is the source's, and right."""


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (source(), [SLOT]),
        (source(clock=NOW - HOUR), [SLOT]),
        (source(clock=NOW - 20 * HOUR), []),
        (source(standby=True), []),
        (unknown(), []),
    ],
    ids=["it agrees with us", "it is an hour behind", "it is as far behind", "a standby that nothing is written to", "unknown"],
)
def test_slot_that_had_not_come(seen: Observed[SourceFacts], expected: list[datetime]) -> None:
    """A backup from before its slot, by the source's clock, is none of that slot: unless that clock, or a standby, is behind."""
    assert expected == [action.slot for action in dumps(due(WANT, observation(seen, primary=EARLY), NOW))]


def test_slot_that_had_not_come_where_a_history_is_kept() -> None:
    """The instant of a branch may be that of the last write."""
    assert [] == dumps(due(WANT, observation(primary=EARLY, kept=history()), NOW))


def test_missed_slots() -> None:
    """Ten missed days are one dump, of the newest slot."""
    asked = due(WANT, observation(primary=catalogue([copy(SLOT - 10 * DAY)])), NOW)

    assert [SLOT] == [action.slot for action in dumps(asked)]


def test_older_slot_once_the_newest_is_done() -> None:
    """Yesterday's is never made up for."""
    have = observation(primary=catalogue([copy(SLOT), copy(SLOT - 2 * DAY)]))

    assert [] == dumps(due(WANT, have, NOW))


def test_slot_done_on_another_target() -> None:
    """A slot counts wherever its backup lies."""
    have = observation(primary=catalogue(), offsite=catalogue([DONE]))

    assert [] == dumps(due(policy(targets=("primary", "offsite")), have, NOW))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2025-10-25 01:59", []),
        ("2025-10-25 02:00", ["slot 2025-10-25 02:00Z"]),
        ("2025-10-25 02:59", ["slot 2025-10-25 02:00Z"]),
        ("2025-10-25 11:12", ["slot 2025-10-25 02:00Z, 9h12m late"]),
    ],
)
def test_what_is_shown(now: str, expected: list[str]) -> None:
    """The slot, and how late it is once that matters."""
    asked = due(WANT, observation(primary=catalogue([copy(SLOT - DAY)])), utc(now))

    assert expected == [step.shown.why for step in asked.steps]


@pytest.mark.parametrize(
    ("targets", "says"),
    [(("primary",), ""), (("primary", "b"), "; copy to b follows"), (("primary", "b", "c"), "; copies to b, c follow")],
)
def test_copies_are_announced(targets: tuple[str, ...], says: str) -> None:
    """What the dump will bring is told with it."""
    have = observation_of({name: catalogue([copy(SLOT - DAY)]) for name in targets})

    assert ["slot 2025-10-25 02:00Z, 9h12m late" + says] == [
        step.shown.why for step in due(policy(targets=targets), have, NOW).steps
    ]


def test_next_slot_in_the_policys_zone() -> None:
    """The clock alone asks for more at the next slot, as the zone has it."""
    asked = due(policy(timezone="Europe/Madrid"), observation(primary=catalogue([copy(utc("2025-10-25 00:00"))])), NOW)

    # The night in which summer time ends.
    assert utc("2025-10-26 00:00") == asked.next_at


def test_first_target_is_down() -> None:
    """The dump lands on the next one: a target that is down never costs the RPO."""
    have = observation(primary=unknown(), offsite=catalogue([copy(SLOT - DAY)]))

    found = dumps(due(policy(targets=("primary", "offsite")), have, NOW))

    assert [("offsite", REPOSITORY, HOTEL)] == [(action.target, action.repository, action.identity) for action in found]


def test_order_of_the_policy() -> None:
    """The first of the policy's targets, not of the alphabet."""
    have = observation(a=catalogue(), z=catalogue())

    assert ["z"] == [action.target for action in dumps(due(policy(targets=("z", "a")), have, NOW))]


def test_source_is_down() -> None:
    """A source that did not answer is tried all the same: the dump's own session asserts who it is."""
    have = observation(unknown("refused"), primary=catalogue([copy(SLOT - DAY)]))

    assert [HOTEL] == [action.identity for action in dumps(due(WANT, have, NOW))]


def test_first_dump() -> None:
    """Where nothing was begun, an id is drawn, and the identity is what was seen."""
    have = observation(primary=catalogue(begun=False))

    assert [(None, HOTEL)] == [(action.repository, action.identity) for action in dumps(due(WANT, have, NOW))]


def test_first_dump_of_an_unseen_source() -> None:
    """Where nothing was begun and nothing was seen, nobody knows whose backups these would be."""
    assert [] == dumps(due(WANT, observation(unknown("refused"), primary=catalogue(begun=False)), NOW))


def test_first_dump_while_a_target_is_down() -> None:
    """A second repository is never begun beside one that can't be seen; the plan says what is missing."""
    have = observation(primary=catalogue(begun=False), offsite=unknown())

    asked = due(policy(targets=("primary", "offsite")), have, NOW)

    assert [] == dumps(asked)
    assert ["error"] == [finding.severity for finding in asked.findings]
    assert "offsite" in asked.findings[0].what


FRIDAY = "* 17-21 * * FRI"


@pytest.mark.parametrize(
    ("timezone", "now", "until"),
    [
        ("UTC", "2025-10-24 18:30", "2025-10-24 22:00Z"),
        ("Europe/Madrid", "2025-10-24 18:30", "2025-10-24 20:00Z (22:00 in Europe/Madrid)"),
    ],
)
def test_slot_in_a_window(timezone: str, now: str, until: str) -> None:
    """Nothing starts; the plan says until when, and asks for a turn then."""
    want = policy("0 */6 * * *", never=(FRIDAY,), timezone=timezone)

    asked = due(want, observation(primary=catalogue([copy(utc("2025-10-24 05:00"))], at=utc(now))), utc(now))

    slot = "2025-10-24 18:00Z" if timezone == "UTC" else "2025-10-24 16:00Z"
    assert () == asked.steps
    assert [("note", f'dump of slot {slot} waits until {until} (never "{FRIDAY}")')] == [
        (finding.severity, finding.what) for finding in asked.findings
    ]
    assert asked.next_at is not None
    assert until.startswith(f"{asked.next_at:%Y-%m-%d %H:%MZ}")
    assert not asked.stuck


def test_slot_after_its_window() -> None:
    """It was due all the time, and is taken as soon as the window is over."""
    want, opens = policy("0 18 * * *", never=(FRIDAY,)), utc("2025-10-24 22:00")
    have = observation(primary=catalogue([copy(utc("2025-10-23 18:00"))], at=opens))

    assert [utc("2025-10-24 18:00")] == [action.slot for action in dumps(due(want, have, opens))]


def test_next_slot_in_a_window() -> None:
    """The clock alone asks for more when the window is over, not at the slot."""
    have = observation(primary=catalogue([copy(utc("2025-10-23 18:00"))], at=utc("2025-10-24 10:00")))

    assert utc("2025-10-24 22:00") == due(policy("0 18 * * *", never=(FRIDAY,)), have, utc("2025-10-24 10:00")).next_at


def test_slot_whose_window_never_ends() -> None:
    """A person must hear that no dump will ever be taken."""
    asked = due(policy(never=("* * * * *",)), observation(primary=catalogue([copy(SLOT - DAY)])), NOW)

    assert asked.stuck
    assert ["error"] == [finding.severity for finding in asked.findings]


def test_manual_dump_in_a_window() -> None:
    """Windows are for what starts by itself: who asks for a dump gets it."""
    step, _ = plan_dump(policy(never=("* * * * *",)), observation(primary=catalogue(daily(2, SLOT))), slot=None, kind="manual")

    assert step is not None


@pytest.mark.parametrize(
    ("took", "slot", "next_at"),
    [(None, "04:00", "08:00"), (10, "04:00", "08:00"), (61, "06:00", "09:00"), (170, "06:40", "07:00")],
)
def test_slots_of_auto(took: int | None, slot: str, next_at: str) -> None:
    """As often as the RPO asks, and more often the longer a dump takes."""
    now, taken = utc("2025-10-25 06:47"), utc("2025-10-25 00:00")
    ended = None if took is None else taken + took * MINUTE

    asked = due(
        policy("auto", rpo="6h"), observation(primary=catalogue([copy(taken, started=taken, finished=ended)], at=now)), now
    )

    assert [utc(f"2025-10-25 {slot}")] == [action.slot for action in dumps(asked)]
    assert utc(f"2025-10-25 {next_at}") == asked.next_at


@given(
    policies(), observations(), st.lists(st.sampled_from((FRIDAY, "* 0-12 * * *", "* * * * SAT,SUN", "* * * * *")), max_size=2)
)
@settings(max_examples=60, deadline=None)
def test_windows_start_nothing(want: DatabasePolicy, have: Observation, never: list[str]) -> None:
    """In a window there is no dump; out of it, all is as without windows but for the next instant, which is in none."""
    closed = msgspec.structs.replace(want, dumps=msgspec.structs.replace(want.dumps, never=tuple(map(Window.parse, never))))

    asked, free = due(closed, have, NOW), due(want, have, NOW)

    assert asked.steps == (() if closed.closed_by(NOW) else free.steps)
    assert asked.next_at is None or closed.closed_by(asked.next_at) is None


@given(policies(), observations())
@settings(max_examples=60, deadline=None)
def test_nothing_is_known(want: DatabasePolicy, have: Observation) -> None:
    """Without a catalogue that was read, no dump is planned."""
    blind = msgspec.structs.replace(have, catalogues={name: unknown() for name in have.catalogues})

    assert [] == dumps(due(want, blind, NOW))


@given(policies(), observations())
@settings(max_examples=60, deadline=None)
def test_lands_on_what_was_seen(want: DatabasePolicy, have: Observation) -> None:
    """A dump is planned to a target that answered, of a slot that has come, at most once."""
    found = dumps(due(want, have, NOW))

    assert len(found) <= 1
    assert all(action.target in have.known() and _has_come(action.slot) for action in found)


def _has_come(slot: datetime | None) -> bool:
    return slot is not None and slot <= NOW


def test_manual_dump() -> None:
    """`take` gives no slot: what the schedule wants stays wanted."""
    have = observation(primary=catalogue(daily(2, SLOT)))

    step, finding = plan_dump(WANT, have, slot=None, kind="manual", labels={"release": "1.2"}, keep_until=NOW + DAY)

    assert finding is None
    assert step is not None
    assert isinstance(step.action, TakeDump)
    assert (None, "manual", {"release": "1.2"}, NOW + DAY) == (
        step.action.slot,
        step.action.backup_kind,
        step.action.labels,
        step.action.keep_until,
    )


def test_manual_dump_without_a_target() -> None:
    """A dump that can't be taken says why."""
    step, finding = plan_dump(policy(), observation(primary=unknown(), other=catalogue([DONE])), slot=None, kind="manual")

    assert step is None
    assert finding is not None
    assert "none of its targets can be reached" in finding.what


def test_source_that_is_another() -> None:
    """The identity that the catalogue was begun for is what the session must find, and the plan blocks it before."""
    have = observation(source(CLONE), primary=catalogue([copy(SLOT - DAY)]))

    assert () == planned(WANT, have).steps
    assert [HOTEL] == [action.identity for action in dumps(due(WANT, have, NOW))]


def test_a_due_dump_that_can_not_begin_is_said_to_be_stuck() -> None:
    """Whoever applies must hear it from the exit code: nothing was begun, and a target is unknown."""
    found = planned(policy(), observation(primary=catalogue(begun=False), offsite=unknown()))
    fine = planned(policy(), observation(primary=catalogue(begun=False), offsite=catalogue(begun=False)))

    assert found.stuck
    assert not found.steps
    assert not fine.stuck
