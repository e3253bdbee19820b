"""A world to try backups in: real local targets, a moved clock, a source made of bytes with whatever trouble is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event as StopEvent
from typing import Literal

from msgspec import structs

from reconciler.backups import layout
from reconciler.backups.catalogue import Reader
from reconciler.backups.claim import ClaimRecord, Watch
from reconciler.backups.fetch import archive, read_manifest
from reconciler.backups.manifest import Manifest, decode, encode
from reconciler.backups.records import read_whole
from reconciler.duties.dumps import TakeDump
from reconciler.errors import Absent, Conflict, Refused, Unreachable
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.telling import Telling
from reconciler.world.clock import token
from reconciler.world.events import Event, Tell
from reconciler.world.facts import (
    WHOLE,
    Catalogue,
    DumpFacts,
    Filters,
    Globals,
    Identity,
    Owner,
    Role,
    SourceFacts,
    State,
    Tombstone,
)
from reconciler.world.fingerprint import Fingerprint, TableMark
from reconciler.world.pool import InlinePool
from reconciler.world.ports import (
    AS_USUAL,
    Blob,
    Cache,
    Clock,
    DumpFile,
    DumpOptions,
    History,
    Listing,
    Pool,
    Process,
    Stored,
    Target,
    Upload,
    World,
)
from reconciler.world.process import SystemProcess
from reconciler.world.through import Through
from tests.building import HOTEL, NOW, policy

ROWS = tuple(bytes([number]) * 5000 for number in range(8))
"""What the source holds, in the pieces in which it is dumped."""

Trouble = Literal["none", "down", "at the start", "half-way", "just before the end", "waits for stop"]


class MovedClock:
    """Stands still until somebody waits or moves it."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now
        self._passed = self._asleep = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._passed

    def elapsed(self) -> float:
        return self._passed + self._asleep

    def wait(self, seconds: float, stop: StopEvent) -> bool:
        """Passes at once, unless we were asked to stop."""
        if stop.is_set():
            return True
        self.move(timedelta(seconds=seconds))
        return False

    def move(self, span: timedelta) -> None:
        self._now += span
        self._passed += span.total_seconds()

    def suspend(self, span: timedelta) -> None:
        """The machine, which knows only afterwards."""
        self._now += span
        self._asleep += span.total_seconds()


class FakeDump:
    """Rows, as far as the trouble lets them through."""

    def __init__(self, source: "FakeSource", facts: DumpFacts) -> None:
        self._source = source
        self.facts = facts
        self.globals = Globals(
            roles=(Role(name="reception", login=True),),
            memberships=(),
            settings=(),
            database_owner="reception",
            database_acl=None,
        )

    def chunks(self) -> Iterator[bytes]:
        source = self._source
        for number, row in enumerate(source.rows):
            if source.trouble == "half-way" and number == len(source.rows) // 2:
                raise Unreachable("pg_dump died half-way")
            yield row
            if source.trouble == "waits for stop":
                source.waiting.set()
                assert source.stop.wait(30)
        if source.trouble == "just before the end":
            raise Unreachable("pg_dump died just before the end")

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        raise Refused("a fake is dumped as a stream only")

    @property
    def at_hand(self) -> str:
        return "public.guests"

    def lsn_after(self) -> str | None:
        return "0/2000060"

    def fingerprint(self) -> Fingerprint | None:
        """A thousand rows to a piece."""
        return Fingerprint(level="counts", major=18, tables={"public.guests": TableMark(rows=len(self._source.rows) * 1000)})


