"""Taking over what lies there: a repository for another source, or an orphan as a backup. Only ever by name."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

from reconciler import __version__
from reconciler.backups import layout
from reconciler.backups.archive import CUSTOM, HEAD_BYTES, TAR, ArchiveHead, read_head
from reconciler.backups.directory import with_tables
from reconciler.backups.encryption import decrypt
from reconciler.backups.fetch import Files, read_fingerprint, read_globals, read_signed
from reconciler.backups.manifest import (
    FORMAT,
    Compression,
    Content,
    Manifest,
    PolicyRecord,
    SourceRecord,
    StoredObject,
    Tools,
    encode,
    restore_by_hand,
)
from reconciler.backups.pipeline import Tally, decompress, read_checked
from reconciler.backups.records import read_repository, read_whole
from reconciler.backups.signing import sign, signing_key
from reconciler.backups.toc import TOC, read_toc
from reconciler.errors import Absent, Corrupt, Refused
from reconciler.planning.identity import elsewhere
from reconciler.planning.plan import Action, Shown, Step
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Identity, Known, Observation, Repository
from reconciler.world.fingerprint import summarize
from reconciler.world.ports import ABSENT, Identities, Target, World, custody_of


class AdoptRepository(Action, frozen=True, kw_only=True, tag="adopt_repository"):
    """From now on the catalogue belongs to this source: after a pg_upgrade, a move, a restore under another name."""

    effect = "change"

    identity: Identity
    places: tuple[str, ...]
    """Where it is, and where it was as far as backups of it tell."""
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Rewrites repository.json on each target, over just what was read."""
        for name in self.targets:
            rebind(world.targets[name], self.database, identity=self.identity, places=self.places)
        return f"the backups under {self.database}/ on {', '.join(self.targets)} belong to {self.identity} from now on"


