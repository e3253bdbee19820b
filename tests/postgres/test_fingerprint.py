"""Fingerprints of real databases: what they cover, what changes them, and what does not."""

from collections.abc import Callable
from threading import Event

import psycopg
import pytest
from psycopg import sql

from reconciler.errors import Stopped
from reconciler.postgres.filters import NOTHING, LeftOut
from reconciler.postgres.fingerprint import Taking, take
from reconciler.postgres.unplanned import count_rows
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from reconciler.world.fingerprint import Fingerprint, Level, differences, gaps
from tests.postgres.odd_schema import ODD_NAMES, odd_database
from tests.postgres.processes import comes_true, sessions_end
from tests.servers.postgres import MAJORS, Server, Servers

Take = Callable[..., Fingerprint]
ROWS = "CREATE TABLE t (i int, x text); INSERT INTO t SELECT i, repeat('x', i % 50) FROM generate_series(1, 1000) i;"


def fingerprint(url: str, level: Level = "checksums", *, jobs: int = 2, stop: Event | None = None) -> Fingerprint:
    return take(
        parse(url, field="url"),
        application_name="reconciler/fp",
        level=level,
        clock=SystemClock(),
        stop=stop or Event(),
        jobs=jobs,
    )


def why(one: Fingerprint) -> dict[str, str]:
    return {uncovered.what: uncovered.why for uncovered in one.uncovered}


@pytest.fixture
def odd(postgres: Server) -> tuple[Server, str]:
    return postgres, odd_database(postgres)


