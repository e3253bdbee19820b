"""tombstone-INSTANT.json: a deletion that was decided, and whether to believe it.

Whoever may write to a store can put one there, with any date in it. Where keys are pinned, one of them must have signed it, and
its grace is counted from when the store got it, where that was much later: else one that was taken back could be put back.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.manifest import decode_again, encode
from reconciler.backups.records import read_whole
from reconciler.backups.signing import Signature, check, signature_of, signing_key
from reconciler.errors import Corrupt
from reconciler.policy.secret import Revealed
from reconciler.world.facts import Tombstone
from reconciler.world.ports import ABSENT, Signatures, Stored, Target

LATE = timedelta(minutes=10)
"""A write that meets trouble is tried again for minutes, and clocks differ by one; what came later was not written then."""

LEAST = timedelta(days=1)
"""Of one that came so late, whatever grace it was given: one of a deletion without any condemns as often as it is put back."""


class Signed(Tombstone, frozen=True, kw_only=True):
    """As it lies there. The signature is over the record without it, encoded by us."""

    signature: Signature | None = None


def write_tombstone(target: Target, database: str, stone: Tombstone, signatures: Signatures) -> None:
    """If there is none of that due. Raises Conflict; Refused where keys are pinned and none is here to sign with."""
    key = signing_key(signatures)
    target.write(
        layout.tombstone_key(database, stone.id, stone.due), [encode(_signed(stone, key) if key else stone)], expect=ABSENT
    )


def _signed(stone: Tombstone, key: Revealed) -> Signed:
    record = msgspec.convert(stone, Signed, from_attributes=True)
    return msgspec.structs.replace(record, signature=signature_of(encode(stone), key))


def read_tombstone(target: Target, key: str, *, backup: str, signatures: Signatures) -> Tombstone:
    """Raises Absent; Corrupt for one that is torn, that speaks of another backup, or that nobody vouches for."""
    return tombstone_of(read_whole(target, key)[0], f"{target.name}: {key}", backup=backup, signatures=signatures)


def tombstone_of(text: bytes, what: str, *, backup: str, signatures: Signatures) -> Tombstone:
    """The same, of what was read already."""
    stone = decode_again(text, Tombstone, what)
    if stone.id != backup:
        raise Corrupt(f"{what} speaks of {stone.id}")
    if signatures.public_keys:
        check(encode(stone), decode_again(text, Signed, what).signature, signatures, what)
    return stone


def refuse_denial(stone: Tombstone, what: str, *, has_manifest: bool) -> None:
    """One that buries mere debris may not touch a backup: no rule looks at what never was one. Raises Corrupt.

    `has_manifest`: whether one lies there, or did, behind a delete marker.
    """
    if has_manifest and not stone.counts:
        raise Corrupt(f"{what} says that there never was a backup, and its manifest lies there")


def arrival(items: Iterable[Stored]) -> datetime:
    """When the first of these tombstones came, by the store's own clock."""
    return min([item.modified for item in items])


def as_met(stone: Tombstone, arrived: datetime, signatures: Signatures) -> Tombstone:
    """One that is signed, with its grace counted from then. (Without a signature, whoever puts it there writes any grace.)"""
    if not signatures.public_keys or arrived - stone.at <= LATE:
        return stone
    grace = stone.due - stone.at
    # What it buries may be a backup that was brought back since: somebody must have the time to see that.
    return msgspec.structs.replace(stone, due=max(stone.due, arrived + (max(grace, LEAST) if stone.counts else grace)))
