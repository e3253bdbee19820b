"""Roles and databases inside a cluster, made as Neon makes them: by an administrator who isn't the customer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from reconciler.errors import Refused
from reconciler.sandbox.neon.clusters import Clusters
from reconciler.sandbox.neon.records import Branch, Database, Role

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

PRIVILEGED = "neon_superuser"
_PREPARE = (
    f"create role {PRIVILEGED} createdb createrole nologin replication bypassrls",
    f"grant pg_read_all_data, pg_write_all_data, pg_monitor, pg_create_subscription to {PRIVILEGED} with admin option",
)
_PRIVILEGES = (
    # These are in every dump of a Neon database, and fail in every plain restore.
    f"alter default privileges in schema public grant all on tables to {PRIVILEGED} with grant option",
    f"alter default privileges in schema public grant all on sequences to {PRIVILEGED} with grant option",
)


def prepare(clusters: Clusters, timeline: str) -> None:
    """See that a new cluster has the role that all of the customer's roles belong to."""
    with _connected(clusters, timeline) as connection:
        if connection.execute("select from pg_roles where rolname = %s", [PRIVILEGED]).fetchone() is None:
            for statement in _PREPARE:
                connection.execute(statement.encode())


def agree(clusters: Clusters, timeline: str, branch: Branch) -> None:
    """See that the cluster has the branch's roles, with these passwords, and its databases."""
    with _connected(clusters, timeline) as connection:
        for role in branch.roles:
            _agree_role(connection, role)
        for database in branch.databases:
            _agree_database(clusters, timeline, connection, database)


def take_away(clusters: Clusters, timeline: str, *, databases: Sequence[str], roles: Sequence[str]) -> None:
    """See that those are gone; what the roles own becomes the administrator's."""
    with _connected(clusters, timeline) as connection:
        for name in databases:
            connection.execute(_sql("drop database if exists {} with (force)", name))
        left = [str(name) for (name,) in connection.execute("select datname from pg_database where datallowconn").fetchall()]
        for name in roles:
            if connection.execute("select from pg_roles where rolname = %s", [name]).fetchone() is None:
                continue
            for database in left:
                with _connected(clusters, timeline, database) as inside:
                    inside.execute(_sql("reassign owned by {} to current_user", name))
                    inside.execute(_sql("drop owned by {}", name))
            connection.execute(_sql("drop role {}", name))


def open_hotel(clusters: Clusters, timeline: str, database: str) -> None:
    """See that the database holds the hotel."""
    with _connected(clusters, timeline, database) as connection:
        if connection.execute("select from pg_namespace where nspname = 'hotel'").fetchone():
            return
        with connection.transaction():
            connection.execute(files("reconciler.sandbox").joinpath("hotel.sql").read_bytes())
        connection.execute("analyze")


def _agree_role(connection: "psycopg.Connection", role: Role) -> None:
    from psycopg import sql

    if connection.execute("select from pg_roles where rolname = %s", [role.name]).fetchone() is None:
        login = "nologin" if role.no_login else "login"
        options = f"create role {{}} {login} createdb createrole replication bypassrls in role {PRIVILEGED}"
        connection.execute(_sql(options, role.name))
    # Hashed here: the server's log and activity view never see the password.
    verifier = connection.pgconn.encrypt_password(role.password.encode(), role.name.encode(), b"scram-sha-256").decode()
    connection.execute(_sql("alter role {} password ", role.name) + sql.Literal(verifier))


def _agree_database(clusters: Clusters, timeline: str, connection: "psycopg.Connection", database: Database) -> None:
    from psycopg import sql

    found = connection.execute("select pg_get_userbyid(datdba) from pg_database where datname = %s", [database.name]).fetchone()
    if found is None:
        connection.execute(_sql("create database {} owner ", database.name) + sql.Identifier(database.owner))
        with _connected(clusters, timeline, database.name) as inside:
            for statement in _PRIVILEGES:
                inside.execute(statement.encode())
    elif found[0] != database.owner:
        connection.execute(_sql("alter database {} owner to ", database.name) + sql.Identifier(database.owner))


@contextmanager
def _connected(clusters: Clusters, timeline: str, database: str = "postgres") -> "Iterator[psycopg.Connection]":
    import psycopg

    try:
        with clusters.connect(timeline, database) as connection:
            yield connection
    except psycopg.Error as error:
        raise Refused(f"PostgreSQL says: {error}") from error


def _sql(text: str, name: str) -> "sql.Composed":
    from psycopg import sql

    return sql.SQL(text).format(sql.Identifier(name))
