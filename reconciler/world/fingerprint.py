"""What a database held at one snapshot, in marks that are small enough to keep: rows, checksums, sequences, shape. No I/O.

A restore is compared with the fingerprint that was taken beside its dump. What is covered must be equal; what is not covered is
named with its reason, and proves nothing either way.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal

import msgspec

Level = Literal["counts", "checksums"]

MOST_LISTED = 1000
LISTED_ROWS = 500
NOTEWORTHY_ROWS = 1000
"""A table with fewer may halve in any afternoon. What has half of it is still listed, so that absence tells."""
ALWAYS_THERE = {"extension": {"plpgsql"}}
"""What every new database has, though it may have been dropped in the source."""
MOST_NAMED = 20
MOST_SENTENCES = 200
"""A restore that went wrong differs everywhere; nobody reads more of it."""


class TableMark(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one table that holds rows itself: a leaf partition, or an inheritance parent without its children."""

    rows: int
    checksum: str | None = None
    """32 hex digits: over all rows, in whatever order. None at level `counts`."""


class SequenceMark(msgspec.Struct, frozen=True, kw_only=True):
    """Read before the dump reads it, and never older than it: a sequence knows no snapshots."""

    next: int
    """What it would have handed out next."""
    increment: int
    cycles: bool = False


class LargeObjects(msgspec.Struct, frozen=True, kw_only=True):
    """All of them together."""

    count: int
    checksum: str | None = None


