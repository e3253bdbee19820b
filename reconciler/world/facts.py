"""Facts, observed at an instant: the vocabulary that planning reasons in. No I/O, no behaviour beyond reading a fact.

An unreachable service is `Unknown`, never empty. All instants are aware and in UTC.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from reconciler.world.evidence import Chain
from reconciler.world.fingerprint import Summary
from reconciler.world.history import Change, HistoryFacts
from reconciler.world.lazily import lazily

T = TypeVar("T")

Instant = Annotated[datetime, Meta(tz=True)]
"""As records are read: one without a zone can't be compared with any other, and is refused."""


class Known(msgspec.Struct, Generic[T], frozen=True):
    """A value, seen at an instant by our clock."""

    value: T
    at: datetime


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Could not be seen. `reason` and `cure` are for the reader, free of secrets."""

    reason: str
    at: datetime
    cure: str = ""
    last: datetime | None = None
    """Of a catalogue: the newest restore point that was seen there before, or, where none was, when it was first looked for in
    vain. None: nobody remembers."""


Observed = Known[T] | Unknown


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What makes a source itself. A system identifier alone is shared by clones, so the database's name belongs to it."""

    provider: str
    cluster: str
    """PostgreSQL: the system identifier in decimal digits."""
    database: str

    def __str__(self) -> str:
        return f"{self.provider} {self.cluster}/{self.database}"


