"""One listing and the manifests not seen before → the state of every backup that a target holds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import islice
from operator import attrgetter
from typing import Literal, TypeVar

import msgspec

from reconciler.backups import layout
from reconciler.backups.changes import read_changes
from reconciler.backups.claim import ClaimRecord, Watch, describe, read_claim
from reconciler.backups.evidence import content_of, read_chain
from reconciler.backups.gists import Gist, Gists, gist_of
from reconciler.backups.keeping import NO_FREEZE, NO_HOLD, Hold, hold_at, read_freeze
from reconciler.backups.layout import Held
from reconciler.backups.manifest import LATEST, Manifest, NewerFormat, check_inside, decode
from reconciler.backups.records import read_repository, read_whole
from reconciler.backups.signing import check_signature
from reconciler.backups.tombstones import LATE, arrival, as_met, refuse_denial, tombstone_of
from reconciler.errors import Absent, Corrupt, ReconcilerError
from reconciler.world.facts import Catalogue, Copy, LifecycleRule, Pin, Repository, State, Tombstone
from reconciler.world.fingerprint import Summary
from reconciler.world.ports import Cache, Pool, Signatures, Stored, Target, custody_of

T = TypeVar("T")

MARKED = 3
"""Backups whose marks are kept: targets differ in which is their newest."""
AHEAD = timedelta(minutes=5)
"""Clocks differ a little; an instant later than this is impossible."""


class Seen(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One backup's objects, read as far as its state needs."""

    held: Held
    gist: Gist | None = None
    """Of its manifest."""
    unreadable: str = ""
    """Why the manifest can't be used."""
    newer: bool = False
    """It can't be used because it is of a later format."""
    distrusted: str = ""
    """Why nobody whom the policy trusts vouches for the manifest."""
    intent: ClaimRecord | None = None
    writer_gone: bool | None = None
    tombstones: tuple[Tombstone, ...] = ()
    """Those that can be believed."""
    torn_tombstone: str = ""
    """Why one can't be."""
    anew: datetime | None = None
    """When they came, where a grace counts from then."""
    hold: Hold = NO_HOLD
    as_listed: bool = True
    """All that was read was what the listing shows."""

    @property
    def is_hidden(self) -> bool:
        """Whether nothing that a tombstone buried is in sight, and somebody else hid it: sooner than it was due, or
        by the word of one that can't be believed."""
        since = self.held.hidden_since
        due = min((stone.due for stone in self.tombstones), default=LATEST)
        return not self.held.data and since is not None and due > since + LATE

    @property
    def lasts(self) -> bool:
        """Whether the next look finds the same, as long as the listing does: read once, sound, and nothing that is renewed."""
        wrong = self.unreadable or self.distrusted or self.torn_tombstone or len(self.tombstones) < len(self.held.tombstones)
        return self.as_listed and not wrong and layout.INTENT not in self.held.objects and layout.HOLD not in self.held.objects


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
        memory = _memory(self._target.place, self._database, self._cache, self._signatures)
        # Whose all this is must not be as old as a listing may be.
        repository = read_repository(self._target, order.repository.key) if order.repository else None
        freeze = read_freeze(self._target, order.freeze.key) if order.freeze else NO_FREEZE
        seen = self._look_at_all(order.backups, memory)
        copies = _copies(seen.values(), repository, now, memory)
        return Catalogue(
            repository=repository,
            copies=self._marked(sorted(copies, key=attrgetter("instant", "id"), reverse=True), seen),
            tombstones=tuple(stone for held in order.backups for stone in seen[held.id].tombstones),
            came={
                held.id: arrival(held.tombstones)
                for held in order.backups
                if held.tombstones and not self._signatures.public_keys
            },
            doubted=tuple(
                held.id
                for held in order.backups
                if held.is_trace and seen[held.id].torn_tombstone and not seen[held.id].tombstones and not seen[held.id].is_hidden
            ),
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

    def _look_at_all(self, backups: Sequence[Held], memory: "_Memory") -> Mapping[str, Seen]:
        """By id. Nothing is read of those of which the listing and the memory, or the cache, tell all."""
        last = memory.seen
        lasting = {held: last[held] for held in backups if held in last}
        seen = {held.id: one for held, one in lasting.items()}
        if len(seen) < len(backups):
            gists = Gists(self._cache, f"{self._target.place}\n{self._database}", backups)
            left = [held for held in backups if held.id not in seen]
            new = [one for held in left if (one := self._at_hand(held, gists))]
            at_hand = {one.held.id for one in new}
            others = [held for held in left if held.id not in at_hand]
            new += self._pool.map(lambda held: self._look_closely(held, gists), others)
            gists.keep()
            seen |= {one.held.id: one for one in new}
            lasting |= {one.held: one for one in new if one.lasts}
        memory.seen = lasting if len(lasting) <= layout.SEEN else {}
        return seen

    def _known(self, held: Held, gists: Gists) -> Gist | None:
        """A gist has no signature: where keys are pinned, each manifest is checked anew."""
        manifest = held.objects.get(layout.MANIFEST)
        return None if manifest is None or self._signatures.public_keys else gists.get(held.id, manifest)

    def _at_hand(self, held: Held, gists: Gists) -> Seen | None:
        gist = self._known(held, gists) if held.is_settled else None
        return Seen(held=held, gist=gist) if gist else None

    def _look_closely(self, held: Held, gists: Gists) -> Seen:
        known = self._known(held, gists)
        seen = Seen(held=held, gist=known) if known else self._with_manifest(held, gists)
        if layout.INTENT in held.objects:
            seen = self._with_intent(seen, held.objects[layout.INTENT])
        if layout.HOLD in held.objects:
            seen = msgspec.structs.replace(seen, hold=hold_at(self._target, held.objects[layout.HOLD].key))
        return self._with_tombstones(seen)

    def _with_manifest(self, held: Held, gists: Gists) -> Seen:
        stored = held.objects.get(layout.MANIFEST)
        if stored is None:
            return Seen(held=held)
        try:
            manifest, text, as_listed = self._remembered(stored, partial(self._decode, backup=held.id))
        except NewerFormat as error:
            return Seen(held=held, unreadable=error.what, newer=True)
        except Corrupt as error:
            return Seen(held=held, unreadable=error.what)
        except Absent:
            # Deleted between listing and reading: the next look tells what became of it.
            return Seen(held=held, unreadable="the manifest went away while we looked")
        gist = gist_of(manifest, stored)
        if as_listed and not self._signatures.public_keys:
            gists.put(gist)
        seen = Seen(held=held, gist=gist, as_listed=as_listed)
        return self._with_signature(seen, text) if self._signatures.public_keys else seen

    def _with_signature(self, seen: Seen, manifest: bytes) -> Seen:
        stored = seen.held.objects.get(layout.SIGNATURE)
        try:
            _, signature, as_listed = self._remembered(stored, bytes) if stored else (b"", None, True)
            check_signature(manifest, signature, self._signatures, "its manifest")
        except (Corrupt, Absent) as error:
            return msgspec.structs.replace(seen, distrusted=error.what)
        return msgspec.structs.replace(seen, as_listed=seen.as_listed and as_listed)

    def _remembered(self, stored: Stored, read_as: Callable[[bytes], T]) -> tuple[T, bytes, bool]:
        """What it says, its bytes, and whether they are those that were listed.

        Manifests, signatures and tombstones never change, so a content once read under an ETag is read no more. What the cache
        spoilt is read afresh.
        """
        name = f"{self._target.place}\n{stored.key}\n{stored.etag}\n{stored.version}"
        text = self._cache.get(name)
        if text is not None:
            try:
                return read_as(text), text, True
            except (Corrupt, NewerFormat):
                text = None
        text, read = read_whole(self._target, stored.key)
        value = read_as(text)
        as_listed = read.etag == stored.etag
        if as_listed:
            self._cache.put(name, text)
        return value, text, as_listed

    def _decode(self, text: bytes, backup: str) -> Manifest:
        manifest = decode(text, backup=backup)
        check_inside(manifest)
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
        stones, torn, arrived, anew, lasts = [], "", arrival(seen.held.tombstones), None, seen.as_listed
        for stored in seen.held.tombstones:
            try:
                what = f"{self._target.name}: {stored.key}"
                read_as = partial(tombstone_of, what=what, backup=seen.held.id, signatures=self._signatures)
                stone, _, as_listed = self._remembered(stored, read_as)
                refuse_denial(stone, what, has_manifest=seen.held.has_manifest)
                stones.append(as_met(stone, arrived, self._signatures))
                anew = anew if stones[-1] is stone else arrived
                lasts = lasts and as_listed
            except Corrupt as error:
                torn = error.what
            except Absent:
                continue
        return msgspec.structs.replace(seen, tombstones=tuple(stones), torn_tombstone=torn, anew=anew, as_listed=lasts)

    def _marked(self, copies: Sequence[Copy], seen: Mapping[str, Seen]) -> tuple[Copy, ...]:
        """With the marks of the newest few alone: those of ten thousand backups would fill the memory."""
        # Partial ones are compared with nothing, and must not take the places of those that are.
        whole = (copy for copy in copies if copy.state == "whole" and not copy.partial)
        with_marks = (copy for copy in whole if (gist := seen[copy.id].gist) and gist.has_marks)
        marks = {copy.id: self._marks(seen[copy.id].held) for copy in islice(with_marks, MARKED)}
        return tuple(msgspec.structs.replace(copy, marks=marks[copy.id]) if copy.id in marks else copy for copy in copies)

    def _marks(self, held: Held) -> Summary | None:
        try:
            return self._remembered(held.objects[layout.MANIFEST], partial(self._decode, backup=held.id))[0].fingerprint
        except (Absent, Corrupt, NewerFormat):
            return None  # it was sound a moment ago: the next look tells what became of it

    def _pin(self, stored: Stored) -> Pin | None:
        try:
            record, etag = read_claim(self._target, stored.key)
        except Absent:
            return None
        gone = self._watch.is_gone(f"{self._target.name}:{stored.key}", record, etag)
        says = f"{record.for_what if record else 'read'} by {describe(record)}"
        return Pin(backup=layout.pinned_by(stored.key) or "", key=stored.key, writer=_WRITER[gone], says=says)


class _Memory:
    """What the last look found on a target: what lies there unchanged is neither read again nor judged anew."""

    def __init__(self) -> None:
        self.seen: Mapping[Held, Seen] = {}
        self.copies: Mapping[Seen, tuple[str | None, Copy]] = {}
        """Whole and deleted ones, each with the id of the repository that it was compared with."""


@lru_cache(maxsize=32)
def _memory(place: str, database: str, cache: Cache, signatures: Signatures) -> _Memory:
    """Of whoever trusts these keys, and reads by way of that cache."""
    return _Memory()


def _copies(seen: Iterable[Seen], repository: Repository | None, now: datetime, memory: _Memory) -> list[Copy]:
    """All but what a tombstone alone is left of. While all else is the same, time alone changes no more than `_stays` says."""
    whose, last = repository.id if repository else None, memory.copies
    found: list[Copy] = []
    lasting: dict[Seen, tuple[str | None, Copy]] = {}
    for one in seen:
        known = last.get(one)
        if known is not None and known[0] == whose and _stays(known[1], now):
            found.append(known[1])
            lasting[one] = known
        elif not one.held.is_trace or one.is_hidden:
            copy = copy_of(one, repository, now)
            found += [copy] if copy is not None else []
            if copy is not None and copy.state in ("whole", "deleted") and one.lasts:
                lasting[one] = whose, copy
    memory.copies = lasting if len(lasting) <= layout.SEEN else {}
    return found


def _stays(copy: Copy, now: datetime) -> bool:
    """A whole one, unless our clock was set back to long before it; a deleted one until its grace is over."""
    if copy.state == "whole":
        return copy.instant <= now + AHEAD
    return copy.due is not None and now < copy.due


_WRITER: Mapping[bool | None, Literal["alive", "gone", "undecided"]] = {True: "gone", False: "alive", None: "undecided"}


def copy_of(seen: Seen, repository: Repository | None, now: datetime) -> Copy | None:
    """The table of states. Pure. None where a tombstone is all that is left."""
    state, why = _state(seen, repository, now)
    if state is None:
        return None
    return _copy(seen, state, why, seen.hold.says(now))


@lru_cache(maxsize=layout.SEEN)
def _copy(seen: Seen, state: State, why: str, held: str) -> Copy:
    objects, gist, intent = seen.held.objects, seen.gist, seen.intent
    # What nobody vouches for tells nothing of a backup of ours.
    told = gist.copy if gist and not (seen.distrusted and state == "hidden") else _without_gist(seen)
    slots = [record.slot for record in (told, intent, *seen.tombstones) if record is not None and record.slot is not None]
    return msgspec.structs.replace(
        told,
        state=state,
        why=why,
        slot=slots[0] if slots else None,
        due=None if seen.torn_tombstone else max((stone.due for stone in seen.tombstones), default=None),
        anew=seen.anew,
        has_tombstone=bool(seen.held.tombstones),
        writer=_WRITER[seen.writer_gone] if layout.INTENT in objects else "none",
        held=held,
        held_until=seen.hold.until if held else None,
        held_unasked=bool(held) and seen.hold.unasked,
        held_refused=seen.hold.refused if held else None,
        is_unsigned=why == seen.distrusted != "" and layout.SIGNATURE not in objects,
        content=content_of(gist.objects, seen.held) if gist else "",
        archived=next((stored.archive for stored in seen.held.data.values() if stored.archive), ""),
    )


def _without_gist(seen: Seen) -> Copy:
    """What there is to tell of one whose manifest can't be used."""
    return Copy(
        id=seen.held.id,
        state="orphan",
        instant=layout.instant_of(seen.held.id),
        kind=seen.intent.kind if seen.intent and seen.intent.kind else "unknown",
        stored_bytes=sum(stored.size for stored in seen.held.data.values()),
    )


def _state(seen: Seen, repository: Repository | None, now: datetime) -> tuple[State | None, str]:
    held = seen.held
    if seen.gist is not None and repository is not None and seen.gist.copy.repository != repository.id:
        # Before any tombstone: whoever put that one there, it is not for us to carry out.
        return "foreign", f"it belongs to repository {seen.gist.copy.repository}"
    if seen.distrusted:
        return ("hidden", _hides(layout.SIGNATURE)) if layout.SIGNATURE in held.hidden else ("foreign", seen.distrusted)
    if held.tombstones:
        return _dying(seen, now)
    if seen.gist is not None:
        return _with_valid_manifest(seen.gist, held, now)
    if seen.newer:
        return "foreign", seen.unreadable
    if layout.MANIFEST in held.objects:
        return "damaged", seen.unreadable
    if held.is_hidden:
        return "hidden", _hides("its manifest")
    if layout.INTENT in held.objects:
        return _without_manifest(seen)
    if held.data:
        return "orphan", "data without a manifest and without a writer"
    return ("orphan", "only a hold or a signature is left") if held.objects else (None, "")


def _dying(seen: Seen, now: datetime) -> tuple[State | None, str]:
    if seen.is_hidden:
        return "hidden", _hides("its manifest")
    if seen.held.is_trace:
        return None, ""
    if seen.torn_tombstone or not seen.tombstones:
        return "deleted", seen.torn_tombstone or "its tombstone went away while we looked"
    due = max(stone.due for stone in seen.tombstones)
    reason = seen.tombstones[-1].reason
    if due > now:
        since = f" (its tombstone came anew {seen.anew:%Y-%m-%d %H:%MZ})" if seen.anew else ""
        return "deleted", f"{reason}; can come back until {due:%Y-%m-%d %H:%MZ}{since}"
    return "being_deleted", reason


def _hides(what: str) -> str:
    return f"a delete marker that no tombstone explains hides {what}"


def _with_valid_manifest(gist: Gist, held: Held, now: datetime) -> tuple[State, str]:
    if gist.copy.instant > now + AHEAD:
        return "impossible", f"its instant {gist.copy.instant:%Y-%m-%d %H:%MZ} lies in the future"
    return _as_listed(gist, held)


@lru_cache(maxsize=layout.SEEN)
def _as_listed(gist: Gist, held: Held) -> tuple[State, str]:
    """By what the manifest says and what the listing shows, whatever the time is."""
    for name in held.hidden:
        if name in gist.objects and name not in held.data:
            return "hidden", _hides(name)
    for name, stored_bytes in gist.objects.items():
        seen = held.data.get(name)
        if seen is None:
            return "damaged", f"{name} is missing"
        if seen.size != stored_bytes:
            return "damaged", f"{name} has {seen.size} bytes instead of {stored_bytes}"
    return "whole", ""


def _without_manifest(seen: Seen) -> tuple[State, str]:
    if seen.writer_gone:
        return "debris", "its writer died before the manifest"
    doubt = ", who may be dead" if seen.writer_gone is None else ""
    return "being_written", f"by {describe(seen.intent)}{doubt}"