class ObjectMark(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the schema. Owners and rights are not in it: a rehearsal has other roles."""

    state: str = ""
    """What is seen of it in words that every major shares: `invalid`, `populated`, `not validated`, an extension's version."""
    definition: str = ""
    """A digest of what PostgreSQL says of it, whose words may differ between majors."""


class Uncovered(msgspec.Struct, frozen=True, kw_only=True):
    """What the fingerprint says nothing of."""

    what: str
    """A table's name as in `tables`, or `sequences`, `large objects`, `shape`; or `tables`: which there were is not known."""
    why: str


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What one snapshot held. Names are qualified, and quoted where they must be: `public.guests`, `public."Odd name"`."""

    level: Level
    major: int
    """Of the server that was read."""
    method: str = ""
    """How checksums were made, with a proof of it: those of two methods are not compared."""
    wording: str = ""
    """What of definitions their digests are of: those of two wordings are not compared."""
    tables: Mapping[str, TableMark] = {}
    roots: Mapping[str, str] = {}
    """Partition → the table that it is one of, where hashes of an enum's values tell which row belongs where: these values have
    other numbers once they are restored, and other hashes. Such partitions are compared together."""
    sequences: Mapping[str, SequenceMark] = {}
    large_objects: LargeObjects | None = None
    shape: Mapping[str, Mapping[str, ObjectMark]] | None = None
    """Kind (`table`, `index`, `function` …) → name → mark."""
    uncovered: tuple[Uncovered, ...] = ()

    @property
    def rows(self) -> int:
        """Of all covered tables."""
        return sum(mark.rows for mark in self.tables.values())


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest tells of a fingerprint: enough to notice that rows went, without reading it."""

    level: Level
    tables: int
    rows: int
    uncovered: int
    """How many things it says nothing of."""
    reasons: tuple[Uncovered, ...] = ()
    """The first of them; none where names are hidden."""
    large: Mapping[str, int] = {}
    """Tables of 500 rows and more, the largest thousand at most: name, or its digest where names are hidden → rows."""
    unseen: tuple[str, ...] = ()
    """Uncovered tables, named as in `large`."""
    complete: bool = False
    """Whether a table that is in neither has fewer rows, or is gone."""
    hidden: bool = False
    """Whether names are digests: the fingerprint is encrypted, and its manifest is not."""


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A table that has less than half the rows that it had."""

    table: str
    before: int
    now: int | None
    """None: so few that it is not listed any more, or it is gone."""


def summarize(fingerprint: Fingerprint, *, salt: str | None = None) -> Summary:
    """`salt`: hide the names behind it; the same name under the same salt is the same digest."""
    largest = sorted(fingerprint.tables.items(), key=lambda item: (-item[1].rows, item[0]))
    listed = [(name, mark.rows) for name, mark in largest if mark.rows >= LISTED_ROWS]
    unseen = [one.what for one in fingerprint.uncovered]
    named = (lambda name: name) if salt is None else (lambda name: _hidden(name, salt))
    return Summary(
        level=fingerprint.level,
        tables=len(fingerprint.tables),
        rows=fingerprint.rows,
        uncovered=len(fingerprint.uncovered),
        reasons=fingerprint.uncovered[:MOST_NAMED] if salt is None else (),
        large={named(name): rows for name, rows in listed[:MOST_LISTED]},
        unseen=tuple(named(name) for name in unseen[:MOST_LISTED]),
        complete=max(len(listed), len(unseen)) <= MOST_LISTED and _knows_tables(fingerprint),
        hidden=salt is not None,
    )


def lost_rows(before: Summary, now: Summary) -> tuple[Lost, ...]:
    """Tables that lost more than half of their rows between two dumps, the largest loss first."""
    if before.hidden != now.hidden:
        return ()
    losses = []
    for name, rows in before.large.items():
        left = now.large.get(name)
        gone = now.complete and name not in now.unseen
        if rows >= NOTEWORTHY_ROWS and (gone if left is None else 2 * left < rows):
            losses.append(Lost(table=name, before=rows, now=left))
    return tuple(sorted(losses, key=lambda lost: (lost.now or 0) - lost.before))


def _hidden(name: str, salt: str) -> str:
    return sha256(f"{salt}\n{name}".encode()).hexdigest()[:16]


def differences(expected: Fingerprint, found: Fingerprint, *, left_out: Iterable[str] = ()) -> tuple[str, ...]:
    """What both cover and is not the same, each a sentence that names the object; a table or an object that is gone, too.

    `left_out`: kinds of objects that were not restored on purpose, e.g. `event trigger`.
    """
    said = [*_tables(expected, found), *_sequences(expected, found), *_large_objects(expected, found)]
    if expected.shape is not None and found.shape is not None:
        said += _shape(expected, found, frozenset(left_out))
    rest = len(said) - MOST_SENTENCES
    return (*said[:MOST_SENTENCES], *((f"and {rest} differences more",) if rest > 0 else ()))


def other_rows(expected: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """Those differences that are between the rows of tables that both have."""
    both = expected.tables.keys() & found.tables.keys()
    one, other = (
        msgspec.structs.replace(each, tables={name: mark for name, mark in each.tables.items() if name in both})
        for each in (expected, found)
    )
    return tuple(_tables(one, other))


def gaps(expected: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """What `expected` covers and could not be compared, each a sentence: such a comparison proves less than it should."""
    why = {one.what: one.why for one in found.uncovered}
    said = [f"{name} could not be compared: {why[name]}" for name in expected.tables if name not in found.tables and name in why]
    if _compare_checksums(expected, found) is False:
        said.append(f"checksums could not be compared: they were made by {expected.method}, and here by {found.method or 'none'}")
    parts = (
        ("tables", _knows_tables(expected), _knows_tables(found)),
        ("sequences", expected.sequences, "sequences" not in why),
        ("large objects", expected.large_objects, found.large_objects is not None),
        ("shape", expected.shape, found.shape is not None),
    )
    return (*said, *(f"{name} could not be compared: {why.get(name, 'not read')}" for name, had, has in parts if had and not has))


def other_versions(expected: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """Extensions that are here in another version than they were there: of the surroundings, not of the data."""
    was, now = (one.shape.get("extension", {}) if one.shape else {} for one in (expected, found))
    return tuple(
        f"extension {name} is {now[name].state} here, and was {mark.state}"
        for name, mark in was.items()
        if name in now and now[name].state != mark.state
    )


def _compare_checksums(expected: Fingerprint, found: Fingerprint) -> bool | None:
    """None where there are none to compare."""
    has_some = expected.method or any(mark.checksum for mark in expected.tables.values())
    return expected.method == found.method if has_some else None


def _knows_tables(fingerprint: Fingerprint) -> bool:
    """Whether the list of tables was read. Without it no table is there, and none is missing."""
    return all(one.what != "tables" for one in fingerprint.uncovered)


def _tables(expected: Fingerprint, found: Fingerprint) -> Iterable[str]:
    uncovered = {one.what for one in (*expected.uncovered, *found.uncovered)}
    knew, knows = _knows_tables(expected), _knows_tables(found)
    compared = bool(_compare_checksums(expected, found))
    roots = {**expected.roots, **found.roots}
    for name, was in expected.tables.items():
        now = found.tables.get(name)
        if now is None:
            if knows and name not in uncovered:
                yield f"table {name} is missing: it had {was.rows} rows"
        elif name not in roots:
            yield from _rows(name, was, now, compared=compared)
    for root in sorted(set(roots.values())):
        members = [name for name in roots if roots[name] == root]
        if all(name in expected.tables and name in found.tables for name in members):
            was, now = (_together(one.tables[name] for name in members) for one in (expected, found))
            yield from _rows(root, was, now, compared=compared)
    for name, now in found.tables.items():
        if knew and name not in expected.tables and name not in uncovered:
            yield f"table {name} was not there: it has {now.rows} rows"


def _rows(name: str, was: TableMark, now: TableMark, *, compared: bool) -> Iterable[str]:
    if now.rows != was.rows:
        yield f"table {name} has {now.rows} rows, and had {was.rows}"
    elif compared and now.checksum != was.checksum and None not in (now.checksum, was.checksum):
        yield f"table {name} has other rows than it had, though as many: {was.rows}"


def _together(marks: Iterable[TableMark]) -> TableMark:
    """Of several tables' rows, as one table's: a checksum is two sums of 64 bits."""
    all_marks = tuple(marks)
    sums = [mark.checksum for mark in all_marks if mark.checksum is not None]
    halves = (sum(int(one[start : start + 16], 16) for one in sums) % (1 << 64) for start in (0, 16))
    checksum = "".join(f"{half:016x}" for half in halves) if len(sums) == len(all_marks) else None
    return TableMark(rows=sum(mark.rows for mark in all_marks), checksum=checksum)


def _sequences(expected: Fingerprint, found: Fingerprint) -> Iterable[str]:
    if any(one.what == "sequences" for one in (*expected.uncovered, *found.uncovered)):
        return
    for name, was in expected.sequences.items():
        now = found.sequences.get(name)
        if now is None:
            yield f"sequence {name} is missing"
        elif not was.cycles and (now.next - was.next) * (1 if was.increment > 0 else -1) < 0:
            yield f"sequence {name} is behind: it hands out {now.next} next, and was at {was.next}"


def _large_objects(expected: Fingerprint, found: Fingerprint) -> Iterable[str]:
    was, now = expected.large_objects, found.large_objects
    if was is None or now is None:
        return
    if was.count != now.count:
        yield f"there are {now.count} large objects, and there were {was.count}"
    elif _compare_checksums(expected, found) and was.checksum != now.checksum and None not in (was.checksum, now.checksum):
        yield f"the {was.count} large objects hold other bytes than they held"


def _shape(expected: Fingerprint, found: Fingerprint, left_out: frozenset[str]) -> Iterable[str]:
    was, now = expected.shape or {}, found.shape or {}
    # What a foreign table has goes with it: columns are named behind it, constraints and triggers before it.
    away = tuple(was.get("foreign table", {})) if "foreign table" in left_out else ()
    same_words = (expected.major, expected.wording) == (found.major, found.wording)
    for kind in sorted({*was, *now} - left_out):
        before, after = was.get(kind, {}), now.get(kind, {})
        for name, mark in before.items():
            if name not in after:
                is_away = any(name.startswith(f"{table}.") or name.endswith(f" on {table}") for table in away)
                if (kind, mark.state) != ("index", "invalid") and not is_away:  # an invalid one is in no dump
                    yield f"{kind} {name} is missing"
            elif after[name].state != mark.state and kind != "extension" and mark.state != "invalid":
                yield f"{kind} {name} is {after[name].state or 'well'}, and was {mark.state or 'well'}"
            elif same_words and after[name].definition != mark.definition:
                yield f"{kind} {name} is defined otherwise than it was"
        yield from (
            f"{kind} {name} was not there" for name in sorted(after.keys() - before.keys() - ALWAYS_THERE.get(kind, set()))
        )
