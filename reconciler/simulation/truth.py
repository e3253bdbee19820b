"""What is true of a simulated world: the table of states once more, written from the page, not from the code that it judges."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Literal, TypeVar

import msgspec
import zstandard

from reconciler.simulation.host import Host, processes
from reconciler.simulation.signing import signed
from reconciler.simulation.source import archive_of
from reconciler.simulation.store import Held, Store
from reconciler.world.facts import Identity, Instant
from reconciler.world.lazily import lazily

T = TypeVar("T")

AHEAD = timedelta(minutes=5)
SILENT = timedelta(seconds=88)
"""A claim that was not renewed for so long may be taken for dead; its watchers wait 90 s on clocks that drift."""


class Piece(msgspec.Struct, frozen=True):
    """An object that a manifest names."""

    name: str
    content: str
    stored_bytes: int
    sha256: str


class Left(msgspec.Struct, frozen=True):
    """What was left out by name."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Brief(msgspec.Struct, frozen=True):
    """A manifest, as far as the rules ask."""

    id: str
    database: str
    repository: str
    kind: str
    slot: Instant | None
    instant: Instant
    objects: tuple[Piece, ...]
    keep_until: Instant | None = None
    labels: Mapping[str, str] = {}
    filters: Left = Left()

    @property
    def partial(self) -> bool:
        return bool(self.filters.include or self.filters.exclude)


class Marks(msgspec.Struct, frozen=True):
    """What a fingerprint found: rows, by table."""

    large: Mapping[str, int] = {}


class Marked(msgspec.Struct, frozen=True):
    """A manifest, as far as it tells of rows."""

    fingerprint: Marks | None = None


class Claimant(msgspec.Struct, frozen=True):
    token: str


class ClaimBrief(msgspec.Struct, frozen=True):
    """An intent or a lease."""

    owner: Claimant | None
    for_what: str = ""
    slot: Instant | None = None
    kind: str | None = None


LATE = timedelta(minutes=10)
"""A signed tombstone that comes so long after the instant that it tells has its grace from when it came."""
LEAST = timedelta(days=1)
"""Of that grace, unless it speaks of debris: what was brought back since must not be condemned at once."""


class Stone(msgspec.Struct, frozen=True):
    """A tombstone."""

    id: str
    at: Instant
    due: Instant
    slot: Instant | None = None
    counts: bool = True


class EvidenceBrief(msgspec.Struct, frozen=True):
    """A record of evidence."""

    backup: str
    target: str
    sha256: str
    level: str
    result: str
    finished: Instant
    before: str | None = None


class RepositoryBrief(msgspec.Struct, frozen=True):
    id: str
    identity: Identity


