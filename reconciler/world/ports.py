"""The ports: all that the core asks of the world. Each docstring is the contract, and a suite in `tests/contracts` runs it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as StopEvent
from typing import Final, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from reconciler.errors import Refused
from reconciler.policy.firing import Firing
from reconciler.policy.model import Hook
from reconciler.policy.secret import Revealed
from reconciler.world.events import Tell
from reconciler.world.facts import WHOLE, DumpFacts, Filters, Globals, Identity, LifecycleRule, Owner, SourceFacts
from reconciler.world.fingerprint import Fingerprint, Level
from reconciler.world.heart import Heart, in_a_thread
from reconciler.world.history import BranchFacts, HistoryFacts, SnapshotFacts
from reconciler.world.scratch import NoScratch, Scratch

Identities = Callable[[], Sequence[Revealed]]

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object, or one version of it, as a listing shows it."""

    key: str
    size: int
    etag: str
    """Changes whenever the content does. Opaque, without quotes."""
    modified: datetime
    version: str | None = None
    """Of a versioned store; None elsewhere."""
    latest: bool = True
    marker: bool = False
    """A delete marker: hides the versions below it."""
    archive: str = ""
    """The archive class that it must be brought back from before it can be read, or empty."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything under a prefix, ordered by key; complete, or it was not returned."""

    items: tuple[Stored, ...]
    store_time: datetime
    """The store's own clock."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A write that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    begun: datetime


class Blob:
    """An object being read: what it is, and its bytes from the asked start, once. Close it when done early."""

    def __init__(self, stored: Stored, chunks: Iterator[bytes], close: Callable[[], None] = lambda: None) -> None:
        self.stored = stored
        self._chunks = chunks
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def __enter__(self) -> "Blob":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


ABSENT: Final = ""
"""As `expect`: the key must not exist. (No store has an empty ETag.)"""


@runtime_checkable
class Target(Protocol):
    """A place that stores objects under keys such as `hotel/backups/…/manifest.json` (its own prefix already left out).

    Raises Unreachable, Refused, Conflict, Absent, Corrupt and nothing else of a library's. Safe to use from several threads.
    """

    @property
    def name(self) -> str:
        """As the policy calls it."""

    @property
    def place(self) -> str:
        """Where it is, for people, e.g. `s3://bucket/prefix`. No secrets.

        No other place is called the same: what was seen there is remembered by this name.
        """

    @property
    def versioned(self) -> bool:
        """Whether overwritten and deleted objects stay as versions."""

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Everything under `prefix`, all pages; raises rather than being short. Nothing there is an empty listing.

        Without `versions`: what a plain read finds, each with `version` None.
        """

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """The object from byte `start` on. Raises Absent."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Store the concatenated chunks under `key`, whole or not at all, durable when it returns.

        `expect`: None writes in any case, ABSENT only where there is nothing, an ETag only over that very content; else Conflict,
        and nothing is changed. `keep_until`: where the store can, it lets nobody delete this version sooner. If `chunks` raises,
        nothing is stored, what was begun is aborted, and that exception goes through. Memory is bounded whatever the length.
        """

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Remove the object (or that version). Removing what is not there is fine. Raises Locked where the store keeps it."""

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """Writes that somebody began under `prefix` and never completed."""

    def abort(self, upload: Upload) -> None:
        """Free what an unfinished write holds. Aborting what is not there is fine."""


class Custody:
    """What a store is told, or known, to do with objects beyond the port's business. This one: nothing."""

    append_only = False
    """Nothing is ever deleted there by us."""
    single_writer = False
    """Its owner vouches that one program at a time acts on it, whatever it makes of conditional writes."""
    retain: timedelta | None = None
    """For how long what belongs to a backup is kept from everybody's deletion."""
    shows_unfinished = True
    """Whether writes that were begun and not completed can be found and aborted. Where not, the store drops them by itself."""
    drops_unfinished = False
    """Whether the store drops them by itself though they can be found: who may not delete there need not abort them."""

    holds = False
    """Whether the store itself keeps from everybody's deletion what `hold` names, until it is let go."""

    def hold(self, key: str, version: str | None, *, held: bool) -> None:
        """Keep that version, or let it go. Met twice, it is the same. Raises Refused, Unreachable."""

    def default_retention(self) -> timedelta | None:
        """For how long the store locks whatever is written there, leases too. Raises Refused where it may not be asked."""
        return None

    def lifecycle(self) -> tuple[LifecycleRule, ...]:
        """The rules by which it removes and moves objects by itself. Raises Refused where it may not be asked."""
        return ()


