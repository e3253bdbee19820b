"""Filters: strict names, looked up in the dump's own session, and what is left restores by itself."""

from collections.abc import Callable
from threading import Event

import pytest

from reconciler.errors import Refused
from reconciler.postgres.fingerprint import take
from reconciler.postgres.naming import qualified
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from reconciler.world.facts import Filters
from reconciler.world.fingerprint import differences, gaps
from reconciler.world.ports import DumpOptions
from tests.postgres.odd_schema import ODD_NAMES, odd_database
from tests.servers.postgres import Server

Open = Callable[[str], PostgresSource]
SHOP = """
CREATE TYPE state AS ENUM ('new', 'paid'); CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE users (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, by int REFERENCES users, state state);
CREATE TABLE sessions (id int GENERATED ALWAYS AS IDENTITY, token text); CREATE SEQUENCE lonely;
CREATE TABLE log (at date, line text) PARTITION BY RANGE (at);
CREATE TABLE log_24 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (line);
CREATE TABLE log_24_a PARTITION OF log_24 FOR VALUES IN ('a'); CREATE TABLE log_rest PARTITION OF log DEFAULT;
CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid'; CREATE VIEW lines AS SELECT * FROM log;
INSERT INTO users (name) VALUES ('ana'), ('bo'); INSERT INTO orders VALUES (1, 1, 'new');
INSERT INTO sessions (token) VALUES ('t'); INSERT INTO log VALUES ('2024-06-01', 'a'), ('2030-01-01', 'z');
"""


def restored(server: Server, database: str, source: PostgresSource, filters: Filters) -> str:
    """The filtered dump in a new database, its fingerprint the same as the one that was taken beside it."""
    copy = server.new_database(options="TEMPLATE template0")
    with source.dump("part", expect=None, options=DumpOptions(filters=filters, fingerprint="checksums")) as dump:
        archive = b"".join(dump.chunks())
        recorded = dump.fingerprint()
    server.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)
    found = take(
        parse(server.url(copy), field="url"),
        application_name="reconciler/fp",
        level="checksums",
        clock=SystemClock(),
        stop=Event(),
    )
    assert recorded is not None
    assert () == differences(recorded, found) + gaps(recorded, found)
    return copy


def relations(server: Server, database: str) -> set[str]:
    rows = server.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND oid >= 16384", database)
    return {row[0] for row in rows}


LOG = {"log", "log_24", "log_24_a", "log_rest"}
ALL = {"users", "users_id_seq", "orders", "sessions", "sessions_id_seq", "lonely", "paid", "lines"} | LOG


@pytest.mark.parametrize(
    ("filters", "without"),
    [
        (Filters(exclude=("public.sessions",)), {"sessions", "sessions_id_seq"}),
        (Filters(exclude=("public.lines", "public.log")), {"lines"} | LOG),
        (Filters(exclude=("public.paid", "public.orders")), {"paid", "orders"}),
        (Filters(include=("public.users", "public.orders")), ALL - {"users", "users_id_seq", "orders", "lonely"}),
        (Filters(include=("public.log",)), ALL - LOG - {"lonely"}),
    ],
)
def test_what_is_left_out_and_what_is_not(postgres: Server, open_source: Open, filters: Filters, without: set[str]) -> None:
    """Partitions and owned sequences go with their table; what is left restores without an error."""
    database = postgres.new_database(SHOP)

    copy = restored(postgres, database, open_source(postgres.url(database)), filters)

    assert ALL - without == relations(postgres, copy)
    assert [(1,)] == postgres.execute("SELECT one()", copy)


def test_rows_alone_are_left_out(postgres: Server, open_source: Open) -> None:
    """The table is there and empty, its partitions too; all else has its rows."""
    database = postgres.new_database(SHOP)
    filters = Filters(exclude_data=("public.sessions", "public.log"))

    copy = restored(postgres, database, open_source(postgres.url(database)), filters)

    assert not filters.partial
    assert ALL == relations(postgres, copy)
    assert [(0, 0, 2, 1)] == postgres.execute(
        "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM log), (SELECT count(*) FROM users),"
        " (SELECT count(*) FROM orders)",
        copy,
    )


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_no_pattern(postgres18: Server, open_source: Open, name: str) -> None:
    """Quotes, stars, dollars and line ends in a name reach pg_dump as what they are."""
    quoted = '"' + name.replace('"', '""') + '"'
    like = '"' + name.replace('"', '""')[:-1] + 'x"' if len(name) > 1 else '"xx"'
    database = postgres18.new_database(
        f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} (v int); CREATE TABLE {quoted}.{like} (v int)"
    )

    copy = restored(postgres18, database, open_source(postgres18.url(database)), Filters(exclude=(qualified(name, name),)))

    assert {like[1:-1].replace('""', '"')} == relations(postgres18, copy)


