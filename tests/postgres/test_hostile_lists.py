"""Rule 10 over the pure code: of no archive is anything restored that reaches beyond a rehearsal, whatever it is called."""

import pytest
from hypothesis import given

from reconciler.postgres.hostile import LEFT_OUT
from tests.postgres.archive_lists import SPEAKS_OF, Lines, broken, broken_about, lines


@given(lines())
def test_what_acts_beyond_is_left_out_and_named(found: Lines) -> None:
    """However a schema or an object is named: no name makes one of these look like what is restored, or like nothing."""
    assert [] == broken(found)


@pytest.mark.parametrize("kind", sorted(LEFT_OUT))
@pytest.mark.parametrize("about", SPEAKS_OF)
def test_what_speaks_of_the_left_out_is_left_out(kind: str, about: str) -> None:
    """It would fail for want of what it speaks of, and that proves nothing against the archive."""
    assert [] == broken_about(kind, about)
