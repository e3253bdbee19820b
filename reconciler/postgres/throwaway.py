"""A PostgreSQL server that nobody needs: made in a folder of its own, reached by a socket alone, gone however we end.

It is started from whatever programs are at hand, with nothing of our environment: no archiving, replication, jobs or network.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import msgspec
import psycopg

from reconciler.errors import Full, Refused
from reconciler.postgres import client
from reconciler.postgres.child import Child
from reconciler.postgres.complaints import kind_of
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.disk import on_disk
from reconciler.postgres.dump import Manners
from reconciler.postgres.flow import Watch
from reconciler.world.account import Account, lent_account
from reconciler.world.clock import token
from reconciler.world.locks import is_at, lock
from reconciler.world.programs import SHARED, own_folder, runnable

ADMIN: Final = "reconciler_admin"
PORT: Final = "5432"
"""Of the socket's name; nothing listens on it."""
LONGEST_SOCKET: Final = 107
"""Bytes of a socket's path that Linux takes (macOS: 103, which our names leave room for)."""
ROOT: Final = Path("/")
"""Where servers run: an account that we lend may not even look into our own folder."""
READY_SECONDS: Final = 60.0
CURE: Final = "free room there and see to our rights, or name another folder as scratch.folder"
NETWORK: Final = Path("/proc/self/ns/net")
"""Leads to a name of the network that a process sees; there is none but on Linux."""
SETTINGS: Final = (
    "listen_addresses = ''",
    "unix_socket_permissions = 0700",
    "port = 5432",
    # It is thrown away: nothing of it needs to survive anything.
    "fsync = off",
    "synchronous_commit = off",
    "full_page_writes = off",
    # A copy of production's settings would ship WAL into production's archive, and take part in its replication.
    "archive_mode = off",
    "wal_level = minimal",
    "max_wal_senders = 0",
    "max_replication_slots = 0",
    "max_logical_replication_workers = 0",
    "shared_preload_libraries = ''",
    # It would run functions of restored indexes at times of its own.
    "autovacuum = off",
    "jit = off",
    "max_connections = 30",
    "shared_buffers = 128MB",
    "maintenance_work_mem = 256MB",
    "max_wal_size = 1GB",
    "timezone = 'UTC'",
    "log_timezone = 'UTC'",
    # Statements hold what was restored; the log holds nothing of it.
    "log_min_error_statement = panic",
    "log_min_messages = fatal",
)


class Throwaway(msgspec.Struct, frozen=True, kw_only=True):
    """A server that runs."""

    admin: Conninfo
    """Its superuser, in the database that it began with."""
    folder: Path
    """Where it lies: what is put there goes with it."""
    version: str
    place: str
    is_cut_off: bool
    """From our network. Where the system can't do that, nothing but its having no rights keeps what runs there from it."""


@contextmanager
def throwaway(base: Path, programs: client.Client, manners: Manners) -> Iterator[Throwaway]:
    """A new server below `base`. Leftovers of others that died are removed first.

    Raises Refused (Full, where that is why) or Unreachable where it can't be started.
    """
    account = lent_account()
    with _on_disk(base):
        home = _home(base, account)
    sweep(home)
    with _place(home, account) as folder:
        with on_disk(f"cannot copy PostgreSQL's programs into {SHARED}", cure="free room there, and see to our rights"):
            binaries = runnable(programs.folder, account)
        password = token(16)
        _initialise(binaries, folder, account, password, manners)
        yield from _running(binaries, folder, account, password=password, manners=manners, version=programs.version)


def choose(found: Sequence[client.Client], major: int) -> client.Client:
    """The server to start for a dump of that major: of the same, else the oldest newer one. Raises Refused."""
    servers = [one for one in found if one.major >= major and os.access(one.folder / "initdb", os.X_OK)]
    if not servers:
        had = "; ".join(map(str, found)) or "none at all"
        raise Refused(
            f"no PostgreSQL server of major {major} or newer is on this machine to rehearse in; found was {had}",
            cure=f"install it, e.g. postgresql-{major}, name its folder as scratch.bin, or use scratch: {{type: postgres}}",
        )
    return min(servers, key=lambda one: (one.major != major, one.major))


def sweep(home: Path) -> int:
    """Remove what was left by those that died; how many that were. A lock that can be had is nobody's."""
    swept = 0
    for claim in sorted(home.glob("*.lock")):
        with suppress(OSError), claim.open() as held:
            if lock(held.fileno()) and is_at(claim, held.fileno()):
                _remove(claim.with_suffix(""))
                claim.unlink()
                swept += 1
    return swept


def _on_disk(place: Path) -> AbstractContextManager[None]:
    return on_disk(f"cannot make a scratch server in {place}", cure=CURE)