_NO_CUSTODY = Custody()


def custody_of(target: Target) -> Custody:
    """What a target has to say about that, as its `custody`. A wrapper passes on what the target inside says."""
    # No protocol of its own: looking whether a target is one would take longer than asking, and every listing asks.
    said: Custody = getattr(target, "custody", _NO_CUSTODY)
    return said


class DumpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a dump is to be taken, as the policy says."""

    max_duration: timedelta | None = None
    """The longest that it may take, whole; it is ended then."""
    yield_to: timedelta | None = None
    """It is ended when somebody waits behind its locks for longer."""
    filters: Filters = WHOLE
    """What of the database is dumped."""
    passwords: bool = False
    """Whether SCRAM verifiers of the roles' passwords are read, where the server lets us."""
    fingerprint: Level | None = None
    """What is taken of the data beside it."""
    through: Literal["branch", "source"] | None = None
    """What is read, where the provider has branches; None: as it does by itself."""
    jobs: int = 0
    """How many sessions write a directory archive; 0: the archive is one stream."""


AS_USUAL: Final = DumpOptions()


class Hashed(msgspec.Struct, frozen=True, kw_only=True):
    """A range of an object's bytes; they follow one another."""

    size: int
    sha256: str


class CopyWithin(msgspec.Struct, frozen=True, kw_only=True):
    """An object to be copied inside a store, to the same key of another target."""

    key: str
    parts: Sequence[Hashed]
    """All of it, as it must be."""
    about_to: Callable[[], None]
    """Called just before the object comes to be; what it raises keeps it from that."""
    moved: Callable[[int], None] = lambda _: None
    """Told how many bytes there are so far."""
    keep_until: datetime | None = None


@runtime_checkable
class CopiesWithin(Protocol):
    """A target that may be able to copy from another without the bytes coming by here, where both are in one store."""

    def copy_within(self, origin: Target, wanted: CopyWithin) -> bool:
        """Copy it, only where there is nothing, whole or not at all; True when the store itself proved the hash of every part.

        False: it can't, nothing was stored, and streaming may. Raises Corrupt where the store proved a part to be another,
        and what a write raises.
        """


def copy_within(target: Target, origin: Target, wanted: CopyWithin) -> bool:
    """The same of any target."""
    return isinstance(target, CopiesWithin) and target.copy_within(innermost(origin), wanted)


def innermost(target: Target) -> Target:
    """The target inside all wrappers."""
    while (inside := getattr(target, "inside", None)) is not None:
        target = inside
    return target


class DumpFile(Protocol):
    """A file of a directory archive, being written or whole."""

    @property
    def name(self) -> str: ...

    def chunks(self) -> Iterator[bytes]:
        """All its bytes, once; it is gone afterwards. Raises Unreachable when the dump has failed meanwhile."""


class ArchiveFiles(Protocol):
    """A directory archive that is read back, file by file; several of them at a time, each by a thread of its own."""

    def toc(self) -> bytes:
        """Its table of contents. Raises Corrupt."""

    @property
    def names(self) -> Sequence[str]:
        """All other files that are read: those that pg_restore asks for, in about that order. Raises Corrupt where one lacks."""

    def raw_bytes(self, name: str) -> int:
        """How long it is."""

    def read(self, name: str) -> Iterator[bytes]:
        """All its bytes; each part was checked before, the whole before the last chunk comes. Raises Corrupt, NoKey."""


class Dump(Protocol):
    """A dump in progress, on one exported snapshot."""

    @property
    def facts(self) -> DumpFacts: ...

    @property
    def globals(self) -> Globals: ...

    def chunks(self) -> Iterator[bytes]:
        """The archive (`pg_dump -Fc --compress=none`), once. Ends normally only after the producer was reaped with status 0."""

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        """Instead of `chunks`: a directory archive, in an empty folder, by as many sessions as the options say.

        Each file is given to `take`, which returns at once, as soon as it may be read; at most about `most` bytes lie there
        unread. Returns once the producer was reaped with status 0 and all files were read. `check` is called all the while.
        """

    @property
    def at_hand(self) -> str:
        """The table whose rows are read just now, for people; empty where nobody knows. Text from outside."""

    def lsn_after(self) -> str | None:
        """The source's WAL position now: with `lsn_before` it brackets the snapshot."""

    def fingerprint(self) -> Fingerprint | None:
        """What the snapshot holds, once the archive is through; None where none was asked for. Raises Stopped.

        Its failure is no failure of the dump: what could not be read is in it as uncovered. It may take about as long again.
        """


