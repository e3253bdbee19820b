"""What `status` tells below its table."""

from datetime import datetime

import pytest

from reconciler.cli.status import _status, _text
from reconciler.turn import Survey
from reconciler.world.facts import Copy, State
from tests.building import NOW, catalogue, copy, daily, observation, planned, policy, utc

TODAY, YESTERDAY = utc("2025-10-25 02:00"), utc("2025-10-24 02:00")


def said(copies: list[Copy]) -> tuple[list[str], int]:
    """Its lines for people, and how many findings JSON has."""
    want, have = policy(), observation(primary=catalogue(copies))
    one = Survey(have=have, plan=planned(want, have))
    state = _status(one, want, NOW)
    return _text([one], [state], NOW).splitlines(), len(state.findings)


@pytest.mark.parametrize("state", ["foreign", "orphan", "damaged"])
def test_hundreds_of_a_kind(state: State) -> None:
    """The first few, how many more, and where they are all told; JSON has them all."""
    lines, findings = said([copy(one.instant, state, why="of nobody") for one in daily(300, TODAY)])

    told = [line for line in lines if line.startswith("hotel: primary: ")]
    assert 4 == len(told)
    assert told[-1].startswith("hotel: primary: and 297 more like that (every backup: `reconcile backups list`; ")
    assert 300 == findings


def test_a_few_of_a_kind() -> None:
    """Each with its cure, and no word of more."""
    lines, _ = said([copy(one.instant, "foreign", why="of nobody") for one in daily(3, TODAY)])

    told = [line for line in lines if line.startswith("hotel: primary: ")]
    assert 3 == len(told)
    assert all(line.endswith("it neither counts nor is touched") for line in told)


def test_worst_first() -> None:
    """An error is not looked for below notes, as in a plan."""
    lines, _ = said([copy(NOW, "being_written"), copy(TODAY, "foreign"), copy(TODAY, "damaged", salt="b")])

    told = [line for line in lines if line.startswith("hotel: primary: ")]
    assert ["damaged", "foreign", "being written"] == [
        next(word for word in ("damaged", "foreign", "being written") if f" is {word}" in line) for line in told
    ]


@pytest.mark.parametrize(
    ("newest", "never", "expected", "at"),
    [
        (TODAY, (), "next 2025-10-26 02:00Z", utc("2025-10-26 02:00")),
        (YESTERDAY, (), "one is due since 2025-10-25 02:00Z", TODAY),
        (YESTERDAY, ("* 2-21 * * *",), "next 2025-10-25 22:00Z", utc("2025-10-25 22:00")),
        (TODAY, ("* 2-21 * * *",), "next 2025-10-26 22:00Z", utc("2025-10-26 22:00")),
        (YESTERDAY, ("* * * * *",), "next never", None),
    ],
    ids=["done", "due", "due, and waits for its window", "done, and the next waits", "due, and waits for ever"],
)
def test_when_the_next_dump_is(newest: datetime, never: tuple[str, ...], expected: str, at: datetime | None) -> None:
    """One that is due comes before the next slot."""
    want, have = policy(never=never), observation(primary=catalogue([copy(newest)]))
    one = Survey(have=have, plan=planned(want, have))

    state = _status(one, want, NOW)

    assert f'hotel: dumps "0 2 * * *", {expected}' in _text([one], [state], NOW).splitlines()
    assert at == state.next_dump