class FreezeBrief(msgspec.Struct, frozen=True):
    """One that can't be read freezes all the same."""

    lifted: bool = False
    acknowledged: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def read(content: bytes, kind: type[T]) -> T | None:
    """The record; None for what is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@lru_cache(maxsize=4096)
def is_archive(content: bytes, identity: Identity) -> bool:
    """Whether these bytes are the dump of some number of commits of that database, from the first byte to the last."""
    try:
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except zstandard.ZstdError:
        return False
    commits = raw.rpartition(b"commits ")[2].strip()
    return commits.isdigit() and raw == b"".join(archive_of(identity, int(commits)))


_OF_BACKUP = re.compile(
    r"manifest\.(json|sig)|(intent|hold|tombstone-[0-9TZ]+)\.json|(dump|globals\.json|fingerprint\.json)\.zst"
)


@lru_cache(maxsize=1024)
def is_of_backup(name: str) -> bool:
    """Whether the page names such an object of a backup. (This world's archives are streams, and not encrypted.)"""
    return _OF_BACKUP.fullmatch(name) is not None


class Folder(msgspec.Struct, frozen=True, dict=True):
    """What of a backup lies under its id in one store, by name: what a plain read finds, and what is hidden from it."""

    store: Store
    id: str
    visible: Mapping[str, Held]
    hidden: frozenset[str]
    pinned: bool
    """Whether only what we signed is believed."""

    @lazily
    def manifest(self) -> Brief | None:
        """If it is one, and of this backup."""
        held = self.visible.get("manifest.json")
        found = read(held.content, Brief) if held else None
        return found if found is not None and found.id == self.id else None

    @property
    def intent(self) -> ClaimBrief | None:
        held = self.visible.get("intent.json")
        return read(held.content, ClaimBrief) if held else None

    @lazily
    def tombstones(self) -> list[Stone | None]:
        """None for a torn one, one that speaks of debris beside a manifest, and a stranger's where only ours are believed."""
        found = [held for name, held in sorted(self.visible.items()) if name.startswith("tombstone-")]
        came = min((held.stored.modified for held in found), default=None)
        return [self._stone(held, came) for held in found if came is not None]

    def _stone(self, held: Held, came: datetime) -> Stone | None:
        stone: Stone | None = read(held.content, Stone)
        if stone is None or stone.id != self.id or (self.pinned and not is_signed_by_us(held.content)):
            return None
        if not stone.counts and "manifest.json" in self.visible.keys() | self.hidden:
            return None
        if self.pinned and came - stone.at > LATE:
            grace = stone.due - stone.at
            return msgspec.structs.replace(stone, due=max(stone.due, came + (max(grace, LEAST) if stone.counts else grace)))
        return stone

    @lazily
    def is_trace(self) -> bool:
        """Whether tombstones are all that is left to see."""
        return bool(self.visible) and all(name.startswith("tombstone-") for name in self.visible)

    @lazily
    def data(self) -> Mapping[str, Held]:
        known = ("manifest.json", "manifest.sig", "intent.json", "hold.json")
        return {name: held for name, held in self.visible.items() if name not in known and not name.startswith("tombstone-")}

    @lazily
    def is_signed(self) -> bool:
        """Whether our signature of that very manifest lies beside it."""
        signature = self.visible.get("manifest.sig")
        return signature is not None and signature.content == signed(self.visible["manifest.json"].content)

    @lazily
    def all_there(self) -> bool:
        """Whether what the manifest names lies there, as large as it says."""
        sizes = {name: held.stored.size for name, held in self.data.items()}
        return self.manifest is not None and all(sizes.get(one.name) == one.stored_bytes for one in self.manifest.objects)


@lru_cache(maxsize=1024)
def is_signed_by_us(tombstone: bytes) -> bool:
    """Whether the signature within is ours, of all the rest as it is written."""
    rest = msgspec.json.decode(tombstone)
    signature = rest.pop("signature", None)
    written = msgspec.json.format(msgspec.json.encode(rest), indent=2) + b"\n"
    return bool(signature == msgspec.json.decode(signed(written)))


def _folder(store: Store, backup: str, contents: Mapping[str, tuple[Held, ...]], *, pinned: bool) -> Folder:
    found = {name: versions[-1] for name, versions in contents.items() if is_of_backup(name)}
    return Folder(
        store=store,
        id=backup,
        visible={name: held for name, held in found.items() if not held.stored.marker},
        hidden=frozenset(name for name, held in found.items() if held.stored.marker and not _is_bare(contents[name])),
        pinned=pinned,
    )


def _is_bare(versions: Sequence[Held]) -> bool:
    """A marker that nothing lies under any more hides nothing."""
    return all(held.stored.marker for held in versions)


State = Literal[
    "whole", "being_written", "debris", "damaged", "orphan", "deleted", "being_deleted", "hidden", "foreign", "impossible", "gone"
]


class Truth:
    """The whole world, seen from outside."""

    def __init__(self, stores: Mapping[str, Store], hosts: Sequence[Host], identity: Identity, *, pinned: bool) -> None:
        """`pinned`: the policy pins the key with which our backups are signed."""
        self.stores, self.hosts, self.identity, self.pinned = stores, hosts, identity, pinned
        self._folders: dict[tuple[str, str], tuple[int, dict[str, Folder]]] = {}
        self._repositories: dict[tuple[str, str], tuple[int, RepositoryBrief | None]] = {}
        self._seen: dict[tuple[str, str], dict[str, tuple[Mapping[str, tuple[Held, ...]], Folder]]] = {}

    def folders(self, store: Store, database: str) -> dict[str, Folder]:
        """By id."""
        seen = self._folders.get((store.name, database))
        if seen is None or seen[0] != store.changes:
            seen = self._folders[store.name, database] = store.changes, self._look(store, database)
        return seen[1]

    def _look(self, store: Store, database: str) -> dict[str, Folder]:
        known = self._seen.setdefault((store.name, database), {})
        found: dict[str, Folder] = {}
        for backup, contents in store.folders.get(database, {}).items():
            seen = known.get(backup)
            if seen is None or seen[0] is not contents:
                seen = known[backup] = contents, _folder(store, backup, contents, pinned=self.pinned)
            found[backup] = seen[1]
        return found

    def folder(self, store: Store, database: str, backup: str) -> Folder:
        """One of them, possibly empty."""
        found = self.folders(store, database).get(backup)
        return found if found is not None else _folder(store, backup, {}, pinned=self.pinned)

    def repository(self, store: Store, database: str) -> RepositoryBrief | None:
        """If its record can be read."""
        seen = self._repositories.get((store.name, database))
        if seen is None or seen[0] != store.changes:
            held = store.current(f"{database}/repository.json")
            seen = store.changes, read(held.content, RepositoryBrief) if held else None
            self._repositories[store.name, database] = seen
        return seen[1]

    def lives(self, claim: ClaimBrief | None) -> bool:
        """Whether whoever wrote it is really alive."""
        if claim is None or claim.owner is None:
            return False
        return any(process.holds(claim.owner.token) for process in processes(list(self.hosts)))

    def proven(self, store: Store, database: str) -> Iterator[EvidenceBrief]:
        """Restores that passed, by the records in that store: what they said of bytes that still lie there, and still hold."""
        for key in store.keys(f"{database}/evidence/"):
            record = read(store.objects[key][-1].content, EvidenceBrief)
            if record is not None and (record.level, record.result) == ("restore", "passed") and self.holds(record, database):
                yield record

    def dated_ahead(self, database: str, now: datetime) -> timedelta:
        """How far the latest of what clocks that were wrong have written; what is further ahead, a thief has made up."""
        records = (
            read(store.objects[key][-1].content, EvidenceBrief)
            for store in self.stores.values()
            for key in store.keys(f"{database}/evidence/")
        )
        finished = (record.finished for record in records if record is not None)
        return max((at - now for at in finished if timedelta(0) < at - now < timedelta(days=7)), default=timedelta(0))

    def holds(self, record: EvidenceBrief, database: str) -> bool:
        """Whether what it speaks of lies there, and is the dump, to the last byte."""
        folder = self.folder(self.stores[record.target], database, record.backup)
        manifest, whose = folder.manifest, self.repository(folder.store, database)
        if manifest is None or not self.vouched_for(folder):
            return False
        # Somebody may have written another identity beside it: it is the dump that it was all the same.
        if all(any(what_is_wrong(folder, manifest, one)) for one in {self.identity, whose.identity if whose else self.identity}):
            return False
        return any(piece.sha256 == record.sha256 for piece in manifest.objects if piece.content == "dump")

    def vouched_for(self, folder: Folder, manifest: bytes | None = None) -> bool:
        """Whether the manifest there (or the one that is being written there) is signed by us, where that is asked for."""
        if not self.pinned:
            return True
        if manifest is None:
            return folder.is_signed
        signature = folder.visible.get("manifest.sig")
        return signature is not None and signature.content == signed(manifest)

    def state(self, folder: Folder, database: str, now: datetime) -> State:
        """As the table has it, with whoever may be dead counted by what they really are."""
        if folder.is_trace:
            # Where the only word of what was hidden can't be believed, nobody knows any more whether it was given up.
            return "hidden" if "manifest.json" in folder.hidden and not any(folder.tombstones) else "gone"
        manifest = folder.manifest
        if manifest is not None:
            whose = self.repository(folder.store, database)
            if whose is not None and manifest.repository != whose.id:
                return "foreign"
            if not self.vouched_for(folder):
                return "hidden" if "manifest.sig" in folder.hidden else "foreign"
        stones = folder.tombstones
        if stones:
            return _buried(folder, stones, now)
        if manifest is not None:
            if manifest.instant > now + AHEAD:
                return "impossible"
            if folder.all_there:
                return "whole"
            return "hidden" if any(piece.name in folder.hidden for piece in manifest.objects) else "damaged"
        if "manifest.json" in folder.visible:
            return "damaged"
        if "manifest.json" in folder.hidden:
            return "hidden"
        if "intent.json" in folder.visible:
            return "being_written" if self.lives(folder.intent) else "debris"
        return "orphan" if folder.visible else "gone"

    def whole(self, database: str, names: Sequence[str], now: datetime) -> dict[str, Brief]:
        """Ids of which some store of these holds a whole copy, by id."""
        found: dict[str, Brief] = {}
        for name in names:
            for folder in self.folders(self.stores[name], database).values():
                manifest = folder.manifest
                if manifest is not None and self.state(folder, database, now) == "whole":
                    found[folder.id] = manifest
        return found

    def recoverable(self, database: str, names: Sequence[str], *, but: Folder) -> set[str]:
        """Ids of which some store of these holds all of a copy, condemned or not, apart from the copy `but`."""
        folders = [folder for name in names for folder in self.folders(self.stores[name], database).values()]
        here = (folder for folder in folders if (folder.store, folder.id) != (but.store, but.id))
        return {folder.id for folder in here if folder.all_there and self.vouched_for(folder)}


def _buried(folder: Folder, stones: list[Stone | None], now: datetime) -> State:
    if len(stones) == len(folder.visible):
        return "gone"
    dues = [stone.due for stone in stones if stone is not None]
    if len(dues) < len(stones) or max(dues) > now:
        return "deleted"
    return "being_deleted"


def what_is_wrong(folder: Folder, manifest: Brief, identity: Identity) -> Iterator[str]:
    """Why a backup that is said to be whole is not, byte by byte."""
    for piece in manifest.objects:
        held = folder.data.get(piece.name)
        if held is None:
            yield f"{piece.name} is not there"
        elif sha256(held.content).hexdigest() != piece.sha256:
            yield f"{piece.name} is not what the manifest says"
        elif piece.content == "dump" and not is_archive(held.content, identity):
            yield f"{piece.name} is no dump of the database"
