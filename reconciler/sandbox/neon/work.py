"""What an operation does, as data: enough to do it again from its beginning after a kill."""

from datetime import datetime

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The place in a timeline that is asked for: an instant, an LSN, or neither, its head."""

    lsn: int | None = None
    at: datetime | None = None


class MakeRoot(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The project's first branch, with its roles and databases; the first database holds the hotel if asked."""

    branch: str
    with_hotel: bool


class MakeBranch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The branch's timeline as another one was at the target; `source` is a timeline."""

    branch: str
    source: str
    target: Target
    new_passwords: bool = False


class RestoreBranch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The branch gets a new timeline, as `source` was at the target; its endpoints stay its own."""

    branch: str
    timeline: str
    source: str
    target: Target


class StartCompute(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The endpoint's compute runs."""

    endpoint: str


class SuspendCompute(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The endpoint's compute rests."""

    endpoint: str


class ApplyConfig(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The branch's compute has the roles and databases that were declared for it, and lacks those that were dropped."""

    branch: str
    drop_databases: tuple[str, ...] = ()
    drop_roles: tuple[str, ...] = ()


class ApplyStorageConfig(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """History outside the project's window goes."""


class DropData(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A deleted branch's cluster goes; its log stays as long as the branch can be had back."""

    branch: str


class RecoverBranch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A deleted branch's cluster is made again, from its log."""

    branch: str


class TakeSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The snapshot holds what its source held at the target."""

    snapshot: str
    target: Target


class DropSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The snapshot's files go."""

    snapshot: str


class VisitPast(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A server stands still where `source` was at the target, for who wants to look."""

    timeline: str
    source: str
    target: Target


class FinalizeRestore(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The restored branch takes the place of `replaced`: its endpoints, its name, its schedule."""

    branch: str
    replaced: str
    old_name: str


Work = (
    MakeRoot
    | MakeBranch
    | RestoreBranch
    | StartCompute
    | SuspendCompute
    | ApplyConfig
    | ApplyStorageConfig
    | DropData
    | RecoverBranch
    | TakeSnapshot
    | DropSnapshot
    | VisitPast
    | FinalizeRestore
)
