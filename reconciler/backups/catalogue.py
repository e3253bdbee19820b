"""One listing and the manifests not seen before → the state of every backup that a target holds."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Literal, TypeVar

import msgspec

from reconciler.backups import layout
from reconciler.backups.changes import read_changes
from reconciler.backups.claim import ClaimRecord, Watch, describe, read_claim
from reconciler.backups.evidence import content_of, read_chain
from reconciler.backups.keeping import NO_FREEZE, read_freeze, read_hold
from reconciler.backups.layout import Held
from reconciler.backups.manifest import Manifest, NewerFormat, check_inside, decode
from reconciler.backups.records import read_repository, read_whole, tombstone_of
from reconciler.backups.signing import check_signature
from reconciler.errors import Absent, Corrupt, ReconcilerError
from reconciler.world.facts import Catalogue, Copy, LifecycleRule, Pin, Repository, State, Tombstone
from reconciler.world.ports import Cache, Pool, Signatures, Stored, Target, custody_of

T = TypeVar("T")

MARKED = 3
"""Backups whose marks are kept: targets differ in which is their newest."""
FEW = 16
"""Objects of a backup whose description is kept: a directory archive has thousands, and those would fill the memory."""
AHEAD = timedelta(minutes=5)
"""Clocks differ a little; an instant later than this is impossible."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One backup's objects, read as far as its state needs."""

    held: Held
    manifest: Manifest | None = None
    text: bytes = b""
    """That the manifest was read from."""
    unreadable: str = ""
    """Why the manifest can't be used."""
    newer: bool = False
    """It can't be used because it is of a later format."""
    distrusted: str = ""
    """Why nobody whom the policy trusts vouches for the manifest."""
    intent: ClaimRecord | None = None
    writer_gone: bool | None = None
    tombstones: tuple[Tombstone, ...] = ()
    torn_tombstone: str = ""
    hold: str = ""


