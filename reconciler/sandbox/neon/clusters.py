"""Timelines as clusters: where their files are, started, ended, asked. How one is made of another belongs elsewhere.

{home}/password                 the superuser's, of all alike
      /timelines/{id}/data      the cluster
                     /wal       its log since its birth: whole segments, and its history file
                     /bases/N   copies of its files
                     /log       what its server says
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox import ports, process
from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.places import give
from reconciler.sandbox.postgres import initialise
from reconciler.sandbox.serving import clear_remains, end_server, environment, ready, wait_until_ready
from reconciler.world.account import Account

if TYPE_CHECKING:
    import psycopg

SUPERUSER: Final = "cloud_admin"
"""As at Neon: nobody's but the provider's own."""
_CONNECT_SECONDS = 10
_CONTROL_SECONDS = 20
_PORT_LINE = 3
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "24MB",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "min_wal_size": "4MB",
    "max_wal_size": "256MB",
    # A segment is never written again under another name: other timelines may hold a link to it.
    "wal_recycle": "off",
    "wal_init_zero": "off",
    "fsync": "off",
    "archive_mode": "on",
    "archive_library": "",
    "restore_command": "false",
    "hot_standby": "on",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "recovery_target": "",
    "recovery_target_name": "",
    "recovery_target_xid": "",
    "recovery_end_command": "",
    "restart_after_crash": "off",
    "jit": "off",
}
"""Given on the command line, where nothing that a clone inherits by ALTER SYSTEM can change it."""
_OWN: Final[Mapping[str, str]] = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Neon's; a session may set its own.
    "idle_in_transaction_session_timeout": "5min",
}
_MARK = "select pg_logical_emit_message(true, 'sandbox', '')"
"""A commit, so that the log goes on behind any place asked for: recovery must see the first record that it leaves out."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a timeline's log, and the instant by the cluster's own clock."""

    lsn: int
    at: datetime


class Clusters(msgspec.Struct, frozen=True, kw_only=True):
    """All timelines of the one project."""

    home: Path
    programs: Path
    account: Account | None

    def folder(self, timeline: str) -> Path:
        """All of that timeline."""
        return self.home / "timelines" / timeline

    def data(self, timeline: str) -> Path:
        """Its cluster's files."""
        return self.folder(timeline) / "data"

    def log(self, timeline: str) -> Path:
        """What its server says."""
        return self.folder(timeline) / "log"

    def all(self) -> tuple[str, ...]:
        """Every timeline of which there is anything."""
        folder = self.home / "timelines"
        return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()

    def fresh(self, timeline: str) -> Path:
        """An empty folder for it; what an earlier try left is ended and deleted."""
        self.drop(timeline)
        folder = self.folder(timeline)
        folder.parent.mkdir(mode=0o711, exist_ok=True)
        folder.mkdir(mode=0o711)
        for name in ("wal", "bases"):
            (folder / name).mkdir(mode=0o700)
        give(self.account, folder / "wal")
        return folder

    def make_root(self, timeline: str) -> Place:
        """An empty cluster, running."""
        folder = self.fresh(timeline)
        segments = f"--wal-segsize={log.SEGMENT // 2**20}"
        initialise(self.programs, folder, self.account, superuser=SUPERUSER, arguments=(segments,))
        (folder / "password").replace(self.home / "password")
        self.configure(timeline)
        self.serve(timeline)
        return self.now(timeline)

    def configure(self, timeline: str) -> None:
        """Write the settings that a session may change."""
        path = self.data(timeline) / "sandbox.conf"
        path.write_text("".join(f"{name} = '{value}'\n" for name, value in _OWN.items()))
        give(self.account, path)

    def start(self, timeline: str, settings: Mapping[str, str]) -> None:
        """Start its server, with these settings beside the usual ones; it may not take connections yet."""
        folder, data = self.folder(timeline), self.data(timeline)
        clear_remains(data)
        options = {
            **_SETTINGS,
            "port": str(ports.choose(1, folder, purpose="compute")[0]),
            "archive_command": _archiving(folder / "wal"),
            **settings,
        }
        argv = [str(self.programs / "postgres"), *(f"--{name}={value}" for name, value in options.items()), "-D", str(data)]
        process.start(argv, log=self.log(timeline), environment=environment(), account=self.account)

    def serve(self, timeline: str) -> int:
        """See that it takes connections, writes and all; the port."""
        if (port := self.port(timeline)) is None:
            self.start(timeline, {})
            port = wait_until_ready(self.data(timeline), self.log(timeline))[1]
        return port

    def port(self, timeline: str) -> int | None:
        """Of the server that takes connections, if only to read; None while it rests."""
        found = ready(self.data(timeline))
        return found[1] if found else None

    def is_alive(self, timeline: str) -> bool:
        """Whether its server runs, ready or not."""
        return bool(process.find("postgres", str(self.data(timeline))))

    def rest(self, timeline: str) -> None:
        """End its server."""
        end_server(self.data(timeline))

    def connect(self, timeline: str, database: str = "postgres") -> "psycopg.Connection":
        """A superuser's session, also while it recovers. Raises Unreachable."""
        import psycopg

        try:
            port = (self.data(timeline) / "postmaster.pid").read_text().splitlines()[_PORT_LINE]
            return psycopg.connect(
                host="127.0.0.1",
                port=port,
                user=SUPERUSER,
                password=(self.home / "password").read_text(),
                dbname=database,
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS,
                application_name="sandbox",
            )
        except (psycopg.OperationalError, OSError, IndexError) as error:
            raise Unreachable(f"cannot look into timeline {timeline}: {error}") from error

    def now(self, timeline: str) -> Place:
        """Where its log stands; all before that place is on disk, and the log goes on behind it."""
        with self.connect(timeline) as connection:
            place = stands(connection)
            connection.execute(_MARK)
        return place

    def end(self, timeline: str) -> int | None:
        """Where the log of a cluster that was ended cleanly ends; None if it was not."""
        done = subprocess.run(
            [str(self.programs / "pg_controldata"), str(self.data(timeline))],
            capture_output=True,
            text=True,
            check=False,
            timeout=_CONTROL_SECONDS,
            env=environment(),
        )
        if done.returncode:
            raise Refused(f"cannot read what timeline {timeline} is: {done.stderr.strip()}")
        said = {name: value.strip() for name, _, value in (line.partition(":") for line in done.stdout.splitlines())}
        if said.get("Database cluster state") != "shut down":
            return None
        return log.parse(said["Latest checkpoint location"])

    def size(self, timeline: str) -> int:
        """Bytes of its databases, as their files say."""
        return sum(path.stat().st_size for path in (self.data(timeline) / "base").glob("*/*") if path.is_file())

    def drop(self, timeline: str) -> None:
        """End its server, delete all of it."""
        self.rest(timeline)
        shutil.rmtree(self.folder(timeline), ignore_errors=not self.folder(timeline).exists())


def stands(connection: "psycopg.Connection") -> Place:
    """Where that cluster's log stands."""
    lsn, at = connection.execute("select pg_current_wal_insert_lsn()::text, clock_timestamp()").fetchone() or ("", None)
    return Place(lsn=log.parse(lsn), at=at)


def _archiving(wal: Path) -> str:
    """Whole or not at all; again is fine."""
    there = shlex.quote(str(wal)).replace("%", "%%")
    return f"test -f {there}/%f || {{ cp %p {there}/.%f && mv {there}/.%f {there}/%f; }}"
