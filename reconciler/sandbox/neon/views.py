"""What the API shows of each record: the published fields. Where the sandbox has nothing to say they are constant."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.book import Book
from reconciler.sandbox.neon.records import Branch, Database, Endpoint, Operation, Project, Role, Snapshot

Json = dict[str, Any]
"""An answer, or a part of one, on its way to the encoder."""
HOST = "127.0.0.1"
REGION = "local-sandbox"
PROVISIONER = "k8s-neonvm"
ORGANIZATION = "org-quiet-hotel-00000000"
USER = "00000000-0000-4000-8000-000000000000"
_SOURCE = "console"
_MONTH_BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
"""Nothing is billed."""


def project(book: Book, *, listed: bool = False) -> Json:
    """The project; `listed` as a list shows it, with a few fields less."""
    it: Project = book.state.project
    size = sum(branch.size or 0 for branch in book.branches())
    view: Json = {
        "id": it.id,
        "platform_id": "local",
        "region_id": REGION,
        "name": it.name,
        "provisioner": PROVISIONER,
        "default_endpoint_settings": {"autoscaling_limit_min_cu": 0.25, "autoscaling_limit_max_cu": 0.25},
        "settings": {"enable_logical_replication": False, "block_public_connections": False},
        "pg_version": 18,
        "proxy_host": HOST,
        "branch_logical_size_limit": 16384,
        "branch_logical_size_limit_bytes": 16384 * 2**20,
        "store_passwords": True,
        "cpu_used_sec": 0,
        "creation_source": _SOURCE,
        "history_retention_seconds": it.history_retention_seconds,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
        "synthetic_storage_size": size,
        "owner_id": ORGANIZATION,
        "org_id": ORGANIZATION,
    }
    if listed:
        return {**view, "active_time": 0}
    return {
        **view,
        "data_storage_bytes_hour": 0,
        "data_transfer_bytes": 0,
        "written_data_bytes": 0,
        "compute_time_seconds": 0,
        "active_time_seconds": 0,
        "consumption_period_start": _MONTH_BEGAN,
        "consumption_period_end": _MONTH_BEGAN + timedelta(days=31),
    }


def branch(book: Book, it: Branch) -> Json:
    """A branch."""
    view: Json = {
        "id": it.id,
        "project_id": book.state.project.id,
        "parent_id": it.parent_id,
        "parent_lsn": it.parent_lsn,
        "parent_timestamp": it.parent_timestamp,
        "name": it.name,
        "current_state": it.state,
        "pending_state": "ready" if it.state != "ready" else None,
        "state_changed_at": it.state_changed_at,
        "logical_size": it.size,
        "creation_source": _SOURCE,
        "primary": it.id == book.state.project.default_branch,
        "default": it.id == book.state.project.default_branch,
        "protected": it.protected,
        "cpu_used_sec": 0,
        "compute_time_seconds": 0,
        "active_time_seconds": 0,
        "written_data_bytes": 0,
        "data_transfer_bytes": 0,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
        "ttl_interval_seconds": it.ttl_seconds,
        "expires_at": it.expires_at,
        "last_reset_at": it.last_reset_at,
        "created_by": {"name": "sandbox"},
        "init_source": it.init_source,
        "restore_status": it.restore_status,
        "restored_from": it.restored_from,
        "restored_as": it.restored_as,
        "restricted_actions": [{"name": name, "reason": reason} for name, reason in it.restricted.items()] or None,
    }
    if it.deletion:
        view["recovery"] = {
            "deleted_at": it.deletion.at,
            "recoverable_until": it.deletion.until,
            "deletion_method": it.deletion.method,
        }
    return _without_nothing(view)


def annotation(it: Branch) -> Json:
    """What was noted when the branch was created."""
    return {"object": {"type": "console/branch", "id": it.id}, "value": it.annotation, "created_at": it.created_at}


def endpoint(book: Book, it: Endpoint) -> Json:
    """A compute. Its host names the port: clients have no other way to be told."""
    return _without_nothing(
        {
            "host": f"{HOST}:{it.port}",
            "id": it.id,
            "name": it.name,
            "project_id": book.state.project.id,
            "branch_id": it.branch_id,
            "autoscaling_limit_min_cu": it.min_cu,
            "autoscaling_limit_max_cu": it.max_cu,
            "region_id": REGION,
            "type": "read_write",
            "current_state": it.state,
            "settings": {"pg_settings": {}},
            "pooler_enabled": False,
            "pooler_mode": "transaction",
            "disabled": it.disabled,
            "passwordless_access": False,
            "last_active": it.last_active,
            "creation_source": _SOURCE,
            "created_at": it.created_at,
            "updated_at": it.updated_at,
            "started_at": it.started_at,
            "suspended_at": it.suspended_at,
            "proxy_host": HOST,
            "suspend_timeout_seconds": it.suspend_timeout_seconds,
            "provisioner": PROVISIONER,
        }
    )


def operations(book: Book, them: Sequence[Operation]) -> list[Json]:
    """Operations, as they stand now."""
    return [operation(book, book.state.operations.get(each.id, each)) for each in them]


def operation(book: Book, it: Operation) -> Json:
    """An operation."""
    return _without_nothing(
        {
            "id": it.id,
            "project_id": book.state.project.id,
            "branch_id": it.branch_id,
            "endpoint_id": it.endpoint_id,
            "action": it.action,
            "status": it.status,
            "error": it.error,
            "failures_count": it.failures,
            "retry_at": it.retry_at,
            "created_at": it.created_at,
            "updated_at": it.updated_at,
            "total_duration_ms": it.milliseconds,
        }
    )


def role(it: Role, *, of: Branch, password: bool = False) -> Json:
    """A role; the password only where it was just made."""
    view: Json = {"branch_id": of.id, "name": it.name, "protected": False}
    view |= {"created_at": it.created_at, "updated_at": it.updated_at}
    return {**view, "password": it.password} if password else view


def database(it: Database, *, of: Branch) -> Json:
    """A database."""
    return {
        "id": it.id,
        "branch_id": of.id,
        "name": it.name,
        "owner_name": it.owner,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
    }


def snapshot(it: Snapshot) -> Json:
    """A snapshot; its size once it is there."""
    return _without_nothing(
        {
            "id": it.id,
            "name": it.name,
            "lsn": None if it.lsn is None else log.written(it.lsn),
            "timestamp": it.at,
            "source_branch_id": it.branch_id,
            "created_at": it.created_at,
            "expires_at": it.expires_at,
            "manual": it.manual,
            "full_size": it.size,
        }
    )


def connection_uri(endpoint: Endpoint, role: Role, database: str, *, pooled: bool = False) -> str:
    """How to get in. No TLS: it stays on this machine.

    The pooled host is a name, as at Neon, that says so; nothing resolves it, so the address goes with it.
    """
    host = pooled_host(endpoint) if pooled else HOST
    options = {"hostaddr": HOST, "sslmode": "disable"} if pooled else {"sslmode": "disable"}
    user, password, name = (quote(part, safe="") for part in (role.name, role.password, database))
    return f"postgresql://{user}:{password}@{host}:{endpoint.port}/{name}?{urlencode(options)}"


def connection_details(endpoint: Endpoint, role: Role, database: str) -> Json:
    """The same in parts."""
    return {
        "connection_uri": connection_uri(endpoint, role, database),
        "connection_parameters": {
            "database": database,
            "password": role.password,
            "role": role.name,
            "host": f"{HOST}:{endpoint.port}",
            "pooler_host": pooled_host(endpoint),
        },
    }


def pooled_host(endpoint: Endpoint) -> str:
    """A name that nothing resolves."""
    return f"{endpoint.id}-pooler.{REGION}.invalid"


def user(*, branches_limit: int, plan: str) -> Json:
    """Whose the key is."""
    return {
        "active_seconds_limit": 0,
        "auth_accounts": [],
        "email": "sandbox@example.com",
        "id": USER,
        "image": "",
        "login": "sandbox",
        "name": "Sandbox",
        "last_name": "",
        "projects_limit": 1,
        "branches_limit": branches_limit,
        "max_autoscaling_limit": 0.25,
        "plan": plan,
    }


def organization(*, plan: str) -> Json:
    """Whose the project is."""
    return {
        "id": ORGANIZATION,
        "name": "Sandbox",
        "handle": "sandbox",
        "plan": plan,
        "created_at": _MONTH_BEGAN,
        "updated_at": _MONTH_BEGAN,
        "managed_by": "console",
    }


def _without_nothing(view: Json) -> Json:
    return {name: value for name, value in view.items() if value is not None}