def test_a_restore_of_everything_is_the_same(postgres: Server) -> None:
    """All covered, nothing different, sequences and large objects too; what is unlogged or another role's is named."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")
    postgres.run("pg_restore", "--exit-on-error", database=copy, stdin=postgres.run("pg_dump", "-Fc", database=original))

    one, other = fingerprint(postgres.url(original)), fingerprint(postgres.url(copy), jobs=1)

    assert () == differences(one, other) + gaps(one, other)
    assert {"public.fleeting", "checksum of owned.thing"} == set(why(one))
    assert "unlogged: a crash empties it" == why(one)["public.fleeting"]
    assert one.large_objects is not None
    assert 2 == one.large_objects.count
    assert len(ODD_NAMES) == sum(mark.rows == 1 for name, mark in one.tables.items() if not name.startswith("public."))


@pytest.mark.parametrize("older", [major for major in MAJORS if major < 18])
def test_another_major_hashes_alike(older: int, postgres_servers: Servers) -> None:
    """What an older server dumped has the same checksums in a newer one, type by type."""
    old, new = postgres_servers(older), postgres_servers(18)
    original, copy = odd_database(old), new.new_database(options="TEMPLATE template0")
    archive = old.run("pg_dump", "-Fc", "--no-owner", "--no-acl", database=original)
    for (role,) in old.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'role_%'"):
        new.execute(f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN END $$")
    new.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)

    one, other = fingerprint(old.url(original)), fingerprint(new.url(copy))

    assert () == differences(one, other) + gaps(one, other)
    assert one.method == other.method


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE serials SET name = name || 'x' WHERE id = 7", "table public.serials has other rows"),
        ("DELETE FROM serials WHERE id = 7", "table public.serials has 99 rows, and had 100"),
        (
            "UPDATE everything SET a_double = 1.0000000000000002 WHERE a_text IS NOT NULL",
            "table public.everything has other rows",
        ),
        ("UPDATE everything SET a_bytea = '\\x00ff0a5d' WHERE a_text IS NOT NULL", "table public.everything has other rows"),
        ("UPDATE everything SET a_text = NULL", "table public.everything has other rows"),
        ("INSERT INTO parent VALUES (2)", "table public.parent has 2 rows, and had 1"),
        ("DELETE FROM events WHERE at < '2024-06-01 02:00Z'", "table public.events_2024_a has 49 rows"),
        ("SELECT setval('serials_id_seq', 4999)", "sequence public.serials_id_seq is behind"),
        ("SELECT nextval('lonely')", ""),
        ("SELECT lo_unlink(min(oid)) FROM pg_largeobject_metadata", "there are 1 large objects, and there were 2"),
        (
            "SELECT lo_put((SELECT max(loid) FROM pg_largeobject), 5, '\\x01') FROM (SELECT) s",
            "the 2 large objects hold other bytes",
        ),
        ("ALTER TABLE serials ALTER name DROP NOT NULL", "column public.serials.name is text, and was text, not null"),
        ("ALTER TABLE parent DISABLE TRIGGER stamping", "trigger stamping on public.parent is disabled"),
        ("DROP POLICY own_rows ON guarded", "policy own_rows on public.guarded is missing"),
        ("ALTER TABLE guarded DISABLE ROW LEVEL SECURITY", "table public.guarded is "),
        ("CREATE OR REPLACE VIEW joined AS SELECT 1 AS id, 2 AS other", "view public.joined is defined otherwise"),
        ("REFRESH MATERIALIZED VIEW empty_one", "materialized view public.empty_one is populated"),
        (
            "CREATE OR REPLACE FUNCTION add(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 5'",
            "function public.add(integer,integer) is defined otherwise",
        ),
        ("ALTER TYPE mood ADD VALUE 'new'", "type public.mood is defined otherwise"),
        ("DROP INDEX events_at_idx", "index public.events_at_idx is missing"),
        (
            "ALTER TABLE parent DROP CONSTRAINT note_short, ADD CONSTRAINT note_short CHECK (length(note) < 98)",
            "constraint note_short on public.parent is defined otherwise",
        ),
        ("ALTER SEQUENCE lonely INCREMENT 2", "sequence public.lonely is defined otherwise"),
    ],
)
def test_a_change_is_named(postgres18: Server, change: str, says: str) -> None:
    """Whatever is changed shows as a sentence about that very object."""
    database = odd_database(postgres18)
    before = fingerprint(postgres18.url(database))
    postgres18.execute(change, database)

    said = differences(before, fingerprint(postgres18.url(database)))

    assert bool(says) == bool(said)
    assert said == () or any(line.startswith(says) for line in said), said


def test_the_order_of_rows_and_columns_does_not_matter(postgres18: Server) -> None:
    """Nor do dropped columns and generated ones; how often a row is there does."""
    one = postgres18.new_database("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'y')")
    other = postgres18.new_database(
        "CREATE TABLE t (b text, gone int, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);"
        "ALTER TABLE t DROP gone; INSERT INTO t (a, b) VALUES (2, 'y'), (1, 'x'), (2, 'y')"
    )
    third = postgres18.new_database("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (1, 'x'), (2, 'y')")

    marks = [fingerprint(postgres18.url(name)).tables["public.t"] for name in (one, other, third)]

    assert marks[0] == marks[1]
    assert marks[0] != marks[2]


def test_a_roles_settings_change_nothing(postgres: Server) -> None:
    """Date style, zone, digits and all else that a row's text depends on are ours."""
    role = postgres.new_role("SUPERUSER")
    database = odd_database(postgres)
    plain = fingerprint(postgres.url(database))
    settings = {
        "datestyle": "SQL, DMY",
        "timezone": "Asia/Kolkata",
        "intervalstyle": "iso_8601",
        "extra_float_digits": "-5",
        "bytea_output": "escape",
        "search_path": "public",
        "quote_all_identifiers": "on",
    }
    for name, value in settings.items():
        postgres.execute(f"ALTER ROLE {role} SET {name} = '{value}'")

    assert plain == fingerprint(postgres.url(database, user=role))


def test_a_role_with_a_time_limit(postgres18: Server) -> None:
    """It is for whom the role was made; a table's rows take as long as they take."""
    role = postgres18.new_role("SUPERUSER")
    postgres18.execute(f"ALTER ROLE {role} SET statement_timeout = '150ms'")
    database = postgres18.new_database("CREATE TABLE t AS SELECT i, md5(i::text) AS x FROM generate_series(1, 500000) i")

    found = fingerprint(postgres18.url(database, user=role))

    assert ({"public.t"}, ()) == (set(found.tables), found.uncovered)


def test_counts_say_nothing_of_contents(postgres18: Server) -> None:
    """At that level a row's contents are not read; its being there is."""
    database = postgres18.new_database(ROWS)
    before = fingerprint(postgres18.url(database), "counts")
    postgres18.execute("UPDATE t SET x = ''", database)

    after = fingerprint(postgres18.url(database), "counts")

    assert () == differences(before, after)
    assert 1000 == after.rows
    assert {None} == {mark.checksum for mark in after.tables.values()}


def snapshot_of(connection: "psycopg.Connection[tuple[object, ...]]") -> str:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return str(connection.execute("SELECT pg_export_snapshot()").fetchall()[0][0])


def in_snapshot(url: str, snapshot: str, stop: Event, left_out: LeftOut = NOTHING) -> Taking:
    return Taking(
        parse(url, field="url"),
        application_name="reconciler/fp",
        level="checksums",
        clock=SystemClock(),
        stop=stop,
        snapshot=snapshot,
        jobs=2,
        left_out=left_out,
    )


