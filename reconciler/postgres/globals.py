"""What a dump of one database lacks, read as data: roles, memberships, settings, the database's owner and rights."""

from typing import LiteralString

import msgspec

from reconciler.postgres.money import money_written
from reconciler.postgres.session import Session
from reconciler.world.facts import Globals, Membership, Role, Setting

ROLES: LiteralString = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
       CASE WHEN isfinite(rolvaliduntil) THEN to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            ELSE rolvaliduntil::text END,
       shobj_description(oid, 'pg_authid')
FROM pg_roles WHERE NOT starts_with(rolname, 'pg_') ORDER BY rolname
"""
MEMBERSHIPS: LiteralString = """
SELECT r.rolname, m.rolname, bool_or(a.admin_option), bool_or(a.inherit_option), bool_or(a.set_option)
FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE NOT starts_with(m.rolname, 'pg_') GROUP BY 1, 2 ORDER BY 1, 2
"""
"""The same membership may have several grantors; what the member may do is their sum."""
MEMBERSHIPS_15: LiteralString = """
SELECT r.rolname, m.rolname, bool_or(a.admin_option), NULL::boolean, NULL::boolean
FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE NOT starts_with(m.rolname, 'pg_') GROUP BY 1, 2 ORDER BY 1, 2
"""
SETTINGS: LiteralString = """
SELECT r.rolname, s.setdatabase <> 0, split_part(item, '=', 1), substr(item, strpos(item, '=') + 1)
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) item
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1 NULLS FIRST, 2, 3
"""
DATABASE: LiteralString = """
SELECT pg_get_userbyid(datdba)::text, datacl::text[], datconnlimit, shobj_description(oid, 'pg_database')
FROM pg_database WHERE datname = current_database()
"""
TABLESPACES: LiteralString = """
SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
WHERE t.spcname <> 'pg_global' AND c.relpersistence <> 't' AND c.oid >= 16384 ORDER BY 1
"""
MAY_READ: LiteralString = "SELECT has_table_privilege('pg_authid', 'SELECT')"
VERIFIERS: LiteralString = """
SELECT rolname, rolpassword FROM pg_authid
WHERE starts_with(rolpassword, 'SCRAM-SHA-256$') AND NOT starts_with(rolname, 'pg_') ORDER BY rolname
"""

ROLE_FIELDS = tuple(field.name for field in msgspec.structs.fields(Role))
MEMBERSHIP_FIELDS = tuple(field.name for field in msgspec.structs.fields(Membership))
SETTING_FIELDS = tuple(field.name for field in msgspec.structs.fields(Setting))


def read_globals(connection: Session, *, passwords: bool = False) -> Globals:
    """All that belongs to the current database and lies outside of it; any role may read it.

    `passwords`: with the SCRAM verifiers of passwords, where the session's role may read them. An MD5 hash is never read: whoever
    has it can log in with it.
    """
    may_read = passwords and connection.execute(MAY_READ).fetchall() == [(True,)]
    owner, acl, limit, comment = connection.execute(DATABASE).fetchall()[0]
    lc_monetary, money_sample = money_written(connection)
    memberships = MEMBERSHIPS if connection.info.server_version >= 160000 else MEMBERSHIPS_15
    return Globals(
        roles=tuple(Role(**dict(zip(ROLE_FIELDS, row, strict=True))) for row in connection.execute(ROLES)),
        memberships=tuple(
            Membership(**dict(zip(MEMBERSHIP_FIELDS, row, strict=True))) for row in connection.execute(memberships)
        ),
        settings=tuple(Setting(**dict(zip(SETTING_FIELDS, row, strict=True))) for row in connection.execute(SETTINGS)),
        tablespaces=tuple(row[0] for row in connection.execute(TABLESPACES)),
        verifiers=dict(connection.execute(VERIFIERS).fetchall()) if may_read else {},
        unread_passwords=passwords and not may_read,
        database_owner=owner,
        database_acl=None if acl is None else tuple(acl),
        database_comment=comment,
        connection_limit=limit,
        lc_monetary=lc_monetary,
        money_sample=money_sample,
    )
