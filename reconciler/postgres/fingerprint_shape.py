"""The shape of a database: every object of the schema by kind and name, with what can be compared between two servers.

Not in it: owners and rights (a rehearsal has other roles), tablespaces, and what belongs to an extension (its version is).
"""

from collections.abc import Collection, Iterator
from typing import LiteralString

from psycopg import sql

from reconciler.policy.relation import quoted
from reconciler.postgres.naming import qualified, settled
from reconciler.postgres.session import Session
from reconciler.world.fingerprint import ObjectMark

NAMED: tuple[tuple[LiteralString, LiteralString, LiteralString], ...] = (
    ("operator", "pg_operator", "oprnamespace"),
    ("operator class", "pg_opclass", "opcnamespace"),
    ("operator family", "pg_opfamily", "opfnamespace"),
    ("collation", "pg_collation", "collnamespace"),
    ("conversion", "pg_conversion", "connamespace"),
    ("text search configuration", "pg_ts_config", "cfgnamespace"),
    ("text search dictionary", "pg_ts_dict", "dictnamespace"),
    ("cast", "pg_cast", ""),
    ("language", "pg_language", ""),
    ("access method", "pg_am", ""),
    ("publication", "pg_publication", ""),
    ("foreign server", "pg_foreign_server", ""),
    ("foreign data wrapper", "pg_foreign_data_wrapper", ""),
)
"""Kinds that are compared by name alone: their catalogs, and the column with their schema."""

OWNED: LiteralString = """
ours AS (SELECT c.oid, c.relkind, c.relname, n.nspname, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
                c.relispartition, c.relispopulated, c.reloptions, c.relpartbound
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
           AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
           AND NOT EXISTS (SELECT FROM pg_depend d
                           WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
extensional AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
"""
"""Relations that are neither PostgreSQL's nor an extension's (16384 is the first oid that is not PostgreSQL's own)."""

RELATIONS: LiteralString = """
SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                    WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       'pg_class'::regclass, oid, oid,
       CASE WHEN relkind = 'm' THEN CASE WHEN relispopulated THEN 'populated' ELSE 'unpopulated' END
            WHEN relkind IN ('r', 'p') THEN concat_ws(', ', CASE WHEN relkind = 'p' THEN 'partitioned' END,
                 CASE WHEN relispartition THEN 'a partition' END, CASE WHEN relpersistence = 'u' THEN 'unlogged' END,
                 CASE WHEN relrowsecurity THEN 'under row security' END,
                 CASE WHEN relforcerowsecurity THEN 'which binds its owner' END)
            ELSE '' END,
       concat_ws(chr(10), reloptions::text, pg_get_expr(relpartbound, oid),
            CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
            (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
             FROM pg_inherits i WHERE i.inhrelid = ours.oid),
            (SELECT concat_ws(' ', format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
             FROM pg_sequence s WHERE s.seqrelid = ours.oid))
FROM ours
"""
COLUMNS: LiteralString = """
SELECT ours.oid, ours.nspname, ours.relname, a.attname,
       concat_ws(', ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
                 CASE a.attidentity WHEN 'a' THEN 'identity' WHEN 'd' THEN 'identity by default' END,
                 CASE WHEN a.attgenerated <> '' THEN 'generated' END),
       concat_ws(chr(10), pg_get_expr(d.adbin, d.adrelid), nullif(a.attcollation, 0)::regcollation::text)
FROM ours JOIN pg_attribute a ON a.attrelid = ours.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE ours.relkind IN ('r', 'p', 'f')
"""
PARTS: LiteralString = """
SELECT 'index', 'pg_class'::regclass, i.indexrelid, ours.oid, CASE WHEN i.indisvalid THEN '' ELSE 'invalid' END,
       pg_get_indexdef(i.indexrelid)
FROM ours JOIN pg_index i ON i.indrelid = ours.oid
UNION ALL
SELECT 'constraint', 'pg_constraint'::regclass, c.oid, ours.oid, CASE WHEN c.convalidated THEN '' ELSE 'not validated' END,
       pg_get_constraintdef(c.oid)
FROM ours JOIN pg_constraint c ON c.conrelid = ours.oid AND c.contype IN ('c', 'f', 'p', 'u', 'x') AND c.conparentid = 0
UNION ALL
SELECT 'trigger', 'pg_trigger'::regclass, t.oid, ours.oid,
       CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'for replicas' WHEN 'A' THEN 'always on' ELSE '' END,
       pg_get_triggerdef(t.oid)
FROM ours JOIN pg_trigger t ON t.tgrelid = ours.oid AND NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'rule', 'pg_rewrite'::regclass, r.oid, ours.oid, CASE r.ev_enabled WHEN 'D' THEN 'disabled' ELSE '' END,
       pg_get_ruledef(r.oid)
FROM ours JOIN pg_rewrite r ON r.ev_class = ours.oid AND r.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', 'pg_policy'::regclass, p.oid, ours.oid, '',
       concat_ws(chr(10), p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
FROM ours JOIN pg_policy p ON p.polrelid = ours.oid
"""
"""Partitions' clones of constraints and triggers are left out: their names are drawn anew when they are restored."""
OTHERS: LiteralString = """
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, 'pg_proc'::regclass, p.oid, 0::oid,
       CASE WHEN p.prosecdef THEN 'security definer' ELSE '' END,
       concat_ws(chr(10), l.lanname, p.prosrc, p.probin, pg_get_function_sqlbody(p.oid), p.provolatile, p.proisstrict,
                 p.proretset, format_type(p.prorettype, NULL), pg_get_function_arguments(p.oid), p.proconfig::text)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
UNION ALL
SELECT 'type', 'pg_type'::regclass, t.oid, 0::oid,
       CASE t.typtype WHEN 'd' THEN 'a domain' WHEN 'e' THEN 'an enum' WHEN 'r' THEN 'a range' WHEN 'c' THEN 'composite'
                      ELSE '' END,
       concat_ws(chr(10), CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, t.typnotnull, t.typdefault,
            (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
             FROM pg_enum e WHERE e.enumtypid = t.oid),
            (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid),
            (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attname)
             FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.oid >= 16384 AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
      AND (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c'
           OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
UNION ALL
SELECT 'constraint', 'pg_constraint'::regclass, c.oid, 0::oid, CASE WHEN c.convalidated THEN '' ELSE 'not validated' END,
       pg_get_constraintdef(c.oid)
FROM pg_constraint c WHERE c.contypid <> 0 AND c.contype = 'c' AND c.oid >= 16384
     AND NOT EXISTS (SELECT FROM extensional x WHERE x.classid = 'pg_type'::regclass AND x.objid = c.contypid)
UNION ALL
SELECT 'statistics', 'pg_statistic_ext'::regclass, s.oid, s.stxrelid, '', pg_get_statisticsobjdef(s.oid)
FROM pg_statistic_ext s JOIN ours ON ours.oid = s.stxrelid
UNION ALL
SELECT 'event trigger', 'pg_event_trigger'::regclass, e.oid, 0::oid, CASE e.evtenabled WHEN 'D' THEN 'disabled' ELSE '' END,
       concat_ws(chr(10), e.evtevent, e.evttags::text)
FROM pg_event_trigger e
UNION ALL
SELECT 'schema', 'pg_namespace'::regclass, n.oid, 0::oid, '', ''
FROM pg_namespace n WHERE n.oid >= 16384 AND NOT starts_with(n.nspname, 'pg_') AND n.nspname <> 'public'
UNION ALL
SELECT 'extension', 'pg_extension'::regclass, e.oid, 0::oid, e.extversion, '' FROM pg_extension e
"""