def test_it_is_of_the_snapshot(postgres18: Server, stop: Event) -> None:
    """What is committed later is not in it."""
    database = postgres18.new_database(ROWS)
    before = fingerprint(postgres18.url(database))
    with postgres18.connect(database) as holder:
        snapshot = snapshot_of(holder)
        postgres18.execute("INSERT INTO t VALUES (0, ''); CREATE TABLE later (v int)", database)
        taking = in_snapshot(postgres18.url(database), snapshot, stop)
        with taking.running():
            found = taking.result(within_seconds=None)

    assert before == found


def test_rows_that_a_truncate_took_are_not_counted_as_none(postgres18: Server, stop: Event) -> None:
    """A snapshot does not keep them, so that a count of zero would be a lie."""
    database = postgres18.new_database(ROWS + "CREATE TABLE u AS SELECT 1 AS v")
    with postgres18.connect(database) as holder:
        snapshot = snapshot_of(holder)
        postgres18.execute("TRUNCATE t", database)
        taking = in_snapshot(postgres18.url(database), snapshot, stop)
        with taking.running():
            found = taking.result(within_seconds=None)

    assert {"public.t": "it was rewritten since the snapshot (TRUNCATE or ALTER TABLE)"} == why(found)
    assert ["public.u"] == list(found.tables)


def test_names_are_of_the_snapshot(postgres18: Server, stop: Event) -> None:
    """Names are asked for before rows are, since the catalog that names things has no snapshots: what is renamed while a table
    keeps us waiting is called as the dump calls it."""
    database = postgres18.new_database(
        ROWS + "CREATE TABLE u (v int); CREATE INDEX before ON u (v); CREATE VIEW w AS SELECT 1 AS i"
    )
    with postgres18.connect(database) as holder, postgres18.connect(database) as other:
        snapshot = snapshot_of(holder)
        other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        taking = in_snapshot(postgres18.url(database), snapshot, stop)
        with taking.running():
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'"
            assert comes_true(lambda: bool(postgres18.execute(waits, database)))
            postgres18.execute("ALTER INDEX before RENAME TO after; CREATE OR REPLACE VIEW w AS SELECT 2 AS i", database)
            other.execute("COMMIT")
            found = taking.result(within_seconds=None)
        was = found.shape

    now = fingerprint(postgres18.url(database)).shape
    assert was is not None
    assert now is not None
    assert ["public.before"] == list(was["index"])
    assert was["view"] != now["view"]


def test_a_table_that_cannot_be_read_costs_that_table_only(postgres18: Server) -> None:
    """The rest is covered, and the reason is told."""
    role = postgres18.new_role()
    database = postgres18.new_database(ROWS + "CREATE TABLE u AS SELECT 1 AS v; CREATE TABLE w AS SELECT 1 AS v")
    postgres18.execute(f"GRANT SELECT ON t, w TO {role}", database)

    found = fingerprint(postgres18.url(database, user=role))

    assert ["public.t", "public.w"] == list(found.tables)
    assert {"public.u": "permission denied for table u"} == why(found)


def test_a_table_that_was_given_to_an_extension(postgres18: Server) -> None:
    """No dump has its rows, though they may be anybody's: that is said."""
    database = postgres18.new_database(ROWS + "CREATE EXTENSION citext; ALTER EXTENSION citext ADD TABLE t")

    found = fingerprint(postgres18.url(database))

    assert {} == found.tables
    assert {"public.t": "it belongs to an extension, and no dump has its rows"} == why(found)


