"""Objects of a restored database, counted kind by kind against the archive's table of contents."""

from collections.abc import Iterable, Iterator
from typing import Final, LiteralString

from reconciler.postgres.contents import Entry
from reconciler.postgres.session import Session
from reconciler.world.evidence import Fault

COUNTED: Final[LiteralString] = """
WITH foreign_to_it AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    UNION ALL SELECT classid, objid FROM pg_depend WHERE deptype = 'i' AND classid = 'pg_proc'::regclass
), ours (kind, class, oid) AS (
    SELECT CASE relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'TABLE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
           ELSE 'SEQUENCE' END, 'pg_class'::regclass, oid FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL SELECT 'INDEX', 'pg_class'::regclass, indexrelid FROM pg_index
              WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    UNION ALL SELECT CASE prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
                     'pg_proc'::regclass, oid FROM pg_proc
    UNION ALL SELECT 'TRIGGER', 'pg_trigger'::regclass, oid FROM pg_trigger t WHERE NOT tgisinternal AND tgparentid = 0
              OR EXISTS (SELECT FROM pg_trigger p WHERE p.oid = t.tgparentid AND p.tgenabled <> t.tgenabled)
    UNION ALL SELECT CASE contype WHEN 'f' THEN 'FK CONSTRAINT' ELSE 'CONSTRAINT' END, 'pg_constraint'::regclass, oid
              FROM pg_constraint WHERE conrelid <> 0 AND (contype IN ('p', 'u', 'x') OR (contype = 'f' AND conparentid = 0)
                                                          OR (contype = 'n' AND NOT convalidated))
    UNION ALL SELECT 'POLICY', 'pg_policy'::regclass, oid FROM pg_policy
    UNION ALL SELECT 'SCHEMA', 'pg_namespace'::regclass, oid FROM pg_namespace
    UNION ALL SELECT 'DOMAIN', 'pg_type'::regclass, oid FROM pg_type WHERE typtype = 'd'
    UNION ALL SELECT 'STATISTICS', 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext
)
SELECT kind, count(*) FROM ours o WHERE oid >= 16384
AND NOT EXISTS (SELECT FROM foreign_to_it f WHERE f.classid = o.class AND f.objid = o.oid)
AND (class <> 'pg_class'::regclass OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = o.oid AND
     (c.relpersistence = 't' OR EXISTS (SELECT FROM pg_depend x WHERE x.deptype = 'e' AND x.classid = 'pg_class'::regclass
      AND x.objid IN (SELECT indrelid FROM pg_index WHERE indexrelid = c.oid))
      OR starts_with(c.relnamespace::regnamespace::text, 'pg_toast'))))
AND (class <> 'pg_constraint'::regclass OR NOT EXISTS (SELECT FROM pg_constraint k JOIN pg_depend x ON x.deptype = 'e'
     AND x.classid = 'pg_class'::regclass AND x.objid = k.conrelid WHERE k.oid = o.oid))
AND (class <> 'pg_trigger'::regclass OR NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_depend x ON x.deptype = 'e'
     AND x.classid = 'pg_class'::regclass AND x.objid = t.tgrelid WHERE t.oid = o.oid))
GROUP BY kind
"""
"""By the names of the table of contents. That lists a partition's trigger, too, where it is switched otherwise than its parent's,
and a NOT NULL that is not valid yet. What extensions brought, and what belongs to what they brought, is not counted.
"""
KINDS: Final = (
    "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "FUNCTION", "PROCEDURE", "AGGREGATE", "TRIGGER", "CONSTRAINT",
    "FK CONSTRAINT", "POLICY", "SCHEMA", "DOMAIN", "STATISTICS",
)  # fmt: skip


def count(admin: Session, expected: Iterable[Entry], *, excused: bool) -> tuple[int, tuple[Fault, ...]]:
    """How many are there, and each kind of which fewer are there than were to be restored.

    `excused`: an error that proves nothing explains what is missing already.
    """
    wanted: dict[str, int] = dict.fromkeys(KINDS, 0)
    for entry in expected:
        # An initdb's own schema is listed when its rights or comment were changed, and never created.
        if entry.kind in wanted and not (entry.kind == "SCHEMA" and entry.may_be("public")):
            wanted[entry.kind] += 1
    found: dict[str, int] = dict(admin.execute(COUNTED).fetchall())
    return sum(found.values()), tuple(_missing(wanted, found, excused=excused))


def _missing(wanted: dict[str, int], found: dict[str, int], *, excused: bool) -> Iterator[Fault]:
    for kind, number in wanted.items():
        has = found.get(kind, 0)
        if has < number:
            what = f"{has} are there of the {number} that the table of contents names"
            yield Fault(where=kind.lower(), what=what, result="unproven" if excused else "failed")
