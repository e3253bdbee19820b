"""Removing what a backup's id holds on one target: the manifest first, so that nothing half gone is ever listed as a backup."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.keeping import read_hold
from reconciler.backups.tombstones import arrival, read_tombstone, write_tombstone
from reconciler.errors import Conflict, Locked, LockUnseen, Refused
from reconciler.world.facts import Tombstone
from reconciler.world.ports import Signatures, Stored, Target

LOOK_AGAIN = timedelta(days=1)
"""How soon a deletion is tried again that a legal hold stopped, which has no end of its own."""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    objects: int
    """That are seen no more, each version counted."""
    hidden: int
    """Of how many keys the store keeps versions, behind a marker."""

    @property
    def says(self) -> str:
        if self.hidden:
            return (
                f"{self.hidden} objects hidden; versions that this key can't delete stay until the bucket's own rules remove them"
            )
        return f"{self.objects} objects removed for good"


def erase(target: Target, database: str, backup: str, *, now: datetime, though_held: bool = False) -> Erased:
    """All of it but tombstones, every version, unfinished writes too. Met twice, it is the same.

    Raises Refused on a hold that is not over, unless it is to go along; Locked where the store keeps an object, and LockUnseen
    where it may: what comes after it is untouched then, and the manifest comes first. Other versions that our key may not
    delete are hidden, and the store's own rules must do the rest.
    """
    root = layout.backup_root(database, backup)
    items = target.list(root, versions=target.versioned).items
    listed = any(item.key == root + layout.HOLD and item.latest and not item.marker for item in items)
    if listed and not though_held and (held := read_hold(target, root + layout.HOLD, now)):
        raise Refused(f"{target.name}: {backup} is {held}", cure="release it first")
    if abort_unfinished(target, database, backup):
        # What aborting left, or what was completed meanwhile, must go before the intent that it is found by.
        items = target.list(root, versions=target.versioned).items
    doomed = [item for item in sorted(items, key=_rank) if _is_doomed(item.key.removeprefix(root))]
    hidden = _remove(target, (item for item in doomed if _name(item) != layout.INTENT), hide_locked=False)
    hidden |= _remove(target, (item for item in doomed if _name(item) == layout.INTENT), hide_locked=True)
    return Erased(objects=len(doomed), hidden=len(hidden))


def abort_unfinished(target: Target, database: str, backup: str) -> bool:
    """What writers that are gone left on its way there. Whether there was any."""
    root = layout.backup_root(database, backup)
    uploads = [upload for upload in target.unfinished(root) if layout.is_of_backup(upload.key.removeprefix(root))]
    for upload in uploads:
        target.abort(upload)
    return bool(uploads)


def _is_doomed(name: str) -> bool:
    """What people laid beside it is theirs."""
    return layout.is_of_backup(name) and not layout.is_tombstone(name)


def erase_object(target: Target, key: str) -> None:
    """One object, on a versioned store with all its versions: what is only of passing use leaves no history.

    What a store does not let go is hidden at least.
    """
    if not target.versioned:
        target.delete(key)
        return
    _remove(target, (item for item in target.list(key, versions=True).items if item.key == key), hide_locked=True)


def erase_tombstones(target: Target, database: str, backup: str) -> None:
    """The last trace, every version."""
    _remove(target, _tombstones(target, layout.backup_root(database, backup)), hide_locked=True)


def put_off(
    target: Target, database: str, stone: Tombstone, locked: Locked, *, now: datetime, signatures: Signatures
) -> datetime:
    """Let the deletion be due when the lock ends, and say when that is: until then nothing is tried, and it can come back.

    `stone`: what the deletion rests on, which a listing may not show yet. The later one is there before the earlier ones go; the
    first stays, since only the store can say when the deletion was decided.
    """
    # A tombstone's name tells seconds, and one too early would be refused again.
    until = (locked.until or now + LOOK_AGAIN).replace(microsecond=0) + timedelta(seconds=1)
    found = _tombstones(target, layout.backup_root(database, stone.id))
    shown = [item for item in found if item.latest and not item.marker]
    listed = [read_tombstone(target, item.key, backup=stone.id, signatures=signatures) for item in shown]
    latest = msgspec.structs.replace(max([stone, *listed], key=lambda one: one.due), due=until)
    with suppress(Conflict):
        write_tombstone(target, database, latest, signatures)
    first = arrival(shown) if shown else None
    stays = {layout.tombstone_key(database, stone.id, until), *(item.key for item in shown if item.modified == first)}
    # One that is locked as well stays with it: the latest is what counts.
    with suppress(Locked):
        _remove(target, (item for item in found if item.key not in stays), hide_locked=True)
    return until


def _tombstones(target: Target, root: str) -> list[Stored]:
    return [item for item in target.list(root, versions=target.versioned).items if layout.is_tombstone(item.key)]


def _remove(target: Target, items: Iterable[Stored], *, hide_locked: bool) -> set[str]:
    """Version by version. What may not be deleted is hidden by a marker; what is locked, or may be, only if `hide_locked`.

    Which keys were hidden.
    """
    hidden: set[str] = set()
    for item in items:
        try:
            target.delete(item.key, version=item.version)
        except Refused as refusal:
            if item.version is None or (isinstance(refusal, Locked | LockUnseen) and not hide_locked):
                raise
            if item.key not in hidden and not item.marker:
                target.delete(item.key)
                hidden.add(item.key)
    return hidden


def _name(item: Stored) -> str:
    return item.key.rpartition("/")[2]


def _rank(item: Stored) -> tuple[int, str, bool]:
    """Manifest, then data, then the intent that explains it. Of a versioned object the marker goes last: it hides the rest."""
    name = _name(item)
    order = 0 if name == layout.MANIFEST else 2 if name == layout.INTENT else 1
    return order, item.key, item.marker
