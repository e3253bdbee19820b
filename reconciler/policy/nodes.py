"""A policy's text as a tree in which every key and value knows where it stands, and what can be said of such a place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from reconciler.errors import Finding
from reconciler.policy.scalars import Scalar

Path = tuple[str | int, ...]
"""Keys and positions, from the top: `("databases", "hotel", "dumps", "targets", 0)`."""

_PLAIN_KEY: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./<")


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a text; both count from 1, as editors do."""

    line: int
    column: int


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its place. Nodes may be shared (aliases), never cyclic."""

    place: Place
    value: "Scalar | Sequence[Node] | Mapping[str, Node]"
    keys: Mapping[str, Place] = {}
    """Of a mapping: where each key stands."""
    size: int = 1
    """Nodes in it, aliases followed."""
    height: int = 0
    """Levels below it, aliases followed."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with the policy."""

    place: Place
    path: Path
    what: str
    cure: str = ""


class Places:
    """Where the parts of one policy stand, for messages."""

    def __init__(self, file: str, root: Node) -> None:
        self._file = file
        self._root = root

    def of(self, path: Path) -> str:
        """`file:line:column  path` of a value, or of the nearest thing around it that is written."""
        node = self._root
        for step in path:
            inner = child(node, step)
            if inner is None:
                break
            node = inner
        return where(self._file, node.place, path)


def child(node: Node | None, step: str | int) -> Node | None:
    """What a mapping holds under a key, or a list at a position; None when there is no such thing."""
    value = node.value if node is not None else None
    if isinstance(step, str):
        return value.get(step) if isinstance(value, Mapping) else None
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return value[step] if is_list and step < len(value) else None  # type: ignore[arg-type,index,return-value]  # is_list narrows


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars."""
    if isinstance(node.value, Mapping):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, Sequence) and not isinstance(node.value, str):
        return [plain(item) for item in node.value]
    return node.value


def merge(under: Node | None, over: Node | None) -> Node | None:
    """Mappings key by key, `over` first; anything else is `over`'s where there is one. Places stay those of the text."""
    if under is None or over is None:
        return over or under
    if not (isinstance(under.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    merged = {key: merge(under.value.get(key), over.value.get(key)) for key in {**under.value, **over.value}}
    values = {key: value for key, value in merged.items() if value is not None}
    return Node(place=over.place, value=values, keys={**under.keys, **over.keys})


def findings(file: str, faults: Iterable[Fault]) -> list[Finding]:
    """The faults in the order of the text, each of them once."""
    ordered = sorted(faults, key=lambda fault: (fault.place, spell(fault.path)))
    found = [
        Finding(severity="error", where=where(file, fault.place, fault.path), what=fault.what, cure=fault.cure)
        for fault in ordered
    ]
    return list(dict.fromkeys(found))


def where(file: str, place: Place, path: Path) -> str:
    """`backup-policy.yaml:31:17  databases.hotel.dumps.schedule`."""
    return f"{file}:{place.line}:{place.column}  {spell(path)}".rstrip()


def spell(path: Path) -> str:
    """`databases.hotel.dumps.targets[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{spell_key(step)}" for step in path).removeprefix(".")


def spell_key(key: str) -> str:
    """The key, unless it doesn't look like one: a secret that slipped into a key's place stays out of messages."""
    return key if key and len(key) <= 64 and _PLAIN_KEY.issuperset(key) else "…"
