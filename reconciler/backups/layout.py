"""Which key means what. Keys are derived from the listing, never from a manifest's text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from reconciler.world.lazily import lazily
from reconciler.world.ports import Stored, Target

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_TOMBSTONE = re.compile(r"tombstone-(\d{8}T\d{6}Z)\.json")
_EVIDENCE = re.compile(r"(\d{8})\.json")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_COMPACT = "%Y%m%dT%H%M%SZ"
_MANY = 1 << 16
"""Of ids and names: a large catalogue is looked at again and again, and these are the same each time."""
FEW = 256
"""Objects of a listing that is remembered as a whole: most that a loop meets are the same as before."""
SEEN = 1 << 10
"""Backups on a target of which it stays in memory what was reckoned from the listing and the manifest."""

REMEMBERED = timedelta(days=30)
"""How long a tombstone outlives what it buried: no late copy brings it back."""
ABOUT = timedelta(days=1)
"""A store's clock is not ours, and a write may arrive late."""
_NEVER = datetime.max.replace(tzinfo=UTC)

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
INTENT = "intent.json"
HOLD = "hold.json"
DUMP = "dump.zst"
FOLDER = "dump/"
"""Before the names of a directory archive's files."""
ZSTD = ".zst"
_RECORDS = frozenset((MANIFEST, SIGNATURE, INTENT, HOLD))
GLOBALS = "globals.json.zst"
FINGERPRINT = "fingerprint.json.zst"
AGE = ".age"
"""Behind the names of objects that are encrypted. An orphan has no manifest to ask."""
_DATA = re.compile(r"(dump|dump/[A-Za-z0-9_][A-Za-z0-9_.]*|globals\.json|fingerprint\.json)\.zst(\.age)?")


class Held(msgspec.Struct, frozen=True, kw_only=True, dict=True, eq=False):
    """What lies under one backup's id on one target. Listings that show the same share one, and what was reckoned of it."""

    id: str
    objects: Mapping[str, Stored]
    """By name within the backup, e.g. `dump.zst`; what a delete marker hides is not among them."""
    hidden: tuple[str, ...] = ()
    """Names whose latest version is a delete marker."""
    hidden_since: datetime | None = None
    """Its manifest, by the store's clock. None where it is not, or where a tombstone is hidden that explains it: then we hid what
    it buried."""

    @lazily
    def tombstones(self) -> tuple[Stored, ...]:
        """Earliest due first."""
        names = [name for name in self.objects if name.startswith("tombstone-") and _is_tombstone_name(name)]
        return tuple(self.objects[name] for name in sorted(names)) if names else ()

    @property
    def has_manifest(self) -> bool:
        """Whether one is there to see, or hidden by somebody else."""
        return MANIFEST in self.objects or self.is_hidden

    @lazily
    def is_hidden(self) -> bool:
        """Whether somebody else hides it. We hide a tombstone last of all: where data is left to see, we hid none of this."""
        return MANIFEST in self.hidden and bool(self.data or self.hidden_since)

    @lazily
    def is_settled(self) -> bool:
        """Whether nothing lies beside it that has to be asked each time."""
        return INTENT not in self.objects and HOLD not in self.objects and not self.tombstones

    @lazily
    def is_trace(self) -> bool:
        """Whether tombstones are all that is left."""
        return 0 < len(self.objects) == len(self.tombstones)

    @lazily
    def data(self) -> Mapping[str, Stored]:
        """The parts that only a manifest can explain."""
        return {name: seen for name, seen in self.objects.items() if name not in _RECORDS and not _is_tombstone_name(name)}


class Sorted(msgspec.Struct, frozen=True, kw_only=True):
    """A listing, put in order."""

    repository: Stored | None
    freeze: Stored | None
    pins: tuple[Stored, ...]
    evidence: tuple[Stored, ...]
    """By sequence."""
    changes: tuple[Stored, ...]
    """By sequence."""
    backups: tuple[Held, ...]
    strays: tuple[str, ...]


def compact(instant: datetime) -> str:
    """`20251025T020000Z`: as ids and tombstones write an instant."""
    return instant.astimezone(UTC).strftime(_COMPACT)


