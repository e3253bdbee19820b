"""What of a throw-away server is open to others, as the system and the server itself tell it."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

from reconciler.postgres.throwaway import Throwaway

TOLD: Final = {"PATH", "LC_ALL", "TZ"}
"""The names of its environment."""
WORKS: Final = {"client backend", "checkpointer", "background writer", "walwriter", "io worker", "startup"}
"""What a server that serves, and does nothing else, consists of."""
SETTINGS: Final = {"archive_mode": "off", "max_wal_senders": "0", "max_replication_slots": "0", "shared_preload_libraries": ""}
LISTENING: Final = "0A"
"""A socket's state, as the kernel lists it."""


def open_to_others(server: Throwaway) -> list[str]:
    """What of rule 10 does not hold for it."""
    process = Path("/proc", (server.folder / "data" / "postmaster.pid").read_text().split()[0])
    said = [f"it was told {name}" for name in sorted(_environment(process) - TOLD)]
    said += [f"it listens at {address}" for address in _listens(process)]
    if stat.S_IMODE(server.folder.stat().st_mode) != 0o700:
        said.append("others may enter the folder of its socket")
    with psycopg.connect(**server.admin.for_session("look"), autocommit=True) as admin:  # type: ignore[arg-type]  # libpq's names
        works = {kind for (kind,) in admin.execute("SELECT DISTINCT backend_type FROM pg_stat_activity")}
        settings: dict[str, str] = dict(
            admin.execute("SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", [list(SETTINGS)]).fetchall()
        )
    said += [f"{kind} works in it" for kind in sorted(works - WORKS)]
    return [*said, *(f"{name} is {settings[name]}" for name, value in SETTINGS.items() if settings[name] != value)]


def _environment(process: Path) -> set[str]:
    return {variable.partition("=")[0] for variable in (process / "environ").read_text().split("\0") if variable}


def _listens(process: Path) -> Iterator[str]:
    """Addresses of the network; sockets of the file system are in another list."""
    ours = {str(link.readlink()) for link in (process / "fd").iterdir()}
    for list_ in ("tcp", "tcp6"):
        for line in (process / "net" / list_).read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in ours:
                yield address
