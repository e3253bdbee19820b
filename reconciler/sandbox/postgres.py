"""One PostgreSQL server of any set of binaries, in a folder of its own.

    cluster = start_cluster(postgres_binaries(), folder, settings=FAST)   # also: Path("/usr/lib/postgresql/15/bin")
    psycopg.connect(cluster.url())
    remove_cluster(folder)                                                # or stop_cluster(folder), which keeps the data

Works as root too: the server then runs as `nobody`, its files lie below /var/tmp, and `folder` is a link to them.
What is in its databases is no matter of this module.
"""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import msgspec

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox import ports, process
from reconciler.sandbox.account import Account, dropping_to, lent_account
from reconciler.sandbox.binaries import SHARED, own_folder, runnable
from reconciler.sandbox.files import write_private
from reconciler.sandbox.patience import comes_true, wait_for
from reconciler.sandbox.process import Process
from reconciler.world.clock import token

SUPERUSER: Final = "postgres"
FAST: Final[Mapping[str, str]] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})
"""Settings for tests: a crash of the machine may spoil the data, the kill of a server loses nothing.

(`synchronous_commit=off` is not among them: a killed server would lose its last commits.)
"""

_MODEST: Final[Mapping[str, str]] = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        # No socket in the file system: its path would have to stay under 107 bytes, and everything connects by TCP.
        "unix_socket_directories": "",
        "max_connections": "40",
        "shared_buffers": "32MB",
        "wal_level": "replica",
        "max_wal_senders": "4",
        "max_wal_size": "256MB",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
)
_READY_SECONDS = 60.0
_INITDB_SECONDS = 120
_END = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Fast shutdown, then immediate, then no question."""
_KILL = ((signal.SIGKILL, 5.0),)
_STATUS_LINE = 7
_PORT_LINE = 3
"""Lines of postmaster.pid, counted from 0 (PostgreSQL: src/include/utils/pidfile.h)."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A running server. `password` is its superuser's."""

    binaries: Path
    """The programs it was started from: as root a copy that any account can run."""
    folder: Path
    data: Path
    port: int
    password: str
    process: Process
    account: Account | None
    """Whom it runs as, if not us."""

    def __repr__(self) -> str:
        return f"Cluster(folder={str(self.folder)!r}, port={self.port}, pid={self.process.pid})"

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection URL; the superuser's unless both user and password are given."""
        role, secret, name = (quote(part, safe="") for part in (user, password or self.password, database))
        return f"postgresql://{role}:{secret}@127.0.0.1:{self.port}/{name}"