class Reader:
    """Reads catalogues of one database from one target."""

    def __init__(
        self,
        target: Target,
        database: str,
        *,
        pool: Pool,
        cache: Cache,
        watch: Watch,
        signatures: Signatures,
    ) -> None:
        self._target, self._database, self._signatures = target, database, signatures
        self._pool, self._cache, self._watch = pool, cache, watch

    def read(self, now: datetime) -> Catalogue:
        """Raises what the target raises: a catalogue is complete, or it was not returned."""
        listing = self._target.list(layout.root(self._database), versions=self._target.versioned)
        order = layout.put_in_order(self._database, listing.items)
        repository = read_repository(self._target, order.repository.key) if order.repository else None
        freeze = read_freeze(self._target, order.freeze.key) if order.freeze else NO_FREEZE
        seen = self._pool.map(lambda held: self._look(held, now), order.backups)
        copies = [copy for item in seen if (copy := copy_of(item, repository, now))]
        return Catalogue(
            repository=repository,
            copies=_marked(sorted(copies, key=lambda copy: (copy.instant, copy.id), reverse=True)),
            tombstones=tuple(stone for item in seen for stone in item.tombstones),
            store_time=listing.store_time,
            strays=order.strays,
            pins=tuple(pin for pin in map(self._pin, order.pins) if pin is not None),
            frozen=freeze.says(now),
            acknowledged=freeze.acknowledged,
            evidence=read_chain(self._target, order.evidence, self._cache),
            changes=read_changes(self._target, order.changes, self._cache),
            append_only=custody_of(self._target).append_only,
            rules=self._rules(),
        )

    def _rules(self) -> tuple[LifecycleRule, ...]:
        """A store that does not tell takes nothing away from what is known; `doctor` says what it refuses."""
        try:
            return custody_of(self._target).lifecycle()
        except ReconcilerError:
            return ()

    def _look(self, held: Held, now: datetime) -> Seen:
        manifest = held.objects.get(layout.MANIFEST)
        seen = self._with_manifest(held, manifest) if manifest is not None else Seen(held=held)
        if layout.INTENT in held.objects:
            seen = self._with_intent(seen, held.objects[layout.INTENT])
        if layout.HOLD in held.objects:
            seen = msgspec.structs.replace(seen, hold=read_hold(self._target, held.objects[layout.HOLD].key, now))
        return self._with_tombstones(seen)

    def _with_manifest(self, held: Held, stored: Stored) -> Seen:
        try:
            text, manifest = self._remembered(stored, partial(self._decode, backup=held.id))
        except NewerFormat as error:
            return Seen(held=held, unreadable=error.what, newer=True)
        except Corrupt as error:
            return Seen(held=held, unreadable=error.what)
        except Absent:
            # Deleted between listing and reading: the next look tells what became of it.
            return Seen(held=held, unreadable="the manifest went away while we looked")
        return Seen(held=held, manifest=manifest, text=text, distrusted=self._distrust(held, text))

    def _distrust(self, held: Held, manifest: bytes) -> str:
        if not self._signatures.public_keys:
            return ""
        stored = held.objects.get(layout.SIGNATURE)
        try:
            signature = self._remembered(stored, bytes)[0] if stored else None
            check_signature(manifest, signature, self._signatures, "its manifest")
        except (Corrupt, Absent) as error:
            return error.what
        return ""

    def _remembered(self, stored: Stored, read_as: Callable[[bytes], T]) -> tuple[bytes, T]:
        """Manifests, signatures and tombstones never change, so a content once read under an ETag is read no more.

        What the cache spoilt is read afresh.
        """
        name = f"{self._target.place}\n{stored.key}\n{stored.etag}\n{stored.version}"
        text = self._cache.get(name)
        if text is not None:
            with suppress(Corrupt, NewerFormat):
                return text, read_as(text)
        text, read = read_whole(self._target, stored.key)
        value = read_as(text)
        if read.etag == stored.etag:
            self._cache.put(name, text)
        return text, value

    def _decode(self, text: bytes, backup: str) -> Manifest:
        manifest = _checked(text, backup)
        if manifest.database != self._database:
            raise Corrupt(f"the manifest of {backup} says that it is of database {manifest.database}")
        return manifest

    def _with_intent(self, seen: Seen, stored: Stored) -> Seen:
        name = f"{self._target.name}:{stored.key}"
        try:
            record, etag = read_claim(self._target, stored.key)
        except Absent:
            return seen
        return msgspec.structs.replace(seen, intent=record, writer_gone=self._watch.is_gone(name, record, etag))

    def _with_tombstones(self, seen: Seen) -> Seen:
        if not seen.held.tombstones:
            return seen
        stones, torn = [], ""
        for stored in seen.held.tombstones:
            try:
                read_as = partial(tombstone_of, what=f"{self._target.name}: {stored.key}", backup=seen.held.id)
                stones.append(self._remembered(stored, read_as)[1])
            except Corrupt as error:
                torn = error.what
            except Absent:
                continue
        return msgspec.structs.replace(seen, tombstones=tuple(stones), torn_tombstone=torn)

    def _pin(self, stored: Stored) -> Pin | None:
        try:
            record, etag = read_claim(self._target, stored.key)
        except Absent:
            return None
        gone = self._watch.is_gone(f"{self._target.name}:{stored.key}", record, etag)
        says = f"{record.for_what if record else 'read'} by {describe(record)}"
        return Pin(backup=layout.pinned_by(stored.key) or "", key=stored.key, writer=_WRITER[gone], says=says)


@lru_cache(maxsize=1024)
def _checked(text: bytes, backup: str) -> Manifest:
    """The same few are looked at again and again."""
    manifest = decode(text, backup=backup)
    check_inside(manifest)
    return manifest


def _marked(copies: Sequence[Copy]) -> tuple[Copy, ...]:
    """Newest first, with the marks of the newest few alone: those of ten thousand backups would fill the memory."""
    marked = [copy.id for copy in copies if copy.marks is not None and copy.state == "whole"][:MARKED]
    return tuple(
        copy if copy.marks is None or copy.id in marked else msgspec.structs.replace(copy, marks=None) for copy in copies
    )


_WRITER: Mapping[bool | None, Literal["alive", "gone", "undecided"]] = {True: "gone", False: "alive", None: "undecided"}


def copy_of(seen: Seen, repository: Repository | None, now: datetime) -> Copy | None:
    """The table of states. Pure. None where a tombstone is all that is left."""
    state, why = _state(seen, repository, now)
    if state is None:
        return None
    objects = seen.held.objects
    # Most are as they were when they were looked at last.
    if seen.text and not (seen.hold or seen.distrusted) and layout.INTENT not in objects and len(objects) <= FEW:
        return _settled(seen.text, seen.held.id, tuple(objects.values()), seen.tombstones, (state, why))
    return _described(seen, state, why)


@lru_cache(maxsize=1024)
def _settled(
    text: bytes, backup: str, objects: tuple[Stored, ...], tombstones: tuple[Tombstone, ...], is_so: tuple[State, str]
) -> Copy:
    """Of a manifest, of what lies beside it, and of what follows from both. Nothing but these is in it."""
    manifest = _checked(text, backup)
    root = layout.backup_root(manifest.database, backup)
    held = Held(id=backup, objects={stored.key.removeprefix(root): stored for stored in objects})
    return _described(Seen(held=held, manifest=manifest, tombstones=tombstones), *is_so)