def _home(base: Path, account: Account | None) -> Path:
    """A folder of ours in the base; one that the server's account can walk through."""
    base.mkdir(parents=True, exist_ok=True)
    return own_folder(base / f"reconciler-scratch-{os.geteuid()}", mode=0o711 if account else 0o700)


@contextmanager
def _place(home: Path, account: Account | None) -> Iterator[Path]:
    """A folder under a name of its own, claimed for as long as this process lives."""
    with _on_disk(home):
        folder, held = _claimed(home)
    with held:
        try:
            with _on_disk(home):
                folder.mkdir(mode=0o700)
                if account:
                    os.chown(folder, account.uid, account.gid)
            yield folder
        finally:
            # Its claim last: what can't be removed is left to the next sweep.
            with on_disk(f"cannot remove {folder}", cure="remove it: it holds what was restored"):
                _remove(folder)
                Path(held.name).unlink(missing_ok=True)


def _claimed(home: Path) -> tuple[Path, IO[str]]:
    """A name, and the file that claims it, locked; again with another name where a sweep was quicker than our lock."""
    while True:
        folder = home / token(6)
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) >= LONGEST_SOCKET:
            raise Refused(f"the path of {folder} is too long for a socket", cure="name a shorter folder as scratch.folder")
        claim = home / f"{folder.name}.lock"
        held = claim.open("x")
        if lock(held.fileno()) and is_at(claim, held.fileno()):
            return folder, held
        held.close()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # a session that had not yet noticed its server's end may have written once more
        shutil.rmtree(folder)


def _initialise(binaries: Path, folder: Path, account: Account | None, password: str, manners: Manners) -> None:
    secret = folder / "password"
    with _on_disk(folder):
        secret.touch(mode=0o600)
        secret.write_text(password)
        if account:
            os.chown(secret, account.uid, account.gid)
    argv = [str(binaries / "initdb"), "-D", str(folder / "data"), f"--username={ADMIN}", f"--pwfile={secret}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    child = Child(argv, environment=_environment(), server=account, folder=ROOT)
    try:
        code = child.finish(Watch(manners.clock, manners.stop, None, "making a scratch server").check)
    finally:
        child.end()
        with _on_disk(folder):
            secret.unlink()
    if code:
        kind = Full if kind_of(child.complaints) == "no room" else Refused
        raise kind(f"initdb could not make a scratch server in {folder}: {_last(child.complaints)}", cure=CURE)
    with _on_disk(folder):
        with (folder / "data" / "postgresql.conf").open("a") as configuration:
            configuration.write("\n" + "\n".join((*SETTINGS, f"unix_socket_directories = '{folder}'")) + "\n")
        (folder / "data" / "pg_hba.conf").write_text("local all all scram-sha-256\n")


def _running(
    binaries: Path, folder: Path, account: Account | None, *, password: str, manners: Manners, version: str
) -> Iterator[Throwaway]:
    admin = Conninfo({"host": str(folder), "port": PORT, "user": ADMIN, "password": password, "dbname": "postgres"})
    server = Child(
        [str(binaries / "postgres"), "-D", str(folder / "data")], environment=_environment(), server=account, folder=ROOT
    )
    try:
        _wait_until_ready(server, admin, manners)
        yield Throwaway(
            admin=admin,
            folder=folder,
            version=version,
            place=f"a throw-away PostgreSQL {version} in {folder.parent.parent}",
            is_cut_off=_is_cut_off(folder / "data"),
        )
    finally:
        server.end()


def _wait_until_ready(server: Child, admin: Conninfo, manners: Manners) -> None:
    ends, pause = manners.clock.monotonic() + READY_SECONDS, 0.01
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(**admin.for_session("reconciler/scratch")).close()  # type: ignore[arg-type]  # libpq's names
            return
        if server.has_ended or manners.clock.monotonic() >= ends:
            raise Refused(
                f"the scratch server did not start: {_last(server.complaints)}",
                cure="look at memory, shared memory and disk of this machine",
            )
        manners.clock.wait(pause, manners.stop)
        pause = min(2 * pause, 0.05)
        Watch(manners.clock, manners.stop, None, "starting a scratch server").check()


def _is_cut_off(data: Path) -> bool:
    """As the kernel tells it: whatever was asked for when the server was started, what counts is what it got."""
    try:
        server = (data / "postmaster.pid").read_text().splitlines()[0]
        return NETWORK.readlink() != Path("/proc", server, "ns", "net").readlink()
    except OSError:
        return False


def _last(complaints: str) -> str:
    return complaints.splitlines()[-1] if complaints else "it said nothing"


def _environment() -> dict[str, str]:
    """Nothing of ours: what runs in there learns no variable and no path."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def default_base() -> Path:
    """The system's place for what does not last."""
    return Path(tempfile.gettempdir())
