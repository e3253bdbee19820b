"""What the sandbox's Neon remembers: one file, and all of it in there. Storage (timelines) below, what people name above."""

from datetime import datetime
from typing import Literal

import msgspec

from reconciler.sandbox.neon.work import Work

Action = Literal[
    "create_branch",
    "create_timeline",
    "start_compute",
    "suspend_compute",
    "apply_config",
    "apply_storage_config",
    "delete_timeline",
    "timeline_archive",
    "timeline_unarchive",
    "detach_parent_branch",
]
"""Of the published list, those that this Neon performs."""
Status = Literal["scheduling", "running", "finished", "failed", "error", "cancelled", "skipped"]


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a timeline's files, good for every place from `stop` on."""

    start: int
    stop: int
    stopped: datetime


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log stood at an instant."""

    at: datetime
    lsn: int


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster's files, its log since its birth, and copies of the files. `parent` holds what was before `start`."""

    id: str
    parent: str | None
    start: int
    born: datetime
    bases: tuple[Base, ...] = ()
    ticks: tuple[Tick, ...] = ()


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role made by the API; one made in SQL is not known here."""

    name: str
    password: str
    created_at: datetime
    updated_at: datetime
    no_login: bool = False

    def __repr__(self) -> str:
        return f"Role(name={self.name!r})"


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """A database made by the API."""

    id: int
    name: str
    owner: str
    created_at: datetime
    updated_at: datetime


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """A branch that can be had back until the window of recovery ends."""

    at: datetime
    until: datetime
    method: Literal["user", "ttl"]


class ScheduleItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a branch's backup schedule, as it was put."""

    frequency: str
    hour: int | None = None
    day: int | None = None
    month: int | None = None
    retention_seconds: int | None = None


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """What a person names. Its data is a timeline, which a restore exchanges under it."""

    id: str
    name: str
    timeline: str
    created_at: datetime
    updated_at: datetime
    state_changed_at: datetime
    state: Literal["init", "resetting", "ready"] = "init"
    parent_id: str | None = None
    parent_lsn: str | None = None
    parent_timestamp: datetime | None = None
    protected: bool = False
    expires_at: datetime | None = None
    ttl_seconds: int | None = None
    annotation: dict[str, str] = msgspec.field(default_factory=dict)
    init_source: str = "parent-data"
    roles: tuple[Role, ...] = ()
    databases: tuple[Database, ...] = ()
    size: int | None = None
    last_reset_at: datetime | None = None
    restored_from: str | None = None
    restored_as: str | None = None
    restore_status: str | None = None
    restricted: dict[str, str] = msgspec.field(default_factory=dict)
    """What may not be done, and why."""
    kept: bool = False
    """The old state of a branch that was restored from another one: it can't be deleted."""
    schedule: tuple[ScheduleItem, ...] = ()
    deletion: Deletion | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A compute's address: a port on loopback that stays, whether the compute runs or not."""

    id: str
    branch_id: str
    port: int
    created_at: datetime
    updated_at: datetime
    state: Literal["init", "active", "idle"] = "init"
    name: str | None = None
    suspend_timeout_seconds: int = 0
    min_cu: float = 0.25
    max_cu: float = 0.25
    disabled: bool = False
    started_at: datetime | None = None
    suspended_at: datetime | None = None
    last_active: datetime | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A branch's data at a place, kept apart from the branch and from its history."""

    id: str
    name: str
    branch_id: str
    created_at: datetime
    parent: str
    """The timeline that it was taken of; its own has the snapshot's id."""
    lsn: int | None = None
    at: datetime | None = None
    """The instant that was asked for."""
    expires_at: datetime | None = None
    manual: bool = True
    size: int | None = None
    roles: tuple[Role, ...] = ()
    databases: tuple[Database, ...] = ()
    ready: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is done in its turn, and done again from its beginning when the server was killed over it."""

    id: str
    request: str
    """Those of one request: when one fails for good, the rest are cancelled."""
    action: Action
    work: Work
    created_at: datetime
    updated_at: datetime
    status: Status = "scheduling"
    branch_id: str | None = None
    endpoint_id: str | None = None
    error: str | None = None
    failures: int = 0
    retry_at: datetime | None = None
    milliseconds: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it still stands in the way of other changes of the project."""
        return self.status in {"scheduling", "running"} or (self.status == "failed" and self.retry_at is not None)


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The one project."""

    id: str
    name: str
    history_retention_seconds: int
    created_at: datetime
    updated_at: datetime
    default_branch: str = ""
    reaches_back_to: datetime
    """No history before it is left, however wide the window was made since."""
    plan: str = "scale"
    recovery_seconds: int = 7 * 86400
    """How long a deleted branch can be had back."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    project: Project
    timelines: dict[str, Timeline] = msgspec.field(default_factory=dict)
    branches: dict[str, Branch] = msgspec.field(default_factory=dict)
    endpoints: dict[str, Endpoint] = msgspec.field(default_factory=dict)
    snapshots: dict[str, Snapshot] = msgspec.field(default_factory=dict)
    operations: dict[str, Operation] = msgspec.field(default_factory=dict)
