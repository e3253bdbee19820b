"""A dump of a healthy database."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.errors import Conflict, Refused
from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster, stop_cluster
from reconciler.world.facts import Identity
from reconciler.world.ports import DumpOptions
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import children, command_lines, sessions_end
from tests.postgres.taking import Taken, put
from tests.servers.postgres import BINARIES, Server

Open = Callable[[str], PostgresSource]


def test_a_database_with_everything_comes_back_by_plain_pg_restore(postgres: Server, open_source: Open) -> None:
    """What pg_restore makes of our archive has the very pg_dump text of the original."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")

    with open_source(postgres.url(original)).dump("t1", expect=None) as dump:
        archive = b"".join(dump.chunks())
    postgres.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)

    assert postgres.schema_text(original) == postgres.schema_text(copy)


def test_a_database_whose_own_name_is_odd(postgres18: Server, open_source: Open) -> None:
    """Quotes, blanks, signs of conninfo and unicode in a database's name reach pg_dump unharmed."""
    name = 'O\'Hara "x" = \\ %41 ü host=evil'
    quoted = name.replace('"', '""')
    postgres18.execute(f'DROP DATABASE IF EXISTS "{quoted}"; ')
    postgres18.execute(f'CREATE DATABASE "{quoted}"')

    with open_source(postgres18.url(name)).dump("t2", expect=None) as dump:
        archive = b"".join(dump.chunks())

    assert name == dump.facts.source.identity.database
    assert archive.startswith(b"PGDMP")


def test_what_is_written_after_the_snapshot_is_not_in_it(postgres: Server, open_source: Open) -> None:
    """The archive is of the instant at which the dump was opened, however late pg_dump starts."""
    database = postgres.new_database("CREATE TABLE t (v text); INSERT INTO t VALUES ('before')")

    with open_source(postgres.url(database)).dump("t3", expect=None) as dump:
        postgres.execute("INSERT INTO t VALUES ('after')", database)
        archive = b"".join(dump.chunks())

    assert b"before" in archive
    assert b"after" not in archive


