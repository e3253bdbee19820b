"""Plans as text and JSON: golden files, written with `GOLDEN=write` and read in review."""

import os
from pathlib import Path

import msgspec
import pytest

from reconciler.errors import Finding
from reconciler.planning import render
from reconciler.planning.plan import Outcome, Plan, Wait, blocked_digest
from tests.building import NOW, catalogue, copy, daily, observation, planned, policy, retention, unknown, utc
from tests.situations import SITUATIONS, plans

GOLDEN = Path(__file__).parent / "golden"
TODAY = utc("2025-10-25 02:00")


def golden(name: str, now: str) -> str:
    """What the file says; with `GOLDEN=write` it says what is so now."""
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.write_text(now, encoding="utf-8")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SITUATIONS)
def test_plan_as_text(name: str) -> None:
    """What a person reads."""
    text = render.text(plans(name))

    assert golden(f"{name}.txt", text) == text


@pytest.mark.parametrize("name", SITUATIONS)
def test_plan_as_json(name: str) -> None:
    """What a program reads."""
    text = msgspec.json.format(msgspec.json.encode(render.document(plans(name))), indent=2).decode() + "\n"

    assert golden(f"{name}.json", text) == text


def test_golden_files_of_situations_that_are_gone() -> None:
    """Every golden plan is compared with something."""
    others = {"README.md", "restic_forget.json", "action_ids.json", "applied.txt"}
    found = {file.name for file in GOLDEN.iterdir()} - others

    assert {f"{name}.{kind}" for name in SITUATIONS for kind in ("txt", "json")} == found


def test_document_approves_what_changes_and_deletes() -> None:
    """The ids that a saved plan approves are those of its deletions, in a stable order."""
    approves = render.document(plans("several_databases")).approves

    assert len(approves) == 4
    assert tuple(sorted(approves)) == approves


def test_text_from_outside() -> None:
    """What a server or a bucket says can't move the cursor or turn the text around."""
    seen = unknown("\x1b[2Jgone\r\n\u202eevil", cure="\x07ring")

    text = render.text([planned(policy(), observation(primary=seen))])

    assert {"\n"} == {char for char in text if not char.isprintable()}


def test_many_findings_of_a_kind() -> None:
    """A bucket that lost its data does not scroll the objectives off the screen."""
    ruins = [copy(instant.instant, "damaged", why="dump.zst is missing") for instant in daily(300, TODAY)]

    text = render.text([planned(policy(rpo="26h"), observation(primary=catalogue(ruins)))])

    assert "and 297 more like that" in text
    assert len(text.splitlines()) < 12


def test_hundreds_that_can_come_back() -> None:
    """An hourly policy always has a hundred deleted backups in their grace: one line for them."""
    gone = [copy(one.instant, "deleted", due=TODAY) for one in daily(168, TODAY)]

    text = render.text([planned(policy(), observation(primary=catalogue(gone)))])

    assert text.count("deleted") == 1
    assert "168 deleted backups can still come back" in text


def test_worst_finding_first() -> None:
    """An error is not looked for below notes."""
    seen = [copy(NOW, "being_written"), copy(TODAY, "foreign"), copy(TODAY, "damaged", salt="b")]

    text = render.text([planned(policy(), observation(primary=catalogue(seen)))])

    assert text.index("damaged") < text.index("foreign") < text.index("being written")


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("nothing_to_do", "Plan: nothing to do."),
        ("first_dump", "Plan: 1 to create."),
        ("dump_that_waits", "Plan: nothing to do now: a dump waits until 2025-10-25 14:00Z."),
        ("nothing_can_be_seen", "Plan: nothing known, 2 problems."),
        ("several_databases", "Plan: 1 to create, 4 to delete, 3 blocked, 1 problem."),
    ],
)
def test_last_line(name: str, last: str) -> None:
    """The sum of all databases."""
    assert last == render.text(plans(name)).splitlines()[-1]


def test_what_was_applied() -> None:
    """What was done, what failed and its cure, what is left and when the next is due."""
    want = policy(keep=retention(keep_last=3), rpo="26h")
    after = planned(want, observation(primary=catalogue(daily(4, TODAY))))
    outcomes = [
        Outcome(action="1", database="hotel", does="take dump → primary", result="done", says="20251025T111200Z-3f9c2a"),
        Outcome(
            action="2", database="hotel", does="copy primary → offsite", result="failed", says="403", cure="ask for the right"
        ),
    ]

    text = render.applied(outcomes, after.steps, after)

    assert golden("applied.txt", text) == text
    assert "Applied: 1 done, 1 failed." == render.outcome_summary(outcomes)