def from_compact(text: str) -> datetime:
    """The other way round. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def backup_id(instant: datetime, token: str) -> str:
    """Sorts by instant; the six random digits keep two writers apart."""
    return f"{compact(instant)}-{token}"


@lru_cache(maxsize=_MANY)
def instant_of(backup: str) -> datetime:
    """To the second."""
    return from_compact(backup.partition("-")[0])


@lru_cache(maxsize=_MANY)
def is_backup_id(text: str) -> bool:
    """Whether it is one, and of an instant that exists."""
    if not _ID.fullmatch(text):
        return False
    try:
        instant_of(text)
    except ValueError:
        return False
    return True


def is_tombstone(key: str) -> bool:
    """Whether a key under a backup's id, or a name within it, is of a tombstone."""
    return _is_tombstone_name(key.rpartition("/")[2])


@lru_cache(maxsize=_MANY)
def _is_tombstone_name(name: str) -> bool:
    return _TOMBSTONE.fullmatch(name) is not None


def is_data(name: str) -> bool:
    """Whether a manifest may name it: what is listed under another name is none of a backup's."""
    return _DATA.fullmatch(name) is not None


def is_lasting(name: str) -> bool:
    """Whether it is what a backup is made of, and not said of it for a while."""
    return name in (MANIFEST, SIGNATURE) or is_data(name)


def root(database: str) -> str:
    """Everything of one database lies below it."""
    return f"{database}/"


def repository_key(database: str) -> str:
    return f"{database}/repository.json"


def lease_key(database: str, lane: str) -> str:
    return f"{database}/lease-{lane}.json"


def backup_root(database: str, backup: str) -> str:
    return f"{database}/backups/{backup}/"


def object_key(database: str, backup: str, name: str) -> str:
    return f"{database}/backups/{backup}/{name}"


def tombstone_key(database: str, backup: str, due: datetime) -> str:
    return object_key(database, backup, f"tombstone-{compact(due)}.json")


def freeze_key(database: str) -> str:
    return f"{database}/freeze.json"


def pin_key(database: str, backup: str, token: str) -> str:
    return f"{database}/pins/{backup}-{token}.json"


def pinned_by(key: str) -> str | None:
    """The backup that a pin's key names; None for what is no pin."""
    name = key.rpartition("/")[2]
    backup = "-".join(name.split("-")[:2])
    return backup if name.endswith(".json") and is_backup_id(backup) else None


def evidence_root(database: str) -> str:
    return f"{database}/evidence/"


def evidence_key(database: str, sequence: int) -> str:
    return sequence_key(evidence_root(database), sequence)


def changes_root(database: str) -> str:
    return f"{database}/changes/"


def sequence_key(root: str, sequence: int) -> str:
    """Of a record in a folder of records that follow one another."""
    return f"{root}{sequence:08d}.json"


@lru_cache(maxsize=_MANY)
def sequence_of(key: str) -> int | None:
    """Of a record of evidence or of a change, by its key; None for what is none."""
    match = _EVIDENCE.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


REGISTER = ".databases/"
"""Beside all databases: one small object each, so that a database that left the policy is seen without listing everything."""


def registered_key(database: str) -> str:
    return f"{REGISTER}{database}.json"


WINDOWS = ".windows/"
"""Beside all databases, too: a window is a setting of a whole project, whichever of its databases sets it."""


def windows_root(site: str) -> str:
    """Of what is recorded of a project's window. `site`: of the history; what it ends with is the project."""
    return f"{WINDOWS}{_NO_NAME.sub('-', site.rpartition('/')[2])}/"


_KNOWN_FOLDERS = ("recoveries/", "scratch/")


@lru_cache(maxsize=1 << 13)
def _of_backup(key: str, start: int) -> tuple[str, str]:
    """The id and the name within it, where what follows `start` is of an object of a backup; else nothing."""
    parts = key[start:].split("/", 2)
    if len(parts) < 3 or parts[0] != "backups":
        return "", ""
    _, backup, name = parts
    return (backup, name) if is_backup_id(backup) and is_of_backup(name) else ("", "")


@lru_cache(maxsize=_MANY)
def is_of_backup(name: str) -> bool:
    """Whether an object of that name within a backup's folder is of the backup. What else lies there is somebody's own."""
    return name in _RECORDS or is_data(name) or _is_tombstone_name(name)


def put_in_order(database: str, items: Iterable[Stored]) -> Sorted:
    """What a listing of `{database}/` shows. What the layout does not know is a stray: reported, never touched."""
    items = tuple(items)
    return (_in_order if len(items) <= FEW else _in_order.__wrapped__)(database, items)