def start_cluster(
    binaries: Path,
    folder: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Cluster:
    """Make and start a server in `folder`, or return the one that runs there already; ready for connections when it returns.

    `binaries` is the folder of `postgres` and `initdb`. `port` None means the one of last time, else any free one. `settings`
    are lines of postgresql.conf; they count when a server is started now. Repairs what a `kill -9` at any instant left.
    One caller at a time per folder. Raises Refused, Unreachable.
    """
    binaries, folder = binaries.absolute(), folder.absolute()
    account = lent_account()
    home = _home(folder)
    data = home / "data"
    programs = runnable(binaries, account)
    if not (data / "PG_VERSION").is_file():
        # A server whose data somebody deleted may still run: it must not be taken for the new one.
        stop_cluster(folder)
        _initialise(programs, home, account)
    log = log or home / "log"
    if not process.find("postgres", str(data)):
        _clear_remains(data)
        _configure(home, {**_MODEST, **(settings or {}), "port": str(_port(home, port))}, account)
        argv = [str(programs / "postgres"), "-D", str(data)]
        process.start(argv, log=log, environment=_environment(), account=account)
    running = _wait_until_ready(data, log)
    return Cluster(
        binaries=programs,
        folder=folder,
        data=data,
        port=running[1],
        password=_password(home),
        process=running[0],
        account=account,
    )


def running_cluster(folder: Path) -> tuple[Process, int] | None:
    """The server that runs in `folder` and accepts connections, with its port; None if there is none."""
    data = _data(folder)
    return _ready(data) if (data / "PG_VERSION").is_file() else None


def stop_cluster(folder: Path) -> bool:
    """End the server in `folder` and all its sessions, keeping the data; says whether one ran. Gone when it returns."""
    data = _data(folder)
    servers = process.find("postgres", str(data))
    process.end(servers, signals=_END)
    _end_stragglers(data)
    return bool(servers)


def remove_cluster(folder: Path) -> None:
    """End the server in `folder` and delete its data. Nothing there is fine."""
    stop_cluster(folder)
    home = _place(folder)
    shutil.rmtree(home, ignore_errors=not home.is_dir())
    if folder.is_symlink():
        folder.unlink()


def _place(folder: Path) -> Path:
    """Where the files really are: `folder` itself, or as root a place that follows from it and that another account reaches."""
    real = folder.absolute().parent.resolve() / folder.name
    if lent_account() is None:
        return real
    return SHARED / f"reconciler-sandbox-{os.geteuid()}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"


def _data(folder: Path) -> Path:
    return _place(folder) / "data"


def _home(folder: Path) -> Path:
    """Make the place where the files really are, and as root a link to it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = _place(folder)
    if lent_account() is None:
        return own_folder(home, mode=0o700)
    own_folder(home, mode=0o711)
    if not folder.is_symlink() and not folder.exists():
        folder.symlink_to(home)
    if folder.resolve() != home:
        # A link to the data of another folder would make two sandboxes one.
        raise Refused(
            f"{folder} is in the way: as root it must be a link to {home}", cure=f"choose another folder, or remove {folder}"
        )
    return home


def _password(home: Path) -> str:
    try:
        return (home / "password").read_text()
    except FileNotFoundError as error:
        raise Refused(
            f"{home / 'password'} is gone, and nobody else knows it", cure="delete the data of this server, and start anew"
        ) from error


def _initialise(programs: Path, home: Path, account: Account | None) -> None:
    # A folder under another name until initdb is through: "data" exists only whole.
    partial = home / "data.partial"
    # The initdb of a caller that was killed works on.
    process.end(process.find("initdb", str(partial)), signals=_KILL)
    process.end(process.working_in(partial, "postgres"), signals=_KILL)
    shutil.rmtree(partial, ignore_errors=not partial.exists())
    partial.mkdir(mode=0o700)
    password, secret = home / "password", token(16)
    write_private(password, secret)
    handed = home / "password.initdb"
    write_private(handed, secret)
    _give(account, partial, handed)
    try:
        _initdb(programs, partial, handed, account)
    finally:
        handed.unlink()
    with (partial / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude_if_exists 'sandbox.conf'\n")
    partial.rename(home / "data")


def _initdb(programs: Path, data: Path, password_file: Path, account: Account | None) -> None:
    argv = [str(programs / "initdb"), "-D", str(data), f"--pwfile={password_file}", f"--username={SUPERUSER}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=_INITDB_SECONDS,
        cwd="/",
        env=_environment(),
        **dropping_to(account),
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Refused(
            f"initdb could not make a server in {data}: {''.join(said)}", cure="see whether the disk is full, then try again"
        )


def _environment() -> dict[str, str]:
    """Nothing of the caller's: a PGDATA or PGPORT of theirs would change what is started."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _give(account: Account | None, *paths: Path) -> None:
    if account:
        for path in paths:
            os.chown(path, account.uid, account.gid)


def _port(home: Path, wanted: int | None) -> int:
    last = home / "port"
    port = wanted or (int(text) if last.is_file() and (text := last.read_text()).isdecimal() else 0)
    if not port or (wanted is None and not comes_true(lambda: ports.is_free(port), seconds=1)):
        port = ports.choose(1, home, purpose="postgres")[0]
    write_private(last, str(port))
    return port


def _configure(home: Path, settings: Mapping[str, str], account: Account | None) -> None:
    quoted = ((name, value.replace("'", "''")) for name, value in settings.items())
    configuration = home / "data" / "sandbox.conf"
    write_private(configuration, "".join(f"{name} = '{value}'\n" for name, value in quoted))
    _give(account, configuration)


def _clear_remains(data: Path) -> None:
    """No server of ours runs: what is left of a killed one goes, else the next refuses to start."""
    _end_stragglers(data)
    # Its pid may be somebody else's by now, and PostgreSQL would take that process for the server.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _end_stragglers(data: Path) -> None:
    # Sessions end by themselves once their server is gone, unless one is deep in a computation.
    comes_true(lambda: not process.working_in(data, "postgres"), seconds=2)
    process.end(process.working_in(data, "postgres"), signals=((signal.SIGQUIT, 1.0), (signal.SIGKILL, 5.0)))


def _wait_until_ready(data: Path, log: Path) -> tuple[Process, int]:
    def look() -> tuple[Process, int] | None:
        found = _ready(data)
        if not found and not process.find("postgres", str(data)):
            raise Unreachable(f"PostgreSQL ended while starting: {_last_words(log)}", cure=f"read {log}")
        return found

    return wait_for(look, seconds=_READY_SECONDS, what="PostgreSQL to accept connections", cure=f"read {log}")


def _ready(data: Path) -> tuple[Process, int] | None:
    servers = process.find("postgres", str(data))
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) <= _STATUS_LINE or lines[_STATUS_LINE].strip() != "ready":
        return None
    return next(((server, int(lines[_PORT_LINE])) for server in servers if str(server.pid) == lines[0]), None)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line for line in reversed(lines) if "FATAL" in line), lines[-1] if lines else "it said nothing")