def test_rows_hidden_by_row_security_are_not_passed_over(postgres18: Server) -> None:
    """Half a table is not a table: it is uncovered, with the reason."""
    role = postgres18.new_role()
    database = postgres18.new_database(ROWS + "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    postgres18.execute(f"GRANT SELECT ON t TO {role}", database)

    found = fingerprint(postgres18.url(database, user=role))

    assert {} == found.tables
    assert "row-level security" in why(found)["public.t"]


def test_a_locked_table_is_given_up_soon(postgres18: Server) -> None:
    """Nobody waits behind us for longer than a moment."""
    database = postgres18.new_database(ROWS + "CREATE TABLE u AS SELECT 1 AS v")
    with postgres18.connect(database) as other:
        other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        found = fingerprint(postgres18.url(database))

    assert ["public.u"] == list(found.tables)
    assert "lock timeout" in why(found)["public.t"]


SLOW = "CREATE TABLE slow AS SELECT i, repeat('x', 500) AS x FROM generate_series(1, 400000) i;"


def test_when_the_time_is_over_it_says_what_it_did_not_reach(postgres18: Server, stop: Event) -> None:
    """What is covered stays, the rest is named, and no session is left."""
    database = postgres18.new_database(SLOW + "CREATE TABLE u AS SELECT 1 AS v")
    with postgres18.connect(database) as holder, postgres18.connect(database) as other:
        taking = in_snapshot(postgres18.url(database), snapshot_of(holder), stop)
        # It waits for five seconds, and so is not through with it, however fast it would be.
        other.execute("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE")
        with taking.running():
            taking.wait_until_prepared(30)
            assert comes_true(lambda: "public.u" in taking._tables)
            found = taking.result(within_seconds=0)

    assert ["public.u"] == list(found.tables)
    assert "the time was over (0 s after the dump)" == why(found)["public.slow"]
    assert sessions_end(postgres18, "reconciler/fp")


def test_it_stops_when_asked_to(postgres18: Server) -> None:
    """With an error of its own, and without leaving a session."""
    stop = Event()
    stop.set()

    with pytest.raises(Stopped):
        fingerprint(postgres18.url(postgres18.new_database(SLOW)), stop=stop)

    assert sessions_end(postgres18, "reconciler/fp")


def test_a_server_that_is_not_there_is_a_reason(postgres18: Server) -> None:
    """Nothing is raised: everything is uncovered, and says why."""
    url = postgres18.url("no_such_database")

    found = fingerprint(url)

    assert {"large objects", "sequences", "shape", "tables"} <= set(why(found))
    assert 'database "no_such_database" does not exist' in why(found)["tables"]


def test_what_the_dump_leaves_out_is_left_out(postgres18: Server, stop: Event) -> None:
    """Rows by name are named as uncovered; whole tables are as if they were not there, with all that hangs on them."""
    database = postgres18.new_database(ROWS + "CREATE INDEX ON t (i); CREATE TABLE u (v int PRIMARY KEY); CREATE TABLE w (v int)")
    with postgres18.connect(database) as holder:
        left_out = LeftOut(relations=frozenset({"public.t"}), rows=frozenset({"public.u"}))
        taking = in_snapshot(postgres18.url(database), snapshot_of(holder), stop, left_out)
        with taking.running():
            found = taking.result(within_seconds=None)

    assert ["public.w"] == list(found.tables)
    assert {"public.u": "its rows are left out of the dump"} == why(found)
    assert found.shape is not None
    assert ["public.u", "public.w"] == sorted(found.shape["table"])
    assert ["public.u_pkey"] == list(found.shape["index"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(NULL, 'x')", "('', 'x')"),
        ("('ab', 'c')", "('a', 'bc')"),
        ("('', NULL)", "(NULL, '')"),
    ],
)
def test_values_are_kept_apart(postgres18: Server, one: str, other: str) -> None:
    """No value runs into the next, and nothing is not the empty text."""
    first, second = (
        postgres18.new_database(f"CREATE TABLE t (a text, b text); INSERT INTO t VALUES {row}") for row in (one, other)
    )

    assert differences(fingerprint(postgres18.url(first)), fingerprint(postgres18.url(second)))


def test_a_table_of_very_many_columns(postgres18: Server) -> None:
    """More than a function takes arguments; the last one counts too. And a table of none."""
    columns = ", ".join(f"c{number} int DEFAULT {number}" for number in range(1000))
    database = postgres18.new_database(
        f"CREATE TABLE t ({columns}); INSERT INTO t DEFAULT VALUES; CREATE TABLE none (); INSERT INTO none DEFAULT VALUES"
    )
    before = fingerprint(postgres18.url(database))
    postgres18.execute("UPDATE t SET c999 = 0", database)

    assert ("table public.t has other rows than it had, though as many: 1",) == differences(
        before, fingerprint(postgres18.url(database))
    )
    assert 1 == before.tables["public.none"].rows


def test_a_databases_own_casts_are_not_called(postgres18: Server) -> None:
    """Reading rows runs nothing that somebody planted: neither a cast to text nor a view."""
    database = postgres18.new_database(
        "CREATE TYPE pair AS (a int); CREATE FUNCTION boom(pair) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'planted'; END $$; CREATE CAST (pair AS text) WITH FUNCTION boom(pair) AS IMPLICIT;"
        "CREATE FUNCTION boom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;"
        "CREATE TABLE t (p pair); INSERT INTO t VALUES (ROW(1)); CREATE VIEW v AS SELECT boom()"
    )

    found = fingerprint(postgres18.url(database))

    assert () == found.uncovered
    assert 1 == found.tables["public.t"].rows


STRANGE = """
CREATE FUNCTION caught(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN IF current_user <> '{role}' THEN RAISE EXCEPTION 'called by %', current_user; END IF; RETURN $1; END $$;
CREATE FUNCTION caught_too(int, text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT public.caught($1)';
CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = text, FUNCTION = caught_too);
CREATE TABLE expression AS SELECT generate_series(1, 5) AS id; CREATE INDEX ON expression ((id + caught(1)));
CREATE TABLE predicate AS SELECT 1 AS id; CREATE INDEX ON predicate (id) WHERE caught(1) = id;
CREATE TABLE operated AS SELECT 1 AS id; CREATE INDEX ON operated ((id + (1 @@@ 'x')));
CREATE TABLE told AS SELECT 1 AS id; CREATE STATISTICS told_more ON (id + caught(1)), id FROM told;
CREATE TABLE wide (x text, y "char", z text GENERATED ALWAYS AS (x || 'z') STORED);
INSERT INTO wide VALUES (E'\\n', E'\\n'), (NULL, NULL);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""
"""What a role without rights may write, and what the server calls for whoever plans to read these tables."""
STRANGE_ROWS = {"expression": 5, "predicate": 1, "operated": 1, "told": 1, "wide": 2, "nothing": 1}


@pytest.fixture
def strange(postgres: Server) -> tuple[Server, str, str]:
    """The server, such a database, and who wrote in it."""
    role = postgres.new_role()
    database = postgres.new_database(f"GRANT ALL ON SCHEMA public TO {role}", options="TEMPLATE template0")
    with psycopg.connect(postgres.url(database, user=role), autocommit=True) as author:
        author.execute(STRANGE.format(role=role).encode())
    return postgres, database, role


@pytest.mark.parametrize("level", ["counts", "checksums"])
def test_a_superuser_calls_nobodys_functions(strange: tuple[Server, str, str], level: Level) -> None:
    """Reading a table would run programs for whoever may index it: a stranger's are counted otherwise, and that is told."""
    server, database, role = strange
    with pytest.raises(psycopg.errors.RaiseException, match="called by postgres"):
        server.execute("BEGIN READ ONLY; SELECT count(*) FROM expression", database)

    found = fingerprint(server.url(database), level)

    assert {f"public.{name}": (rows, None) for name, rows in STRANGE_ROWS.items()} == {
        name: (mark.rows, mark.checksum) for name, mark in found.tables.items()
    }
    hashed = [f"checksum of public.{name}" for name in STRANGE_ROWS] if level == "checksums" else []
    assert dict.fromkeys(
        hashed, f"hashing its rows could call functions of {role} with this role's rights: they were counted"
    ) == why(found)


@pytest.mark.parametrize(
    ("options", "hashed"),
    [
        ("pg_read_all_data", {"public.wide", "public.nothing"}),
        ("pg_read_all_data, pg_execute_server_program", set()),
        ("pg_read_all_data, pg_write_server_files", set()),
    ],
)
def test_another_role_calls_nobodys_functions(strange: tuple[Server, str, str], options: str, hashed: set[str]) -> None:
    """One that may run nothing hashes what calls no stranger's functions now; one that may is as careful as a superuser."""
    server, database, _ = strange
    reader = server.new_role(f"IN ROLE {options}")

    found = fingerprint(server.url(database, user=reader))

    assert {f"public.{name}": rows for name, rows in STRANGE_ROWS.items()} == {
        name: mark.rows for name, mark in found.tables.items()
    }
    assert hashed == {name for name, mark in found.tables.items() if mark.checksum}


def test_ones_own_functions_are_called(strange: tuple[Server, str, str]) -> None:
    """Nobody gains by them what is not his: all is hashed, as in a rehearsal."""
    server, database, role = strange

    found = fingerprint(server.url(database, user=role))

    assert {} == why(found)
    assert all(mark.checksum for mark in found.tables.values())


def test_rows_that_are_not_sent(strange: tuple[Server, str, str]) -> None:
    """What the server says goes on, and the session can be used after it."""
    server, database, _ = strange
    table = sql.Identifier("public", "expression")
    with server.connect(database) as connection:
        with pytest.raises(psycopg.errors.UndefinedColumn):
            count_rows(connection, table, "missing")
        assert 5 == count_rows(connection, table, "id")
