"""manifest.json: what makes a dump a backup. Written last, removed first, copied byte for byte."""

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, TypeVar

import msgspec

from reconciler.backups.layout import AGE, DUMP, FOLDER, ZSTD, is_data
from reconciler.errors import Corrupt, Refused
from reconciler.world.facts import WHOLE, DumpFacts, Filters, Identity, Instant, SourceFacts
from reconciler.world.fingerprint import Summary
from reconciler.world.lazily import lazily
from reconciler.world.learning import learnt

FORMAT = 1
LARGEST = 16 * 1024 * 1024
"""A manifest is read whole; nothing that calls itself one may fill our memory."""
PART_BYTES = 64 * 1024 * 1024
"""The most that reading back holds in memory before it may be used."""
SMALL_BYTES = 1 << 14
"""Of a record, or of a manifest with its signature: the same few are looked at again and again, and of most dumps they are no
larger. What is remembered of them stays in memory with their bytes."""

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Within these a span can be added to an instant, and it can be told in any zone."""

Kind = Literal["scheduled", "manual", "imported", "before_recovery"]


Content = Literal["dump", "globals", "fingerprint", "data", "toc"]
"""`dump`: an archive as one stream. `data` and `toc`: the files of a directory archive."""


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A range of an object's bytes, checked before any byte of it is used."""

    size: int
    sha256: str


class StoredObject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object beside the manifest."""

    name: str
    content: Content
    stored_bytes: int
    sha256: str
    raw_bytes: int
    parts: tuple[Part, ...]
    table: str | None = None
    """Of a directory archive's file, whose rows it holds, as pg_dump writes the name; None where the backup is encrypted."""

    @property
    def is_encrypted(self) -> bool:
        return self.name.endswith(AGE)


class Compression(msgspec.Struct, frozen=True, kw_only=True):
    algorithm: Literal["zstd"]
    level: int


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The source as the dump's own session saw it."""

    identity: Identity
    place: str
    server_version: str
    standby: bool
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    locale: str = ""
    extensions: Mapping[str, str]


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    reconciler: str
    pg_dump: str


class PolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    git_commit: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All that is known of a backup without reading it."""

    format: int
    id: str
    repository: str
    database: str
    kind: Kind
    slot: Instant | None
    instant: Instant
    started: Instant
    finished: Instant
    lsn_before: str | None
    lsn_after: str | None
    source: SourceRecord
    tools: Tools
    policy: PolicyRecord
    objects: tuple[StoredObject, ...]
    stored_bytes: int
    compression: Compression
    archive: Literal["custom", "directory"]
    restore_by_hand: str
    """A command line with the real programs; a test runs it."""
    labels: Mapping[str, str] = {}
    keep_until: Instant | None = None
    recipients: tuple[str, ...] = ()
    fingerprint: Summary | None = None
    filters: Filters = WHOLE
    """What was left out by name."""
    hosted: tuple[str, ...] = ()
    """Entries of the archive that are the source's host's own, as pg_restore lists them: every restore leaves them out."""

    @lazily
    def lie(self) -> str:
        """What it says of itself that can't be so; empty where it adds up."""
        return _lie(self)

    def archive_objects(self) -> tuple[StoredObject, ...]:
        """What pg_restore needs, as one object or as many."""
        return tuple(stored for stored in self.objects if stored.content in ("dump", "data", "toc"))

    @property
    def archive_bytes(self) -> int:
        """Stored."""
        return sum(stored.stored_bytes for stored in self.archive_objects())

    @property
    def archive_sha256(self) -> str:
        """Of the object that it is; of several, of their names and hashes."""
        if self.archive == "custom":
            return self.object_of("dump").sha256
        lines = sorted(f"{stored.name} {stored.sha256}\n" for stored in self.archive_objects())
        return sha256("".join(lines).encode()).hexdigest()

    @property
    def archive_raw_bytes(self) -> int:
        """As pg_dump wrote it."""
        return sum(stored.raw_bytes for stored in self.archive_objects())

    def object_of(self, content: Content) -> StoredObject:
        """The object that holds it. Raises Corrupt."""
        for stored in self.objects:
            if stored.content == content:
                return stored
        raise Corrupt(f"the manifest of {self.id} names no {content}")

    def dump_facts(self) -> DumpFacts:
        """What was seen when it was taken, as a restore asks for it."""
        source = self.source
        seen = SourceFacts(
            identity=source.identity,
            server_version=source.server_version,
            major=int(source.server_version.partition(".")[0]),
            clock=self.instant,
            standby=source.standby,
        )
        return DumpFacts(
            source=seen,
            instant=self.instant,
            lsn_before=self.lsn_before,
            encoding=source.encoding,
            collate=source.collate,
            ctype=source.ctype,
            locale_provider=source.locale_provider,
            locale=source.locale,
            extensions=source.extensions,
            client_version=self.tools.pg_dump,
            hosted=self.hosted,
        )


class _Version(msgspec.Struct):
    format: int


class NewerFormat(Refused):
    """A manifest that only a later version of this program can read: another thing than one that we may not read."""


