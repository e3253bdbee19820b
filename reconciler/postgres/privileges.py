"""What a role may not read of a database, before a dump finds out half-way: a dump holds the whole, or it is refused."""

from collections.abc import Collection, Iterator

from psycopg import sql

from reconciler.errors import Refused
from reconciler.postgres.naming import settled
from reconciler.postgres.session import Session

NAMED = 5
"""Objects named in a message; the rest is counted."""

ROLE = "SELECT quote_ident(current_user)"
OURS = """
NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
UNREADABLE = f"""
SELECT quote_ident(n.nspname), quote_ident(c.relname), c.relkind = 'S', has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND {OURS} AND NOT (has_schema_privilege(n.oid, 'USAGE') AND
      CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1, 2
"""  # noqa: S608  constants only
FILTERED = f"""
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OURS} AND row_security_active(c.oid) ORDER BY 1
"""  # noqa: S608
LARGE_OBJECTS = """
SELECT m.oid FROM pg_largeobject_metadata m
WHERE NOT pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
      SELECT FROM aclexplode(m.lomacl) a
      WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
ORDER BY m.oid
"""
"""By hand, as `has_largeobject_privilege` came with PostgreSQL 18. For a superuser `pg_has_role` is always true."""


def check_readable(connection: Session, place: str, *, without: Collection[str] = ()) -> None:
    """Raise Refused if the session's role would dump less than the whole, naming what is hidden and the grant to give.

    `without`: relations that the dump leaves out by name, and that need not be readable.
    """
    for refusal in shortfalls(connection, place, without=without):
        raise refusal


def shortfalls(connection: Session, place: str, *, without: Collection[str] = ()) -> Iterator[Refused]:
    """All that keeps the session's role from dumping the whole, as `check_readable` would raise it; asked for one by one."""
    role = _column(connection, ROLE)[0]
    yield from _unreadable_relations(connection, place, role, without)
    if hidden := [name for name in _column(connection, FILTERED) if settled(name) not in without]:
        yield Refused(
            f"row security hides rows of {_some(hidden)} in {place} from {role}: a dump would be short",
            cure=f"ALTER ROLE {role} BYPASSRLS; (as a superuser), or dump as the owner of the tables",
        )
    if unreadable := [str(oid) for oid in _column(connection, LARGE_OBJECTS)]:
        grant = f"GRANT SELECT ON LARGE OBJECT {', '.join(unreadable[:NAMED])} TO {role};"
        yield Refused(
            f"{role} may not read large object {_some(unreadable)} in {place}",
            cure=f"{grant} for each of them (pg_read_all_data does not cover large objects), or dump as their owner",
        )


def _unreadable_relations(connection: Session, place: str, role: str, without: Collection[str]) -> Iterator[Refused]:
    rows = connection.execute(sql.SQL(UNREADABLE)).fetchall()
    rows = [row for row in rows if settled(f"{row[0]}.{row[1]}") not in without]
    if not rows:
        return
    names = [f"{schema}.{name}" for schema, name, *_ in rows]
    schema, _, is_sequence, usable = rows[0]
    what = "SEQUENCE" if is_sequence else "TABLE"
    grant = f"GRANT SELECT ON {what} {names[0]} TO {role};" if usable else f"GRANT USAGE ON SCHEMA {schema} TO {role};"
    yield Refused(
        f"{role} may not read {_some(names)} in {place}", cure=f"{grant} or for all at once: GRANT pg_read_all_data TO {role};"
    )


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _column(connection: Session, query: str) -> list[str]:
    return [row[0] for row in connection.execute(sql.SQL(query))]
