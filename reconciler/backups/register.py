"""One small object a database, beside all databases of a target: so that one that left the policy is seen by a short listing."""

from contextlib import suppress

import msgspec

from reconciler.backups import layout
from reconciler.backups.erase import erase_object
from reconciler.backups.manifest import encode
from reconciler.backups.records import read_whole
from reconciler.errors import Absent, Conflict
from reconciler.world.ports import ABSENT, Target


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """That a repository was begun there."""

    repository: str


def register(target: Target, database: str, repository: str) -> None:
    """Once is enough."""
    key = layout.registered_key(database)
    try:
        read_whole(target, key)
    except Absent:
        with suppress(Conflict):
            target.write(key, [encode(Registered(repository=repository))], expect=ABSENT)


def registered(target: Target) -> tuple[str, ...]:
    """The databases that were ever begun on it and not forgotten."""
    start, end = len(layout.REGISTER), -len(".json")
    return tuple(item.key[start:end] for item in target.list(layout.REGISTER).items if item.key.endswith(".json"))


def forget(target: Target, database: str) -> bool:
    """Whether it was registered. Nothing else of the database is touched."""
    if database not in registered(target):
        return False
    erase_object(target, layout.registered_key(database))
    return True
