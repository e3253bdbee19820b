"""What whoever restores may not do and is no superuser: what is left out for it, and what would help."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg import sql

from reconciler.postgres.archive_roles import map_roles
from reconciler.postgres.contents import Entry
from reconciler.postgres.session import Session

FORBIDDEN: Final[Mapping[str, LiteralString]] = {
    "EVENT TRIGGER": "CREATE EVENT TRIGGER reconciler ON ddl_command_end EXECUTE FUNCTION pg_catalog.now()",
    "PUBLICATION": "CREATE PUBLICATION reconciler FOR ALL TABLES WITH (publish = 'none of these')",
    "SUBSCRIPTION": "CREATE SUBSCRIPTION reconciler CONNECTION 'password=none' PUBLICATION none"
    " WITH (connect = false, enabled = false, slot_name = NONE)",
}
"""Kinds of entry that no other rests on, and for each a statement that is refused for its own sake where the right is there, or
rolled back. Hosts give some of these rights to roles that are no superusers, so nothing but a trial tells."""
HAVE_OWNERS: Final = frozenset((
    "AGGREGATE", "BLOB", "BLOB METADATA", "COLLATION", "CONVERSION", "DEFAULT ACL", "DOMAIN", "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "SCHEMA", "SEQUENCE", "SERVER", "STATISTICS", "SUBSCRIPTION", "TABLE",
    "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW",
))  # fmt: skip
"""What pg_restore gives to its owner, or sets in his name."""
NOT_OURS: LiteralString = "SELECT extname FROM pg_extension WHERE NOT pg_has_role(extowner, 'USAGE')"
USABLE: LiteralString = """
SELECT rolname, rolsuper,
       pg_has_role(oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
       AND pg_has_role(oid, 'USAGE')
FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1
"""
_ABOUT_ROLES: Final = re.compile(r'SET ROLE|must be member|must be owner|permission denied|ERROR:\s+role ".*" does not exist')

_ON: Final = re.compile(r"(?<= )(?:TABLE|SEQUENCE|FUNCTION|PROCEDURE|TYPE|LANGUAGE) ")
_IN_THE_NAME_OF: Final = re.compile(r'^SET SESSION AUTHORIZATION (?:"((?:[^"]|"")+)"|(\w+));$', re.MULTILINE)
_SCHEMA: Final = re.compile(r"permission denied for schema (.+)")
_OTHERS: Final = "give what is theirs to others by --map-role OLD=NEW, or all to whoever restores by --no-roles"


class Restorer(msgspec.Struct, frozen=True, kw_only=True):
    """Who restores."""

    name: str
    superuser: bool

    @staticmethod
    def of(connection: Session) -> "Restorer":
        """Of this session."""
        row = connection.execute("SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user").fetchall()[0]
        return Restorer(name=row[0], superuser=row[1])


def may_be_forbidden(entries: Iterable[Entry]) -> bool:
    """Whether a look is worth it."""
    return any(
        entry.kind in ("ACL", "DEFAULT ACL") or entry.kind in FORBIDDEN or entry.name.startswith("EXTENSION ")
        for entry in entries
    )


def forbidden(connection: Session, entries: Sequence[Entry], roles: Collection[str]) -> Mapping[int, str]:
    """Those that this session's role may not restore and that nothing else rests on: number → a sentence.

    `roles`: whose they may be.
    """
    others = [name for name, _, usable in connection.execute(USABLE, (list(roles),)) if not usable]
    kinds = {entry.kind for entry in entries}
    refused = {kind for kind in FORBIDDEN if kind in kinds and not _may(connection, FORBIDDEN[kind])}
    gone = {f"{entry.kind} {entry.name}" for entry in entries if entry.kind in refused and not _lists_tables(entry, entries)}
    not_ours = {f"EXTENSION {name}" for (name,) in connection.execute(NOT_OURS)}
    made = {entry.rest.replace('"', "") for entry in entries if entry.kind not in ("ACL", "COMMENT", "SECURITY LABEL")}
    found: dict[int, str] = {}
    for entry in entries:
        of = entry.name if entry.kind in ("ACL", "COMMENT", "SECURITY LABEL") else str(entry)
        if of in gone or (entry.kind == "PUBLICATION TABLES IN SCHEMA" and "PUBLICATION" in refused):
            found[entry.number] = f"{entry}: a role with more rights may make it"
        elif of in not_ours and entry.kind != "EXTENSION":
            found[entry.number] = f"{entry}: the extension is there, and is somebody else's"
        elif entry.kind == "DEFAULT ACL" and (owner := owner_of(entry.rest, others)):
            found[entry.number] = f"{entry}: nobody but {owner} may set them, and who may act as {owner}"
        elif entry.kind == "ACL" and _is_on_the_servers(entry, made):
            found[entry.number] = f"{entry}: it is on what is the server's own or an extension's, whose rights a superuser gives"
    return found


def _is_on_the_servers(entry: Entry, made: Collection[str]) -> bool:
    """Whether these rights are on what the archive does not make. Of them it quotes names, of what it makes it does not; where a
    schema ends and the kind of thing begins, nobody can tell for sure: what may be one of those `made` is."""
    rest = entry.rest.replace('"', "")
    if rest.startswith(("pg_catalog ", "information_schema ")):
        return True
    on = [rest[: kind.start()] + rest[kind.end() :] for kind in _ON.finditer(rest)]
    return bool(on) and not any(one in made for one in on)


def _lists_tables(entry: Entry, entries: Iterable[Entry]) -> bool:
    """Whether it is a publication of tables that are named: whoever owns them may make it."""
    return entry.kind == "PUBLICATION" and any(
        other.kind == "PUBLICATION TABLE" and f".{entry.name} " in f"{other.name} " for other in entries
    )


def _may(connection: Session, statement: LiteralString) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        pass
    return True


def owners(entries: Iterable[Entry], roles: Collection[str]) -> tuple[str, ...]:
    """Those of the `roles` that something is given to. Where a name ends and its owner's begins, a list does not say."""
    rests = [entry.rest for entry in entries if entry.kind in HAVE_OWNERS]
    return tuple(role for role in sorted(roles) if any(rest.endswith(f" {role}") for rest in rests))


def owner_of(listed: str, roles: Iterable[str]) -> str:
    """Which of the `roles` a line of a table of contents ends with; empty: none of them."""
    return max((name for name in roles if listed.endswith(f" {name}")), key=len, default="")


def named_by(statements: Iterable[tuple[str, str]], roles: Iterable[str]) -> list[str]:
    """Which of the `roles` these (kind and SQL) give something to, or take it from."""
    told = list(statements)
    return [role for role in roles if any(map_roles(text, kind, {role: f"{role}'"}) != text for kind, text in told)]


def granted_by(statements: Iterable[tuple[str, str]], us: str) -> list[str]:
    """Others in whose names rights are given."""
    found = {match[1] or match[2] for _, text in statements for match in _IN_THE_NAME_OF.finditer(text)}
    return sorted({name.replace('""', '"') for name in found} - {us})


def is_about_roles(said: str) -> bool:
    """Whether it can be for want of a role, or of being one."""
    return _ABOUT_ROLES.search(said) is not None


def cure(connection: Session, needed: Sequence[str], entry: str, said: str) -> str:
    """What whoever restores must be or have for what is owned by these; empty where that is not what is wrong.

    `entry`: what was at hand, with its owner, when the server `said` so.
    """
    restorer = Restorer.of(connection)
    found = {name: (superuser, usable) for name, superuser, usable in connection.execute(USABLE, (list(needed),))}
    owner = owner_of(entry, needed)
    schema = _SCHEMA.search(said)
    if schema and found.get(owner) == (False, True):
        return _in_a_schema(connection, schema[1], owner)
    lacks = [name for name in needed if found.get(name) == (False, False)]
    mighty = [name for name in needed if found.get(name) == (True, False)]
    missing = [name for name in needed if name not in found]
    options = " WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= 160000 else ""
    to_do = [f"make the role{'s' * (len(missing) > 1)} {', '.join(missing)} there"] if missing else []
    if missing or lacks:
        to_do.append(f"GRANT {_listed(connection, [*missing, *lacks])} TO {_listed(connection, [restorer.name])}{options}")
    to_do += [f"add --map-role {name}={restorer.name}, since {name} is a superuser there" for name in mighty]
    return f"{' and '.join(to_do)}; or {_OTHERS}" if to_do else ""


def _in_a_schema(connection: Session, schema: str, owner: str) -> str:
    """A superuser gives a thing to anybody; others only to who may make one in its schema, and the rights in it come last."""
    there = connection.execute("SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
    grant = f"GRANT CREATE ON SCHEMA {there[0]} TO {_listed(connection, [owner])} and try again; or " if there else ""
    return f"{grant}restore as a superuser, since {owner} may not create in {schema} yet; or {_OTHERS}"


def _listed(connection: Session, names: Iterable[str]) -> str:
    return sql.SQL(", ").join(map(sql.Identifier, names)).as_string(connection)
