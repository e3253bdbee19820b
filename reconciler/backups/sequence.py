"""Folders of records that follow one another (evidence/, changes/): `{sequence:08d}.json`, none ever written over."""

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from reconciler.backups import layout
from reconciler.backups.manifest import encode
from reconciler.backups.records import read_whole
from reconciler.errors import Conflict
from reconciler.world.ports import ABSENT, Cache, Stored, Target

TRIES = 10
"""So many others may be first in a row."""


class Numbered(Protocol):
    """A record that knows its number."""

    @property
    def sequence(self) -> int: ...


R = TypeVar("R", bound=Numbered)


def append_record(
    target: Target, root: str, make: Callable[[int, str | None], R], keep_until: Callable[[R], datetime | None]
) -> R:
    """Write the next record, which `make` makes of its sequence and the hash of the one before.

    Raises Conflict where others are first again and again. Met twice (a lost answer) it is one record.
    """
    for _ in range(TRIES):
        items = [item for item in target.list(root).items if layout.sequence_of(item.key) is not None]
        last = max(items, key=lambda item: item.key, default=None)
        before = sha256(read_whole(target, last.key)[0]).hexdigest() if last else None
        record = make((layout.sequence_of(last.key) or 0) + 1 if last else 1, before)
        if _put(target, layout.sequence_key(root, record.sequence), record, keep_until(record)):
            return record
    raise Conflict(f"{target.name}: others were first to write to {root} {TRIES} times in a row", cure="try again")


def _put(target: Target, key: str, record: Any, keep_until: datetime | None) -> bool:
    """Whether it is there; False where another record was first."""
    text = encode(record)
    try:
        target.write(key, [text], expect=ABSENT, keep_until=keep_until)
    except Conflict:
        return read_whole(target, key)[0] == text
    return True


def read_once(target: Target, item: Stored, cache: Cache) -> tuple[bytes, bool]:
    """They never change, so what was read once under an ETag is read no more. And whether it is what was listed."""
    name = f"{target.place}\n{item.key}\n{item.etag}\n{item.version}"
    text = cache.get(name)
    if text is not None:
        return text, True
    text, read = read_whole(target, item.key)
    as_listed = read.etag == item.etag
    if as_listed:
        cache.put(name, text)
    return text, as_listed