def read_shape(connection: Session, without: Collection[str] = ()) -> dict[str, dict[str, ObjectMark]]:
    """All of it, as the session's snapshot has it. `without`: relations that are left out, with all that hangs on them."""
    shape: dict[str, dict[str, ObjectMark]] = {}
    hidden = {oid for oid, schema, name in connection.execute(NAMES) if qualified(schema, name) in without} if without else ()
    for kind, name, relation, state, digest in (*_objects(connection), *_columns(connection)):
        if relation not in hidden:
            shape.setdefault(kind, {})[name] = ObjectMark(state=state, definition=digest)
    return shape


NAMES: LiteralString = "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"

_Row = tuple[str, str, int, str, str]


def _objects(connection: Session) -> Iterator[_Row]:
    named = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, {}::regclass, oid, 0::oid, '', '' FROM {} WHERE oid >= 16384").format(
            sql.Literal(kind), sql.Literal(catalog), sql.SQL(catalog)
        )
        + (sql.SQL(" AND NOT starts_with({}::regnamespace::text, 'pg_')").format(sql.SQL(schema)) if schema else sql.SQL(""))
        for kind, catalog, schema in NAMED
    )
    query = sql.SQL(
        "WITH {owned}, found (kind, catalog, oid, relation, state, definition) AS "
        "({relations} UNION ALL {parts} UNION ALL {others} UNION ALL {named}) "
        "SELECT kind, (pg_identify_object(catalog, oid, 0)).identity, relation, state, {digest} FROM found "
        "WHERE NOT EXISTS (SELECT FROM extensional x WHERE x.classid = found.catalog AND x.objid = found.oid)"
    ).format(
        owned=sql.SQL(OWNED),
        relations=sql.SQL(RELATIONS),
        parts=sql.SQL(PARTS),
        others=sql.SQL(OTHERS),
        named=named,
        digest=DIGEST,
    )
    for kind, identity, relation, state, digest in connection.execute(query):
        # Dropped since the snapshot: the catalog that names things has no snapshots.
        if identity is not None:
            yield kind, settled(identity), relation, state, digest


def _columns(connection: Session) -> Iterator[_Row]:
    query = sql.SQL(
        "WITH {owned}, found (relation, schema, name, column_name, state, definition) AS ({columns}) "
        "SELECT relation, schema, name, column_name, state, {digest} FROM found"
    ).format(owned=sql.SQL(OWNED), columns=sql.SQL(COLUMNS), digest=DIGEST)
    for relation, schema, name, column, state, digest in connection.execute(query):
        yield "column", f"{qualified(schema, name)}.{quoted(column)}", relation, settled(state), digest


WORDING = "without casts, parentheses and blanks, version 1"
_NAME = r'(?:"(?:[^"]|"")*"|[a-z_][a-z0-9_]*)'
CAST = rf"::{_NAME}(?:\.{_NAME})?(?: varying| precision)?(?:\([-\d,]+\))?(?: with(?:out)? time zone)?(?:\[\])*"
DIGEST = sql.SQL(
    "CASE WHEN definition = '' THEN '' ELSE left(encode(sha256(convert_to("
    "translate(regexp_replace(definition, {}, '', 'g'), E'() \\n', ''), getdatabaseencoding())), 'hex'), 32) END"
).format(sql.Literal(CAST))
"""Of the bytes as they are: no conversion could fail on what a database of encoding SQL_ASCII holds.

PostgreSQL words some expressions otherwise once they were restored: `varchar IN (…)` casts the array of its values first, and
then each of them. So what casts is left out, and what only groups.
"""
