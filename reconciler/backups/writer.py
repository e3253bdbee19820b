"""Writing a backup under its intent: data first, manifest last, and nothing left behind by a failure that we live to see."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Literal

import msgspec

from reconciler import __version__
from reconciler.backups import layout
from reconciler.backups.claim import Claim, ClaimRecord, beating, read_claim
from reconciler.backups.directory import Room, packing_of_each, store_folder
from reconciler.backups.erase import abort_unfinished, erase, erase_object
from reconciler.backups.manifest import (
    FORMAT,
    LARGEST,
    Compression,
    Content,
    Kind,
    Manifest,
    PolicyRecord,
    SourceRecord,
    StoredObject,
    Tools,
    encode,
    restore_by_hand,
)
from reconciler.backups.pipeline import Packing, Progress, Tally, heed, pack, read_checked
from reconciler.backups.records import read_repository
from reconciler.backups.register import register
from reconciler.backups.signing import Signed, sign
from reconciler.backups.toc import TOC
from reconciler.errors import Absent, Conflict, ReconcilerError, Refused
from reconciler.policy.secret import Revealed
from reconciler.world.facts import WHOLE, DumpFacts, Filters, Repository
from reconciler.world.fingerprint import Fingerprint, summarize
from reconciler.world.ports import ABSENT, CopyWithin, Dump, Hashed, Target, World, copy_within, custody_of


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a new backup."""

    database: str
    id: str
    repository: str
    kind: Kind
    slot: datetime | None
    place: str
    packing: Packing
    signing_key: Revealed | None = None
    policy: PolicyRecord
    filters: Filters = WHOLE
    labels: Mapping[str, str] = {}
    keep_until: datetime | None = None
    room: Room | None = None
    """Of a directory archive; None: it is one stream."""


def ensure_repository(target: Target, database: str, wanted: Repository) -> None:
    """Put repository.json there where nothing is. Raises Conflict where another's is, or one of another source."""
    key = layout.repository_key(database)
    try:
        # It is there all but the first time, and a look costs less than a write that is refused.
        found = read_repository(target, key)
    except Absent:
        found = _begin(target, key, wanted)
    if found.id != wanted.id:
        raise Conflict(f"{target.name}: {key} is of repository {found.id}, not {wanted.id}")
    if found.identity != wanted.identity:
        raise Conflict(
            f"{target.name}: {key} is of {found.identity}, not of {wanted.identity}", cure="plan again: it says what to do"
        )
    register(target, database, wanted.id)


def _begin(target: Target, key: str, wanted: Repository) -> Repository:
    """The one that is there then: ours, or that of whoever was first."""
    try:
        target.write(key, [encode(wanted)], expect=ABSENT)
    except Conflict:
        return read_repository(target, key)
    return wanted


class _Lost(Conflict):
    """It is our intent that no longer covers us, and no object that is there already."""


