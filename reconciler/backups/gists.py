"""What the cache knows of manifests: as much as their backups' states need, a month of them in one text."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from reconciler import __version__
from reconciler.backups.layout import Held
from reconciler.backups.manifest import Manifest, decode_record
from reconciler.errors import Corrupt
from reconciler.world.facts import Copy
from reconciler.world.ports import Cache, Stored

Version = tuple[str, str | None, int]
_MONTH = len("202510")
"""So ids of backups begin."""

SMALL_BYTES = 1 << 16
"""Of a month, which then stays in memory: a loop meets the same ones at each look. It is some hundred backups."""


class Gist(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Of one manifest, which was sound."""

    of: Version
    """Of the manifest's object, as a listing tells it: of any other it says nothing."""
    objects: Mapping[str, int]
    """Name → stored bytes, in the manifest's order."""
    copy: Copy
    """As far as the manifest alone tells, and without its marks, which are large."""
    has_marks: bool


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The gists of the backups of one month, by id."""

    name: str
    """What the cache knows it by."""
    gists: Mapping[str, Gist]


def gist_of(manifest: Manifest, stored: Stored) -> Gist:
    """`stored`: the manifest's object."""
    copy = Copy(
        id=manifest.id,
        state="whole",
        instant=manifest.instant,
        kind=manifest.kind,
        slot=manifest.slot,
        stored_bytes=manifest.stored_bytes,
        raw_bytes=manifest.archive_raw_bytes or None,
        started=manifest.started,
        finished=manifest.finished,
        keep_until=manifest.keep_until,
        labels=manifest.labels,
        repository=manifest.repository,
        identity=manifest.source.identity,
        place=manifest.source.place,
        partial=manifest.filters.partial,
        recipients=manifest.recipients,
    )
    objects = {one.name: one.stored_bytes for one in manifest.objects}
    return Gist(of=_version(stored), objects=objects, copy=copy, has_marks=manifest.fingerprint is not None)


class Gists:
    """Of one database's backups on one target. What a listing no longer shows is forgotten."""

    def __init__(self, cache: Cache, of: str, listed: Iterable[Held]) -> None:
        """`of`: whose they are, as the cache tells them apart."""
        self._cache, self._of = cache, of
        self._listed = {held.id for held in listed}
        self._months = {month: self._read(month) for month in sorted({backup[:_MONTH] for backup in self._listed})}
        self._new: dict[str, dict[str, Gist]] = {month: {} for month in self._months}

    def get(self, backup: str, stored: Stored) -> Gist | None:
        """Of this very manifest."""
        month = backup[:_MONTH]
        found = self._new[month].get(backup) or self._months[month].gists.get(backup)
        return found if found is not None and found.of == _version(stored) and found.copy.id == backup else None

    def put(self, gist: Gist) -> None:
        """Known from now on, and to those who come after us once it was kept."""
        self._new[gist.copy.id[:_MONTH]][gist.copy.id] = gist

    def keep(self) -> None:
        """Write down what is new."""
        for month, new in sorted(self._new.items()):
            if new:
                whole = self._months[month]
                left = {backup: gist for backup, gist in {**whole.gists, **new}.items() if backup in self._listed}
                self._cache.put(whole.name, msgspec.json.encode(msgspec.structs.replace(whole, gists=left)))

    def _read(self, month: str) -> Month:
        # Another version of this program may ask more of a manifest.
        name = f"gists\n{__version__}\n{self._of}\n{month}"
        try:
            text = self._cache.get(name) or b""
            found = _remembered(text, name) if len(text) <= SMALL_BYTES else _decoded(text, name)
        except Corrupt:
            found = None
        return found if found is not None and found.name == name else Month(name=name, gists={})


def _decoded(text: bytes, name: str) -> Month:
    return decode_record(text, Month, name)


_remembered = lru_cache(maxsize=32)(_decoded)


def _version(stored: Stored) -> Version:
    return stored.etag, stored.version, stored.size
