"""What a host puts into every database for itself, and what every restore elsewhere leaves out: a list, tried in tests."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, LiteralString

import msgspec

from reconciler.postgres.session import Session
from reconciler.world.facts import Globals

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
