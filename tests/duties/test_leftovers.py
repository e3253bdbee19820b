"""What a death left behind is swept, deletions are finished, and everything else is reported and left alone."""

import msgspec
import pytest
from hypothesis import given, settings

from reconciler.backups.layout import REMEMBERED
from reconciler.duties import leftovers
from reconciler.planning.plan import Due
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Copy, Observation, State
from tests.building import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    catalogue,
    copy,
    daily,
    evidence,
    observation,
    observation_of,
    policy,
    tombstone,
    unknown,
    utc,
)
from tests.drawn import observations, policies

TODAY = utc("2025-10-25 02:00")
GOOD = daily(2, TODAY)
OLD = TODAY - 9 * DAY


def asked(*copies: Copy, **more: object) -> Due:
    have = observation(primary=catalogue([*GOOD, *copies], **more))  # type: ignore[arg-type]
    return leftovers.due(policy(), have, NOW)


def kinds(due: Due) -> list[str]:
    return [step.action.kind for step in due.steps]


def severities(due: Due) -> list[str]:
    return [finding.severity for finding in due.findings]


TABLE: list[tuple[State, list[str], list[str]]] = [
    ("whole", [], []),
    ("being_written", [], ["note"]),
    ("debris", ["sweep_debris"], []),
    ("damaged", [], ["error"]),
    ("orphan", [], ["warning"]),
    ("deleted", [], ["note"]),
    ("being_deleted", ["finish_deletion"], []),
    ("hidden", [], ["error"]),
    ("foreign", [], ["warning"]),
    ("impossible", [], ["error"]),
]


@pytest.mark.parametrize(("state", "steps", "findings"), TABLE, ids=[row[0] for row in TABLE])
def test_table_of_states(state: State, steps: list[str], findings: list[str]) -> None:
    """Each state has its one answer: sweep, finish, report, or leave alone."""
    due = asked(copy(OLD, state, due=NOW + DAY if state == "deleted" else None))

    assert (steps, findings) == (kinds(due), severities(due))


@pytest.mark.parametrize(("writer", "steps"), [("none", []), ("alive", []), ("undecided", []), ("gone", ["remove_intent"])])
def test_whole_backup_with_an_intent(writer: str, steps: list[str]) -> None:
    """An intent is removed once its writer is proven gone."""
    assert steps == kinds(asked(copy(OLD, writer=writer)))


@pytest.mark.parametrize("state", ["damaged", "orphan", "hidden", "foreign", "impossible"])
def test_dead_writer_of_what_is_only_reported(state: State) -> None:
    """What is not whole and not debris is not touched, not even its intent."""
    assert [] == kinds(asked(copy(OLD, state, writer="gone")))


def test_strays() -> None:
    """A file that somebody put there is named and left."""
    due = asked(strays=["hotel/readme.txt"])

    assert ([], ["warning"]) == (kinds(due), severities(due))


@pytest.mark.parametrize(("whole", "steps"), [(0, []), (1, []), (2, ["finish_deletion"])])
def test_deletion_when_few_are_left(whole: int, steps: list[str]) -> None:
    """A deletion decided when there were more is not finished while fewer than two whole backups are left, and that is said."""
    lost = copy(OLD, "being_deleted")
    have = observation(primary=catalogue([*daily(whole, TODAY), lost], [tombstone(lost, OLD)]))

    due = leftovers.due(policy(), have, NOW)

    assert steps == kinds(due)
    assert ([] if steps else ["error"]) == severities(due)


@pytest.mark.parametrize(("partial", "steps"), [(False, []), (True, ["finish_deletion"])])
def test_deletion_when_partial_ones_are_left(partial: bool, steps: list[str]) -> None:
    """They do not stand in for one that holds the whole; for a partial one they do."""
    lost = copy(OLD, "being_deleted", partial=partial)
    others = [copy(TODAY - number * DAY, partial=True) for number in range(3)]
    have = observation(primary=catalogue([*others, lost], [tombstone(lost, OLD)]))

    assert steps == kinds(leftovers.due(policy(), have, NOW))


