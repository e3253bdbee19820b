"""Who says yes for jsonschema says it only where jsonschema does."""

import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reconciler.connect import KINDS
from reconciler.policy.checking import _validator
from reconciler.policy.document import parse
from reconciler.policy.nodes import plain
from reconciler.policy.passing import NOTES, RULES, passes
from reconciler.policy.schema import schema
from tests.policy.test_schema import nodes

ROOT = Path(__file__).parents[2]
SCHEMA = schema(KINDS)
VALIDATOR = _validator(SCHEMA)
FILES = [ROOT / "backup-policy.yaml", *sorted(ROOT.glob("examples/*.yaml"))]
DOCUMENTS = [plain(parse(file.read_bytes(), file.name)[0]) for file in FILES]
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**9, "", "x", "1", "1h", "7d", "10MiB", "0 2 * * *", "UTC", "none", "auto", "s3", "neon",
    "local", "${NAME}", "public.t", "X y", "x" * 70, {}, {"file": "/x"}, {"file": 1}, {"type": "s3"}, [], ["x"], ["x", "x"],
    [1, True], [{}, {}], [None],
]  # fmt: skip
"""What somebody may write in another's place."""
SIMPLE = (("gone", ODD[:1]), ("twice", ODD[:1]), ("misnamed", ODD[:1]))
FRACTIONS: list[Any] = [1.0, 0.5, -0.0, 1e300, [1, 1.0]]
"""The standard takes 1.0 for 1 in some places: whether that is right is left to jsonschema."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All that a document holds, by the way to it."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def slip(document: Any, path: tuple[Any, ...], how: str, odd: Any) -> Any:
    """The document with something else in one place."""
    if not path:
        return odd
    changed = deepcopy(document)
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    if how == "gone":
        del parent[path[-1]]
    elif how == "more":
        parent.update({odd if isinstance(odd, str) else "extra": odd}) if isinstance(parent, dict) else parent.append(odd)
    elif how == "misnamed" and isinstance(parent, dict):
        parent["X y"] = parent.pop(path[-1])
    elif how == "twice" and isinstance(parent, list):
        parent.append(parent[path[-1]])
    else:
        parent[path[-1]] = odd
    return changed


def is_good(document: Any) -> bool:
    """As jsonschema says."""
    return next(VALIDATOR.iter_errors(document), None) is None


def agree(document: Any) -> bool:
    """Whether it passes, if both say the same."""
    ours = passes(document, SCHEMA)
    assert ours == is_good(document)
    return ours


@pytest.mark.parametrize("number", range(len(FILES)), ids=[file.name for file in FILES])
def test_one_slip_anywhere(number: int) -> None:
    """At each place, one odd thing in four, others in each file: both take it or neither does."""
    document = DOCUMENTS[number]
    assert agree(document)

    verdicts = [
        agree(slip(document, path, how, odd))
        for turn, path in enumerate(places(document), start=number)
        for how, several in (*SIMPLE, ("instead", ODD[turn % 4 :: 4]), ("more", ODD[turn % 8 :: 8]))
        for odd in several
    ]
    assert {True, False} == set(verdicts)


def test_a_fraction_anywhere() -> None:
    """Passes nothing that jsonschema would not."""
    slips = [slip(one, path, "instead", odd) for one in DOCUMENTS for path in places(one) for odd in FRACTIONS]

    assert [] == [document for document in slips if passes(document, SCHEMA) and not is_good(document)]


@settings(max_examples=300)
@given(some.data())
def test_several_slips(data: some.DataObject) -> None:
    """One may hide another."""
    document = data.draw(some.sampled_from(DOCUMENTS))
    for _ in range(data.draw(some.integers(1, 4))):
        path = data.draw(some.sampled_from(list(places(document))[1:] or [()]))
        odd = data.draw(some.one_of(some.sampled_from(ODD), some.text(max_size=5), some.integers(-3, 100)))
        document = slip(document, path, data.draw(some.sampled_from(["gone", "more", "twice", "misnamed", "instead"])), odd)

    agree(document)


def test_every_keyword_is_known() -> None:
    """Else no policy would pass, and each would wait for jsonschema."""
    assert {keyword for _, node in nodes(SCHEMA) for keyword in node} <= {*RULES, *NOTES, "$ref"}


@pytest.mark.parametrize(
    "unknown",
    [{"dependentRequired": {}}, {"type": "null"}, {"format": "date"}, {"$ref": "#/$defs/Nowhere"}, {"$ref": "https://x/y"}],
)
def test_what_is_not_known_here(unknown: dict[str, Any]) -> None:
    """Passes nothing, also where it only chooses a branch."""
    assert not passes(None, {**unknown, "$defs": {}})
    assert not passes("x", {"if": unknown, "then": {}, "else": {}, "$defs": {}})


def test_a_good_policy_waits_for_nobody() -> None:
    """jsonschema takes as long to load as all else that reads a policy."""
    code = (
        "import sys; from pathlib import Path; from reconciler.connect import KINDS; from reconciler.policy.loading import read; "
        "[read(Path(file), KINDS) for file in sys.argv[1:]]; sys.exit('jsonschema' in sys.modules)"
    )

    assert 0 == subprocess.run([sys.executable, "-c", code, *map(str, FILES)], cwd=ROOT, check=False).returncode
