"""What Neon's API answers, as far as it is read here. Where it lists words, others may come: they are read as texts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec

from reconciler.errors import Refused
from reconciler.world.learning import learnt

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An object; fields that are not named are passed over."""


class Quota(Answer, frozen=True, kw_only=True):
    """What a project may use until the month turns. Zero or absent: as much as it likes."""

    active_time_seconds: int = 0
    compute_time_seconds: int = 0
    written_data_bytes: int = 0
    data_transfer_bytes: int = 0
    logical_size_bytes: int = 0


class ProjectSettings(Answer, frozen=True, kw_only=True):
    """Of them, what runs out."""

    quota: Quota | None = None


class Project(Answer, frozen=True, kw_only=True):
    """The project."""

    id: str
    name: str
    pg_version: int
    history_retention_seconds: int
    org_id: str | None = None
    settings: ProjectSettings | None = None
    branch_logical_size_limit_bytes: int = 0
    active_time_seconds: int = 0
    compute_time_seconds: int = 0
    written_data_bytes: int = 0
    data_transfer_bytes: int = 0
    maintenance_scheduled_for: datetime | None = None


class Restriction(Answer, frozen=True, kw_only=True):
    """Something that Neon refuses to do with a branch."""

    name: str
    reason: str = ""


class Author(Answer, frozen=True, kw_only=True):
    """Who made a branch."""

    name: str = ""


class Branch(Answer, frozen=True, kw_only=True):
    """A branch."""

    id: str
    name: str
    created_at: datetime
    current_state: str
    pending_state: str | None = None
    parent_id: str | None = None
    default: bool = False
    protected: bool = False
    expires_at: datetime | None = None
    logical_size: int | None = None
    last_reset_at: datetime | None = None
    restored_as: str | None = None
    restricted_actions: tuple[Restriction, ...] = ()
    created_by: Author | None = None

    @property
    def is_ready(self) -> bool:
        return self.current_state == "ready" and self.pending_state in (None, "ready")


class Annotation(Answer, frozen=True, kw_only=True):
    """What was noted when a branch was made."""

    value: Mapping[str, str] = {}


class Page(Answer, frozen=True, kw_only=True):
    """Where a list goes on."""

    next: str | None = None
    cursor: str | None = None


class Endpoint(Answer, frozen=True, kw_only=True):
    """A compute, and its address."""

    id: str
    branch_id: str
    type: str
    host: str
    current_state: str
    pending_state: str | None = None


class Operation(Answer, frozen=True, kw_only=True):
    """Something that Neon does after it has answered."""

    id: str
    action: str
    status: str
    branch_id: str | None = None
    error: str | None = None
    retry_at: datetime | None = None


class Snapshot(Answer, frozen=True, kw_only=True):
    """A snapshot."""

    id: str
    name: str
    created_at: datetime
    lsn: str | None = None
    source_branch_id: str | None = None
    timestamp: datetime | None = None
    expires_at: datetime | None = None
    manual: bool = True
    full_size: int | None = None
    diff_size: int | None = None


class ScheduleItem(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a backup schedule. Read and written."""

    frequency: str
    hour: int | None = None
    day: int | None = None
    month: int | None = None
    retention_seconds: int | None = None


class ProjectAnswer(Answer, frozen=True, kw_only=True):
    project: Project


class ProjectListed(Answer, frozen=True, kw_only=True):
    """A project, as a list shows it."""

    id: str
    name: str


class ProjectsAnswer(Answer, frozen=True, kw_only=True):
    projects: tuple[ProjectListed, ...]
    pagination: Page | None = None
    unavailable: tuple[str, ...] = ()
    """Projects that Neon could not look up in time."""


class BranchesAnswer(Answer, frozen=True, kw_only=True):
    branches: tuple[Branch, ...]
    annotations: Mapping[str, Annotation] = {}
    """By branch's id."""
    pagination: Page | None = None


class EndpointsAnswer(Answer, frozen=True, kw_only=True):
    endpoints: tuple[Endpoint, ...]


class OperationAnswer(Answer, frozen=True, kw_only=True):
    operation: Operation


class OperationsAnswer(Answer, frozen=True, kw_only=True):
    operations: tuple[Operation, ...] = ()


class SnapshotsAnswer(Answer, frozen=True, kw_only=True):
    snapshots: tuple[Snapshot, ...]


class ScheduleAnswer(Answer, frozen=True, kw_only=True):
    schedule: tuple[ScheduleItem, ...] = ()


class UriAnswer(Answer, frozen=True, kw_only=True):
    uri: str


class Database(Answer, frozen=True, kw_only=True):
    name: str
    owner_name: str


class DatabasesAnswer(Answer, frozen=True, kw_only=True):
    databases: tuple[Database, ...]


class Account(Answer, frozen=True, kw_only=True):
    """Who pays: a person or an organization."""

    plan: str = ""


class Organization(Answer, frozen=True, kw_only=True):
    """To whom projects belong."""

    id: str


class OrganizationsAnswer(Answer, frozen=True, kw_only=True):
    organizations: tuple[Organization, ...] = ()


def read(response: httpx.Response, kind: type[T], what: str) -> T:
    """The answer as that; a field that is null is one that is not there.

    Raises Refused where it is something else: a router's page has the status of a success, too.
    """
    learnt(kind)
    try:
        return msgspec.convert(_without_null(msgspec.json.decode(response.content or b"{}")), kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # A validation error names the field and the type, never the value.
        said = str(error) if isinstance(error, msgspec.ValidationError) else "it is no JSON"
        cure = "see whether source.api_host is Neon's API; if it is, Neon has changed it: use a newer reconcile"
        raise Refused(f"{what}: the answer is not as Neon publishes it: {said}", cure=cure) from error


def _without_null(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _without_null(value) for name, value in found.items() if value is not None}
    return [_without_null(value) for value in found] if isinstance(found, list) else found