@pytest.mark.parametrize(("state", "steps"), [("whole", ["finish_deletion"]), ("damaged", []), ("deleted", [])])
def test_deletion_of_the_last_proven_one(state: State, steps: list[str]) -> None:
    """It was given up since a restore had proven a newer one, which is none any more: it stays, and that is said."""
    lost, newer = copy(OLD, "being_deleted"), copy(TODAY - 7 * DAY, state)
    stones = [tombstone(lost, OLD), *([tombstone(newer, NOW)] if state == "deleted" else [])]
    proofs = [evidence(lost, ago=9 * DAY), evidence(newer, ago=7 * DAY)]
    have = observation(primary=catalogue([*GOOD, newer, lost], stones), evidence=proofs)

    due = leftovers.due(policy(), have, NOW)

    assert steps == kinds(due)
    assert steps or "that a restore has proven" in "; ".join(finding.what for finding in due.findings)


def test_deletion_of_what_no_restore_has_proven() -> None:
    """While none is proven, two whole ones are enough: what was never tried is finished."""
    lost = copy(OLD, "being_deleted")
    have = observation(primary=catalogue([*GOOD, lost], [tombstone(lost, OLD)]), evidence=[evidence(lost, "failed")])

    assert ["finish_deletion"] == kinds(leftovers.due(policy(), have, NOW))


def test_half_swept_debris_of_the_first_dump() -> None:
    """What never was a backup is none of the last good ones: its sweep goes on though nothing else is there."""
    half = copy(OLD, "being_deleted")
    have = observation(primary=catalogue([half], [tombstone(half, NOW, grace=0 * DAY, counts=False)]))

    assert ["finish_deletion"] == kinds(leftovers.due(policy(), have, NOW))


@pytest.mark.parametrize("state", ["being_deleted", "debris"])
@pytest.mark.parametrize("where", ["primary", "offsite"])
def test_hold_on_what_would_go(state: State, where: str) -> None:
    """A hold, on whichever target, keeps what was about to go, and is named."""
    doomed = copy(OLD, state)
    held = msgspec.structs.replace(doomed, held="legal 2024-118")
    seen = {name: catalogue([*GOOD, held if name == where else doomed]) for name in ("primary", "offsite")}

    due = leftovers.due(policy(), observation_of(seen), NOW)

    assert [] == kinds(due)
    assert ["warning", "warning"] == severities(due)


def test_deleted_and_held() -> None:
    """It can come back, and does not go: that it will is said of others only."""
    first, second = (copy(OLD + day * DAY, "deleted", due=NOW + (day + 1) * DAY) for day in range(2))
    held = msgspec.structs.replace(first, held="legal 2024-118")

    (note,) = asked(held, second).findings
    (alone,) = asked(held).findings

    assert "2 deleted backups can still come back" in note.what
    assert note.what.endswith(f"; the first goes {instant(NOW + 2 * DAY)}")
    assert "goes" not in alone.what


def test_debris_of_a_copy_of_what_is_held() -> None:
    """It is none of the backup: where that lies whole, what a death left of the copy goes, and the copy is tried again."""
    doomed = copy(OLD, "debris", kind="unknown")
    seen = {"primary": catalogue([*GOOD, copy(OLD, held="legal 2024-118")]), "offsite": catalogue([*GOOD, doomed])}

    due = leftovers.due(policy(), observation_of(seen), NOW)

    assert [("sweep_debris", "offsite")] == [(step.action.kind, step.action.parameters["target"]) for step in due.steps]
    assert [] == severities(due)


@pytest.mark.parametrize(
    ("age", "steps"), [(REMEMBERED - MINUTE, []), (REMEMBERED, ["forget_tombstone"]), (900 * DAY, ["forget_tombstone"])]
)
def test_tombstone_of_what_is_gone(age: object, steps: list[str]) -> None:
    """The last trace goes thirty days after the grace."""
    stone = tombstone(copy(OLD), NOW - age, grace=0 * DAY)  # type: ignore[operator]

    assert steps == kinds(asked(tombstones=[stone]))