class Source(Protocol):
    """A PostgreSQL database to protect. Never written to."""

    def facts(self) -> SourceFacts:
        """Identity, version and clock, in one short connection. Raises Unreachable or Refused."""

    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> AbstractContextManager[Dump]:
        """Open a snapshot under `application_name=reconciler/{backup_id}`.

        Raises Conflict if the identity is not the expected one; its chunks raise Unreachable once an option ends it.
        """

    def end_sessions(self, backup_id: str) -> int:
        """End the sessions that a dump of that id left behind; how many there were."""


class History(Protocol):
    """Instants of a database that its provider keeps: what it can return to, and the settings that decide it.

    Raises Unreachable, Refused, Conflict, Absent and nothing else of a library's; Refused names what the account's plan can't
    have, with the cure. Whatever changes something is safe to meet twice: it looks first, raises Conflict where what is there is
    not what was expected, and changes nothing then. An answer that was lost is looked for by name before anything is asked
    again. Each method returns only once the effect is there (the provider's operations have ended), and looking wakes nothing.
    """

    def facts(self) -> HistoryFacts:
        """All of it, in few calls; raises rather than being short."""

    def fenced(self, check: Callable[[], None]) -> "History":
        """The same, whose changes of settings and deletions happen only where `check` raises nothing.

        It is called when each is about to be sent, after all waiting; what it raises goes through, and nothing was changed.
        """

    def open(self, point: datetime, *, use: str, until: datetime) -> AbstractContextManager["Source"]:
        """A branch of ours at that instant, named `branch_name(database, use)`, to read from and to write to.

        Made with its annotation and with its end (`until`) in one request, and deleted when the context ends, whatever happened.
        What is entered is a source of the same database on that branch alone: its identity was asserted, and nothing that goes
        wrong leads to production. Raises Refused for an instant outside the window, and where one branch more is too many.
        """

    def set_window(self, window: timedelta, *, expect: timedelta) -> None:
        """Set the project's window. Raises Conflict where it is neither `expect` nor `window` by now."""

    def set_schedule(self, schedule: Sequence[Firing], *, expect: Sequence[Firing]) -> None:
        """Put the protected branch's snapshot schedule in place of the expected one; empty turns it off.

        Both are sorted. Raises Conflict where the schedule is neither by now.
        """

    def take_snapshot(self, name: str, *, until: datetime | None = None) -> SnapshotFacts:
        """A snapshot of the protected branch as it is now. One that bears the name already is taken for ours and returned.

        `until`: when the provider deletes it by itself.
        """

    def delete_snapshot(self, snapshot: SnapshotFacts) -> None:
        """For good. One that is not there any more is fine; raises Conflict where that id has another name or branch by now."""

    def delete_branch(self, branch: BranchFacts) -> None:
        """With its computes. One that is not there any more is fine.

        Raises Conflict where that id has another name, parent or annotation by now, is the default or protected, or has children.
        """

    def protect(self, branch: BranchFacts) -> None:
        """Nobody can delete it by accident from then on. Raises Conflict where that id has another name by now."""


class Provider(Protocol):
    """Who hosts the database."""

    @property
    def domain(self) -> str | None:
        """What fails together with the source, e.g. `host:db.internal`; None where that is unknown."""

    @property
    def place(self) -> str:
        """Where it is, for people, e.g. `postgres db.internal/hotel`. No secrets."""

    def source(self) -> Source: ...

    def history(self) -> History | None:
        """The instants that it keeps; None where it keeps none. Connects to nothing yet."""