class ForgetTarget(Action, frozen=True, kw_only=True, tag="forget_target"):
    """No longer report a target that left the policy. Nothing on it is touched."""

    effect = "change"

    forgotten: str
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Rewrites repository.json on the targets that are still in the policy."""
        for name in self.targets:
            rebind(world.targets[name], self.database, without=self.forgotten)
        return f"{self.forgotten} is no longer reported for {self.database}; what lies there is untouched"


def rebind(
    target: Target, database: str, *, identity: Identity | None = None, places: Sequence[str] = (), without: str = ""
) -> None:
    """Change what repository.json says, if nobody else did meanwhile. Raises Conflict."""
    key = layout.repository_key(database)
    _, stored = read_whole(target, key)
    found = read_repository(target, key)
    changed = msgspec.structs.replace(
        found,
        identity=identity or found.identity,
        places=tuple(dict.fromkeys((*found.places, *places))),
        targets={name: place for name, place in found.targets.items() if name != without},
    )
    target.write(key, [encode(changed)], expect=stored.etag)


class AdoptBackup(Action, frozen=True, kw_only=True, tag="adopt_backup"):
    """Make a backup of data that lost its manifest, after reading every byte of it."""

    effect = "create"

    backup: str
    target: str
    original: str | None = None
    """A target with a whole copy of it, whose manifest knows more than the data tells."""

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """By the manifest of another copy where there is one. Else of kind imported: retention does not touch it, and what only
        the manifest knew is left empty."""
        target = world.targets[self.target]
        if self.original is not None:
            return self._as_before(world, target, world.targets[self.original])
        key = signing_key(world.signatures)
        repository = read_repository(target, layout.repository_key(self.database))
        head: list[ArchiveHead] = []
        orphan = Orphan(target=target, database=self.database, id=self.backup, identities=world.identities)
        archive = _archive_of(orphan, head)
        objects = (*archive, _measured(orphan, layout.GLOBALS, "globals", head=None), *_marks_of(orphan))
        manifest = _imported(
            self.database, self.backup, repository, head=head[0], objects=objects, policy_digest=world.policy_digest
        )
        if manifest.archive == "directory":
            manifest = _complete(target, manifest, world.identities)
        manifest = _explained(target, manifest, world.identities)
        retain, text = custody_of(target).retain, encode(manifest)
        keep_until = world.clock.now() + retain if retain else None
        if key is not None:
            # One of the manifest that was lost may lie there still: it vouches for nothing any more.
            name = layout.object_key(self.database, self.backup, layout.SIGNATURE)
            target.write(name, [sign(text, key)], keep_until=keep_until)
        target.write(layout.object_key(self.database, self.backup, layout.MANIFEST), [text], expect=ABSENT, keep_until=keep_until)
        return f"{self.backup} on {self.target} is a backup again, of {head[0].database} on PostgreSQL {head[0].server_version}"

    def _as_before(self, world: World, target: Target, origin: Target) -> str:
        original = read_signed(origin, self.database, self.backup, world.signatures)
        for stored in original.manifest.objects:
            for _ in read_checked(target, original.manifest, stored):
                pass
        retain = custody_of(target).retain
        keep_until = world.clock.now() + retain if retain else None
        if original.signature is not None:
            name = layout.object_key(self.database, self.backup, layout.SIGNATURE)
            target.write(name, [original.signature], keep_until=keep_until)
        key = layout.object_key(self.database, self.backup, layout.MANIFEST)
        target.write(key, [original.text], expect=ABSENT, keep_until=keep_until)
        return f"{self.backup} on {self.target} is a backup again, with the manifest of {origin.name}"


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """Data that lost its manifest, and what may open it."""

    target: Target
    database: str
    id: str
    identities: Identities

    def key(self, plain: str) -> str:
        """Of the object, encrypted or not, whichever is there. Raises Absent."""
        key = layout.object_key(self.database, self.id, plain)
        there = {item.key for item in self.target.list(key).items}
        for name in (key, key + layout.AGE):
            if name in there:
                return name
        raise Absent(f"{self.target.name}: {key} is not there", cure="without it, this can't be made a backup again")


def _archive_of(orphan: Orphan, head: list[ArchiveHead]) -> tuple[StoredObject, ...]:
    """One stream, or the files of a directory."""
    root = layout.object_key(orphan.database, orphan.id, "")
    below = (item.key.removeprefix(root) for item in orphan.target.list(root + layout.FOLDER).items)
    files = [name for name in below if layout.is_data(name)]
    if not files:
        return (_measured(orphan, layout.DUMP, "dump", head=head),)
    toc = f"{layout.FOLDER}{TOC}{layout.ZSTD}"
    plain = sorted({name.removesuffix(layout.AGE) for name in files} - {toc})
    data = (_measured(orphan, name, "data", head=None) for name in plain)
    return (_measured(orphan, toc, "toc", head=head), *data)


def _measured(orphan: Orphan, plain: str, content: Content, *, head: list[ArchiveHead] | None) -> StoredObject:
    """Reads the object to its end: what can't be decrypted and decompressed whole is no backup."""
    tally, start, key = Tally(), b"", orphan.key(plain)
    name = key.removeprefix(layout.object_key(orphan.database, orphan.id, ""))
    what = f"{orphan.target.name}: {key}"
    with orphan.target.read(key) as blob:
        stored = tally.hash_stored(iter(blob))
        if key.endswith(layout.AGE):
            stored = decrypt(stored, orphan.identities(), what)
        # A large object may be of no bytes; all else has some.
        opened = decompress(stored, what) if content == "data" else _whole(stored, what)
        for chunk in tally.count_raw(opened, lambda _: None):
            if head is not None and len(start) < HEAD_BYTES:
                start += chunk[:HEAD_BYTES]
    if head is not None:
        head.append(read_head(start, TAR if content == "toc" else CUSTOM))
    return tally.result(name, content)


def _marks_of(orphan: Orphan) -> tuple[StoredObject, ...]:
    """Its fingerprint, where it had one."""
    with suppress(Absent):
        return (_measured(orphan, layout.FINGERPRINT, "fingerprint", head=None),)
    return ()


