"""Puts roles, memberships, settings and rights back. What exists is never overwritten; what can't be done is named."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import LiteralString

import msgspec
import psycopg
from psycopg import sql

from reconciler.postgres.session import Session
from reconciler.world.facts import Globals, Membership, Role, Setting

LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces", "unix_socket_directories")
"""Settings whose stored value is a list of quoted names; each is a literal in ALTER … SET (PostgreSQL: GUC_LIST_QUOTE)."""
ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,\s]+))\s*(?:,|$)')
ACL_ITEM = re.compile(r'("(?:[^"]|"")*"|[^"=]*)=([A-Za-z*]*)/("(?:[^"]|"")*"|.*)')
SELF_GRANT: LiteralString = "SET createrole_self_grant = 'set, inherit'"
"""Since PostgreSQL 16 who makes a role is not by that of it, but may have himself made so."""
GRANTS = """
SELECT CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee)::text END, privilege_type, is_grantable
FROM aclexplode(%s::text[]::aclitem[])
"""


def create_roles(connection: Session, wanted: Globals) -> tuple[tuple[str, ...], list[str]]:
    """Create the roles that are missing, with their memberships and settings; returns their names, and what was left out.

    Who is no superuser becomes a member of what he makes: else he could give it nothing of what it owns.
    """
    existing = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    (superuser,) = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchall()[0]
    left_out: list[str] = []
    created = []
    joins = not superuser and connection.info.server_version < 160000
    if not superuser and not joins:
        connection.execute(SELF_GRANT)
    for role in wanted.roles:
        if role.name in existing:
            continue
        statement = _create(role, wanted.verifiers.get(role.name), superuser=superuser)
        if not _try(connection, statement, f"role {role.name}", left_out):
            continue
        created.append(role.name)
        if joins:
            join = sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role.name))
            _try(connection, join, f"whoever restores as member of {role.name}", left_out)
        left_out += _lost(role, superuser=superuser, has_password=role.name in wanted.verifiers)
        if role.comment is not None:
            comment = sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role.name), sql.Literal(role.comment))
            _try(connection, comment, f"comment of role {role.name}", left_out)
    for membership in wanted.memberships:
        # A role that was here before us gains nothing: it may be somebody else's of the same name.
        if membership.member in created:
            _try(connection, _grant_role(connection, membership), f"{membership.member} as member of {membership.role}", left_out)
    _set_all(connection, [setting for setting in wanted.settings if setting.role in created and not setting.database], left_out)
    return tuple(created), left_out


def missing_roles(connection: Session, wanted: Globals) -> tuple[str, ...]:
    """Those that the server has not."""
    there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    return tuple(role.name for role in wanted.roles if role.name not in there)


def rename_roles(wanted: Globals, names: Mapping[str, str]) -> Globals:
    """Under their new names. A role that gets another's name is not made anew from what the old one was: it must be there."""

    def named(name: str) -> str:
        return names.get(name, name)

    acl = wanted.database_acl
    return msgspec.structs.replace(
        wanted,
        roles=tuple(role for role in wanted.roles if role.name not in names),
        memberships=tuple(
            msgspec.structs.replace(one, role=named(one.role), member=named(one.member)) for one in wanted.memberships
        ),
        settings=tuple(one for one in wanted.settings if one.role not in names),
        verifiers={name: verifier for name, verifier in wanted.verifiers.items() if name not in names},
        database_owner=named(wanted.database_owner),
        database_acl=None if acl is None else tuple(_renamed_item(item, names) for item in acl),
    )


def without_roles(wanted: Globals) -> Globals:
    """What concerns the database alone."""
    settings = tuple(one for one in wanted.settings if one.role is None)
    return msgspec.structs.replace(
        wanted, roles=(), memberships=(), settings=settings, verifiers={}, database_owner="", database_acl=None
    )


def _renamed_item(item: str, names: Mapping[str, str]) -> str:
    """`grantee=rights/grantor`, where either may be in quotes."""
    found = ACL_ITEM.fullmatch(item)
    if found is None:
        return item
    grantee, rights, grantor = found.groups()
    return f"{_renamed(grantee, names)}={rights}/{_renamed(grantor, names)}"


def _renamed(written: str, names: Mapping[str, str]) -> str:
    bare = written[1:-1].replace('""', '"') if written.startswith('"') else written
    return '"' + names[bare].replace('"', '""') + '"' if bare in names else written


