"""What a check expects: read as it is meant, or refused."""

import pytest

from reconciler.policy.expectation import Expectation


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("=> 1", "write >="),
        ("=< 1", "write <="),
        ("== 1", "write ="),
        ("=! 1", "write !="),
        ("!== 1", "write !="),
        (" ==ready", "write ="),
    ],
)
def test_comparisons_of_other_languages(written: str, cure: str) -> None:
    """Each would be read as `=` and a text that no answer is: every verification would fail, and freeze deletions."""
    with pytest.raises(ValueError, match=cure):
        Expectation.parse(written)


@pytest.mark.parametrize(
    ("written", "answer"),
    [(">= 1", "1"), ("<=1", "1"), ("= <none>", "<none>"), ("= =", "="), ("!= >", "x"), ("= 1.0", "1"), ("> -2", "-1")],
)
def test_what_is_meant_is_met(written: str, answer: str) -> None:
    """A text may begin with a sign of a comparison where a space stands before it."""
    assert Expectation.parse(written).is_met_by(answer)
