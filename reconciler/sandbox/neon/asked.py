"""What requests say: their bodies and query strings, typed. Unknown fields are passed over, as Neon does."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec

from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.records import ScheduleItem
from reconciler.sandbox.neon.refusals import Refusal, invalid
from reconciler.sandbox.neon.work import Target
from reconciler.world.learning import learnt

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Annotation = Annotated[dict[str, str], msgspec.Meta(max_length=50)]
T = TypeVar("T")


class BranchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of a branch to be made."""

    parent_id: str = ""
    name: Name | None = None
    parent_lsn: str | None = None
    parent_timestamp: str | None = None
    protected: bool = False
    archived: bool = False
    init_source: str = "parent-data"
    expires_at: str | None = None


class EndpointOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of a branch's compute."""

    type: str
    autoscaling_limit_min_cu: float = 0.25
    autoscaling_limit_max_cu: float = 0.25
    suspend_timeout_seconds: Annotated[int, msgspec.Meta(ge=-1, le=604_800)] = 0
    name: str | None = None
    disabled: bool = False


class CreateBranch(msgspec.Struct, frozen=True, kw_only=True):
    """POST branches."""

    branch: BranchOptions = BranchOptions()
    endpoints: tuple[EndpointOptions, ...] = ()
    annotation_value: Annotation = msgspec.field(default_factory=dict)


class BranchChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Of a branch; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    protected: bool | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET


class UpdateBranch(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH branch."""

    branch: BranchChanges


class RestoreBranch(msgspec.Struct, frozen=True, kw_only=True):
    """POST restore."""

    source_branch_id: str
    source_lsn: str | None = None
    source_timestamp: str | None = None
    preserve_under_name: str = ""


class EndpointOfBranch(EndpointOptions, frozen=True, kw_only=True):
    """A compute to be made."""

    branch_id: str


class CreateEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """POST endpoints."""

    endpoint: EndpointOfBranch


class EndpointChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Of a compute; what is absent stays."""

    autoscaling_limit_min_cu: float | msgspec.UnsetType = msgspec.UNSET
    autoscaling_limit_max_cu: float | msgspec.UnsetType = msgspec.UNSET
    suspend_timeout_seconds: Annotated[int, msgspec.Meta(ge=-1, le=604_800)] | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class UpdateEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH endpoint."""

    endpoint: EndpointChanges


class ProjectChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Of the project; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    history_retention_seconds: Annotated[int, msgspec.Meta(ge=0, le=2_592_000)] | msgspec.UnsetType = msgspec.UNSET


class UpdateProject(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH project."""

    project: ProjectChanges


class RoleOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of a role to be made."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    no_login: bool = False


class CreateRole(msgspec.Struct, frozen=True, kw_only=True):
    """POST roles."""

    role: RoleOptions


class DatabaseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of a database to be made."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    owner_name: str


class CreateDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """POST databases."""

    database: DatabaseOptions


class DatabaseChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Of a database; what is absent stays."""

    owner_name: str | msgspec.UnsetType = msgspec.UNSET


class UpdateDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH database. Renaming is not served."""

    database: DatabaseChanges


class SnapshotChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Of a snapshot; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET


class UpdateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH snapshot."""

    snapshot: SnapshotChanges


class RestoreSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """POST snapshot restore."""

    name: Name | None = None
    target_branch_id: str | None = None
    finalize_restore: bool = False


class FinalizeRestore(msgspec.Struct, frozen=True, kw_only=True):
    """POST finalize_restore."""

    name: Name | None = None


class PutSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """PUT backup_schedule."""

    schedule: tuple[ScheduleItem, ...] = ()


def read(body: bytes, kind: type[T]) -> T:
    """The body as that. Raises Refusal."""
    learnt(kind)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error
    except msgspec.DecodeError as error:
        raise Refusal(400, f"request body is no JSON: {error}") from error


def changes(of: msgspec.Struct) -> dict[str, Any]:
    """What was given."""
    return {name: value for name, value in msgspec.structs.asdict(of).items() if value is not msgspec.UNSET}


def instant(text: str, *, field: str) -> datetime:
    """An instant of RFC 3339. Raises Refusal."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise invalid(f"{field}: {text!r} has no time zone")
        return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(f"{field}: {text!r} is no RFC 3339 timestamp") from error


def target(*, lsn: str | None, timestamp: str | None) -> Target:
    """The place that is asked for; one of both at most. Raises Refusal."""
    if lsn and timestamp:
        raise invalid("an LSN and a timestamp exclude each other")
    if timestamp:
        return Target(at=instant(timestamp, field="timestamp"))
    try:
        return Target(lsn=log.parse(lsn) if lsn else None)
    except ValueError as error:
        raise invalid(str(error)) from error