class Draft:
    """A backup being written on one target."""

    def __init__(self, world: World, target: Target, database: str, backup: str, claim: Claim) -> None:
        self._world, self.target, self._database, self.id, self._claim = world, target, database, backup, claim
        self.sealing = False
        self._alone = False
        self._written: list[str] = []
        retain = custody_of(target).retain
        # One instant for all of it: else the manifest would be kept after the data that it speaks of.
        self._keep_until = claim.record.since + retain if retain else None

    def begin(self) -> None:
        """Put the intent down. Raises Conflict where something lies under this id already: a backup, or another's work.

        What people laid there is theirs, and no part of any backup.
        """
        self._claim.write(ABSENT)
        root = layout.backup_root(self._database, self.id)
        # Read, not listed: a store may list what is there a little later than it would give it.
        with suppress(Absent), self.target.read(root + layout.MANIFEST):
            raise self._met(root + layout.MANIFEST)
        there = (item.key for item in self.target.list(root).items if layout.is_of_backup(item.key.removeprefix(root)))
        others = [key for key in there if key != self._claim.key]
        if others:
            raise self._met(others[0])
        self._alone = True

    def _met(self, key: str) -> Conflict:
        return Conflict(f"{self.target.name}: {key} is there already, so nothing is written beside it")

    def sweep_unfinished(self) -> None:
        """What is on its way there is of a writer that lost its intent before ours was there. Failing costs room, no more."""
        with suppress(ReconcilerError):
            abort_unfinished(self.target, self._database, self.id)

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """One object of it, whole or not at all."""
        self._still_ours()
        ours = self._while_ours(heed(self._world.stop, chunks))
        self._write(name, ours)

    def _write(self, name: str, chunks: Iterable[bytes]) -> None:
        with self._where_nothing_is():
            self.target.write(self._key(name), chunks, expect=ABSENT, keep_until=self._keep_until)
        self._written.append(name)

    def copy(self, origin: Target, stored: StoredObject, *, moved: Progress) -> bool:
        """The object from another target, inside one store that proves each part's hash; False where that can't be."""
        self._still_ours()
        parts = [Hashed(size=part.size, sha256=part.sha256) for part in stored.parts]
        wanted = CopyWithin(
            key=self._key(stored.name), parts=parts, about_to=self._still_ours, moved=moved, keep_until=self._keep_until
        )
        with self._where_nothing_is():
            done = copy_within(self.target, origin, wanted)
        self._written += [stored.name] if done else []
        return done

    @contextmanager
    def _where_nothing_is(self) -> Iterator[None]:
        try:
            yield
        except _Lost:
            raise
        except Conflict:
            # While we hold the intent, only what no listing showed can be there: an orphan, which is not ours to remove.
            self._alone = False
            raise

    def _while_ours(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The object comes to be at the end of the stream: by then somebody may have taken us for dead, and swept."""
        yield from chunks
        self._still_ours()

    def _still_ours(self) -> None:
        # A machine that was suspended may wait for its next heartbeat, and hold the intent all the same.
        self._claim.refresh()
        try:
            self._claim.check()
        except Conflict as error:
            raise _Lost(error.what, cure=error.cure) from error

    def seal(self, manifest: bytes, signature: bytes | None = None, hold: bytes | None = None) -> None:
        """From here on it is a backup. Raises Conflict when our intent was taken away: then somebody took us for dead.

        Signature and hold come first: nobody ever sees a manifest that still waits for them.
        """
        if len(manifest) > LARGEST:
            raise Refused(f"the manifest of {self.id} would be larger than any that is read back", cure="dump less at a time")
        self._claim.renew()
        self._claim.check()
        if signature is not None:
            self._write(layout.SIGNATURE, [signature])
            self._claim.check()
        if hold is not None:
            # Where people laid one meanwhile, theirs is as good, or made as good by the next turn.
            with suppress(Conflict):
                self.target.write(self._key(layout.HOLD), [hold], expect=ABSENT)
            self._claim.check()
        self.sealing = True
        self.target.write(self._key(layout.MANIFEST), [manifest], expect=ABSENT, keep_until=self._keep_until)

    def withdraw(self) -> None:
        """Remove what was written, as far as it is ours: what another wrote, or took over from us, is not touched."""
        record, _ = read_claim(self.target, self._claim.key)
        if record is None or record.owner != self._claim.record.owner:
            return
        if self._alone:
            erase(self.target, self._database, self.id, now=self._world.clock.now())
            return
        for name in (*self._written, layout.INTENT):
            erase_object(self.target, self._key(name))

    def _key(self, name: str) -> str:
        return layout.object_key(self._database, self.id, name)


@contextmanager
def drafting(
    world: World, target: Target, database: str, backup: str, *, kind: str, slot: datetime | None, repository: str
) -> Iterator[Draft]:
    """Puts the intent down, keeps it alive, and removes it after the manifest; after a failure, removes what was written."""
    owner = world.process.begin()
    record = ClaimRecord(
        owner=owner,
        counter=0,
        since=world.clock.now(),
        for_what=f"{kind} backup {backup}",
        slot=slot,
        kind=kind,
        repository=repository,
    )
    key = layout.object_key(database, backup, layout.INTENT)
    claim = Claim(target, key, record, world.clock)
    draft = Draft(world, target, database, backup, claim)
    try:
        draft.begin()
        with beating(claim, heart=world.heart):
            yield draft
        # It is a backup now; an intent that stays is removed by a later turn.
        _let_go(claim, lambda: erase_object(target, key))
    except BaseException:
        # Once the manifest may be there, only a fresh look may say what this is.
        if not draft.sealing:
            _let_go(claim, draft.withdraw)
        raise
    finally:
        world.process.end(owner)


def _let_go(claim: Claim, remove: Callable[[], None]) -> None:
    """Where nothing may be removed, the intent is given back: nobody then has to watch whether its writer lives."""
    try:
        remove()
    except Refused:
        claim.give_back()
    except ReconcilerError:
        return


def write_dump(draft: Draft, dump: Dump, order: Order, world: World, *, moved: Progress) -> Manifest:
    """Roles, archive, fingerprint, manifest, in this order. Raises what source and target raise; then there is no such backup."""
    globals_ = msgspec.structs.replace(dump.globals, filters=order.filters)
    roles = put_packed(draft, layout.GLOBALS, "globals", [encode(globals_)], packing=order.packing)
    archive = _put_archive(draft, dump, order, world, moved)
    lsn_after = dump.lsn_after()
    marks = dump.fingerprint()
    objects = (*archive, roles) if marks is None else (*archive, roles, _put_marks(draft, marks, order.packing))
    manifest = _manifest(order, dump.facts, objects, lsn_after, world.clock.now())
    if marks is not None:
        # An encrypted backup does not tell its tables' names beside itself.
        salt = order.repository if order.packing.recipients else None
        manifest = msgspec.structs.replace(manifest, fingerprint=summarize(marks, salt=salt))
    text = encode(manifest)
    draft.seal(text, sign(text, order.signing_key) if order.signing_key else None)
    return manifest


def _put_archive(draft: Draft, dump: Dump, order: Order, world: World, moved: Progress) -> tuple[StoredObject, ...]:
    """One stream, or a file a table."""
    if order.room is None:
        return (put_packed(draft, layout.DUMP, "dump", dump.chunks(), packing=order.packing, moved=moved),)
    packing = packing_of_each(order.packing, order.room.streams)

    def put(name: str, chunks: Iterable[bytes], moved: Progress) -> StoredObject:
        content: Content = "toc" if name == TOC else "data"
        return put_packed(draft, f"{layout.FOLDER}{name}{layout.ZSTD}", content, chunks, packing=packing, moved=moved)

    return store_folder(dump, order.room, world.staging, put, moved)


def _put_marks(draft: Draft, marks: Fingerprint, packing: Packing) -> StoredObject:
    return put_packed(draft, layout.FINGERPRINT, "fingerprint", [msgspec.json.encode(marks)], packing=packing)


def put_packed(
    draft: Draft, plain: str, content: Content, chunks: Iterable[bytes], *, packing: Packing, moved: Progress = lambda _: None
) -> StoredObject:
    """One object of it: compressed, encrypted where that is asked, tallied, stored. `plain`: its name but for the encryption."""
    tally, name = Tally(), packing.name(plain)
    draft.put(name, pack(chunks, tally, packing, moved))
    return tally.result(name, content)


def _manifest(
    order: Order, facts: DumpFacts, objects: tuple[StoredObject, ...], lsn_after: str | None, finished: datetime
) -> Manifest:
    archive: Literal["custom", "directory"] = "custom" if order.room is None else "directory"
    return Manifest(
        format=FORMAT,
        id=order.id,
        repository=order.repository,
        database=order.database,
        kind=order.kind,
        slot=order.slot,
        instant=facts.instant,
        started=layout.instant_of(order.id),
        finished=finished,
        lsn_before=facts.lsn_before,
        lsn_after=lsn_after,
        source=SourceRecord(
            identity=facts.source.identity,
            place=order.place,
            server_version=facts.source.server_version,
            standby=facts.source.standby,
            encoding=facts.encoding,
            collate=facts.collate,
            ctype=facts.ctype,
            locale_provider=facts.locale_provider,
            locale=facts.locale,
            extensions=facts.extensions,
        ),
        tools=Tools(reconciler=__version__, pg_dump=facts.client_version),
        policy=order.policy,
        objects=objects,
        stored_bytes=sum(stored.stored_bytes for stored in objects),
        compression=Compression(algorithm="zstd", level=order.packing.level),
        archive=archive,
        restore_by_hand=restore_by_hand(encrypted=bool(order.packing.recipients), archive=archive, hosted=facts.hosted),
        labels=order.labels,
        keep_until=order.keep_until,
        recipients=order.packing.recipients,
        filters=order.filters,
        hosted=facts.hosted,
    )


def copy_backup(draft: Draft, origin: Target, original: Signed, *, hold: bytes | None = None, moved: Progress) -> None:
    """Every object checked part by part on its way; signature, hold and manifest byte for byte, last.

    Raises Corrupt for a bad one.
    """
    done, manifest = 0, original.manifest
    for stored in manifest.objects:
        told: Progress = partial(_moved_beyond, done, moved)
        if not draft.copy(origin, stored, moved=told):
            draft.put(stored.name, read_checked(origin, manifest, stored, moved=told))
        done += stored.stored_bytes
    draft.seal(original.text, original.signature, hold)


def _moved_beyond(before: int, moved: Progress, count: int) -> None:
    moved(before + count)