def _described(seen: Seen, state: State, why: str) -> Copy:
    manifest, intent = seen.manifest, seen.intent
    slots = [record.slot for record in (manifest, intent, *seen.tombstones) if record is not None and record.slot is not None]
    return Copy(
        id=seen.held.id,
        state=state,
        why=why,
        instant=manifest.instant if manifest else layout.instant_of(seen.held.id),
        kind=manifest.kind if manifest else (intent.kind if intent and intent.kind else "unknown"),
        slot=slots[0] if slots else None,
        stored_bytes=manifest.stored_bytes if manifest else sum(stored.size for stored in seen.held.data.values()),
        raw_bytes=(manifest.archive_raw_bytes or None) if manifest else None,
        started=manifest.started if manifest else None,
        finished=manifest.finished if manifest else None,
        keep_until=manifest.keep_until if manifest else None,
        partial=manifest.filters.partial if manifest else False,
        marks=manifest.fingerprint if manifest else None,
        recipients=manifest.recipients if manifest else (),
        labels=manifest.labels if manifest else {},
        due=max((stone.due for stone in seen.tombstones), default=None),
        repository=manifest.repository if manifest else None,
        identity=manifest.source.identity if manifest else None,
        place=manifest.source.place if manifest else "",
        has_tombstone=bool(seen.held.tombstones),
        writer=_WRITER[seen.writer_gone] if layout.INTENT in seen.held.objects else "none",
        held=seen.hold,
        is_unsigned=why == seen.distrusted != "" and layout.SIGNATURE not in seen.held.objects,
        content=content_of(manifest, seen.held) if manifest else "",
        archived=next((stored.archive for stored in seen.held.data.values() if stored.archive), ""),
    )


def _state(seen: Seen, repository: Repository | None, now: datetime) -> tuple[State | None, str]:
    held = seen.held
    if seen.manifest is not None and repository is not None and seen.manifest.repository != repository.id:
        # Before any tombstone: whoever put that one there, it is not for us to carry out.
        return "foreign", f"it belongs to repository {seen.manifest.repository}"
    if seen.distrusted:
        return "foreign", seen.distrusted
    if held.tombstones:
        return _dying(seen, now)
    if seen.manifest is not None:
        return _with_valid_manifest(seen.manifest, held, now)
    if seen.newer:
        return "foreign", seen.unreadable
    if layout.MANIFEST in held.objects:
        return "damaged", seen.unreadable
    # We hide a tombstone last of all: where data is left to see, somebody else hid these.
    if layout.MANIFEST in held.hidden and (held.data or not any(map(layout.is_tombstone, held.hidden))):
        return "hidden", "a delete marker that no tombstone explains hides its manifest"
    if layout.INTENT in held.objects:
        return _without_manifest(seen)
    if held.data:
        return "orphan", "data without a manifest and without a writer"
    return ("orphan", "only a hold or a signature is left") if held.objects else (None, "")


def _dying(seen: Seen, now: datetime) -> tuple[State | None, str]:
    if len(seen.held.tombstones) == len(seen.held.objects):
        return None, ""
    if seen.torn_tombstone or not seen.tombstones:
        return "deleted", seen.torn_tombstone or "its tombstone went away while we looked"
    due = max(stone.due for stone in seen.tombstones)
    reason = seen.tombstones[-1].reason
    if due > now:
        return "deleted", f"{reason}; can come back until {due:%Y-%m-%d %H:%MZ}"
    return "being_deleted", reason


def _with_valid_manifest(manifest: Manifest, held: Held, now: datetime) -> tuple[State, str]:
    if manifest.instant > now + AHEAD:
        return "impossible", f"its instant {manifest.instant:%Y-%m-%d %H:%MZ} lies in the future"
    for stored in manifest.objects:
        if stored.name in held.hidden and stored.name not in held.data:
            return "hidden", f"a delete marker that no tombstone explains hides {stored.name}"
    for stored in manifest.objects:
        seen = held.data.get(stored.name)
        if seen is None:
            return "damaged", f"{stored.name} is missing"
        if seen.size != stored.stored_bytes:
            return "damaged", f"{stored.name} has {seen.size} bytes instead of {stored.stored_bytes}"
    return "whole", ""


def _without_manifest(seen: Seen) -> tuple[State, str]:
    if seen.writer_gone:
        return "debris", "its writer died before the manifest"
    doubt = ", who may be dead" if seen.writer_gone is None else ""
    return "being_written", f"by {describe(seen.intent)}{doubt}"