class FakeSource:
    """A database of bytes. It is never written to, having no way to be."""

    def __init__(self, clock: Clock, rows: Iterable[bytes] = ROWS, *, trouble: Trouble = "none") -> None:
        self.rows = tuple(rows)
        self.trouble: Trouble = trouble
        self.identity = HOTEL
        self.stop = StopEvent()
        self.waiting = StopEvent()
        self._clock = clock

    def facts(self) -> SourceFacts:
        if self.trouble == "down":
            raise Unreachable("db.internal: connection refused")
        return SourceFacts(identity=self.identity, server_version="18.1", major=18, clock=self._clock.now())

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[FakeDump]:
        if self.trouble in ("down", "at the start"):
            raise Unreachable("db.internal: connection refused")
        if expect is not None and expect != self.identity:
            raise Conflict(f"the source is {self.identity}, not {expect}")
        yield FakeDump(
            self,
            DumpFacts(
                source=self.facts(),
                instant=self._clock.now(),
                lsn_before="0/2000028",
                encoding="UTF8",
                collate="C",
                ctype="C",
                locale_provider="libc",
                extensions={"plpgsql": "1.0"},
                client_version="pg_dump (PostgreSQL) 18.1",
            ),
        )

    def end_sessions(self, backup_id: str) -> int:
        return 0


class FakeProvider:
    """Hosts one fake source."""

    domain = "host:db.internal"
    place = "postgres db.internal/hotel"

    def __init__(self, source: FakeSource, history: History | None = None) -> None:
        self._source, self._history = source, history

    def source(self) -> FakeSource:
        return self._source

    def history(self) -> History | None:
        """None is kept, unless one was given."""
        return self._history


class MemoryCache:
    """Forgets nothing. `texts`: what an earlier process left in it."""

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self.texts: dict[str, bytes] = dict(texts or {})

    def get(self, key: str) -> bytes | None:
        return self.texts.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.texts[key] = value


class Counting(Telling):
    """Knows which keys were read."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, silent)
        self.keys_read: list[str] = []

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        self.keys_read.append(key)
        return super().read(key, start=start, version=version)


class Interrupted(Through):
    """Somebody else acts just before the first write."""

    def __init__(self, target: Target, act: Callable[[], object]) -> None:
        super().__init__(target)
        self._acts = [act]

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        while self._acts:
            self._acts.pop()()
        return super().write(key, chunks, expect=expect, keep_until=keep_until)


class Lossy(Through):
    """Writes, and says that somebody was first, as a store does whose answer was lost and whose client asked again."""

    lost = False

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        stored = super().write(key, chunks, expect=expect, keep_until=keep_until)
        if not self.lost:
            self.lost = True
            raise Conflict(f"{self.name}: {key} was changed meanwhile")
        return stored


class VersionedTarget:
    """A store in memory that keeps what is overwritten or deleted, as a versioned bucket does."""

    versioned = True

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.place = f"memory://{name}"
        self._clock = clock
        self._numbers = count()
        self._versions: dict[str, list[tuple[Stored, bytes]]] = {}
        """By key, newest first."""

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        found = [
            structs.replace(stored, latest=place == 0)
            for key in sorted(self._versions)
            if key.startswith(prefix)
            for place, (stored, _) in enumerate(self._versions[key])
        ]
        # As S3 has it: a plain listing tells of no versions.
        shown = found if versions else [structs.replace(item, version=None) for item in found if item.latest and not item.marker]
        return Listing(items=tuple(shown), store_time=self._clock.now())

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        for stored, content in self._versions.get(key, [])[: None if version else 1]:
            if version in (None, stored.version) and not stored.marker:
                return Blob(stored, iter([content[start:]]))
        raise Absent(f"{self.name}: {key} is not there")

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        content = b"".join(chunks)
        newest = next(iter(self._versions.get(key, [])), None)
        if expect is not None and expect != (newest[0].etag if newest and not newest[0].marker else ""):
            raise Conflict(f"{self.name}: {key} is there already, or has changed")
        return self._add(key, content, marker=False)

    def delete(self, key: str, *, version: str | None = None) -> None:
        if version is None:
            self._add(key, b"", marker=True)
            return
        left = [each for each in self._versions.get(key, []) if each[0].version != version]
        self._versions[key] = left

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return ()

    def abort(self, upload: Upload) -> None:
        """Nothing is ever unfinished here."""

    def _add(self, key: str, content: bytes, *, marker: bool) -> Stored:
        number = str(next(self._numbers))
        stored = Stored(
            key=key, size=len(content), etag=f"e{number}", modified=self._clock.now(), version=f"v{number}", marker=marker
        )
        self._versions.setdefault(key, []).insert(0, (stored, content))
        return stored


def silent(event: Event) -> None:
    """Nobody listens."""


def at_effect(number: int, act: Callable[[], None]) -> Tell:
    """A listener that acts at the event of that number, counted from 0."""
    seen = iter(range(1_000_000))

    def tell(event: Event) -> None:
        if next(seen) == number:
            act()

    return tell


def make_world(
    folder: Path,
    clock: Clock,
    source: FakeSource | None = None,
    *,
    names: Iterable[str] = ("primary", "offsite"),
    targets: Mapping[str, Target] | None = None,
    tell: Tell = silent,
    process: Process | None = None,
    pool: Pool | None = None,
    cache: Cache | None = None,
    history: History | None = None,
) -> World:
    """Local targets below `folder`, unless others are given; all effects are told."""
    source = source or FakeSource(clock)
    given = targets or {name: LocalTarget(name, folder / name, clock=clock) for name in names}
    return World(
        targets={name: Telling(target, tell) for name, target in given.items()},
        domains={name: f"place:{name}" for name in given},
        provider=FakeProvider(source, history),
        clock=clock,
        process=process or SystemProcess(),
        pool=pool or InlinePool(),
        cache=cache or MemoryCache(),
        stop=source.stop,
        tell=tell,
        token=token,
        policy_digest="0" * 64,
    )


def take(
    world: World,
    target: str = "primary",
    *,
    repository: str | None = None,
    slot: datetime | None = None,
    filters: Filters = WHOLE,
) -> str:
    """A whole backup, taken now; its id."""
    before = set(states(world, target))
    action = TakeDump(database="hotel", target=target, slot=slot, repository=repository, identity=HOTEL, filters=filters)
    action.perform(world, policy(targets=tuple(world.targets)))
    (backup,) = set(states(world, target)) - before
    return backup


def catalogue(world: World, target: str = "primary", watch: Watch | None = None) -> Catalogue:
    """What that target is seen to hold now."""
    watch = watch or Watch(world.clock, world.process)
    reader = Reader(world.targets[target], "hotel", pool=world.pool, cache=world.cache, watch=watch, signatures=world.signatures)
    return reader.read(world.clock.now())


def states(world: World, target: str = "primary") -> dict[str, State]:
    """Each backup's state there."""
    return {copy.id: copy.state for copy in catalogue(world, target).copies}