class Owner(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who claims something: a process, and one claim of it. Two containers share a boot id but not a pid namespace."""

    boot: str
    pid_namespace: str
    pid: int
    start_ticks: int
    token: str
    host: str
    """For the reader; proves nothing."""


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    identity: Identity
    server_version: str
    """As the server says it, e.g. `18.6`."""
    major: int
    clock: datetime
    """The source's own clock when it was asked."""
    standby: bool = False


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role as `pg_roles` shows it; never with a password."""

    name: str
    superuser: bool = False
    inherit: bool = True
    create_role: bool = False
    create_db: bool = False
    login: bool = False
    replication: bool = False
    bypass_rls: bool = False
    connection_limit: int = -1
    valid_until: str | None = None
    comment: str | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """`member` belongs to `role`. `inherit` and `set` are None before PostgreSQL 16, which has no such options."""

    role: str
    member: str
    admin: bool = False
    inherit: bool | None = None
    set: bool | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One `ALTER ROLE|DATABASE … SET name = value`. `role` None: for all roles; `database` False: in every database."""

    role: str | None
    database: bool
    name: str
    value: str


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What of a database is dumped, by strict names: `public.guests`, `public."Odd name"`. All empty: everything."""

    include: tuple[str, ...] = ()
    """These tables and views alone."""
    exclude: tuple[str, ...] = ()
    """All but these."""
    exclude_data: tuple[str, ...] = ()
    """All, but of these tables no rows."""

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude or self.exclude_data)

    @property
    def partial(self) -> bool:
        """Whether whole objects are left out: what is dumped is then no backup of the database."""
        return bool(self.include or self.exclude)

    def says(self) -> str:
        """For people; empty where nothing is left out."""
        parts = (("only", self.include), ("without", self.exclude), ("without the rows of", self.exclude_data))
        said = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
        return f"{said}: partial, and no restore point" if self.partial else said


WHOLE = Filters()


class Globals(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump of one database does not hold and a new server needs."""

    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    settings: tuple[Setting, ...]
    database_owner: str
    database_acl: tuple[str, ...] | None
    """ACL items in PostgreSQL's own notation; None: the default one."""
    database_comment: str | None = None
    connection_limit: int = -1
    """How many sessions the database allows; -1: as many as the server."""
    tablespaces: tuple[str, ...] = ()
    """Those that something of the database lies in, but for the default ones."""
    verifiers: Mapping[str, str] = {}
    """Role → SCRAM verifier of its password, where the policy keeps them: who reads them can guess at passwords."""
    unread_passwords: bool = False
    """Whether the policy keeps verifiers, and the dump's role may not read them."""
    lc_monetary: str = ""
    """The locale in which the dump has values of type money, if there are any."""
    money_sample: str = ""
    """Two of them, as the dump has them: a server that writes them alike reads them, whatever it calls its locale."""
    filters: Filters = WHOLE
    """What of the database the dump beside it holds: should the manifest be lost, this still tells a partial one."""


class DumpFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump's own session saw of the source, in the snapshot that is dumped."""

    source: SourceFacts
    instant: datetime
    """The restore point: min(source's clock at BEGIN, our clock at the start); on a standby the last replayed commit."""
    lsn_before: str | None
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    locale: str = ""
    """ICU's, or the builtin provider's; empty for libc."""
    extensions: Mapping[str, str]
    client_version: str
    """What `pg_dump --version` says."""
    hosted: tuple[str, ...] = ()
    """Entries of the archive that are its host's own, as pg_restore lists them: every restore elsewhere leaves them out."""


State = Literal[
    "whole", "being_written", "debris", "damaged", "orphan", "deleted", "being_deleted", "hidden", "foreign", "impossible"
]


class Copy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One backup as one target holds it."""

    id: str
    state: State
    why: str = ""
    """What makes it so, for every state but `whole`."""
    instant: datetime
    kind: str = "scheduled"
    slot: datetime | None = None
    """The schedule's instant that it satisfies (from manifest or intent)."""
    stored_bytes: int = 0
    raw_bytes: int | None = None
    """Of its dump before compression; None where no manifest tells."""
    started: datetime | None = None
    finished: datetime | None = None
    keep_until: datetime | None = None
    labels: Mapping[str, str] = {}
    due: datetime | None = None
    """Of its tombstones: until then it can come back. None where one of them can't be believed."""
    anew: datetime | None = None
    """When its tombstone came to the store, where its grace counts from then since it had been decided long before."""
    repository: str | None = None
    """Whose it says it is."""
    identity: Identity | None = None
    """Of the source that it was dumped from."""
    place: str = ""
    """Where that source was; empty where nobody knows."""
    has_tombstone: bool = False
    writer: Literal["none", "alive", "gone", "undecided"] = "none"
    """Of its intent. `undecided`: it may be dead, and watching its heartbeat would tell."""
    held: str = ""
    """Why nobody may delete it here (a hold), or empty."""
    held_until: datetime | None = None
    """When that ends by itself; None: not before somebody releases it."""
    held_unasked: bool = False
    """The store was to keep it by itself too, and has given no answer yet."""
    held_refused: datetime | None = None
    """When the store refused to keep it by itself too."""
    partial: bool = False
    """Whole objects were left out of it by name: it is kept like any other, and is no restore point of the database."""
    recipients: tuple[str, ...] = ()
    """Who it is encrypted to; none: it is not."""
    marks: Summary | None = None
    """What its fingerprint found. Of the newest few alone: it is there to notice what the newest dump lost."""
    is_unsigned: bool = False
    """Foreign for that alone: somebody may vouch for it yet."""
    content: str = ""
    """Stands for the very bytes that lie there, by what the target says of them: evidence speaks of one content."""
    archived: str = ""
    """The archive class that its dump must be brought back from before it can be read, or empty."""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A deletion that was decided. Stays while any copy of the id is left, and 30 days."""

    id: str
    at: Instant
    due: Instant
    slot: Instant | None = None
    """Counts as done for the schedule; None for debris, whose slot is free again."""
    reason: str
    counts: bool = True
    """Whether the database lost a backup by it (debris never was one)."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody reads a backup: nothing of it is deleted meanwhile."""

    backup: str
    key: str
    writer: Literal["alive", "gone", "undecided"]
    says: str


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """Whose catalogue this is."""

    id: str
    identity: Identity
    targets: Mapping[str, str]
    home: str
    created: Instant
    places: tuple[str, ...] = ()
    """Where the source may be met: a person said that these are one and the same database."""


class LifecycleRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a store does by itself with objects once they are so old, as its owner told it."""

    name: str
    prefix: str
    """Of the keys that it reaches, as the target's own keys begin."""
    does: Literal["expires", "expires old versions of", "archives"]
    after: timedelta


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """What one target holds of one database. `copies` are newest first."""

    repository: Repository | None
    copies: tuple[Copy, ...]
    tombstones: tuple[Tombstone, ...]
    """Those that can be believed; where keys are pinned, with their graces counted from when they came."""
    store_time: datetime
    """The store's own clock at the listing."""
    came: Mapping[str, datetime] = {}
    """When the first tombstone of a backup came to the store, by its own clock; of those that no pinned key vouches for."""
    doubted: tuple[str, ...] = ()
    """Backups of which nothing is left but tombstones that can't be believed."""
    strays: tuple[str, ...] = ()
    """Keys that the layout does not know: reported, never touched."""
    pins: tuple[Pin, ...] = ()
    frozen: str = ""
    """Why nothing may be destroyed, or empty."""
    acknowledged: tuple[str, ...] = ()
    """Backups whose shrinking a person has looked at."""
    evidence: Chain = Chain()
    """What verifications and drills found out."""
    changes: tuple[Change, ...] = ()
    """What we changed at the provider, the newest few, by sequence. On the home target alone."""
    append_only: bool = False
    """Nothing is ever deleted there by us."""
    rules: tuple[LifecycleRule, ...] = ()
    """What the store does by itself, as far as it told."""


class Observation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One database of the world, at one instant."""

    database: str
    place: str
    """Where the source is, for people."""
    source: Observed[SourceFacts]
    source_domain: str | None
    """What fails together with the source; None where that is unknown."""
    catalogues: Mapping[str, Observed[Catalogue]]
    domains: Mapping[str, str]
    """Target → what fails together with it."""
    evidence: Observed[Chain]
    """As the home target holds it, with what it lost and others still have."""
    history: Observed[HistoryFacts] | None = None
    """What the provider keeps by itself; None where it keeps nothing."""
    windows: Mapping[str, Observed[tuple[Change, ...]]] = {}
    """What is recorded of its window, by sequence, on the home target of each database of the same project."""

    def known(self) -> Mapping[str, Catalogue]:
        """The catalogues that could be read, by target's name: what follows from them must not depend on who answered first."""
        return self._known

    def append_only(self) -> frozenset[str]:
        """The known targets that nothing is deleted from."""
        return frozenset(name for name, catalogue in self.known().items() if catalogue.append_only)

    def unknown(self) -> Mapping[str, Unknown]:
        """The targets that could not be read, and why."""
        return self._unknown

    def pinned(self) -> frozenset[str]:
        """Backups that somebody reads, or may be reading."""
        pins = (pin for catalogue in self.known().values() for pin in catalogue.pins)
        return frozenset(pin.backup for pin in pins if pin.writer != "gone")

    def backups(self) -> tuple["Backup", ...]:
        """The union over all known targets, newest first."""
        return self._union

    def once(self, reckon: Callable[..., T], *of: object) -> T:
        """`reckon(self, *of)`, which rests on nothing else: several duties ask for the same. `of` are compared by `is`."""
        key: object = (reckon, *map(id, of)) if of else reckon
        known = self._reckoned.get(key)
        if known is None:
            # With what it is of, whose identity nothing else may take meanwhile.
            known = self._reckoned[key] = (of, reckon(self, *of))
        value: T = known[1]
        return value

    @lazily
    def _reckoned(self) -> dict[object, tuple[tuple[object, ...], Any]]:
        return {}

    # Every duty asks for these, and thousands of backups take their time: `dict=True` above gives them a place to stay.
    @lazily
    def _known(self) -> Mapping[str, Catalogue]:
        return {name: seen.value for name, seen in sorted(self.catalogues.items()) if isinstance(seen, Known)}

    @lazily
    def _unknown(self) -> Mapping[str, Unknown]:
        return {name: seen for name, seen in sorted(self.catalogues.items()) if isinstance(seen, Unknown)}

    @lazily
    def _union(self) -> tuple["Backup", ...]:
        found: dict[str, dict[str, Copy]] = {}
        for target, catalogue in self.known().items():
            for copy in catalogue.copies:
                found.setdefault(copy.id, {})[target] = copy
        merged = (Backup(id=key, copies=copies) for key, copies in found.items())
        return tuple(sorted(merged, key=attrgetter("instant", "id"), reverse=True))


class Backup(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A dump plus its manifest, wherever copies of it lie."""

    id: str
    copies: Mapping[str, Copy]

    @lazily
    def _best(self) -> Copy:
        best = next(iter(self.copies.values()))
        return best if best.state == "whole" else min(self.copies.values(), key=lambda copy: STATES.index(copy.state))

    @lazily
    def state(self) -> State:
        """The best that any copy is in."""
        return self._best.state

    @lazily
    def instant(self) -> datetime:
        return self._best.instant

    @lazily
    def kind(self) -> str:
        return self._best.kind

    @property
    def slot(self) -> datetime | None:
        return self._best.slot

    @property
    def stored_bytes(self) -> int:
        return self._best.stored_bytes

    @property
    def keep_until(self) -> datetime | None:
        return self._best.keep_until

    @property
    def labels(self) -> Mapping[str, str]:
        return self._best.labels

    @lazily
    def whole_on(self) -> tuple[str, ...]:
        """Targets with a whole copy, by name."""
        return tuple(sorted(name for name, copy in self.copies.items() if copy.state == "whole"))

    @lazily
    def held(self) -> tuple[str, ...]:
        """What the holds on any of its copies say."""
        held = [name for name, copy in self.copies.items() if copy.held]
        return tuple(dict.fromkeys(self.copies[name].held for name in sorted(held))) if held else ()

    @lazily
    def partial(self) -> bool:
        """Whether whole objects were left out of it."""
        return self._best.partial

    @lazily
    def has_tombstone(self) -> bool:
        """Whether any copy is on its way out."""
        return any(copy.has_tombstone for copy in self.copies.values())


STATES: tuple[State, ...] = (
    "whole", "being_written", "deleted", "damaged", "orphan", "hidden", "impossible", "foreign", "being_deleted", "debris",
)  # fmt: skip
"""Best first: what a backup is said to be where its copies differ."""
