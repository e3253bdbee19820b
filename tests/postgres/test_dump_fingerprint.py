"""A fingerprint beside a dump: of the same snapshot, and never at the dump's cost."""

from collections.abc import Callable
from threading import Event

import pytest

from reconciler.postgres.fingerprint import Taking, take
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from reconciler.world.fingerprint import Fingerprint, differences, gaps, summarize
from reconciler.world.ports import DumpOptions
from tests.faults.proxy import FaultProxy, Stall
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import comes_true, sessions_end
from tests.servers.postgres import Server

Open = Callable[[str], PostgresSource]
CHECKSUMS = DumpOptions(fingerprint="checksums")
ROWS = "CREATE TABLE t AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, 20000) i;"


def dumped(source: PostgresSource, *, then: Callable[[], object] = lambda: None) -> tuple[bytes, Fingerprint]:
    with source.dump("fp", expect=None, options=CHECKSUMS) as dump:
        then()
        archive = b"".join(dump.chunks())
        found = dump.fingerprint()
    assert found is not None
    return archive, found


def fingerprint_of(url: str) -> Fingerprint:
    return take(parse(url, field="url"), application_name="reconciler/fp", level="checksums", clock=SystemClock(), stop=Event())


def test_a_restore_has_the_fingerprint_of_its_dump(postgres: Server, open_source: Open) -> None:
    """Though the database went on changing meanwhile; and no session is left."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")
    changes = (
        "UPDATE serials SET name = 'other'; DELETE FROM events; SELECT nextval('serials_id_seq'); CREATE TABLE later (v int)"
    )

    archive, recorded = dumped(open_source(postgres.url(original)), then=lambda: postgres.execute(changes, original))
    postgres.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)
    restored = fingerprint_of(postgres.url(copy))

    assert () == differences(recorded, restored) + gaps(recorded, restored)
    assert 100 == recorded.tables["public.serials"].rows
    assert "public.later" not in recorded.tables
    assert sessions_end(postgres, "reconciler/fp")


def test_none_is_taken_unless_asked_for(postgres18: Server, open_source: Open) -> None:
    """Then there is no second session either."""
    database = postgres18.new_database(ROWS)

    with open_source(postgres18.url(database)).dump("fp0", expect=None) as dump:
        assert 1 == postgres18.sessions("reconciler/fp0")
        assert b"".join(dump.chunks())
        assert dump.fingerprint() is None


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_role_that_may_have_few_sessions(postgres18: Server, open_source: Open, limit: int) -> None:
    """The fingerprint leaves them to the dump, and says so."""
    role = postgres18.new_role(f"CONNECTION LIMIT {limit + 1}")
    database = postgres18.new_database(ROWS)
    postgres18.execute(f"GRANT pg_read_all_data TO {role}; GRANT EXECUTE ON FUNCTION pg_control_system TO {role}", database)

    archive, found = dumped(open_source(postgres18.url(database, user=role)))

    assert archive.startswith(b"PGDMP")
    assert bool(found.tables) == (limit >= 3)
    assert (limit >= 3) != any("no more sessions" in one.why for one in found.uncovered)


def test_a_role_without_a_spare_session_has_no_bad_backups(postgres18: Server, open_source: Open) -> None:
    """Its fingerprint knows of no table: none that a restore brings is a surprise."""
    role = postgres18.new_role("CONNECTION LIMIT 3")
    database = postgres18.new_database(ROWS)
    postgres18.execute(f"GRANT pg_read_all_data TO {role}; GRANT EXECUTE ON FUNCTION pg_control_system TO {role}", database)

    _, recorded = dumped(open_source(postgres18.url(database, user=role)))
    restored = fingerprint_of(postgres18.url(database))

    assert ["public.t"] == list(restored.tables)
    assert () == differences(recorded, restored) + gaps(recorded, restored)
    assert not summarize(recorded).complete


def test_a_fingerprint_that_never_got_in(postgres18: Server, stop: Event) -> None:
    """A connection that takes longer than the dump: that no table is named says nothing of tables."""
    database = postgres18.new_database(ROWS)
    url = parse(postgres18.url(database), field="url")
    with FaultProxy("127.0.0.1", postgres18.port) as proxy:
        proxy.next_connection(Stall(after=0, side="down"))
        taking = Taking(
            url.pinned(host="127.0.0.1", hostaddr="127.0.0.1", port=proxy.port),
            application_name="reconciler/fp",
            level="counts",
            clock=SystemClock(),
            stop=stop,
            snapshot=None,
            jobs=1,
        )
        with taking.running():
            found = taking.result(within_seconds=0)
            proxy.cut_all()

    assert "the time was over (0 s after the dump)" == {one.what: one.why for one in found.uncovered}["tables"]
    assert () == differences(fingerprint_of(postgres18.url(database)), found)


def test_a_fingerprint_whose_sessions_are_ended(postgres18: Server, open_source: Open) -> None:
    """The dump is whole all the same; what was not read is uncovered, with the reason."""
    database = postgres18.new_database(ROWS.replace("20000", "2000000"))
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'reconciler/fp'"
        " AND query LIKE '%hashtextextended%'"
    )

    archive, found = dumped(
        open_source(postgres18.url(database)), then=lambda: comes_true(lambda: postgres18.execute(end) != [(0,)])
    )

    assert len(archive) > 200_000_000
    assert {} == found.tables
    assert any("terminating connection" in one.why for one in found.uncovered if one.what == "public.t")


def test_sequences_are_not_ahead_of_the_dump(postgres18: Server, open_source: Open) -> None:
    """They go on while the dump begins; what is recorded of them is what they had at most."""
    database = postgres18.new_database("CREATE SEQUENCE s; SELECT nextval('s'); CREATE SEQUENCE down INCREMENT -1")
    copy = postgres18.new_database()

    def move() -> None:
        postgres18.execute("SELECT nextval('s') FROM generate_series(1, 50); SELECT nextval('down')", database)

    archive, recorded = dumped(open_source(postgres18.url(database)), then=move)
    postgres18.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)

    assert 2 == recorded.sequences["public.s"].next
    assert [(51,)] == postgres18.execute("SELECT last_value FROM s", copy)