def test_the_facts_of_a_dump(postgres: Server, open_source: Open) -> None:
    """Identity, versions, locale and WAL positions are those of the server, and the instant is no later than the snapshot."""
    database = postgres.new_database(options="TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    earliest = datetime.now(UTC)

    with open_source(postgres.url(database)).dump("t4", expect=None) as dump:
        latest = datetime.now(UTC)
        after = dump.lsn_after()

    system = postgres.execute("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    assert Identity(provider="postgres", cluster=system, database=database) == dump.facts.source.identity
    assert postgres.major == dump.facts.source.major
    assert ("UTF8", "C", "C", "libc") == (dump.facts.encoding, dump.facts.collate, dump.facts.ctype, dump.facts.locale_provider)
    assert "plpgsql" in dump.facts.extensions
    assert dump.facts.client_version.startswith(f"{postgres.major}.")
    assert earliest <= dump.facts.instant <= latest
    assert dump.facts.lsn_before is not None
    assert after is not None


def test_an_encoding_that_is_not_ours_is_kept(postgres18: Server, open_source: Open) -> None:
    """A Latin-1 database's archive is in Latin-1: nothing is converted on the way."""
    database = postgres18.new_database(options="TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    postgres18.execute("CREATE TABLE t AS SELECT chr(233) || 'clair' AS v", database)

    with open_source(postgres18.url(database)).dump("t5", expect=None) as dump:
        archive = b"".join(dump.chunks())

    assert "éclair".encode("latin-1") in archive


def test_a_database_that_speaks_in_its_own_way(postgres: Server, open_source: Open, manners: Manners) -> None:
    """How it has its clients write text, dates and names costs no dump, no row of its fingerprint, and no character."""
    database = postgres.new_database("CREATE TABLE t AS SELECT '12 €' AS v; SELECT lo_from_bytea(0, '\\x00ff')")
    settings = {
        "DateStyle": "German",
        "IntervalStyle": "iso_8601",
        "client_encoding": "LATIN1",
        "standard_conforming_strings": "off",
        "quote_all_identifiers": "on",
    }
    for name, value in settings.items():
        postgres.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")
    copy = postgres.new_database(options="TEMPLATE template0")

    options = DumpOptions(fingerprint="checksums")
    with open_source(postgres.url(database)).dump("t5", expect=None, options=options) as dump:
        taken = Taken(list(dump.chunks()), dump.facts, dump.globals)
        marks = dump.fingerprint()
    put(postgres.url(copy), taken, manners)

    assert "12 €".encode() in b"".join(taken.chunks)
    assert marks is not None
    assert () == marks.uncovered
    assert [("12 €",)] == postgres.execute("SET client_encoding = UTF8; SELECT v FROM t", copy)


def test_chunks_are_large(postgres18: Server, open_source: Open) -> None:
    """All but the last hold a quarter of a MiB or more, so that what comes after is not called for each few KiB."""
    database = postgres18.new_database("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)")

    with open_source(postgres18.url(database)).dump("t6", expect=None) as dump:
        sizes = [len(chunk) for chunk in dump.chunks()]

    assert sum(sizes) > 4_000_000
    assert min(sizes[:-1]) >= 256 * 1024


def test_another_identity_than_expected(postgres18: Server, open_source: Open) -> None:
    """A url that leads to another database than before is a conflict, before anything is read."""
    database = postgres18.new_database()
    source = open_source(postgres18.url(database))
    other = Identity(provider="postgres", cluster="1", database=database)

    with pytest.raises(Conflict, match="expected was postgres 1/"), source.dump("t7", expect=other):
        pass


def test_nothing_is_left_running_after_a_dump(postgres18: Server, open_source: Open) -> None:
    """Neither a session nor a process of the dump remains, used up or not."""
    database = postgres18.new_database("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    before = children()

    with open_source(postgres18.url(database)).dump("t8", expect=None) as dump:
        next(dump.chunks())
        during = children() - before

    assert len(during) == 1
    assert set() == children() - before
    assert sessions_end(postgres18, "reconciler/t8")


def test_the_password_is_in_no_command_line(postgres18: Server, open_source: Open) -> None:
    """While a dump runs, no process shows the password in its arguments, and no child but pg_dump has it in its environment."""
    role = postgres18.new_role("SUPERUSER")
    database = postgres18.new_database("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")

    with open_source(postgres18.url(database, user=role)).dump("t9", expect=None) as dump:
        chunks = dump.chunks()
        next(chunks)
        lines = command_lines().values()

    assert any("--snapshot=" in line for line in lines)
    assert [] == [line for line in lines if "p@ss" in line or "p%40ss" in line]


@pytest.mark.parametrize(("options", "expected"), [("", None), ("?options=-c%20work_mem%3D7MB", "7MB")])
def test_the_urls_own_options_reach_the_server(postgres18: Server, open_source: Open, options: str, expected: str | None) -> None:
    """What a url sets is kept beside what we add."""
    database = postgres18.new_database("CREATE VIEW v AS SELECT 1")

    with open_source(postgres18.url(database) + options).dump("t10", expect=None) as dump:
        archive = b"".join(dump.chunks())
        settings = dump._connection.execute("SELECT current_setting('work_mem')").fetchall()

    assert archive
    assert (expected is None) != (settings == [(expected,)])


def test_variables_of_the_caller_do_not_reach_pg_dump(
    postgres18: Server, open_source: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGOPTIONS and its like change nothing of what a child does."""
    database = postgres18.new_database("CREATE TABLE t (v int)")
    source = open_source(postgres18.url(database))

    with source.dump("t11", expect=None) as dump:
        monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
        monkeypatch.setenv("PGSSLMODE", "require")
        archive = b"".join(dump.chunks())

    assert archive.startswith(b"PGDMP")


def test_a_standby(manners: Manners) -> None:
    """It can be dumped; the instant is what it has replayed, however late it is asked, and nothing is restored into it."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        home = Path(folder) / "18"
        primary = Server(major=18, cluster=start_cluster(BINARIES[18], home, settings=FAST))
        try:
            database, empty = primary.new_database("CREATE TABLE t (v int)"), primary.new_database()
            stop_cluster(home)
            signal_file = primary.cluster.data / "standby.signal"
            signal_file.touch()
            signal_file.chmod(0o666)
            standby = Server(major=18, cluster=start_cluster(BINARIES[18], home, settings=FAST))

            with PostgresSource(parse(standby.url(database), field="url"), manners).dump("standby", expect=None) as dump:
                archive = b"".join(dump.chunks())
            with pytest.raises(Refused, match="is a standby"):
                put(standby.url(empty), Taken([archive], dump.facts, dump.globals), manners)

            (checkpoint,) = standby.execute("SELECT checkpoint_time FROM pg_control_checkpoint()")[0]
            assert dump.facts.source.standby
            assert checkpoint == dump.facts.instant
        finally:
            remove_cluster(home)
