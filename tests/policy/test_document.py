"""YAML is read as the core schema of YAML 1.2 says, and every part knows its place."""

import math

import pytest

from reconciler.policy.document import parse
from reconciler.policy.nodes import Node, Place, child, merge, plain, spell


def value(text: str) -> object:
    """What the text after a key is read as."""
    root, faults = parse(f"key: {text}\n".encode(), "file.yaml")
    assert faults == []
    return plain(root)["key"]


WORDS = ["on", "off", "yes", "no", "NO", "y", "22:30", "1:2:3", "2025-10-24", "tRUE", "nULL", "<<", "="]
NEARLY_NUMBERS = ["1_000", "0b1", "1e", "+", ".", "0o8", "0xg", "-0o7"]


@pytest.mark.parametrize("text", WORDS + NEARLY_NUMBERS)
def test_what_yaml_1_1_would_turn_into_something_else(text: str) -> None:
    """It is text, as it is written."""
    assert text == value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("7.", 7.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("'12'", "12"),
        ('"true"', "true"),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: c}}", {"a": {"b": "c"}}),
    ],
)
def test_what_the_core_schema_knows(text: str, expected: object) -> None:
    """It becomes what the core schema says, of the very type."""
    found = value(text)

    assert expected == found
    assert type(expected) is type(found)


def test_not_a_number() -> None:
    """`.nan` is the float that equals nothing."""
    found = value(".nan")

    assert isinstance(found, float)
    assert math.isnan(found)


def test_block_text() -> None:
    """Text over several lines stays text, whatever it looks like."""
    root, _ = parse(b"key: |\n  12\n", "file.yaml")

    expected = {"key": "12\n"}
    assert expected == plain(root)


def test_places() -> None:
    """Keys and values are where an editor shows them, wide characters counted as one."""
    root, _ = parse("Zürich:\n  日本: [x, yy]\n".encode(), "file.yaml")

    outer = child(root, "Zürich")
    expected = Place(1, 1)
    assert expected == root.keys["Zürich"]
    assert outer is not None
    expected = Place(2, 3)
    assert expected == outer.keys["日本"]
    expected = Place(2, 11)
    assert expected == (child(child(outer, "日本"), 1) or root).place


def test_what_is_not_there() -> None:
    """Looking into a scalar, past a list's end or under another key finds nothing."""
    root, _ = parse(b"a: [x]\n", "file.yaml")

    assert [child(root, "b"), child(child(root, "a"), 1), child(root, 0), child(None, "a")] == [None] * 4


def test_merging_mappings() -> None:
    """The upper one wins key by key, and lists are taken as a whole."""
    under, _ = parse(b"a: {x: 1, y: 2}\nb: [1, 2]\nc: 3\n", "file.yaml")
    over, _ = parse(b"a: {y: 3}\nb: [4]\n", "file.yaml")

    merged = merge(under, over)

    assert isinstance(merged, Node)
    expected = {"a": {"x": 1, "y": 3}, "b": [4], "c": 3}
    assert expected == plain(merged)


def test_a_path_in_words() -> None:
    """Positions stand in brackets, and what looks like no key stays out."""
    expected = "databases.hotel.dumps.targets[0].…"
    assert expected == spell(("databases", "hotel", "dumps", "targets", 0, "u:p@host"))
