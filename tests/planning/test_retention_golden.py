"""Retention against restic's published cases: what `forget` keeps, ours keeps."""

from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from reconciler.planning.retention import keep


class Case(msgspec.Struct, frozen=True, kw_only=True):
    policy: int
    rules: dict[str, int | str]
    kept: tuple[datetime, ...]


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    notice: str
    source: str
    instants: tuple[datetime, ...]
    cases: tuple[Case, ...]


GOLDEN = msgspec.json.decode((Path(__file__).parent / "golden" / "restic_forget.json").read_bytes(), type=Golden)


@pytest.mark.parametrize("case", GOLDEN.cases, ids=lambda case: f"policy_{case.policy}")
def test_restics_own_case(case: Case) -> None:
    """Of restic's instants, just those are kept that restic keeps, newest first, equal ones as often."""
    kept = keep(GOLDEN.instants, case.rules)

    assert list(case.kept) == [item.instant for item in kept]


def test_all_of_restics_cases_without_tags_are_there() -> None:
    """A case that gets lost from the file is noticed."""
    without = {0, 17, 18, 19, 20}  # see the page beside the file

    assert sorted(set(range(40)) - without) == [case.policy for case in GOLDEN.cases]
    assert len(GOLDEN.instants) == 103