def look_at(target: Target, database: str, backup: str) -> Held:
    """One backup afresh, as a catalogue shows it. Raises what the target raises."""
    items = target.list(backup_root(database, backup), versions=target.versioned).items
    return next(iter(put_in_order(database, items).backups), Held(id=backup, objects={}))


@lru_cache(maxsize=64)
def _in_order(database: str, items: tuple[Stored, ...]) -> Sorted:
    start = len(root(database))
    repository, freeze = None, None
    strays: list[str] = []
    pins: list[Stored] = []
    evidence: list[Stored] = []
    changes: list[Stored] = []
    found: dict[str, list[Stored]] = {}
    hidden: dict[str, list[str]] = {}
    below = _below_markers(items)
    for item in items:
        if not item.latest:
            continue
        backup, name = _of_backup(item.key, start)
        if name:
            # A store's own rules may have removed what a marker hid: then it hides nothing.
            if item.marker and not all(each.marker for each in below[item.key]):
                hidden.setdefault(backup, []).append(name)
            elif not item.marker:
                found.setdefault(backup, []).append(item)
            continue
        if item.marker:
            continue
        rest = item.key[start:]
        folder = rest.partition("/")[0]
        if rest == "repository.json":
            repository = item
        elif rest == "freeze.json":
            freeze = item
        elif rest.startswith("pins/") and pinned_by(item.key) is not None:
            pins.append(item)
        elif folder == "evidence" and sequence_of(item.key) is not None:
            evidence.append(item)
        elif folder == "changes" and sequence_of(item.key) is not None:
            changes.append(item)
        elif not (rest.startswith(_KNOWN_FOLDERS) or (rest.startswith("lease-") and rest.endswith(".json"))):
            strays.append(item.key)
    return Sorted(
        repository=repository,
        freeze=freeze,
        pins=tuple(pins),
        evidence=tuple(evidence),
        changes=tuple(changes),
        backups=tuple(
            _found(database, key, found.get(key, []), hidden.get(key, []), below) for key in sorted(found.keys() | hidden.keys())
        ),
        strays=tuple(strays),
    )


def _found(
    database: str, backup: str, objects: Iterable[Stored], hidden: Iterable[str], below: Mapping[str, Sequence[Stored]]
) -> Held:
    folder, names = backup_root(database, backup), tuple(hidden)
    since = _hidden_since(below[folder + MANIFEST]) if MANIFEST in names else None
    if since is not None and any(_explains(since, name, below[folder + name]) for name in names if _is_tombstone_name(name)):
        since = None
    return _held(folder, backup, tuple(objects), names, since)


@lru_cache(maxsize=SEEN)
def _held(root: str, backup: str, objects: tuple[Stored, ...], hidden: tuple[str, ...], hidden_since: datetime | None) -> Held:
    named = {item.key.removeprefix(root): item for item in objects}
    return Held(id=backup, objects=named, hidden=hidden, hidden_since=hidden_since)


def _below_markers(items: Iterable[Stored]) -> Mapping[str, Sequence[Stored]]:
    """All versions of each key that has a marker, and the markers."""
    found: dict[str, list[Stored]] = {item.key: [] for item in items if item.marker}
    for item in items if found else ():
        if item.key in found:
            found[item.key].append(item)
    return found


def _hidden_since(versions: Sequence[Stored]) -> datetime:
    """By the first marker over what was put there last: markers below it hid what came before."""
    put = max(item.modified for item in versions if not item.marker)
    markers = [item.modified for item in versions if item.marker]
    return min((marker for marker in markers if marker >= put), default=max(markers))


def _explains(hidden_since: datetime, name: str, versions: Sequence[Stored]) -> bool:
    """Whether it is a tombstone that we hid, last of all, and a month after its grace was over.

    One that was taken back explains nothing that was hidden later, and one that is due later nothing at all. By the store's
    clock: one that others put there and hid did not lie long, whatever date it has.
    """
    hidden = min(item.modified for item in versions if item.marker)
    over = max(_due_of(name), min(item.modified for item in versions if not item.marker))
    return over - ABOUT <= hidden_since <= hidden and hidden - over >= REMEMBERED - ABOUT


def _due_of(tombstone: str) -> datetime:
    """By its name. One of no date that exists is none of ours, and never due."""
    try:
        return from_compact(tombstone.removeprefix("tombstone-").removesuffix(".json"))
    except ValueError:
        return _NEVER