def _explained(target: Target, manifest: Manifest, identities: Identities) -> Manifest:
    """With what its other objects tell: what it leaves out, and what was found in the data."""
    filters = read_globals(target, manifest, identities).filters
    marks = read_fingerprint(target, manifest, identities)
    salt = manifest.repository if any(stored.is_encrypted for stored in manifest.objects) else None
    summary = summarize(marks, salt=salt) if marks is not None else None
    return msgspec.structs.replace(manifest, filters=filters, fingerprint=summary)


def _whole(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    empty = True
    for chunk in decompress(chunks, what):
        empty = False
        yield chunk
    if empty:
        raise Corrupt(f"{what} is empty")


def _complete(target: Target, manifest: Manifest, identities: Identities) -> Manifest:
    """With each file's table told. Raises Corrupt where a file was never stored: its only trace is in the table of contents."""
    files = Files(target, manifest, identities)
    files.check_complete()
    objects = with_tables(manifest.objects, read_toc(files.toc()))
    return msgspec.structs.replace(manifest, objects=tuple(objects))


def _imported(
    database: str,
    backup: str,
    repository: Repository,
    *,
    head: ArchiveHead,
    objects: tuple[StoredObject, ...],
    policy_digest: str,
) -> Manifest:
    when = layout.instant_of(backup)
    archive: Literal["custom", "directory"] = "directory" if any(stored.content == "toc" for stored in objects) else "custom"
    return Manifest(
        format=FORMAT,
        id=backup,
        repository=repository.id,
        database=database,
        kind="imported",
        slot=None,
        instant=when,
        started=when,
        finished=when,
        lsn_before=None,
        lsn_after=None,
        source=SourceRecord(
            identity=repository.identity,
            place="",
            server_version=head.server_version,
            standby=False,
            encoding=head.encoding,
            collate=head.collate,
            ctype=head.ctype,
            locale_provider=head.locale_provider,
            locale=head.locale,
            extensions={},
        ),
        tools=Tools(reconciler=__version__, pg_dump=head.client_version),
        policy=PolicyRecord(digest=policy_digest),
        objects=objects,
        stored_bytes=sum(stored.stored_bytes for stored in objects),
        compression=Compression(algorithm="zstd", level=0),
        archive=archive,
        restore_by_hand=restore_by_hand(encrypted=any(stored.is_encrypted for stored in objects), archive=archive),
    )


def plan_adopt(have: Observation, now: datetime) -> Step:
    """Raises Refused where it can't be told what would be taken over."""
    if have.unknown() or not isinstance(have.source, Known):
        unseen = ", ".join([*have.unknown(), *([] if isinstance(have.source, Known) else ["the source"])])
        raise Refused(f"{unseen} unknown: a catalogue is only adopted as a whole", cure="make it reachable first")
    known = {name: catalogue.repository for name, catalogue in have.known().items() if catalogue.repository is not None}
    if not known:
        raise Refused(f"there is nothing under {have.database}/ to adopt")
    if len({repository.id for repository in known.values()}) > 1:
        raise Refused(
            "the targets hold different repositories: they can't become one",
            cure="give one of the targets another prefix; its backups stay where they are",
        )
    identity = have.source.value.identity
    if all(repository.identity == identity for repository in known.values()) and not elsewhere(have, now):
        raise Refused(f"the backups under {have.database}/ belong to this source already")
    seen = {copy.place for catalogue in have.known().values() for copy in catalogue.copies if copy.identity == identity}
    places = tuple(sorted({have.place, *seen} - {""}))
    action = AdoptRepository(database=have.database, identity=identity, places=places, targets=tuple(sorted(known)))
    return Step(action=action, shown=Shown(does="adopt", to=f"{have.database}/"))


def plan_adopt_backup(backup: Backup, have: Observation) -> Step:
    """Raises Refused for what is no orphan."""
    where = [name for name, copy in sorted(backup.copies.items()) if copy.state == "orphan"]
    if not where:
        raise Refused(f"{backup.id} is {backup.state}: only an orphan is adopted")
    original = next(iter(sorted(backup.whole_on)), None)
    action = AdoptBackup(database=have.database, backup=backup.id, target=where[0], original=original)
    return Step(action=action, shown=Shown(does="adopt", to=f"{backup.id} on {where[0]}"))
