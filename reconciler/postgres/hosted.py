"""What a host puts into every database for itself, and what every restore elsewhere leaves out: a list, tried in tests."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, LiteralString

import msgspec

from reconciler.errors import Refused
from reconciler.postgres.session import Session
from reconciler.world.facts import Globals, Identity

if TYPE_CHECKING:
    from reconciler.postgres.contents import Entry

HOSTS_ROLES: Final = {"cloud_admin": "Neon's own role"}
"""Roles that a host keeps for itself. They own no data. What they would be granted later is set in default privileges of theirs,
which nobody but they may set: a plain restore stumbles over them."""
_ENTRY: Final = re.compile(rf".* DEFAULT PRIVILEGES FOR [A-Z ]+ ({'|'.join(HOSTS_ROLES)})")
DEFAULT_ACLS: LiteralString = """
SELECT coalesce(n.nspname, '-'), pg_get_userbyid(d.defaclrole)::text, CASE d.defaclobjtype
         WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
         WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS' ELSE d.defaclobjtype::text END
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE pg_get_userbyid(d.defaclrole) = ANY (%s) ORDER BY 1, 3, 2
"""

NEON: Final = "neon"
"""What identities call it."""
TOLD: LiteralString = """
SELECT coalesce(current_setting('neon.project_id', true), ''), coalesce(current_setting('neon.branch_id', true), ''),
       current_database(), EXISTS (SELECT FROM pg_roles WHERE oid = 10 AND rolname = 'cloud_admin')
"""
"""All branches of a project share one system identifier. What tells one from another are its compute's own settings, which no
session there can change; the first role of a server of Neon's is Neon's own."""


def refuse_source(connection: Session, sources: Sequence[Identity], place: str) -> None:
    """Raises Refused where this is a source that a host knows, by whatever address it was reached; or where it may be one."""
    known = {(source.cluster, source.database) for source in sources if source.provider == NEON}
    if not known:
        return
    project, branch, database, is_neons = connection.execute(TOLD).fetchall()[0]
    if (f"{project}/{branch}", database) in known:
        what = f"{place} is a source of the policy, and is never restored into"
        raise Refused(what, cure="create an empty database beside it, or a branch of its own")
    if is_neons and not (project and branch):
        what = f"{place} is at Neon, and its compute does not say of which branch: it may be a source of the policy"
        raise Refused(what, cure="restart that compute, newer ones say it; or restore into a database elsewhere")


def entries_of_host(connection: Session) -> tuple[str, ...]:
    """Those of the current database, as an archive's table of contents lists them."""
    found = connection.execute(DEFAULT_ACLS, (list(HOSTS_ROLES),)).fetchall()
    return tuple(f"DEFAULT ACL {schema} DEFAULT PRIVILEGES FOR {kind} {owner}" for schema, owner, kind in found)


def is_of_host(entry: "Entry") -> bool:
    """Whether it is such an entry."""
    return entry.kind == "DEFAULT ACL" and _ENTRY.fullmatch(entry.rest) is not None


def was_hosted(globals_: Globals) -> bool:
    """Whether the dump that they came with may have such entries."""
    return any(role.name in HOSTS_ROLES for role in globals_.roles)


def without_host(globals_: Globals) -> tuple[Globals, list[str]]:
    """The same without the host's own roles, which would be superusers elsewhere; and what was left out, in sentences."""
    if not was_hosted(globals_):
        return globals_, []
    kept = msgspec.structs.replace(
        globals_,
        roles=tuple(role for role in globals_.roles if role.name not in HOSTS_ROLES),
        memberships=tuple(one for one in globals_.memberships if one.role not in HOSTS_ROLES and one.member not in HOSTS_ROLES),
        settings=tuple(one for one in globals_.settings if one.role not in HOSTS_ROLES),
    )
    names = [role.name for role in globals_.roles if role.name in HOSTS_ROLES]
    return kept, [f"role {name}: {HOSTS_ROLES[name]}" for name in names]


def restorable(entries: "Iterable[Entry]") -> tuple[list[int], list[str]]:
    """The numbers of the entries to restore; and what was left out, in sentences."""
    numbers, left_out = [], []
    for entry in entries:
        if is_of_host(entry):
            left_out.append(f"{entry}: default privileges of {HOSTS_ROLES[entry.rest.rpartition(' ')[2]]}")
        else:
            numbers.append(entry.number)
    return numbers, left_out
