"""One PostgreSQL server of any set of binaries, in a folder of its own.

    cluster = start_cluster(postgres_binaries(), folder, settings=FAST)   # also: Path("/usr/lib/postgresql/15/bin")
    psycopg.connect(cluster.url())
    remove_cluster(folder)                                                # or stop_cluster(folder), which keeps the data

Works as root too: the server then runs as `nobody`, its files lie below /var/tmp, and `folder` is a link to them.
What is in its databases is no matter of this module.
"""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import msgspec

from reconciler.errors import Refused
from reconciler.sandbox import ports, process
from reconciler.sandbox.files import write_private
from reconciler.sandbox.patience import comes_true
from reconciler.sandbox.places import give, made, place
from reconciler.sandbox.process import Process
from reconciler.sandbox.serving import clear_remains, end_server, environment, ready, wait_until_ready
from reconciler.world.account import Account, dropping_to, lent_account
from reconciler.world.clock import token
from reconciler.world.programs import runnable

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
_INITDB_SECONDS = 120
_KILL = ((signal.SIGKILL, 5.0),)


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
    home = made(folder)
    data = home / "data"
    programs = runnable(binaries, account)
    if not (data / "PG_VERSION").is_file():
        # A server whose data somebody deleted may still run: it must not be taken for the new one.
        stop_cluster(folder)
        initialise(programs, home, account)
    log = log or home / "log"
    if not process.find("postgres", str(data)):
        clear_remains(data)
        _configure(home, {**_MODEST, **(settings or {}), "port": str(_port(home, port))}, account)
        argv = [str(programs / "postgres"), "-D", str(data)]
        process.start(argv, log=log, environment=environment(), account=account)
    running = wait_until_ready(data, log)
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
    return ready(data) if (data / "PG_VERSION").is_file() else None


def stop_cluster(folder: Path) -> bool:
    """End the server in `folder` and all its sessions, keeping the data; says whether one ran. Gone when it returns."""
    return end_server(_data(folder))


def remove_cluster(folder: Path) -> None:
    """End the server in `folder` and delete its data. Nothing there is fine."""
    stop_cluster(folder)
    home = place(folder)
    shutil.rmtree(home, ignore_errors=not home.is_dir())
    if folder.is_symlink():
        folder.unlink()


def _data(folder: Path) -> Path:
    return place(folder) / "data"


def _password(home: Path) -> str:
    try:
        return (home / "password").read_text()
    except FileNotFoundError as error:
        raise Refused(
            f"{home / 'password'} is gone, and nobody else knows it", cure="delete the data of this server, and start anew"
        ) from error


def initialise(
    programs: Path, home: Path, account: Account | None, *, superuser: str = SUPERUSER, arguments: Sequence[str] = ()
) -> None:
    """Make `home`/data, whole or not at all, and `home`/password, the superuser's. `arguments` are further ones of initdb."""
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
    give(account, partial, handed)
    try:
        _initdb(programs, partial, account, (f"--pwfile={handed}", f"--username={superuser}", *arguments))
    finally:
        handed.unlink()
    with (partial / "postgresql.conf").open("a") as configuration:
        configuration.write("\ninclude_if_exists 'sandbox.conf'\n")
    partial.rename(home / "data")


def _initdb(programs: Path, data: Path, account: Account | None, arguments: Sequence[str]) -> None:
    argv = [str(programs / "initdb"), "-D", str(data), *arguments]
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
        env=environment(),
        **dropping_to(account),
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Refused(
            f"initdb could not make a server in {data}: {''.join(said)}", cure="see whether the disk is full, then try again"
        )


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
    give(account, configuration)
