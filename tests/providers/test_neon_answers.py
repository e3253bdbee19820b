"""Neon's answers: what is read of them, and what is none."""

import httpx
import msgspec
import pytest

from reconciler.errors import Refused
from reconciler.providers.neon.answers import BranchesAnswer, ProjectAnswer, read

BRANCH = {"id": "br-x", "name": "main", "created_at": "2025-01-01T00:00:00Z", "current_state": "ready"}


def answer(body: object) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(body))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"something_new": {"of": ["next", "year"]}},
        {"parent_id": None, "restricted_actions": None, "created_by": None, "expires_at": None},
        {"current_state": "a_state_of_next_year"},
    ],
)
def test_what_neon_may_add_or_leave_out(more: dict[str, object]) -> None:
    """Fields that are new, fields that are null, words that nobody knew."""
    found = read(answer({"branches": [BRANCH | more], "annotations": None}), BranchesAnswer, "neon")

    assert ("main", None, ()) == (found.branches[0].name, found.branches[0].parent_id, found.branches[0].restricted_actions)
    assert {} == found.annotations


@pytest.mark.parametrize("body", [b"<html>welcome to this network</html>", b'{"project": {"id": "x", "name": 5}}', b"[]", b""])
def test_what_is_no_answer_of_neons(body: bytes) -> None:
    """It has the status of a success all the same; its content is not repeated."""
    with pytest.raises(Refused, match="not as Neon publishes it") as refused:
        read(httpx.Response(200, content=body), ProjectAnswer, "neon: cannot look")

    assert "welcome" not in str(refused.value)