@pytest.mark.parametrize("star", ["*", "?", "a|b", "[ab]", "(a)", "a.*"])
def test_signs_of_patterns_are_letters(postgres18: Server, open_source: Open, star: str) -> None:
    """A table that is called like a pattern is that table alone."""
    database = postgres18.new_database(f'CREATE TABLE "{star}" (v int); CREATE TABLE a (v int); CREATE TABLE b (v int)')

    copy = restored(postgres18, database, open_source(postgres18.url(database)), Filters(exclude=(qualified("public", star),)))

    assert {"a", "b"} == relations(postgres18, copy)


def test_names_in_another_encoding(postgres18: Server, open_source: Open) -> None:
    """A database in LATIN1 knows its names in LATIN1."""
    options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    database = postgres18.new_database('CREATE TABLE U&"gr\\00f6\\00dfe" (v int); CREATE TABLE other (v int)', options=options)
    copy = postgres18.new_database(options=options)

    filters = Filters(exclude=('public."größe"',))
    with open_source(postgres18.url(database)).dump("part", expect=None, options=DumpOptions(filters=filters)) as dump:
        archive = b"".join(dump.chunks())
    postgres18.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)

    assert {"other"} == relations(postgres18, copy)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TYPE pair AS (one gone, other gone[])", "type public.pair"),
        ("CREATE DOMAIN known AS gone CHECK (VALUE IS NOT NULL)", "type public.known"),
        ("CREATE TYPE span AS RANGE (subtype = gone)", "function public.span"),
        ("CREATE CAST (gone AS text) WITH INOUT", "cast from public.gone to text"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON stays FROM gone FOR EACH ROW EXECUTE FUNCTION f()",
            "a trigger of table public.stays",
        ),
    ],
)
def test_whatever_needs_a_table_that_goes(postgres: Server, open_source: Open, statement: str, says: str) -> None:
    """Types that are made of its rows, casts of them, triggers that refer to it: its restore would fail over each."""
    database = postgres.new_database(f"CREATE TABLE gone (i int); CREATE TABLE stays (i int); {statement}")
    options = DumpOptions(filters=Filters(exclude=("public.gone",)))
    source = open_source(postgres.url(database))

    with (
        pytest.raises(Refused, match=rf"would not restore: {says}\S* needs public.gone"),
        source.dump("p", expect=None, options=options),
    ):
        pass


@pytest.mark.parametrize(
    ("filters", "says", "cure"),
    [
        (Filters(exclude=("public.usres",)), "dumps.exclude names public.usres, which", 'did you mean "public.users"?'),
        (Filters(include=("shop.users", "public.x")), "dumps.include names shop.users, public.x, which", "correct the name"),
        (
            Filters(exclude_data=("public.gone",)),
            "dumps.exclude_data names public.gone, which",
            "remove it from dumps.exclude_data",
        ),
        (Filters(exclude_data=("public.paid",)), "public.paid in .*, which is no table", "name tables"),
        (Filters(exclude=("public.users",)), "a constraint of table public.orders needs public.users", "both out or neither"),
        (Filters(include=("public.orders",)), "a constraint of table public.orders needs public.users", "both out or neither"),
        (Filters(exclude=("public.orders",)), "view public.paid needs public.orders", "both out or neither"),
        (Filters(exclude=("public.log",)), "view public.lines needs public.log", "both out or neither"),
        (Filters(exclude=("public.users_id_seq",)), "a default of table public.users needs public.users_id_seq", "both"),
        (
            Filters(exclude_data=("public.users",)),
            "rows of public.orders refer to rows of public.users",
            "name public.orders there",
        ),
    ],
)
def test_what_would_not_restore_is_refused(postgres18: Server, open_source: Open, filters: Filters, says: str, cure: str) -> None:
    """Before a byte is dumped, with the name that is missing or that needs what goes."""
    source = open_source(postgres18.url(postgres18.new_database(SHOP)))

    with pytest.raises(Refused, match=says) as refusal, source.dump("part", expect=None, options=DumpOptions(filters=filters)):
        pass

    assert cure in refusal.value.cure


def test_a_table_that_the_role_may_not_read_can_be_left_out(postgres18: Server, open_source: Open) -> None:
    """Whoever says by name that it is not to be dumped need not be granted it."""
    role = postgres18.new_role()
    database = postgres18.new_database(SHOP)
    postgres18.execute(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};"
        f"GRANT EXECUTE ON FUNCTION pg_control_system TO {role}; REVOKE ALL ON sessions FROM {role}",
        database,
    )
    source = open_source(postgres18.url(database, user=role))

    with pytest.raises(Refused, match=r"may not read public\.sessions"), source.dump("part", expect=None):
        pass
    copy = restored(postgres18, database, source, Filters(exclude=("public.sessions",)))

    assert "users" in relations(postgres18, copy)


def test_everything_but_each_table_in_turn(postgres: Server, open_source: Open) -> None:
    """Of a database with a bit of everything: either it restores, or it is refused with a name."""
    database = odd_database(postgres)
    source = open_source(postgres.url(database))
    refused = []
    for name in ("everything", "serials", "events", "parent", "refers", "child", "guarded", "counted", "joined"):
        try:
            restored(postgres, database, source, Filters(exclude=(f"public.{name}",)))
        except Refused:
            refused.append(name)

    assert ["events", "parent", "refers"] == refused
