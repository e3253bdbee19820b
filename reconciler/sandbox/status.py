"""How the sandbox stands: what runs, where, and the keys to it."""

from pathlib import Path

import msgspec

from reconciler.sandbox.neon.service import running_neon
from reconciler.sandbox.postgres import running_cluster
from reconciler.sandbox.references import BUCKET, read_reference
from reconciler.sandbox.s3 import running_server
from reconciler.sandbox.seed import server_version


class PostgresStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The PostgreSQL server. What was never made is None."""

    running: bool
    pid: int | None
    version: str | None
    url: str | None
    """As the role that dumps."""
    admin_url: str | None


class S3Status(msgspec.Struct, frozen=True, kw_only=True):
    """The S3 server. What was never made is None."""

    running: bool
    pid: int | None
    endpoint: str | None
    bucket: str
    access_key_id: str | None
    secret_access_key: str | None


class NeonStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The server that speaks Neon's API. What was never made is None."""

    running: bool
    pid: int | None
    api_host: str | None
    """The API's base, as `--api-host` takes it."""
    api_key: str | None
    project_id: str | None
    url: str | None
    """The main branch's database, as its owner."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All servers, with their secrets: for who asked for just that."""

    running: bool
    """All that were made do."""
    postgres: PostgresStatus
    s3: S3Status
    neon: NeonStatus

    def __repr__(self) -> str:
        return f"Status(running={self.running})"


def status(folder: Path) -> Status:
    """Look, and change nothing. A folder that was never a sandbox is one where nothing runs."""
    postgres, s3, neon = _postgres(folder.absolute()), _s3(folder.absolute()), _neon(folder.absolute())
    running = postgres.running and s3.running and (neon.running or neon.api_host is None)
    return Status(running=running, postgres=postgres, s3=s3, neon=neon)


def _postgres(folder: Path) -> PostgresStatus:
    found = running_cluster(folder / "postgres")
    admin_url = read_reference(folder, "postgres_admin_url")
    # Asked as a client would: one that runs and lets nobody in is no running server to anybody.
    version = server_version(admin_url) if found and admin_url else None
    return PostgresStatus(
        running=version is not None,
        pid=found[0].pid if found else None,
        version=version,
        url=read_reference(folder, "postgres_url"),
        admin_url=admin_url,
    )


def _neon(folder: Path) -> NeonStatus:
    found = running_neon(folder / "neon")
    return NeonStatus(
        running=found is not None,
        pid=found.process.pid if found else None,
        api_host=read_reference(folder, "neon_api_host"),
        api_key=read_reference(folder, "neon_api_key"),
        project_id=read_reference(folder, "neon_project_id"),
        url=read_reference(folder, "neon_url"),
    )


def _s3(folder: Path) -> S3Status:
    found = running_server(folder / "s3")
    return S3Status(
        running=found is not None,
        pid=found.process.pid if found else None,
        endpoint=read_reference(folder, "s3_endpoint"),
        bucket=BUCKET,
        access_key_id=read_reference(folder, "s3_access_key_id"),
        secret_access_key=read_reference(folder, "s3_secret_access_key"),
    )
