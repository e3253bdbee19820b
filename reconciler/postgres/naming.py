"""Names of objects, written in one way whatever the server's major: which words must be quoted differs between majors."""

import re

PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def quoted(name: str) -> str:
    """One identifier, in quotes unless it is plain."""
    return name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """As policy, manifest and fingerprint write it: `public.guests`, `public."Odd name"`."""
    return f"{quoted(schema)}.{quoted(name)}"


def settled(identity: str) -> str:
    """What PostgreSQL calls an object, without the quotes that only its own major wants."""
    return QUOTED.sub(lambda found: quoted(found[1].replace('""', '"')), identity)
