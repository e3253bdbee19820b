"""Removing what a backup's id holds on one target: the manifest first, so that nothing half gone is ever listed as a backup."""

from reconciler.backups import layout
from reconciler.errors import Refused
from reconciler.world.ports import Stored, Target


def erase(target: Target, database: str, backup: str) -> int:
    """All but tombstones, every version, unfinished writes too; how many objects went. Met twice, it is the same.

    Raises Refused on a hold.
    """
    root = layout.backup_root(database, backup)
    items = target.list(root, versions=target.versioned).items
    if any(item.key == root + layout.HOLD and item.latest and not item.marker for item in items):
        raise Refused(f"{target.name}: {backup} is on hold", cure="release it first")
    for upload in target.unfinished(root):
        target.abort(upload)
    doomed = [item for item in sorted(items, key=_rank) if not layout.is_tombstone(item.key)]
    for item in doomed:
        target.delete(item.key, version=item.version)
    return len(doomed)


def erase_object(target: Target, key: str) -> None:
    """One object, on a versioned store with all its versions: what is only of passing use leaves no history."""
    if not target.versioned:
        target.delete(key)
        return
    for item in target.list(key, versions=True).items:
        if item.key == key:
            target.delete(key, version=item.version)


def erase_tombstones(target: Target, database: str, backup: str) -> None:
    """The last trace, every version."""
    root = layout.backup_root(database, backup)
    for item in target.list(root, versions=target.versioned).items:
        if layout.is_tombstone(item.key):
            target.delete(item.key, version=item.version)


def _name(item: Stored) -> str:
    return item.key.rpartition("/")[2]


def _rank(item: Stored) -> tuple[int, str, bool]:
    """Manifest, then data, then the intent that explains it. Of a versioned object the marker goes last: it hides the rest."""
    name = _name(item)
    order = 0 if name == layout.MANIFEST else 2 if name == layout.INTENT else 1
    return order, item.key, item.marker
