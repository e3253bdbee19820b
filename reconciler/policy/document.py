"""YAML text → nodes with places, after the core schema of YAML 1.2, within bounds that no hostile text gets past.

pyyaml finds the syntax; what it means is ours, since YAML 1.1 turns `on` into true and `22:30` into 1350.
Tags, merge keys, keys that are not text, and a second document are faults. Aliases are followed, and counted as what they
stand for.
"""

from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.reader import Reader

from reconciler.errors import BadPolicy, Finding
from reconciler.policy.nodes import Fault, Node, Path, Place, findings
from reconciler.policy.scalars import Scalar, meaning

LARGEST_BYTES: Final = 1 << 20
"""A policy of a thousand databases has a quarter of it."""
DEEPEST: Final = 64
MOST_NODES: Final = 100_000
"""A thousand databases have about half as many."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: thirty times as fast
_UNPRINTABLE: Final = Reader.NON_PRINTABLE  # as YAML has it; to compile it once more takes as long as a small policy
_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_SYNTAX: Final = {
    "mapping values are not allowed": ("a ':' can't stand here", "put the value in quotes, or mend the indentation"),
    "did not find expected key": ("does not fit the lines above it", "mend the indentation, or quote the value above"),
    "did not find expected '-'": ("does not fit the list above it", "begin each item with '- ', at the same indentation"),
    "did not find expected ',' or ']'": ("the list that began with [ is not closed", "close it with ]"),
    "did not find expected ',' or '}'": ("the mapping that began with { is not closed", "close it with }"),
    "could not find expected ':'": ("a key without ':'", "write key: value"),
    "cannot start any token": (
        "a value can't begin like this",
        "indent with spaces, not tabs, and quote values that begin with @ ` or %",
    ),
    "maximum nesting depth": (f"is nested deeper than {DEEPEST} levels", "flatten it"),
    "unexpected end of stream": ("the text ends inside quotes", "close them"),
}
_FIRST: Final = Place(1, 1)


def parse(text: bytes, file: str) -> tuple[Node, list[Fault]]:
    """The document and what is wrong with how it is written. Raises BadPolicy where it can't be read at all."""
    composer = _Composer(_decoded(text, file))
    try:
        return composer.document(), composer.faults
    except _Unreadable as error:
        raise BadPolicy(findings(file, [*composer.faults, error.fault])) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else _FIRST
        problem = error.problem or "it can't be read"
        what, cure = next((said for known, said in _SYNTAX.items() if known in problem), (f"is not YAML: {problem}", ""))
        raise BadPolicy(findings(file, [*composer.faults, Fault(place=place, path=(), what=what, cure=cure)])) from error


class _Unreadable(Exception):
    """Never leaves this module."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class _Composer:
    """Makes nodes of pyyaml's events. Faults that leave the rest readable are collected; the others are raised."""

    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self) -> Node:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise _Unreadable(Fault(place=_FIRST, path=(), what="is empty", cure="begin with version: 1"))
        root = self._node(next(self._events), ())
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Unreadable(
                Fault(place=_place(after), path=(), what="a second document begins here", cure="a policy is one document")
            )
        return root

    def _node(self, event: Any, path: Path) -> Node:
        self._bound(event, path)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        if event.tag is not None:
            self._fault(event, path, "has a tag (!); a policy has none", "write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            node = Node(place=_place(event), value=self._scalar(event, path))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, path)
        else:
            node = self._mapping(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _bound(self, event: Any, path: Path) -> None:
        if len(path) > DEEPEST:
            raise _Unreadable(
                Fault(place=_place(event), path=(), what=f"is nested deeper than {DEEPEST} levels", cure="flatten it")
            )
        self._count += 1
        if self._count > MOST_NODES:
            what = f"holds more than {MOST_NODES} values, aliases counted as what they stand for"
            raise _Unreadable(Fault(place=_place(event), path=(), what=what, cure="write less, or without aliases"))

    def _alias(self, event: Any, path: Path) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            what = "is an alias of something that is not complete before it"
            raise _Unreadable(Fault(place=_place(event), path=path, what=what, cure="write the value itself"))
        self._count += node.size - 1
        if len(path) + node.height > DEEPEST:
            raise _Unreadable(
                Fault(place=_place(event), path=(), what=f"is nested deeper than {DEEPEST} levels", cure="flatten it")
            )
        self._bound(event, path)
        return node

    def _sequence(self, start: Any, path: Path) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return _parent(start, items, items, {})

    def _mapping(self, start: Any, path: Path) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            value = self._node(next(self._events), (*path, key or "…"))
            if key in values:
                self._fault(event, (*path, key), f"stands twice; first in line {keys[key].line}", "remove one of them")
            elif key is not None:
                values[key], keys[key] = value, _place(event)
        return _parent(start, list(values.values()), values, keys)

    def _key(self, event: Any, path: Path) -> str | None:
        node = self._node(event, (*path, "…"))
        key = node.value
        if not isinstance(key, str):
            self._fault(event, path, "has a key that is not text", "put it in quotes, or name it")
            return None
        if key == "<<":
            self._fault(event, (*path, key), "merge keys are not of YAML 1.2", "write the keys themselves, or use defaults")
            return None
        return key

    def _scalar(self, event: Any, path: Path) -> Scalar:
        text: str = event.value
        if _UNPRINTABLE.search(text):
            self._fault(event, path, "holds a control character", "remove it")
        return meaning(text) if event.implicit[0] else text

    def _fault(self, event: Any, path: Path, what: str, cure: str) -> None:
        self.faults.append(Fault(place=_place(event), path=path, what=what, cure=cure))


def _parent(start: Any, inner: list[Node], value: Any, keys: dict[str, Place]) -> Node:
    size = 1 + sum(node.size for node in inner) + len(keys)
    height = 1 + max((node.height for node in inner), default=0)
    return Node(place=_place(start), value=value, keys=keys, size=size, height=height)


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _decoded(text: bytes, file: str) -> str:
    """The text, if it is UTF-8 of a reasonable length without control characters. Raises BadPolicy."""
    if len(text) > LARGEST_BYTES:
        raise _refused(file, _FIRST, "is larger than 1 MiB", "a policy is a small text; is this the right file?")
    if text.startswith(_BYTE_ORDER_MARKS):
        raise _refused(file, _FIRST, "is UTF-16 or UTF-32 text", "save it as UTF-8")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _after(text[: error.start].decode("utf-8-sig", "replace"))
        # Not chained: the error carries the whole text, and a secret may have slipped into it.
        raise _refused(file, place, "is not UTF-8 text", "save it as UTF-8") from None
    bad = _UNPRINTABLE.search(decoded)
    if bad:
        what = f"holds the control character U+{ord(bad[0]):04X}"
        raise _refused(file, _after(decoded[: bad.start()]), what, "remove it; a policy is UTF-8 text")
    return decoded


def _after(text: str) -> Place:
    return Place(text.count("\n") + 1, len(text) - text.rfind("\n"))


def _refused(file: str, place: Place, what: str, cure: str) -> BadPolicy:
    return BadPolicy([Finding(severity="error", where=f"{file}:{place.line}:{place.column}", what=what, cure=cure)])
