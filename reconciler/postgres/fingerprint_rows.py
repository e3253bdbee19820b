"""Rows, sequences and large objects as marks: the queries, and the one way in which rows are hashed.

A row's checksum is the same on every supported major: the row's text under fixed settings, its columns named in the order of
their names, hashed twice to 64 bits by the function that hash partitioning rests on. Rows are added up, modulo 2^64 each: their
order does not matter, and a row that is there twice counts twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from reconciler.postgres.naming import qualified
from reconciler.postgres.session import Session
from reconciler.postgres.unplanned import count_rows
from reconciler.world.fingerprint import LargeObjects, Level, SequenceMark, TableMark

SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "default_transaction_read_only": "on",
    "lock_timeout": "5s",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
"""What a row's text depends on, fixed; and our manners: no more than one core of the server for each session."""
SEEDS = (0, 0x5EED)
WORD = 1 << 64
METHOD = "hashtextextended, seeds 0 and 24301, version 1"
PROOF: LiteralString = """
SELECT hashtextextended(t COLLATE "C", 0), hashtextextended(t COLLATE "C", 24301)
FROM (SELECT concat(1, E'\\x1f', 1.5::float8, '2024-02-29Z'::timestamptz, '\\x00ff'::bytea) AS t) s
"""
"""A server of another byte order, or a later major that hashes otherwise, gives itself away by this."""
PIECE_BYTES = 1 << 20
COLUMNS_AT_ONCE = 40
"""A function of PostgreSQL takes a hundred arguments, and each column is two."""

TABLES: LiteralString = """
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence = 'u',
       CASE WHEN c.reltuples < 0 THEN 8388608 ELSE c.relpages::bigint * 8192 END,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
       EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY(e.extconfig)),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attname),
       ARRAY(SELECT a.atttypid = '"char"'::regtype FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attname),
       (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attgenerated = '' ORDER BY a.attlen < 0, a.attlen LIMIT 1),
       CASE WHEN us.are_mighty AND owner.rolname <> session_user AND NOT owner.rolsuper THEN owner.rolname ELSE (
           SELECT min(r.rolname) FROM (
               SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid
               UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s WHERE s.stxrelid = c.oid
           ) part (kind, oid)
           JOIN pg_depend d ON d.classid = part.kind AND d.objid = part.oid
           LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
           JOIN pg_proc p ON p.oid = CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
           JOIN pg_roles r ON r.oid = p.proowner
           WHERE p.oid >= 16384 AND r.rolname <> session_user AND NOT r.rolsuper
       ) END,
       CASE WHEN c.relispartition THEN ARRAY(
           SELECT unnest(ARRAY[rn.nspname::text, r.relname::text]) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
           WHERE r.oid = pg_partition_root(c.oid) AND EXISTS (
               SELECT FROM pg_partition_ancestors(c.oid) a (relation)
               JOIN pg_partitioned_table p ON p.partrelid = a.relation AND p.partstrat = 'h'
               JOIN pg_opclass o ON o.oid = ANY(p.partclass)
               WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace)) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles owner ON owner.oid = c.relowner
CROSS JOIN (SELECT r.rolsuper OR pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')
                   OR pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')
            FROM pg_roles r WHERE r.rolname = session_user) us (are_mighty)
WHERE c.relkind IN ('r', 'f') AND c.relpersistence <> 't'
  AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
ORDER BY 6, 2, 3
"""
"""A size asked from the table itself would wait for its lock; one never looked at by the server counts as large.

The last but one is the stranger. To plan a query, the server calls what a table's indexes and statistics call with nothing but
constants, in a READ ONLY transaction too. Who owns a table may give it an index at any time, so where our role may run programs,
that alone makes him one. The last is the root of a tree in which hashes of an enum's values tell where a row belongs.
"""
SEQUENCES: LiteralString = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqcycle
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p' AND NOT (starts_with(n.nspname, 'pg_') OR n.nspname = 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
REWRITTEN: LiteralString = """
SELECT c.oid FROM pg_class c WHERE c.oid = ANY(%s) AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)::oid
"""
"""The left side is the snapshot's, the right one is of now: rows that a TRUNCATE took are gone from every snapshot."""
SEQUENCES_AT_ONCE = 500


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table that holds rows, and how to read them."""

    oid: int
    schema: str
    relation: str
    bytes: int
    columns: tuple[str, ...]
    """Neither dropped nor generated ones, ordered by name."""
    chars: tuple[bool, ...]
    """Which of them are of type `"char"`, whose text changed with PostgreSQL 16."""
    narrowest: str | None
    """Of these columns the one whose values are the shortest."""
    stranger: str | None
    """Who could have us call what he wrote, by a mere query of this table."""
    root: str | None
    """The partitioned table through which a dump has its rows loaded, where a restore may put them into other partitions."""
    skipped: str = ""
    """Why no dump promises its rows, or empty."""

    @property
    def name(self) -> str:
        return qualified(self.schema, self.relation)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.relation)


def read_tables(connection: Session) -> list[Table]:
    """All tables of the database that hold rows or stand for some, the smallest first."""
    tables = []
    for row in connection.execute(TABLES):
        oid, schema, relation, kind, unlogged, size, extensional, configured, columns, chars, narrowest, stranger, root = row
        skipped = "a foreign table: its rows are elsewhere" if kind == "f" else ""
        skipped = skipped or ("unlogged: a crash empties it" if unlogged else "")
        skipped = skipped or ("it belongs to an extension, which says what of it is dumped" if configured else "")
        skipped = skipped or ("it belongs to an extension, and no dump has its rows" if extensional else "")
        tables.append(
            Table(
                oid=oid,
                schema=schema,
                relation=relation,
                bytes=size,
                columns=tuple(columns),
                chars=tuple(chars),
                narrowest=narrowest,
                stranger=stranger,
                root=qualified(*root) if root else None,
                skipped=skipped,
            )
        )
    return tables


def read_rows(connection: Session, tables: Sequence[Table], level: Level) -> list[TableMark]:
    """Their marks, in their order: in one query, but for a stranger's."""
    queries = [_rows(number, table, level) for number, table in enumerate(tables) if table.stranger is None]
    found = {
        number: TableMark(rows=count_rows(connection, table.identifier, table.narrowest))
        for number, table in enumerate(tables)
        if table.stranger is not None
    }
    if queries:
        found |= {number: _mark(level, *sums) for number, *sums in connection.execute(sql.SQL(" UNION ALL ").join(queries))}
    return [found[number] for number in range(len(tables))]