class Clock(Protocol):
    def now(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds in which we could run: it stands still while the machine is suspended. For what we watch or limit."""

    def elapsed(self) -> float:
        """Seconds as they pass for others, too: those of a suspended machine count, where the system tells. For what we hold."""

    def wait(self, seconds: float, stop: StopEvent) -> bool:
        """Wait that long; True at once when asked to stop."""


class Answer(Protocol[T_co]):
    """What comes of a piece of work, as a future tells it."""

    def result(self, timeout: float | None = None) -> T_co:
        """Waits for it; raises what the work raised, and TimeoutError."""
        ...


class Pool(Protocol):
    """Where work that may overlap is done."""

    def submit(self, work: Callable[[], T]) -> Answer[T]: ...

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
        """All results in the items' order; the first exception goes through."""


class Cache(Protocol):
    """Remembers small immutable texts. May forget any of them at any time, and never fails."""

    def __hash__(self) -> int:
        """As any object has it: what was read by way of one cache is not taken for what another one knows."""
        ...

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


class Process(Protocol):
    """This process among others: makes owners, and tells what became of an owner's process."""

    def begin(self) -> Owner:
        """An owner for one claim, alive until `end` or until the process is."""

    def end(self, owner: Owner) -> None:
        """The claim is over, though the process lives on."""

    def is_gone(self, owner: Owner) -> bool | None:
        """True or False where it can be proven from here; None where it can't (another host or container)."""


class Signatures(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures on manifests are trusted, and what signs new ones."""

    public_keys: tuple[str, ...] = ()
    """Empty: every manifest is taken as it is."""
    signing_key: Callable[[], Revealed | None] = lambda: None
    """Looked up when something is signed. Raises Refused."""


def no_identities() -> Sequence[Revealed]:
    """Where the policy names none."""
    return ()


def no_fence() -> None:
    """Nothing holds it back."""


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """Beside what a hook runs."""

    phase: Literal["before", "after"]
    of: str
    """`dump`, `copy`, `verify`, `prune`."""
    facts: Mapping[str, str]
    """What it is told, by the names of variables without their prefix: DATABASE, TARGET, BACKUP, and after it RESULT."""


RunHook = Callable[[Hook, Occasion], None]
"""Runs it to its end. Raises Unreachable where it fails or takes too long, Refused where a reference leads nowhere, Stopped."""


def no_hooks(hook: Hook, occasion: Occasion) -> None:
    """Where none can be run."""
    raise Refused(f"hook {hook.argv[0]} can't be run here")


class HookSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen of a hook without running it."""

    program: Path | None
    """What it starts; None where that can't be told."""
    faults: tuple[Refused, ...]
    """All that would keep it from running."""


LookAtHook = Callable[[Hook, str], HookSeen]
"""Looks, and runs nothing. The text says where the hook stands, as `before[0]`. Never raises."""


def unseen_hooks(hook: Hook, place: str) -> HookSeen:
    """Where none can be run."""
    return HookSeen(program=None, faults=())


class Staging(Protocol):
    """A place on this machine's disk."""

    def folder(self) -> AbstractContextManager[Path]:
        """An empty folder that only we may look into, gone afterwards. Raises Refused where none can be made."""

    def sweep(self) -> int:
        """Remove what dead processes left there; how many folders."""


class NoStaging:
    """Where there is none."""

    def folder(self) -> AbstractContextManager[Path]:
        """Raises."""
        raise Refused("there is no place for files here")

    def sweep(self) -> int:
        """Nothing."""
        return 0


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All that one database's turn may touch."""

    targets: Mapping[str, Target]
    domains: Mapping[str, str]
    provider: Provider
    homes: Mapping[str, Target] = {}
    """Of the policy's databases whose history is of the same project, this one's own among them: for reading alone."""
    clock: Clock
    process: Process
    pool: Pool
    cache: Cache
    stop: StopEvent
    tell: Tell
    token: Callable[[int], str]
    policy_digest: str
    git_commit: str | None = None
    scratch: Scratch = NoScratch()
    heart: Heart = in_a_thread
    run_hook: RunHook = no_hooks
    look_at_hook: LookAtHook = unseen_hooks
    signatures: Signatures = Signatures()
    staging: Staging = NoStaging()
    fence: Callable[[], None] = no_fence
    """What a change at the provider must pass when it is sent. Raises Conflict where the lease or the look is too old."""
    identities: Identities = no_identities
    """The private keys that decrypt backups, looked up when reading back needs them and not before. Raises Refused."""
