"""What is restored is hostile: who runs it, what is made for it beforehand, and what is never brought back.

A view planted by an ordinary role runs shell commands once a superuser restores the dump, or merely reads it. So a restore runs
as a role that owns its scratch database and may do nothing else, and what acts beyond that database is left out, by name.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Literal, LiteralString

import psycopg
from psycopg import sql

from reconciler.postgres.contents import Entry, Listed
from reconciler.postgres.session import Session
from reconciler.world.evidence import Fault
from reconciler.world.facts import Globals

Blame = Literal["failed", "unproven"]

SHARED: Final = "made by reconcile for its rehearsals"
"""The comment of each role that several rehearsals on one server may need."""
NEEDED_BY_OTHERS: Final = ("FOREIGN DATA WRAPPER", "FOREIGN SERVER", "SERVER", "FOREIGN TABLE")
"""Kinds left out that others may rest on: a view of a foreign table misses it, and that proves nothing against the archive."""
LEFT_OUT: Final[Mapping[str, str]] = {
    "EVENT TRIGGER": "it would act on the rehearsal itself",
    "SUBSCRIPTION": "it would act on the publisher's slot",
    "SUBSCRIPTION TABLE": "it belongs to a subscription",
    "PUBLICATION": "nobody may subscribe to a rehearsal",
    "PUBLICATION TABLE": "it belongs to a publication",
    "PUBLICATION TABLES IN SCHEMA": "it belongs to a publication",
    "FOREIGN DATA WRAPPER": "it would reach beyond the rehearsal",
    "FOREIGN SERVER": "it would reach beyond the rehearsal",
    "SERVER": "it would reach beyond the rehearsal",
    "USER MAPPING": "it would reach beyond the rehearsal",
    "FOREIGN TABLE": "it would reach beyond the rehearsal",
    # Neon's `cloud_admin` has two of them in every database. They change nothing that is restored: only what is made later.
    "DEFAULT ACL": "it is about what is made later",
    "SECURITY LABEL": "its provider is not here",
}
"""Kinds of entry that no rehearsal restores, and why."""
_SAYS_OF: Final = ("ACL", "COMMENT", "SECURITY LABEL")
"""Entries that speak of another one, which their name begins with."""

KINDS_LEFT_OUT: Final = (
    "event trigger", "publication", "subscription", "foreign data wrapper", "foreign server", "foreign table", "user mapping",
)  # fmt: skip
"""The same, as fingerprints call them."""
REACHING: Final = frozenset((
    "adminpack", "amqp", "aws_lambda", "aws_s3", "dblink", "file_fdw", "http", "mysql_fdw", "oracle_fdw", "pg_background",
    "pg_cron", "pg_curl", "pg_net", "pg_timetable", "pgagent", "pglogical", "plperlu", "plpython2u", "plpython3u",
    "plpythonu", "plsh", "pltclu", "postgres_fdw", "tds_fdw",
))  # fmt: skip
"""Extensions that are never made for a rehearsal: they reach other servers or files, run programs, or run jobs."""
UNTRUSTED: LiteralString = """
SELECT lanname FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c')
"""
REQUIRED: LiteralString = """
SELECT name, array_agg(DISTINCT needed::text) FROM pg_available_extension_versions, unnest(requires) AS needed GROUP BY name
"""
CONFIGURED: LiteralString = """
SELECT c.oid::regclass::text, c.relkind = 'S' FROM pg_extension e CROSS JOIN LATERAL unnest(e.extconfig) AS found (oid)
JOIN pg_class c ON c.oid = found.oid WHERE c.relkind IN ('r', 'p', 'S') ORDER BY 2
"""
"""Tables, and then sequences, of extensions that are dumped with their rows."""


def restorable(
    listed: Listed, made_schemas: Iterable[str], roles: Iterable[str] = ()
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The entries to restore, and those left out, each with its reason. Extensions are made beforehand, so they are neither.

    `roles`: of the source. Where a name ends and its owner's begins, a table of contents does not say.
    """
    kept, left = [], []
    made = frozenset(made_schemas)
    listed_as = {f"- {schema} {role}" for schema in made for role in roles}
    for entry in listed.entries:
        why = LEFT_OUT.get(entry.kind) or _about_left_out(entry)
        if why:
            left.append(f"{entry}: {why}")
        elif not (entry.kind == "EXTENSION" or (entry.kind == "SCHEMA" and (entry.name in made or entry.rest in listed_as))):
            kept.append(entry)
    return tuple(kept), tuple(left)


def _about_left_out(entry: Entry) -> str:
    if entry.kind not in _SAYS_OF:
        return ""
    of = entry.name if entry.rest.startswith("- ") else entry.name.partition(".")[2]
    if of.startswith("EXTENSION "):
        return "the extension is made beforehand"
    return next((why for kind, why in LEFT_OUT.items() if of.startswith(kind + " ")), "")


