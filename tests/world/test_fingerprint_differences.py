"""Two fingerprints compared: what differs is named, and what was not covered is neither good nor bad."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.world.fingerprint import (
    Fingerprint,
    LargeObjects,
    ObjectMark,
    SequenceMark,
    TableMark,
    Uncovered,
    differences,
    gaps,
    lost_rows,
    other_rows,
    other_versions,
    summarize,
)

names = st.sampled_from(("public.guests", 'public."Odd name"', "sales.orders", "sales.lines"))
marks = st.builds(TableMark, rows=st.integers(0, 9), checksum=st.sampled_from(("aa", "bb")))
sequences = st.builds(SequenceMark, next=st.integers(-9, 9), increment=st.sampled_from((-1, 1)), cycles=st.booleans())
objects = st.builds(ObjectMark, state=st.sampled_from(("", "invalid")), definition=st.sampled_from(("x", "y")))
fingerprints = st.builds(
    Fingerprint,
    level=st.just("checksums"),
    major=st.sampled_from((15, 18)),
    method=st.just("m"),
    tables=st.dictionaries(names, marks),
    sequences=st.dictionaries(names, sequences),
    large_objects=st.builds(LargeObjects, count=st.integers(0, 3), checksum=st.sampled_from(("aa", "bb"))),
    shape=st.dictionaries(st.sampled_from(("table", "function")), st.dictionaries(names, objects)),
)
FINGERPRINT = Fingerprint(
    level="checksums",
    major=18,
    method="m",
    tables={"public.guests": TableMark(rows=3, checksum="aa")},
    sequences={"public.ids": SequenceMark(next=7, increment=1)},
    large_objects=LargeObjects(count=1, checksum="cc"),
    shape={
        "index": {"public.by_name": ObjectMark(definition="x"), "public.broken": ObjectMark(state="invalid", definition="y")},
        "materialized view": {"public.counted": ObjectMark(state="populated")},
        "extension": {"citext": ObjectMark(state="1.6")},
    },
)


def but(**changes: Any) -> Fingerprint:
    return msgspec.structs.replace(FINGERPRINT, **changes)


@given(fingerprints)
def test_the_same_has_no_differences(one: Fingerprint) -> None:
    """Whatever it is, it equals itself, through its record too."""
    again = msgspec.json.decode(msgspec.json.encode(one), type=Fingerprint)

    assert () == differences(one, again)
    assert () == gaps(one, again)


@given(fingerprints, fingerprints)
def test_equal_rows_or_a_sentence(one: Fingerprint, other: Fingerprint) -> None:
    """Where tables differ in any way, something is said of exactly those."""
    said = differences(one, other)

    differ = {name for name in {*one.tables, *other.tables} if one.tables.get(name) != other.tables.get(name)}
    assert differ == {
        name
        for name in {*one.tables, *other.tables}
        if any(line.startswith(f"table {name} ") and ("rows" in line) for line in said)
    }


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (but(tables={}), "table public.guests is missing: it had 3 rows"),
        (but(tables={"public.guests": TableMark(rows=2, checksum="aa")}), "table public.guests has 2 rows, and had 3"),
        (
            but(tables={"public.guests": TableMark(rows=3, checksum="bb")}),
            "table public.guests has other rows than it had, though as many: 3",
        ),
        (but(sequences={}), "sequence public.ids is missing"),
        (
            but(sequences={"public.ids": SequenceMark(next=6, increment=1)}),
            "sequence public.ids is behind: it hands out 6 next, and was at 7",
        ),
        (but(large_objects=LargeObjects(count=0, checksum="cc")), "there are 0 large objects, and there were 1"),
        (but(large_objects=LargeObjects(count=1, checksum="dd")), "the 1 large objects hold other bytes than they held"),
        (
            but(shape={**(FINGERPRINT.shape or {}), "index": {"public.by_name": ObjectMark(state="invalid", definition="x")}}),
            "index public.by_name is invalid, and was well",
        ),
        (but(shape={**(FINGERPRINT.shape or {}), "index": {}}), "index public.by_name is missing"),
        (
            but(shape={**(FINGERPRINT.shape or {}), "index": {"public.by_name": ObjectMark(definition="z")}}),
            "index public.by_name is defined otherwise than it was",
        ),
        (
            but(
                shape={
                    **(FINGERPRINT.shape or {}),
                    "materialized view": {"public.counted": ObjectMark(state="unpopulated")},
                }
            ),
            "materialized view public.counted is unpopulated, and was populated",
        ),
        (but(shape={**(FINGERPRINT.shape or {}), "extension": {}}), "extension citext is missing"),
        (but(shape={**(FINGERPRINT.shape or {}), "view": {"public.v": ObjectMark()}}), "view public.v was not there"),
    ],
)
def test_one_difference_is_one_sentence(found: Fingerprint, says: str) -> None:
    """It names the object, what it is and what it was."""
    assert (says,) == differences(FINGERPRINT, found)


@pytest.mark.parametrize(
    "found",
    [
        but(sequences={"public.ids": SequenceMark(next=8, increment=1)}),
        but(shape={**(FINGERPRINT.shape or {}), "index": {"public.by_name": ObjectMark(definition="x")}}),
        but(shape={**(FINGERPRINT.shape or {}), "extension": {"citext": ObjectMark(state="1.8")}}),
        but(major=17, shape={**(FINGERPRINT.shape or {}), "index": {"public.by_name": ObjectMark(definition="z")}}),
        but(wording="other", shape={**(FINGERPRINT.shape or {}), "index": {"public.by_name": ObjectMark(definition="z")}}),
        but(shape={**(FINGERPRINT.shape or {}), "extension": {"citext": ObjectMark(state="1.6"), "plpgsql": ObjectMark()}}),
    ],
    ids=[
        "a sequence ahead",
        "an invalid index is not dumped",
        "another version of an extension",
        "another major's words",
        "another wording",
        "what every new database has, though it was dropped",
    ],
)
def test_what_is_no_difference(found: Fingerprint) -> None:
    """A sequence may be ahead, an index that was invalid is in no dump, and another major says the same in other words."""
    assert () == differences(FINGERPRINT, found)


def test_kinds_that_were_left_out_on_purpose() -> None:
    """They are not missed."""
    expected = but(shape={"event trigger": {"watch": ObjectMark()}})

    assert ("event trigger watch is missing",) == differences(expected, but(shape={}))
    assert () == differences(expected, but(shape={}), left_out=["event trigger"])


def test_what_could_not_be_compared_is_a_gap() -> None:
    """Unread is not different, and not the same either."""
    found = but(
        tables={},
        large_objects=None,
        shape=None,
        uncovered=(Uncovered(what="public.guests", why="permission denied"), Uncovered(what="shape", why="the time was over")),
    )

    assert () == differences(FINGERPRINT, found)
    assert (
        "public.guests could not be compared: permission denied",
        "large objects could not be compared: not read",
        "shape could not be compared: the time was over",
    ) == gaps(FINGERPRINT, found)


NOTHING_READ = Fingerprint(
    level="checksums",
    major=0,
    uncovered=tuple(Uncovered(what=what, why="gone") for what in ("large objects", "sequences", "shape", "tables")),
)
"""Of a server that did not answer."""


@given(fingerprints)
def test_without_the_list_of_tables_none_is_missing(one: Fingerprint) -> None:
    """Read nothing of the restore, and nothing is said against it; but that it could not be compared."""
    assert () == differences(one, NOTHING_READ)
    assert "tables could not be compared: gone" in gaps(one, NOTHING_READ)


@given(fingerprints)
def test_without_the_list_of_tables_none_is_new(one: Fingerprint) -> None:
    """Read nothing of the source, and nothing is expected of the restore."""
    assert () == differences(NOTHING_READ, one)
    assert () == gaps(NOTHING_READ, one)
    assert not summarize(NOTHING_READ).complete


def test_checksums_of_another_method_are_a_gap() -> None:
    """A server that hashes otherwise proves nothing, and is not said to hold other rows."""
    found = but(method="n", tables={"public.guests": TableMark(rows=3, checksum="bb")})

    assert () == differences(FINGERPRINT, found)
    assert ("checksums could not be compared: they were made by m, and here by n",) == gaps(FINGERPRINT, found)


def of_parts(one: TableMark, other: TableMark, **more: Any) -> Fingerprint:
    roots = {"public.e0": "public.e", "public.e1": "public.e"}
    return but(tables={"public.e0": one, "public.e1": other}, roots=roots, **more)


def test_rows_that_a_restore_puts_into_other_partitions() -> None:
    """They are compared together: a row may move, and none may go or change."""
    low, high = "0" * 15 + "1", "f" * 16
    was = of_parts(TableMark(rows=1, checksum=low + high), TableMark(rows=2, checksum=high + low))

    moved = of_parts(TableMark(rows=3, checksum="0" * 32), TableMark(rows=0, checksum="0" * 32))
    gone = of_parts(TableMark(rows=2, checksum="0" * 32), TableMark(rows=0, checksum="0" * 32))
    other = of_parts(TableMark(rows=3, checksum="0" * 31 + "1"), TableMark(rows=0, checksum="0" * 32))
    unread = but(tables={"public.e0": TableMark(rows=3)}, uncovered=(Uncovered(what="public.e1", why="locked"),))

    assert () == differences(was, moved) == differences(msgspec.structs.replace(was, roots={}), moved)
    assert ("table public.e has 2 rows, and had 3",) == differences(was, gone) == other_rows(was, gone)
    assert ("table public.e has other rows than it had, though as many: 3",) == differences(was, other)
    assert () == differences(was, unread)
    assert ("public.e1 could not be compared: locked",) == gaps(was, unread)
    assert ("table public.e1 is missing: it had 2 rows",) == differences(was, but(tables={"public.e0": TableMark(rows=1)}))


def test_another_version_of_an_extension_is_told_apart() -> None:
    """It is of the surroundings."""
    found = but(shape={"extension": {"citext": ObjectMark(state="1.8")}})

    assert ("extension citext is 1.8 here, and was 1.6",) == other_versions(FINGERPRINT, found)


def of_rows(**tables: int) -> Fingerprint:
    return Fingerprint(level="counts", major=18, tables={name: TableMark(rows=rows) for name, rows in tables.items()})


rows = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5000))


@given(rows, rows, st.sampled_from((None, "salt")))
def test_the_summaries_tell_who_lost_half(before: dict[str, int], now: dict[str, int], salt: str | None) -> None:
    """Exactly the tables of a thousand rows and more that have less than half of them, or are gone, whether named or hidden."""
    older, newer = summarize(of_rows(**before), salt=salt), summarize(of_rows(**now), salt=salt)

    lost = {name for name, had in before.items() if had >= 1000 and 2 * now.get(name, 0) < had}
    assert len(lost) == len(lost_rows(older, newer))
    assert salt is not None or lost == {one.table for one in lost_rows(older, newer)}
    assert salt is None or not set("abcdef") & {*older.large, *newer.large}


def test_what_was_not_reached_is_not_lost() -> None:
    """A table that the newer fingerprint does not cover may be as it was."""
    older = summarize(of_rows(a=2000, b=2000))
    newer = summarize(but(tables={}, uncovered=(Uncovered(what="a", why="the time was over"),)))

    assert ["b"] == [lost.table for lost in lost_rows(older, newer)]
    assert () == lost_rows(older, summarize(but(tables={}, uncovered=(Uncovered(what="tables", why="no answer"),))))


def test_a_summary_stays_small() -> None:
    """Ten thousand tables make a manifest of no more than a thousand names."""
    many = of_rows(**{f"t{number}": 1000 + number for number in range(10_000)})

    assert 1000 == len(summarize(many).large)
    assert () == lost_rows(summarize(many), summarize(of_rows(**{f"t{number}": 1000 + number for number in range(9_000)})))[1000:]
