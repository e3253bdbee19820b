"""What PostgreSQL calls its objects, in the words of policy, manifest and fingerprint."""

import re

from reconciler.policy.relation import Relation, quoted

QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def qualified(schema: str, name: str) -> str:
    """As policy, manifest and fingerprint write it: `public.guests`, `public."Odd name"`."""
    return str(Relation(schema, name))


def settled(identity: str) -> str:
    """What PostgreSQL calls an object, without the quotes that only its own major wants."""
    return QUOTED.sub(lambda found: quoted(found[1].replace('""', '"')), identity)