def _rows(number: int, table: Table, level: Level) -> sql.Composed:
    if level == "counts":
        return sql.SQL("SELECT {}, count(*), NULL::numeric, NULL::numeric FROM ONLY {}").format(number, table.identifier)
    text = sql.SQL("SELECT {} AS t FROM ONLY {}").format(_text(table), table.identifier)
    return _sums(number, text)


def _text(table: Table) -> sql.Composable:
    """One row as text: each value as its type writes it, then a byte that says whether it was there at all.

    Twice as fast as the text of a record, which looks at every character for something to quote. No cast to text: a database
    may have its own for a type.
    """
    pieces: list[sql.Composable] = []
    for name, is_char in zip(table.columns, table.chars, strict=True):
        column = sql.Identifier(name)
        # As a number: one byte above 127 is written otherwise since PostgreSQL 16.
        value = sql.SQL('{}::"char"::int4').format(column) if is_char else column
        pieces.append(sql.SQL("{}, CASE WHEN {} IS NULL THEN E'\\x02' ELSE E'\\x1f' END").format(value, column))
    groups = [pieces[start : start + COLUMNS_AT_ONCE] for start in range(0, len(pieces), COLUMNS_AT_ONCE)]
    texts = [sql.SQL("concat({})").format(sql.SQL(", ").join(group)) for group in groups]
    return sql.SQL(" || ").join(texts) if texts else sql.SQL("''")


def _sums(number: int, text: sql.Composed) -> sql.Composed:
    # OFFSET 0 keeps the subquery from being flattened, which would make the text of each row twice.
    hashes = [sql.SQL('sum(hashtextextended(t COLLATE "C", {}))').format(seed) for seed in SEEDS]
    return sql.SQL("SELECT {}, count(*), {} FROM ({} OFFSET 0) s").format(number, sql.SQL(", ").join(hashes), text)


def _mark(level: Level, rows: int, first: Any, second: Any) -> TableMark:
    return TableMark(rows=rows, checksum=_hex(first, second) if level == "checksums" else None)


def _hex(first: Any, second: Any) -> str:
    return f"{int(first or 0) % WORD:016x}{int(second or 0) % WORD:016x}"


def rewritten(connection: Session, tables: Iterable[Table]) -> set[int]:
    """Which of them were rewritten since the session's snapshot: what the snapshot saw of them is gone."""
    return {row[0] for row in connection.execute(REWRITTEN, ([table.oid for table in tables],))}


def read_sequences(connection: Session) -> dict[str, SequenceMark]:
    """By name."""
    known = connection.execute(SEQUENCES).fetchall()
    marks = {}
    for start in range(0, len(known), SEQUENCES_AT_ONCE):
        some = known[start : start + SEQUENCES_AT_ONCE]
        queries = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(number, sql.Identifier(schema, name))
            for number, (schema, name, *_) in enumerate(some)
        ]
        for number, last, is_called in connection.execute(sql.SQL(" UNION ALL ").join(queries)):
            schema, name, increment, cycles = some[number]
            mark = SequenceMark(next=last + increment if is_called else last, increment=increment, cycles=cycles)
            marks[qualified(schema, name)] = mark
    return marks


def read_large_objects(connection: Session, level: Level) -> LargeObjects:
    """How many there are, and what they hold."""
    if level == "counts":
        return LargeObjects(count=connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchall()[0][0])
    # The descriptor is closed at once: a transaction would else hold one for each object.
    sizes = sql.SQL(
        "SELECT oid, size FROM (SELECT m.oid, lo_open(m.oid, 262144) AS fd FROM pg_largeobject_metadata m OFFSET 0) o, "
        "LATERAL (SELECT lo_lseek64(fd, 0, 2) AS size OFFSET 0) z WHERE lo_close(fd) + 0 * size = 0"
    )
    text = sql.SQL(
        "SELECT concat_ws(':', oid, start, encode(sha256(lo_get(oid, start, {piece})), 'hex')) AS t "
        "FROM ({sizes} OFFSET 0) l, generate_series(0, greatest(size - 1, 0), {piece}) start"
    ).format(sizes=sizes, piece=PIECE_BYTES)
    _, _, first, second = connection.execute(_sums(0, text)).fetchall()[0]
    count = connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchall()[0][0]
    return LargeObjects(count=count, checksum=_hex(first, second))


def method_of(connection: Session) -> str:
    """How this server hashes, with its proof."""
    first, second = connection.execute(PROOF).fetchall()[0]
    return f"{METHOD}: {_hex(first, second)}"