def make_roles(admin: Session, wanted: Globals) -> None:
    """Every role that rights and policies name, without any right, unless it is there.

    Another rehearsal may be making or using the same: they carry the mark `SHARED`, and go when nobody rehearses any more.
    """
    existing = {row[0] for row in admin.execute("SELECT rolname FROM pg_roles")}
    names = dict.fromkeys((wanted.database_owner, *(role.name for role in wanted.roles)))
    for name in names:
        if name and name not in existing and not name.startswith("pg_"):
            # Somebody may have been quicker.
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                make_role(admin, sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)), name, SHARED)


def make_role(admin: Session, create: sql.Composed, name: str, mark: str) -> None:
    """With the mark as its comment, by which it is found when a death leaves it."""
    with admin.transaction():
        admin.execute(create)
        admin.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(mark)))


def make_extensions(
    admin: Session, wanted: Mapping[str, str], schemas: Mapping[str, str], owner: str, keeper: str
) -> tuple[tuple[str, ...], list[Fault], list[str]]:
    """The manifest's extensions, by the superuser, before anything hostile is there. What they keep in tables is the keeper's.

    Returns the schemas made for them, what can't be proven for want of one, and what is another version than at the source.
    """
    available: dict[str, str] = dict(admin.execute("SELECT name, default_version FROM pg_available_extensions").fetchall())
    made_schemas: list[str] = []
    faults: list[Fault] = []
    notes: list[str] = []
    for name in _needed_first(admin, wanted):
        version = wanted[name]
        if name == "plpgsql":
            continue
        if name in REACHING:
            what = "is never made in a rehearsal: it reaches beyond it"
            faults.append(Fault(where=f"extension {name}", what=what, result="unproven"))
        elif name not in available:
            what = "is not there on the scratch server; install it, or name a scratch server that has it"
            faults.append(Fault(where=f"extension {name}", what=what, result="unproven"))
        else:
            schema = schemas.get(name, "public")
            made_schemas += _make_schema(admin, schema, owner)
            fault = _make_extension(admin, name, version, schema, notes)
            faults += [fault] if fault else []
    _lend_tables(admin, owner, keeper)
    return tuple(made_schemas), faults, notes


def _lend_tables(admin: Session, owner: str, keeper: str) -> None:
    """Let the owner fill them and refer to them. None stays the superuser's: a key is checked with the rights of whose table it
    refers to, and on the way to it calls what was restored."""
    for name, is_sequence in admin.execute(CONFIGURED).fetchall():
        if not is_sequence:
            admin.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.SQL(name), sql.Identifier(keeper)))
        rights = sql.SQL("ALL" if is_sequence else "SELECT, INSERT, REFERENCES")
        admin.execute(sql.SQL("GRANT {} ON {} TO {}").format(rights, sql.SQL(name), sql.Identifier(owner)))


def _needed_first(admin: Session, wanted: Iterable[str]) -> list[str]:
    """In an order in which each comes after those that it requires."""
    requires = {name: frozenset(needs or ()) for name, needs in admin.execute(REQUIRED).fetchall()}

    def depth(name: str, above: frozenset[str] = frozenset()) -> int:
        needed = requires.get(name, frozenset()) - above
        return 1 + max((depth(one, above | {name}) for one in needed), default=0)

    return sorted(wanted, key=lambda name: (depth(name), name))


def _make_schema(admin: Session, schema: str, owner: str) -> list[str]:
    if admin.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is not None:
        return []
    admin.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(schema), sql.Identifier(owner)))
    return [schema]


def _make_extension(admin: Session, name: str, version: str, schema: str, notes: list[str]) -> Fault | None:
    """In the source's version where that is known and the server has it, else in its own. An untrusted language goes again."""
    has = admin.execute(
        "SELECT FROM pg_available_extension_versions WHERE name = %s AND version = %s", (name, version)
    ).fetchone()
    create = sql.SQL("CREATE EXTENSION {} WITH SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema))
    try:
        # Its scripts create what other extensions may need; CASCADE would make what the manifest does not list.
        admin.execute(create + (sql.SQL(" VERSION {}").format(sql.Literal(version)) if has is not None else sql.SQL("")))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return Fault(where=f"extension {name}", what=f"can't be made here: {error.diag.message_primary}", result="unproven")
    if admin.execute(UNTRUSTED).fetchone() is not None:
        admin.execute(sql.SQL("DROP EXTENSION {} CASCADE").format(sql.Identifier(name)))
        return Fault(where=f"extension {name}", what="is an untrusted language, never made in a rehearsal", result="unproven")
    if has is None and version:
        notes.append(f"extension {name} {version}: the scratch server has another version")
    return None