T = TypeVar("T")

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The last for what is nested without end."""


def encode(value: msgspec.Struct) -> bytes:
    """Pretty JSON: it is read by people at 3 a.m."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode(text: bytes, *, backup: str) -> Manifest:
    """Raises Corrupt for what is no manifest of that backup, and NewerFormat for one that this program does not read."""
    version = decode_again(text, _Version, f"the manifest of {backup}").format
    if version > FORMAT:
        raise NewerFormat(
            f"the manifest of {backup} has format {version}, this program reads {FORMAT}", cure="use a newer reconcile"
        )
    manifest = decode_again(text, Manifest, f"the manifest of {backup}")
    if manifest.id != backup:
        raise Corrupt(f"the manifest of {backup} says that it is of {manifest.id}")
    return manifest


def decode_record(text: bytes, kind: type[T], what: str) -> T:
    """Any of our JSON records; `what` names it in the sentence. Raises Corrupt. Unknown fields are let through."""
    try:
        return _decoded(text, kind)
    except _UNREADABLE as error:
        raise Corrupt(f"{what} cannot be read: {error}") from error


def decode_again(text: bytes, kind: type[T], what: str) -> T:
    """The same, of what lies in a catalogue and says the same at each look: a small one is remembered by its very bytes."""
    try:
        key: Any = kind  # mypy takes no type for hashable
        found: T = _remembered(text, key) if len(text) <= SMALL_BYTES else _decoded(text, kind)
    except _UNREADABLE as error:
        raise Corrupt(f"{what} cannot be read: {error}") from error
    return found


def _decoded(text: bytes, kind: type[T]) -> T:
    learnt(kind)
    found = msgspec.json.decode(text, type=kind)
    for name in getattr(kind, "__struct_fields__", ()):
        told = getattr(found, name)
        if isinstance(told, datetime) and not EARLIEST <= told < LATEST:
            raise msgspec.ValidationError(f"{name} tells {told.isoformat()}, from which nothing can be reckoned")
    return found


@lru_cache(maxsize=1024)
def _remembered(text: bytes, kind: type) -> Any:
    return _decoded(text, kind)


def restore_by_hand(*, encrypted: bool, archive: str = "custom", hosted: Sequence[str] = ()) -> str:
    """The working line, with the real programs. A directory archive's is for the folder that its files were fetched into."""
    if archive == "directory":
        opened = f'for f in {FOLDER}*{AGE}; do age -d -i KEY_FILE -o "${{f%{AGE}}}" "$f"; done && ' if encrypted else ""
        restore = "pg_restore --format=directory --jobs=4 --exit-on-error --dbname=DATABASE"
        chosen = f"pg_restore --format=directory --list dump | {without(hosted)} > restore.list && " if hosted else ""
        return f"{opened}zstd -d --rm {FOLDER}*{ZSTD} && {chosen}{restore}{' --use-list=restore.list' if hosted else ''} dump"
    read = f"age -d -i KEY_FILE {DUMP}{AGE} | zstd -d -c" if encrypted else f"zstd -d -c {DUMP}"
    restore = "pg_restore --exit-on-error --single-transaction --dbname=DATABASE"
    if not hosted:
        return f"{read} | {restore}"
    return f"{read} | pg_restore --list | {without(hosted)} > restore.list && {read} | {restore} --use-list=restore.list"


def without(hosted: Sequence[str]) -> str:
    """The filter that takes those entries out of a table of contents."""
    # They are ends of lines; each is a pattern, in which these characters mean themselves.
    patterns = [re.sub(r"([.\[\]*^$\\])", r"\\\1", entry) + "$" for entry in hosted]
    return " ".join(["grep -v", *(f"-e {shlex.quote(pattern)}" for pattern in patterns)])


def _is_inside(stored: StoredObject) -> bool:
    """A name leads nowhere else; the files of a directory archive, and no others, have a folder of their own."""
    return is_data(stored.name) and stored.name.startswith(FOLDER) == (stored.content in ("data", "toc"))


def check_inside(manifest: Manifest) -> None:
    """What a manifest says of itself must add up: a lying one is refused before anything rests on it. Raises Corrupt."""
    if manifest.lie:
        raise Corrupt(f"the manifest of {manifest.id} {manifest.lie}")


def _lie(manifest: Manifest) -> str:
    for stored in manifest.objects:
        if not _is_inside(stored):
            return f"names an object {stored.name!r}, which no backup has"
        if any(not 0 <= part.size <= PART_BYTES for part in stored.parts):
            return f"names a part of {stored.name} of a size that no part has"
        if sum(part.size for part in stored.parts) != stored.stored_bytes:
            return f"does not add up for {stored.name}"
    if sum(stored.stored_bytes for stored in manifest.objects) != manifest.stored_bytes:
        return "does not add up"
    if len({stored.name for stored in manifest.objects}) != len(manifest.objects):
        return "names an object twice"
    needed = "dump" if manifest.archive == "custom" else "toc"
    return "" if any(stored.content == needed for stored in manifest.objects) else f"names no {needed}"
