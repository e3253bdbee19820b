"""The hotel database, made once, and the role that dumps it."""

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox.patience import wait_for
from reconciler.sandbox.postgres import Cluster
from reconciler.sandbox.references import BACKUP_ROLE, DATABASE

if TYPE_CHECKING:
    import psycopg

HOTEL: Final = files("reconciler.sandbox").joinpath("hotel.sql")
_CONNECT_SECONDS = 10
_RECOVERY_SECONDS = 20
_END_MILLISECONDS = 10_000
_APPLICATION = "reconcile sandbox up"
_CURE = "`reconcile sandbox down --purge` and `up` make it anew"


def seed(cluster: Cluster, *, backup_password: str) -> bool:
    """See that the hotel database is there and that the backup role has this password; says whether the database was made now.

    It appears whole or not at all. Raises Refused, Unreachable.
    """
    import psycopg
    from psycopg import sql

    try:
        with _connect(cluster, "postgres") as admin:
            made = admin.execute("select from pg_database where datname = %s", [DATABASE]).fetchone() is None
            if made:
                _make(cluster, admin)
            # Hashed here: the server's log and activity view never see the password.
            verifier = admin.pgconn.encrypt_password(backup_password.encode(), BACKUP_ROLE.encode(), b"scram-sha-256").decode()
            admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(BACKUP_ROLE), sql.Literal(verifier)))
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot make the hotel database: {error}", cure=_CURE) from error
    except psycopg.Error as error:
        raise Refused(f"cannot make the hotel database: {error}", cure=_CURE) from error
    return made


def server_version(admin_url: str) -> str | None:
    """What the server says it is, e.g. "18.6"; None when it doesn't answer."""
    import psycopg

    try:
        with psycopg.connect(admin_url, connect_timeout=_CONNECT_SECONDS) as connection:
            return connection.info.parameter_status("server_version")
    except psycopg.Error:
        return None


def _make(cluster: Cluster, admin: "psycopg.Connection") -> None:
    from psycopg import sql

    partial, whole = sql.Identifier(f"{DATABASE}.partial"), sql.Identifier(DATABASE)
    # Of an earlier try that was killed: its sessions may work on, and what they made may be there.
    admin.execute(
        "select pg_terminate_backend(pid, %s) from pg_stat_activity where application_name = %s and pid <> pg_backend_pid()",
        [_END_MILLISECONDS, _APPLICATION],
    )
    admin.execute(sql.SQL("drop database if exists {} with (force)").format(partial))
    admin.execute(sql.SQL("create database {}").format(partial))
    with _connect(cluster, f"{DATABASE}.partial") as hotel:
        with hotel.transaction():
            hotel.execute(HOTEL.read_bytes())
        hotel.execute("analyze")
    admin.execute(sql.SQL("alter database {} rename to {}").format(partial, whole))


def _connect(cluster: Cluster, database: str) -> "psycopg.Connection":
    import psycopg

    refusals: list[psycopg.OperationalError] = []

    def look() -> "psycopg.Connection | None":
        try:
            return psycopg.connect(
                cluster.url(database), autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name=_APPLICATION
            )
        except psycopg.OperationalError as error:
            refusals.append(error)
            return None

    try:
        # After the kill of a session the server lets nobody in while it recovers.
        return wait_for(look, seconds=_RECOVERY_SECONDS, what="PostgreSQL to let us in")
    except Unreachable:
        raise refusals[-1] from None
