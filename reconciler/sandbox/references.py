"""The small files that a policy refers to, as `{file: .sandbox/postgres_url}`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from reconciler.sandbox.files import write_private
from reconciler.sandbox.neon.service import Neon
from reconciler.sandbox.postgres import Cluster
from reconciler.sandbox.s3 import Server

DATABASE: Final = "hotel"
BACKUP_ROLE: Final = "backup"
BUCKET: Final = "hotel-backups"


def write_neon_references(folder: Path, neon: Neon) -> None:
    """The same of Neon: its API and key, and the owner's way into its main branch."""
    _write(
        folder,
        {
            "neon_api_host": neon.api_host,
            "neon_api_key": neon.api_key,
            "neon_project_id": neon.project_id,
            "neon_url": neon.main_url,
        },
    )


def write_references(folder: Path, *, cluster: Cluster, backup_password: str, server: Server) -> None:
    """Say where everything is and how to get in; each file whole or not at all."""
    _write(
        folder,
        {
            "postgres_url": cluster.url(DATABASE, user=BACKUP_ROLE, password=backup_password),
            "postgres_admin_url": cluster.url(DATABASE),
            "s3_endpoint": server.endpoint,
            "s3_access_key_id": server.access_key_id,
            "s3_secret_access_key": server.secret_access_key,
        },
    )


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if read_reference(folder, name) != text:
            write_private(folder / name, text + "\n")


def read_reference(folder: Path, name: str) -> str | None:
    """What that file says; None when there is none."""
    try:
        return (folder / name).read_text().strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def remembered_backup_password(folder: Path) -> str | None:
    """The dumping role's password of last time, so that it stays the same."""
    try:
        password = urlsplit(read_reference(folder, "postgres_url") or "").password
    except ValueError:
        return None
    return unquote(password) if password else None
