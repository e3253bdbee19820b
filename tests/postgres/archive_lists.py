"""Rule 10 over the pure code: archives' tables of contents as strangers would have them, and what of them would be restored."""

from hypothesis import strategies as st

from reconciler.postgres import contents, hostile
from reconciler.postgres.contents import KINDS, Entry, Listed

ACTS_BEYOND = ("EVENT TRIGGER", "SUBSCRIPTION", "PUBLICATION", "SERVER", "FOREIGN SERVER", "FOREIGN TABLE", "USER MAPPING")
"""As the page has it, without asking the code."""
SPEAKS_OF = ("ACL", "COMMENT", "SECURITY LABEL")

BREAKS = ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
"""What Python takes for the end of a line, and pg_restore leaves in names as it is; of `\\n` and `\\r` it makes blanks."""
names = st.one_of(
    st.sampled_from((*KINDS, "x; y", "- -", "a b", "DATA", "TABLE")),
    st.text("ab;,. -\"'%\u00e9\u6f22", min_size=1, max_size=6),
    st.builds(lambda end, number: f"x{end}{number}; 1 1 TABLE public y ana", st.sampled_from(BREAKS), st.integers(1, 8)),
)

Lines = list[tuple[str, str]]
"""Kind and line of each entry."""


@st.composite
def lines(draw: st.DrawFn) -> Lines:
    """Owners, schemas and names may be anything, also what kinds are called."""
    found = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        kind = draw(st.sampled_from((*KINDS, *ACTS_BEYOND, *ACTS_BEYOND)))
        schema = draw(st.one_of(st.just("-"), names))
        found.append((kind, f"{number}; 2615 16{number} {kind} {schema} {draw(names)} {draw(names)}"))
    return found


def read(found: Lines) -> tuple[Entry, ...]:
    """As pg_restore's list is read."""
    return tuple(contents._entries("\n".join(line for _, line in found)))


def restorable(entries: tuple[Entry, ...]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """What a rehearsal would restore of it, and what it leaves out."""
    return hostile.restorable(Listed(entries=entries, schemas={}), ())


def broken(found: Lines) -> list[str]:
    """What of the rule does not hold for this archive."""
    entries = read(found)
    kept, left = restorable(entries)
    numbers = {entry.number for entry in kept}
    made = [entry for entry in entries if entry.kind == "EXTENSION"]
    said = [f"{kind} is restored" for number, (kind, _) in enumerate(found, start=1) if kind in ACTS_BEYOND and number in numbers]
    said += [
        f"{entry} is not named"
        for entry in entries
        if not (entry.number in numbers or entry in made or any(one.startswith(f"{entry}: ") for one in left))
    ]
    said += [f"{entry} is restored, and made beforehand" for entry in made if entry.number in numbers]
    # Each entry is restored, or named with its reason, or made beforehand; none is lost on the way, and none comes to it.
    if len(found) != len(entries) or len(entries) != len(kept) + len(left) + len(made):
        said.append(f"of {len(found)} entries {len(entries)} are read, {len(kept)} restored, {len(left)} left out")
    return said


def broken_about(kind: str, about: str) -> list[str]:
    """The same, of what speaks of something that is left out: without that it would fail, which proves nothing."""
    kept, _ = restorable(read([(about, f"7; 0 0 {about} - {kind} spy ana")]))
    return [f"{entry} is restored" for entry in kept]
