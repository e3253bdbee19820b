"""Rule 10 over the pure code: of no archive is anything restored that reaches beyond a rehearsal, whatever it is called."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.postgres.contents import KINDS, Entry, Listed, _entries
from reconciler.postgres.hostile import LEFT_OUT, restorable

ACTS_BEYOND = ("EVENT TRIGGER", "SUBSCRIPTION", "PUBLICATION", "SERVER", "FOREIGN SERVER", "FOREIGN TABLE", "USER MAPPING")
"""As the page has it, without asking the code."""

BREAKS = ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
"""What Python takes for the end of a line, and pg_restore leaves in names as it is; of `\\n` and `\\r` it makes blanks."""
names = st.one_of(
    st.sampled_from((*KINDS, "x; y", "- -", "a b", "DATA", "TABLE")),
    st.text("ab;,. -\"'%\u00e9\u6f22", min_size=1, max_size=6),
    st.builds(lambda end, number: f"x{end}{number}; 1 1 TABLE public y ana", st.sampled_from(BREAKS), st.integers(1, 8)),
)


@st.composite
def lines(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Kind and line of each entry of an archive. Owners, schemas and names may be anything, also what kinds are called."""
    found = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        kind = draw(st.sampled_from((*KINDS, *ACTS_BEYOND, *ACTS_BEYOND)))
        schema = draw(st.one_of(st.just("-"), names))
        found.append((kind, f"{number}; 2615 16{number} {kind} {schema} {draw(names)} {draw(names)}"))
    return found


def listed(entries: Sequence[Entry]) -> Listed:
    return Listed(entries=tuple(entries), schemas={})


@given(lines())
def test_what_acts_beyond_is_left_out(found: list[tuple[str, str]]) -> None:
    """However a schema or an object is named: no name makes one of these look like what is restored."""
    entries = tuple(_entries("\n".join(line for _, line in found)))
    kept, left = restorable(listed(entries), ())
    beyond = {number for number, (kind, _) in enumerate(found, start=1) if kind in ACTS_BEYOND}

    assert not beyond & {entry.number for entry in kept}
    assert len(beyond) <= len(left)


@given(lines())
def test_what_is_left_out_is_named(found: list[tuple[str, str]]) -> None:
    """Each entry is restored, or named with its reason, or made beforehand; none is lost on the way."""
    entries = tuple(_entries("\n".join(line for _, line in found)))
    kept, left = restorable(listed(entries), ())
    made = [entry for entry in entries if entry.kind == "EXTENSION"]

    assert len(found) == len(entries)
    assert len(entries) == len(kept) + len(left) + len(made)
    assert all(any(one.startswith(f"{entry}: ") for one in left) for entry in entries if entry.kind in LEFT_OUT)


@pytest.mark.parametrize("kind", sorted(LEFT_OUT))
@pytest.mark.parametrize("about", ["ACL", "COMMENT", "SECURITY LABEL"])
def test_what_speaks_of_the_left_out_is_left_out(kind: str, about: str) -> None:
    """It would fail for want of what it speaks of, and that proves nothing against the archive."""
    (entry,) = _entries(f"7; 0 0 {about} - {kind} spy ana")

    assert () == restorable(listed([entry]), ())[0]
