"""What a dump leaves out by name: looked up in the dump's own session, and refused where the rest would not restore.

Names are strict. What hangs on a named relation goes with it: partitions, and the sequences that its columns own. `include` is
the complement: all tables and views but the named ones are left out; types, functions, extensions and free sequences stay, so
that what is dumped restores by itself.
"""

from collections.abc import Iterable, Iterator
from typing import LiteralString

import msgspec

from reconciler.errors import Refused
from reconciler.policy.spelling import nearest
from reconciler.postgres.naming import qualified
from reconciler.postgres.session import Session
from reconciler.world.facts import Filters

NAMED = 5
MOST_ARGUMENTS = 1_000_000
"""Bytes of names: a command line takes some two million in all."""
RELATIONS: LiteralString = """
SELECT c.oid, n.nspname, c.relname, c.relkind,
       ARRAY(SELECT i.inhrelid FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
             WHERE i.inhparent = c.oid AND p.relispartition),
       ARRAY(SELECT d.objid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
               AND d.deptype IN ('a', 'i'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
  AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2, 3
"""
DEPENDENTS: LiteralString = """
WITH gone AS (SELECT unnest(%(gone)s::oid[]) AS oid),
     used (kind, oid, of) AS (
         SELECT 'pg_class'::regclass, oid, oid FROM gone
         UNION ALL SELECT 'pg_type'::regclass, t.oid, c.oid
                   FROM gone JOIN pg_class c USING (oid) JOIN pg_type t ON t.oid = c.reltype
         UNION ALL SELECT 'pg_type'::regclass, t.typarray, c.oid
                   FROM gone JOIN pg_class c USING (oid) JOIN pg_type t ON t.oid = c.reltype WHERE t.typarray <> 0),
     found AS (SELECT DISTINCT d.classid, d.objid, u.of
               FROM used u JOIN pg_depend d ON d.refclassid = u.kind AND d.refobjid = u.oid WHERE d.deptype IN ('n', 'a')),
     owned (user_of, describes, of) AS (
         SELECT ev_class, (pg_identify_object('pg_class'::regclass, ev_class, 0)).type, of
         FROM found JOIN pg_rewrite r ON r.oid = objid WHERE classid = 'pg_rewrite'::regclass
         UNION ALL SELECT conrelid, 'a constraint of table', of
         FROM found JOIN pg_constraint c ON c.oid = objid WHERE classid = 'pg_constraint'::regclass AND conrelid <> 0
         UNION ALL SELECT adrelid, 'a default of table', of
         FROM found JOIN pg_attrdef a ON a.oid = objid WHERE classid = 'pg_attrdef'::regclass
         UNION ALL SELECT polrelid, 'a policy of table', of
         FROM found JOIN pg_policy p ON p.oid = objid WHERE classid = 'pg_policy'::regclass
         UNION ALL SELECT tgrelid, 'a trigger of table', of
         FROM found JOIN pg_trigger t ON t.oid = objid WHERE classid = 'pg_trigger'::regclass AND NOT tgisinternal
         UNION ALL SELECT c.oid, CASE c.relkind WHEN 'c' THEN 'type' ELSE 'table' END, of
         FROM found JOIN pg_class c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'f', 'c'))
SELECT describes || ' ' || user_of::regclass::text, of::regclass::text FROM owned
WHERE user_of NOT IN (SELECT oid FROM gone)
UNION
SELECT 'function ' || objid::regprocedure::text, of::regclass::text FROM found WHERE classid = 'pg_proc'::regclass
UNION
SELECT pg_describe_object(classid, objid, 0), of::regclass::text FROM found
WHERE classid IN ('pg_type'::regclass, 'pg_cast'::regclass)
ORDER BY 2, 1
"""
"""What stays and needs something that goes: its own restore would fail."""
REFERRING: LiteralString = """
SELECT DISTINCT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
WHERE contype = 'f' AND convalidated AND confrelid = ANY(%(empty)s::oid[])
  AND NOT conrelid = ANY(%(empty)s::oid[]) AND NOT conrelid = ANY(%(gone)s::oid[]) ORDER BY 1, 2
"""
"""Foreign keys whose rows are dumped while those that they refer to are not."""
PUBLISHED: LiteralString = "SELECT count(*) FROM pg_publication_rel WHERE prrelid = ANY(%s)"
PATTERN: LiteralString = "SELECT convert_to(%s, getdatabaseencoding())"


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """One that a filter may name."""

    oid: int
    schema: str
    relation: str
    kind: str
    hangs: tuple[int, ...]
    """Its partitions, and the sequences that its columns own."""

    @property
    def name(self) -> str:
        return qualified(self.schema, self.relation)


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a dump and its fingerprint leave out: relations as a whole, or their rows alone. Names as in a fingerprint."""

    relations: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    publications: bool = False
    """Whether these are left out, too: pg_dump 18 names tables in them that it leaves out, and that would not restore."""
    arguments: tuple[bytes, ...] = ()
    """For pg_dump, in the encoding of the database."""


NOTHING = LeftOut()


def resolve(connection: Session, filters: Filters, place: str, client: int) -> LeftOut:
    """Look the names up; `client` is the major of pg_dump.

    Raises Refused for a name that is not there, and where what is left would not restore.
    """
    if not filters:
        return NOTHING
    known = {one.oid: one for one in _relations(connection)}
    by_name = {one.name: one for one in known.values()}
    _check_there(filters, by_name, place)
    gone = _with_all(known, (by_name[name] for name in filters.exclude))
    if filters.include:
        kept = _with_all(known, (by_name[name] for name in filters.include))
        owned = {oid for one in known.values() for oid in one.hangs}
        gone = {oid for oid, one in known.items() if oid not in kept and (one.kind != "S" or oid in owned)}
    empty = {oid for oid in _with_all(known, (by_name[name] for name in filters.exclude_data)) if known[oid].kind in "rp"}
    _check_restorable(connection, gone, empty, place)
    published = client >= 18 and connection.execute(PUBLISHED, (list(gone),)).fetchall() != [(0,)]
    arguments = _arguments(connection, [known[oid] for oid in sorted(gone)], [known[oid] for oid in sorted(empty - gone)])
    return LeftOut(
        relations=frozenset(known[oid].name for oid in gone),
        rows=frozenset(known[oid].name for oid in empty - gone),
        publications=published,
        arguments=(*arguments, b"--no-publications") if published else arguments,
    )


def _relations(connection: Session) -> Iterator[Relation]:
    for oid, schema, relation, kind, partitions, sequences in connection.execute(RELATIONS):
        yield Relation(oid=oid, schema=schema, relation=relation, kind=kind, hangs=(*partitions, *sequences))


def _with_all(known: dict[int, Relation], named: Iterable[Relation]) -> set[int]:
    """The named ones with what hangs on them, partitions of partitions too."""
    found: set[int] = set()
    ahead = [one.oid for one in named]
    while ahead:
        oid = ahead.pop()
        if oid not in found and oid in known:
            found.add(oid)
            ahead += known[oid].hangs
    return found


def _check_there(filters: Filters, by_name: dict[str, Relation], place: str) -> None:
    for field in ("include", "exclude", "exclude_data"):
        missing = [name for name in getattr(filters, field) if name not in by_name]
        if missing:
            rest = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            meant = nearest(missing[0], by_name)
            raise Refused(
                f"dumps.{field} names {', '.join(missing[:NAMED])}{rest}, which {place} has not",
                cure=(f"{meant} " if meant else "") + f"correct the name, or remove it from dumps.{field}",
            )
    rowless = [name for name in filters.exclude_data if by_name[name].kind not in "rp"]
    if rowless:
        raise Refused(f"dumps.exclude_data names {rowless[0]} in {place}, which is no table", cure="name tables there")


def _check_restorable(connection: Session, gone: set[int], empty: set[int], place: str) -> None:
    needs = connection.execute(DEPENDENTS, {"gone": list(gone)}).fetchall() if gone else []
    if needs:
        what, of = needs[0]
        rest = f" (and {len(needs) - 1} more like it)" if len(needs) > 1 else ""
        raise Refused(
            f"the dump of {place} would not restore: {what} needs {of}, which the filters leave out{rest}",
            cure="leave both out or neither; dumps.exclude_data leaves the rows out and keeps the table",
        )
    refer = connection.execute(REFERRING, {"gone": list(gone), "empty": list(empty)}).fetchall() if empty else []
    if refer:
        raise Refused(
            f"the dump of {place} would not restore: rows of {refer[0][0]} refer to rows of {refer[0][1]}, "
            "which dumps.exclude_data leaves out",
            cure=f"name {refer[0][0]} there, too",
        )


def _arguments(connection: Session, gone: list[Relation], empty: list[Relation]) -> tuple[bytes, ...]:
    made = [b"--exclude-table=" + _pattern(connection, one) for one in gone]
    made += [b"--exclude-table-data=" + _pattern(connection, one) for one in empty]
    if sum(map(len, made)) > MOST_ARGUMENTS:
        raise Refused(
            f"the filters leave {len(made)} tables out by name, more than a command line takes",
            cure="name fewer of them",
        )
    return tuple(made)


def _pattern(connection: Session, one: Relation) -> bytes:
    """In quotes nothing of it is a pattern any more."""
    text = ".".join('"' + part.replace('"', '""') + '"' for part in (one.schema, one.relation))
    encoded: bytes = connection.execute(PATTERN, (text,)).fetchall()[0][0]
    return encoded