def finish_database(connection: Session, wanted: Globals) -> list[str]:
    """Give the current database its settings, rights, comment and owner; returns what was left out.

    After a restore, which a setting such as `default_transaction_read_only` would hinder.
    """
    left_out: list[str] = []
    database = sql.Identifier(connection.info.dbname)
    _set_all(connection, [setting for setting in wanted.settings if setting.database], left_out)
    if wanted.database_acl is not None:
        for statement in _grants(connection, database, wanted.database_acl, left_out):
            _try(connection, statement, "a grant on the database", left_out)
    if wanted.database_comment is not None:
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(wanted.database_comment))
        _try(connection, comment, "comment of the database", left_out)
    if wanted.connection_limit >= 0:
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, sql.Literal(wanted.connection_limit))
        _try(connection, limit, "connection limit of the database", left_out)
    if not wanted.database_owner:
        return left_out
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(wanted.database_owner))
    _try(connection, owner, f"owner {wanted.database_owner} of the database", left_out)
    return left_out


def _try(connection: Session, statement: sql.Composed, what: str, left_out: list[str]) -> bool:
    """Execute one statement; a refusal is noted and is no reason to lose the rest. A lost connection is, and goes through."""
    try:
        connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        left_out.append(f"{what}: {error.diag.message_primary}")
        return False
    return True


def _create(role: Role, verifier: str | None, *, superuser: bool) -> sql.Composed:
    flags = {
        "SUPERUSER": role.superuser and superuser,
        "INHERIT": role.inherit,
        "CREATEROLE": role.create_role,
        "CREATEDB": role.create_db,
        "LOGIN": role.login,
        "REPLICATION": role.replication and superuser,
        "BYPASSRLS": role.bypass_rls and superuser,
    }
    options: list[sql.Composable] = [sql.SQL(name if value else f"NO{name}") for name, value in flags.items()]
    options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role.connection_limit)))
    if verifier is not None:
        options.append(sql.SQL("PASSWORD {}").format(sql.Literal(verifier)))
    if role.valid_until is not None:
        options.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(role.valid_until)))
    return sql.SQL("CREATE ROLE {} WITH ").format(sql.Identifier(role.name)) + sql.SQL(" ").join(options)


def _lost(role: Role, *, superuser: bool, has_password: bool) -> Iterator[str]:
    """What a new role lacks that the old one had."""
    if role.login and not has_password:
        yield f"password of role {role.name}: it is in no backup, set a new one"
    rights = {"SUPERUSER": role.superuser, "REPLICATION": role.replication, "BYPASSRLS": role.bypass_rls}
    for name in (name for name, had in rights.items() if had and not superuser):
        yield f"{name} of role {role.name}: only a superuser may give it"


def _grant_role(connection: Session, membership: Membership) -> sql.Composed:
    grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(membership.role), sql.Identifier(membership.member))
    if connection.info.server_version < 160000:
        return grant + sql.SQL(" WITH ADMIN OPTION" if membership.admin else "")
    wanted = {"ADMIN": membership.admin, "INHERIT": membership.inherit, "SET": membership.set}
    options = [sql.SQL(f"{name} {'TRUE' if value else 'FALSE'}") for name, value in wanted.items() if value is not None]
    return grant + sql.SQL(" WITH ") + sql.SQL(", ").join(options)


def _set_all(connection: Session, settings: Sequence[Setting], left_out: list[str]) -> None:
    for setting in settings:
        whose = f"role {setting.role}" if setting.role is not None else "the database"
        _try(connection, _alter(connection, setting), f"setting {setting.name} of {whose}", left_out)


def _alter(connection: Session, setting: Setting) -> sql.Composed:
    database = sql.Identifier(connection.info.dbname)
    if setting.role is None:
        head = sql.SQL("ALTER DATABASE {}").format(database)
    else:
        head = sql.SQL("ALTER ROLE {}").format(sql.Identifier(setting.role))
        if setting.database:
            head += sql.SQL(" IN DATABASE {}").format(database)
    names = sql.SQL(".").join(map(sql.Identifier, setting.name.split(".")))
    return head + sql.SQL(" SET {} TO ").format(names) + sql.SQL(", ").join(map(sql.Literal, _values(setting)))


def _values(setting: Setting) -> list[str]:
    if setting.name not in LISTS:
        return [setting.value]
    return [quoted.replace('""', '"') if quoted or not bare else bare for quoted, bare in ITEM.findall(setting.value)] or [""]


def _grants(connection: Session, database: sql.Identifier, acl: Sequence[str], left_out: list[str]) -> list[sql.Composed]:
    try:
        rows = connection.execute(GRANTS, (list(acl),)).fetchall()
    except psycopg.errors.UndefinedObject as error:
        left_out.append(f"rights on the database: {error.diag.message_primary}")
        return []
    statements = [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)]
    for grantee, privilege, grantable in rows:
        to = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), database, to)
        statements.append(grant + sql.SQL(" WITH GRANT OPTION" if grantable else ""))
    return statements