def manifest_of(world: World, backup: str, target: str = "primary") -> Manifest:
    text, _ = read_whole(world.targets[target], layout.object_key("hotel", backup, layout.MANIFEST))
    return decode(text, backup=backup)


def content(world: World, backup: str, target: str = "primary") -> bytes:
    """The archive, read back and checked."""
    manifest = read_manifest(world.targets[target], "hotel", backup, world.signatures)
    return b"".join(archive(world.targets[target], manifest, world.identities))


def stranger(**fields: object) -> Owner:
    """A process of another host: nothing can be proven of it."""
    owner = Owner(boot="another-boot", pid_namespace="pid:[1]", pid=17, start_ticks=4, token="ab" * 8, host="elsewhere")
    return Owner(**({name: getattr(owner, name) for name in owner.__struct_fields__} | fields))


def claim_text(owner: Owner | None, counter: int = 0, slot: datetime | None = None) -> bytes:
    """An intent or a lease of that owner."""
    return encode(ClaimRecord(owner=owner, counter=counter, since=NOW, for_what="scheduled backup", slot=slot, kind="scheduled"))


def bury(world: World, backup: str, due: datetime, target: str = "primary", *, of: str | None = None) -> str:
    """Put a tombstone on it; its key."""
    key = layout.tombstone_key("hotel", backup, due)
    stone = Tombstone(id=of or backup, at=world.clock.now(), due=due, reason="not kept by retention")
    world.targets[target].write(key, [encode(stone)])
    return key


def files(folder: Path) -> set[str]:
    """All files below it, hidden ones too, relative."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