def test_nothing_was_applied() -> None:
    """An apply without work says so."""
    assert "Applied: nothing to do." == render.outcome_summary([])
    assert "Applied: nothing to do." == render.outcome_summary([], plans("nothing_to_do"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing_can_be_seen", "nothing known"),
        ("first_dump", "nothing"),
        ("blocked_by_unknown", "nothing"),
        ("identity_quarrel", "nothing"),
    ],
)
def test_nothing_was_applied_though_there_is_something(name: str, says: str) -> None:
    """That nothing is to be done is said only where that is so."""
    assert f"Applied: {says}." == render.outcome_summary([], plans(name))


def waiting(*waits: Wait) -> Plan:
    """A plan without a step."""
    return msgspec.structs.replace(plans("nothing_to_do")[0], waiting=waits)


ONE, TWO = utc("2025-10-25 14:00"), utc("2025-10-26 02:00")


@pytest.mark.parametrize(
    ("those", "says"),
    [
        ([waiting(Wait(what="dump", until=ONE))], "a dump waits until 2025-10-25 14:00Z"),
        (
            [waiting(Wait(what="dump", until=ONE), Wait(what="verification", until=ONE))],
            "a dump and a verification wait until 2025-10-25 14:00Z",
        ),
        (
            [waiting(Wait(what="dump", until=TWO)), *plans("nothing_to_do"), waiting(Wait(what="dump", until=ONE))],
            "2 dumps wait, the first until 2025-10-25 14:00Z",
        ),
    ],
)
def test_something_that_waits(those: list[Plan], says: str) -> None:
    """The sum of all tells what is due and when it may start, and so does the end of an apply that did nothing."""
    assert f"Plan: nothing to do now: {says}." == render.summary(those)
    assert f"Applied: nothing to do now: {says}." == render.outcome_summary([], those)


def test_something_that_waits_beside_what_is_due() -> None:
    """What there is to do comes first, and what can't be done is no matter of waiting."""
    late, ill = (
        msgspec.structs.replace(plans(name)[0], waiting=(Wait(what="verification", until=ONE),))
        for name in ("first_dump", "nothing_can_be_seen")
    )

    assert "Plan: 1 to create." == render.summary([late])
    assert "Applied: nothing." == render.outcome_summary([], [late])
    assert "Plan: nothing can be done." == render.summary([msgspec.structs.replace(waiting(), stuck=True), waiting()])
    assert "Plan: nothing known, 2 problems." == render.summary([ill])


def test_a_dump_that_can_not_be_begun() -> None:
    """The very first one is due, and whose it would be can't be seen: "nothing to do" would be a lie."""
    want = policy(keep=retention(keep_last=3), rpo="26h")
    plan = planned(want, observation(unknown("no answer"), primary=catalogue(begun=False)))

    text = render.text([plan])

    assert plan.stuck
    assert "  a dump is due and can't be begun\n" in text
    assert "Plan: nothing can be done, 1 problem." == text.splitlines()[-1]


def test_a_database_without_a_turn() -> None:
    """Whether it had something to do is not known: somebody else holds its lease, say."""
    assert "Applied: nothing." == render.outcome_summary([], plans("nothing_to_do"), hindered=True)


def test_cure_that_a_finding_already_gives() -> None:
    """One sentence of advice is read once."""
    text = render.text(plans("blocked_by_unknown"))

    assert 1 == text.count("give the key s3:ListBucket")


def test_finding_without_a_cure() -> None:
    """Nothing is printed for what is not there: no empty line, no hanging blank."""
    plan = msgspec.structs.replace(
        planned(policy(), observation(primary=catalogue())), findings=(Finding(severity="note", where="x", what="y"),)
    )

    assert [] == [line for line in render.text([plan]).splitlines() if line != line.rstrip()]


def test_the_hint_under_what_the_guard_holds_back_is_the_command_that_was_typed() -> None:
    """With its policy and its words: another command would plan something else."""
    (plan,) = plans("blocked_by_the_guard")
    text = render.text([plan], again="reconcile backups delete 2025 -p pol.yaml")

    hint = f"reconcile backups delete 2025 -p pol.yaml --database hotel --allow-destructive={blocked_digest(plan)}"
    assert f"    if just these are meant to go: {hint}" in text.splitlines()
