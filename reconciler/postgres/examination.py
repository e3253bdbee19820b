"""What a dump will meet in a database, looked at beforehand: rights, time-outs, locks, and what an archive will not hold.

Looks only: what of it matters, and what to do, is for others to say.
"""

from datetime import UTC, datetime
from typing import LiteralString

import msgspec
from psycopg import sql

from reconciler.postgres.conninfo import is_local
from reconciler.postgres.globals import MAY_READ
from reconciler.postgres.privileges import OURS, shortfalls
from reconciler.postgres.session import TIMEOUTS, Session, apply_settings, unlimited

NEEDED: tuple[LiteralString, ...] = ("pg_control_system()", "pg_export_snapshot()")
"""Functions of the server that observing and dumping call; each may be taken from a role by REVOKE."""
NEEDED_ON_PRIMARY: tuple[LiteralString, ...] = ("pg_current_wal_lsn()",)
NEEDED_ON_STANDBY: tuple[LiteralString, ...] = (
    "pg_last_wal_replay_lsn()", "pg_last_wal_receive_lsn()", "pg_last_xact_replay_timestamp()", "pg_control_checkpoint()",
)  # fmt: skip

ROLE: LiteralString = """
SELECT quote_ident(current_user), rolsuper, pg_is_in_recovery(), clock_timestamp() FROM pg_roles WHERE rolname = current_user
"""
FORBIDDEN: LiteralString = "SELECT name FROM unnest(%s::text[]) name WHERE NOT has_function_privilege(name, 'EXECUTE')"
ENDING: LiteralString = """
SELECT name, current_setting(name), source FROM pg_settings
WHERE name = ANY(%s) AND source IN ('global', 'database', 'user', 'database user') AND setting <> '0' ORDER BY name
"""
"""Set for all roles, for the database, for the role, or for that role there."""
RELATIONS = f"""
SELECT count(*) FILTER (WHERE c.relkind IN ('r', 'p')),
       array_remove(array_agg(name ORDER BY name) FILTER (WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'p')), NULL),
       array_remove(array_agg(name ORDER BY name) FILTER (WHERE c.relkind = 'f'), NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name) named
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND {OURS}
"""  # noqa: S608  constants only
CAPACITY: LiteralString = """
SELECT current_setting('max_locks_per_transaction')::int,
       current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int
"""
SUBSCRIPTIONS: LiteralString = """
SELECT quote_ident(subname) FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
"""
MAPPINGS: LiteralString = """
SELECT concat_ws(' at ', quote_ident(usename), quote_ident(srvname)) FROM pg_user_mappings WHERE umoptions IS NULL ORDER BY 1
"""
"""PostgreSQL shows options to a mapping's own user alone, if at all; whether there are any, it tells nobody else."""
PREPARED: LiteralString = (
    "SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 5"
)
EXCLUSIVE: LiteralString = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       CASE WHEN a.pid IS NULL THEN 'a prepared transaction'
            ELSE concat('pid ', a.pid, nullif(', ' || a.application_name, ', ')) END,
       min(a.xact_start)
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 5
"""


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the role may not read, and the grant to give."""

    what: str
    cure: str


class Timeout(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that ends sessions."""

    name: str
    value: str
    """With its unit, as the server shows it."""
    set_for: str
    """`global`, `database`, `user` or `database user`, as `pg_settings` says."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared transaction that nobody has ended yet."""

    name: str
    since: datetime


class Exclusive(msgspec.Struct, frozen=True, kw_only=True):
    """A lock that no dump gets past."""

    table: str
    holder: str
    since: datetime | None
    """When its transaction began; None where the role may not see that."""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was there at `at`, by the server's clock. Names are quoted as SQL wants them."""

    at: datetime
    role: str
    superuser: bool
    standby: bool
    encrypted: bool
    """Whether our session spoke TLS."""
    local: bool
    """Whether the server is this machine."""
    forbidden_functions: tuple[str, ...]
    exported_snapshot: bool
    """Whether one was exported, just now."""
    shortfalls: tuple[Shortfall, ...]
    reads_passwords: bool
    """Whether the role may read the verifiers of passwords."""
    timeouts: tuple[Timeout, ...]
    tables: int
    """How many a dump locks, partitions counted one by one."""
    locks_per_transaction: int
    transactions: int
    """Connections and prepared transactions together: times `locks_per_transaction`, the locks that there are for all."""
    unlogged: tuple[str, ...]
    foreign: tuple[str, ...]
    subscriptions: tuple[str, ...]
    mappings: tuple[str, ...]
    """Of users at foreign servers, whose options the role is not shown."""
    prepared: tuple[Prepared, ...]
    """The oldest few."""
    exclusive: tuple[Exclusive, ...]


def look(connection: Session, place: str) -> Examination:
    """All of it, in that session, whose own time-outs are switched off on the way. Raises psycopg's errors."""
    # Before they are switched off: a setting of ours has another source.
    timeouts = connection.execute(ENDING, ([*TIMEOUTS, "transaction_timeout"],)).fetchall()
    apply_settings(connection, unlimited(connection.info.server_version // 10000))
    role, superuser, standby, at = connection.execute(ROLE).fetchall()[0]
    forbidden = _forbidden(connection, standby=standby)
    tables, unlogged, foreign = connection.execute(sql.SQL(RELATIONS)).fetchall()[0]
    locks, transactions = connection.execute(CAPACITY).fetchall()[0]
    return Examination(
        at=at.astimezone(UTC),
        role=role,
        superuser=superuser,
        standby=standby,
        encrypted=connection.pgconn.ssl_in_use,
        local=is_local(connection.info.host),
        forbidden_functions=forbidden,
        exported_snapshot="pg_export_snapshot()" not in forbidden and _exports(connection),
        shortfalls=tuple(Shortfall(what=lack.what, cure=lack.cure) for lack in shortfalls(connection, place)),
        reads_passwords=connection.execute(MAY_READ).fetchall() == [(True,)],
        timeouts=tuple(Timeout(name=name, value=value, set_for=source) for name, value, source in timeouts),
        tables=tables,
        locks_per_transaction=locks,
        transactions=transactions,
        unlogged=tuple(unlogged or ()),
        foreign=tuple(foreign or ()),
        subscriptions=tuple(row[0] for row in connection.execute(SUBSCRIPTIONS)),
        mappings=tuple(row[0] for row in connection.execute(MAPPINGS)),
        prepared=tuple(Prepared(name=gid, since=since.astimezone(UTC)) for gid, since in connection.execute(PREPARED)),
        exclusive=tuple(
            Exclusive(table=table, holder=holder, since=since.astimezone(UTC) if since else None)
            for table, holder, since in connection.execute(EXCLUSIVE)
        ),
    )


def _forbidden(connection: Session, *, standby: bool) -> tuple[str, ...]:
    needed = [*NEEDED, *(NEEDED_ON_STANDBY if standby else NEEDED_ON_PRIMARY)]
    return tuple(row[0] for row in connection.execute(FORBIDDEN, (needed,)))


def _exports(connection: Session) -> bool:
    """The snapshot ends with its query, and nobody read by it."""
    return bool(connection.execute("SELECT pg_export_snapshot()").fetchall()[0][0])