def test_tombstone_that_came_later_than_it_says() -> None:
    """Forgotten at once, it would not be counted among the losses of the day it came."""
    stone = tombstone(copy(OLD), NOW - 40 * DAY, grace=0 * DAY)

    assert [] == kinds(leftovers.due(policy(), observation(primary=catalogue(GOOD, [stone], came=NOW - HOUR)), NOW))
    assert ["forget_tombstone"] == kinds(leftovers.due(policy(), observation(primary=catalogue(GOOD, [stone])), NOW))


def test_two_tombstones_of_one_backup() -> None:
    """The later one counts: what was deleted, brought back and deleted again is remembered from then."""
    gone = copy(OLD)
    stones = [tombstone(gone, NOW - 900 * DAY), tombstone(gone, NOW - 8 * DAY)]

    assert [] == kinds(asked(tombstones=stones))


def test_tombstone_while_a_copy_is_left_elsewhere() -> None:
    """A trace stays as long as any target still has a copy that could come back."""
    gone = copy(TODAY - 90 * DAY)
    have = observation(primary=catalogue(GOOD, [tombstone(gone, NOW - 80 * DAY)]), offsite=catalogue([gone]))

    assert [] == kinds(leftovers.due(policy(), have, NOW))


def test_tombstone_while_a_target_is_down() -> None:
    """Nobody can say that nothing is left on a target that was not seen."""
    have = observation(primary=catalogue(GOOD, [tombstone(copy(OLD), NOW - 80 * DAY)]), offsite=unknown())

    assert [] == kinds(leftovers.due(policy(), have, NOW))


def test_tombstone_of_debris_that_is_gone() -> None:
    """A sweep that died before its last step leaves a tombstone that would keep copies of a good backup away: it goes at once."""
    good = copy(OLD)
    swept = tombstone(good, NOW - HOUR, grace=0 * DAY, counts=False)
    have = observation(primary=catalogue([*GOOD, good]), offsite=catalogue(GOOD, [swept]))

    assert ["forget_tombstone"] == kinds(leftovers.due(policy(), have, NOW))


def test_tombstone_of_debris_that_is_still_there() -> None:
    """Until the debris itself is gone, its tombstone stays."""
    half = copy(OLD, "being_deleted")

    assert ["finish_deletion"] == kinds(asked(half, tombstones=[tombstone(half, NOW, grace=0 * DAY, counts=False)]))


def test_next_end() -> None:
    """The plan names when the first grace ends, or the first trace may go."""
    deleted = [copy(OLD, "deleted", due=NOW + 3 * HOUR), copy(OLD - DAY, "deleted", due=NOW + 2 * HOUR)]
    stone = tombstone(copy(OLD - 2 * DAY), NOW - REMEMBERED + HOUR, grace=0 * DAY)

    assert NOW + 2 * HOUR == asked(*deleted).next_at
    assert NOW + HOUR == asked(*deleted, tombstones=[stone]).next_at
    assert None is asked().next_at


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_leftovers_in_any_world(want: DatabasePolicy, have: Observation) -> None:
    """Data is removed only where it is debris or its own tombstone is due; a whole copy never is."""
    touched = {
        (step.action.backup, step.action.target): step.action.kind  # type: ignore[attr-defined]  # all of these name both
        for step in leftovers.due(want, have, NOW).steps
        if step.action.kind in ("sweep_debris", "finish_deletion")
    }
    states = {(one.id, name): one.state for name, seen in have.known().items() for one in seen.copies}

    assert {"sweep_debris": {"debris"}, "finish_deletion": {"being_deleted"}} | {
        kind: {states[key] for key in touched if touched[key] == kind} for kind in touched.values()
    } == {"sweep_debris": {"debris"}, "finish_deletion": {"being_deleted"}}
