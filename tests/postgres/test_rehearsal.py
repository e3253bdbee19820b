"""Rehearsals on real servers: everything comes back, what is hostile does not run, and each trouble is told apart."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import IO

import msgspec
import pytest

from reconciler.errors import Corrupt, Full, Refused, Unreachable
from reconciler.policy.expectation import Expectation
from reconciler.policy.model import Check
from reconciler.policy.units import Length
from reconciler.postgres import hostile
from reconciler.postgres import room as room_module
from reconciler.postgres.client import Client
from reconciler.postgres.contents import read_through
from reconciler.postgres.dump import Manners
from reconciler.postgres.room import PostgresRoom
from reconciler.postgres.scratch import EmbeddedScratch, ServerScratch
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.rehearsal.rehearse import Archive, Reading, Rehearsed, rehearse
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from reconciler.world.clock import SystemClock
from reconciler.world.evidence import Fault
from reconciler.world.facts import Identity
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import DumpOptions
from reconciler.world.scratch import Inspection, Restoration, Scratch
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import comes_true
from tests.postgres.taking import Taken, as_directory, take
from tests.servers.postgres import BINARIES, MAJORS, Server, Servers
from tests.servers.scratch import left_in, own_base, scratch_base

__all__ = ["scratch_base"]

Open = Callable[[str], PostgresSource]


def no_secret(_: Check) -> None:
    """No check here names one."""


@pytest.fixture
def scratch(manners: Manners, scratch_base: Path) -> EmbeddedScratch:
    return EmbeddedScratch(scratch_base, manners, no_secret)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Server]:
    """A server for rehearsals, whose files may be spoilt."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        settings = {**FAST, "lc_messages": "C.UTF-8"}
        cluster = start_cluster(BINARIES[18], Path(folder) / "rehearsal", settings=settings)
        try:
            yield Server(major=18, cluster=cluster)
        finally:
            remove_cluster(cluster.folder)


def scratch_on(server: Server, manners: Manners, database: str = "postgres", sources: tuple[Identity, ...] = ()) -> ServerScratch:
    return ServerScratch(parse(server.url(database), field="scratch.url"), manners, no_secret, lambda: sources)


@pytest.fixture
def shared(manners: Manners, elsewhere: Server) -> ServerScratch:
    """Sooner made than a server of its own, for what is the same in both."""
    return scratch_on(elsewhere, manners)


@contextmanager
def restored(scratch: Scratch, taken: Taken) -> Iterator[tuple[PostgresRoom, Restoration]]:
    """In a room of its own, gone afterwards."""
    with scratch.room(taken.facts, taken.globals) as room:
        assert isinstance(room, PostgresRoom)
        yield room, room.restore(taken.chunks, raw_bytes=sum(map(len, taken.chunks)))


def taken_of(server: Server, open_source: Open, statements: str) -> Taken:
    return take(open_source(server.url(server.new_database(statements))))


def faults_of(scratch: Scratch, taken: Taken) -> list[Fault]:
    """Of restoring and looking."""
    with restored(scratch, taken) as (room, restoration):
        return [*restoration.faults, *room.inspect().faults]


def test_everything_comes_back(postgres: Server, open_source: Open, scratch: EmbeddedScratch, scratch_base: Path) -> None:
    """A bit of everything, on each major, without one fault, and equal for all that the fingerprint covers.

    What acts beyond the database is left out by name, and what the fingerprint does not cover is named.
    """
    taken, marks = marked(open_source(postgres.url(odd_database(postgres))))

    with restored(scratch, taken) as (room, restoration):
        comparison = room.compare(marks)
        assert restoration.faults == comparison.faults == room.inspect().faults == ()
        assert int(restoration.did.split("counted ")[1].split()[0]) > 100
        kinds = {what.split(":")[0].split(" public")[0].split(" owned")[0] for what in restoration.left_out}
        assert {"PUBLICATION some_of_it", "EVENT TRIGGER watch_ddl", "DEFAULT ACL"} <= kinds
        assert "(checksums)" in comparison.did
        assert any("fleeting" in note for note in comparison.notes)
        assert postgres.major == int(room.place.split("PostgreSQL ")[1].split(".")[0])
    assert left_in(scratch_base) == []


@pytest.mark.parametrize(
    ("major", "options"),
    [
        pytest.param(
            15,
            "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
            marks=pytest.mark.skipif(15 not in MAJORS, reason="no ICU elsewhere"),
        ),
        (18, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    ],
)
def test_text_is_ordered_as_in_the_source(major: int, postgres_servers: Servers, scratch: EmbeddedScratch, options: str) -> None:
    """The scratch database has the source's provider of locales, and its locale."""
    server = postgres_servers(major)
    database = server.new_database("CREATE TABLE t (id int)", options=f"TEMPLATE template0 LOCALE 'C' ENCODING UTF8 {options}")
    taken = take(PostgresSource(parse(server.url(database), field="url"), scratch._manners))

    with restored(scratch, taken) as (room, restoration):
        assert restoration.faults == ()
        query = "select datlocprovider::text from pg_database where datname = current_database()"
        assert room.check(asked(query, f"= {options.split()[1][0]}")) is None


def test_reading_an_archive_through(postgres18: Server, open_source: Open, scratch: EmbeddedScratch) -> None:
    """pg_restore reads all of it; what is cut off is no archive, though its table of contents is whole."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i")
    whole = b"".join(taken.chunks)

    assert scratch.contents(taken.chunks, taken.facts).entries > 0
    with pytest.raises(Corrupt, match="pg_restore can't read the archive"):
        scratch.contents([whole[: len(whole) // 2]], taken.facts)


def asked(sql: str, expect: str, *, seconds: int = 10) -> Check:
    return Check(name="asked", sql=sql, expect=Expectation.parse(expect), timeout=Length(seconds=seconds))


@pytest.fixture(scope="module")
def hall(postgres18: Server) -> Iterator[PostgresRoom]:
    """For checks, which change nothing: that is one of their promises."""
    manners = Manners(clock=SystemClock(), stop=Event(), patience=timedelta(seconds=60))
    name = postgres18.new_database(
        "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT generate_series(1, 3) i; CREATE TABLE app.hidden AS SELECT 1;"
        "ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE app.hidden FORCE ROW LEVEL SECURITY"
    )
    postgres18.execute(f"ALTER DATABASE {name} SET search_path = app, public")
    taken = take(PostgresSource(parse(postgres18.url(name), field="url"), manners))
    with own_base() as base, restored(EmbeddedScratch(base, manners, no_secret), taken) as (room, _):
        yield room


@pytest.mark.parametrize(
    ("sql", "expect", "says"),
    [
        ("select count(*) from t", "= 3", None),
        ("select count(*) from t", "> 3", ("failed", "answered 3, expected > 3")),
        ("select null", "!= 1", ("failed", "answered null")),
        ("select 1 from t", "= 1", ("failed", "one row")),
        ("select 1, 2", "= 1", ("unproven", "one column")),
        ("set role none", "= 1", ("unproven", "one column")),
        ("selec count(*) from t", "= 1", ("unproven", "syntax error")),
        ("delete from t returning 1", "= 1", ("unproven", "read-only")),
        ("commit; drop table t", "= 1", ("unproven", "multiple commands")),
        ("select pg_sleep(30)", "= 1", ("unproven", "longer than 1 s")),
        (
            "select count(*) from missing",
            "= 1",
            ("failed", "does not exist (no role's search_path holds here: does the check name its schema?)"),
        ),
        ("select count(*) from public.missing", "= 1", ("failed", 'relation "public.missing" does not exist')),
        ("select count(*) from hidden", "= 1", None),
        ("select setting from pg_settings where name = 'search_path'", "= app, public", None),
    ],
)
def test_checks(hall: PostgresRoom, sql: str, expect: str, says: tuple[str, str] | None) -> None:
    """One statement, one value, read-only, in time, with the database's own settings and all rows.

    What could be asked of no database says nothing of this one: a slip in the policy condemns no backup.
    """
    fault = hall.check(asked(sql, expect, seconds=1))

    if says is None:
        assert fault is None
    else:
        assert fault is not None
        assert fault.result == says[0]
        assert any(words in fault.what for words in says[1].split("|"))


def test_a_function_that_needs_a_search_path(
    postgres_servers: Callable[[int], Server], open_source: Open, scratch: EmbeddedScratch
) -> None:
    """It is named: production's restore would fail in the same place. (PostgreSQL 17 refuses to make such a view.)"""
    taken = taken_of(
        postgres_servers(16),
        open_source,
        "CREATE TABLE rates (r int); INSERT INTO rates VALUES (1);"
        "CREATE FUNCTION rate() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT r FROM rates); END';"
        "CREATE MATERIALIZED VIEW m AS SELECT rate() AS r",
    )

    found = faults_of(scratch, taken)

    assert [fault.result for fault in found] == ["failed", "failed"]
    assert "rate() needs a search_path" in found[0].what
    assert "MATERIALIZED VIEW DATA m" in found[0].where
    assert found[1] == Fault(where="materialized view public.m", what="was left without its rows", result="failed")


def test_an_extension_that_reaches_out(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """It is never made: what rests on it is unproven, each by its name, and is not blamed on the backup."""
    taken = taken_of(
        postgres18,
        open_source,
        "CREATE EXTENSION dblink; CREATE EXTENSION hstore; CREATE TABLE t (h hstore);"
        "CREATE VIEW remote AS SELECT * FROM dblink('dbname=x', 'select 1') AS r (n int)",
    )

    found = faults_of(shared, taken)

    assert {fault.result for fault in found} == {"unproven"}
    assert found[0].where == "extension dblink"
    assert any("VIEW remote" in fault.where for fault in found), found


class FullFiles:
    """Temporary files of which the one of that number lies on a full disk."""

    def __init__(self, number: int) -> None:
        self._left, self._real = number, tempfile.TemporaryFile

    def __call__(self) -> IO[bytes]:
        self._left -= 1
        return self._real() if self._left else Path("/dev/full").open("w+b", buffering=0)


@pytest.mark.parametrize("number", [1, 2], ids=["contents", "schemas of extensions"])
def test_no_room_to_list_it(
    postgres18: Server, open_source: Open, shared: ServerScratch, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A full folder for temporary files is no word against the archive, and no extension goes elsewhere for it."""
    taken = taken_of(postgres18, open_source, "CREATE SCHEMA e; CREATE EXTENSION hstore SCHEMA e; CREATE TABLE t (h e.hstore)")
    monkeypatch.setattr(tempfile, "TemporaryFile", FullFiles(number))

    with pytest.raises(Full, match="No space left") as refusal:
        shared.contents(taken.chunks, taken.facts)
    assert "TMPDIR" in refusal.value.cure
    monkeypatch.setattr(tempfile, "TemporaryFile", FullFiles(number))
    assert [fault.result for fault in rehearsed(shared, taken, iter(taken.chunks)).faults] == ["unproven"]


def test_no_folder_for_temporary_files(
    postgres18: Server, open_source: Open, scratch: EmbeddedScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence, and no bug."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")

    with pytest.raises(Refused, match="No such file or directory"):
        scratch.contents(taken.chunks, taken.facts)


def test_a_pg_restore_that_does_not_start(postgres18: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """It says nothing of the archive."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    program = tmp_path / "pg_restore"
    program.write_text("#!/nowhere\n")
    program.chmod(0o755)

    with pytest.raises(Unreachable, match="cannot run"):
        read_through(Client(major=18, version="18.0", folder=tmp_path), taken.chunks, manners)


@pytest.mark.parametrize(
    ("last_words", "says"), [("no libpq.so.5 here", "pg_restore could not be run: no libpq"), ("out of memory", "out of memory")]
)
def test_a_pg_restore_that_breaks_down(
    postgres18: Server, open_source: Open, manners: Manners, elsewhere: Server, tmp_path: Path, *, last_words: str, says: str
) -> None:
    """What it is and what it runs on is no word against the archive."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    real = BINARIES[18] / "pg_restore"
    broken = f'#!/bin/sh\ncase "$*" in *--dbname*) echo "{last_words}" >&2; exit 1;; *) exec {real} "$@";; esac\n'
    (tmp_path / "pg_restore").write_text(broken)
    (tmp_path / "pg_restore").chmod(0o755)
    told = msgspec.structs.replace(manners, client_bin=tmp_path)

    found = rehearsed(scratch_on(elsewhere, told), taken, iter(taken.chunks))

    assert {fault.result for fault in found.faults} == {"unproven"}
    assert says in found.faults[0].what


def test_a_server_that_speaks_another_language(
    manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server
) -> None:
    """What goes wrong is told apart by English words: in the scratch database the server has no others."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")

    assert elsewhere.execute("SHOW lc_messages") == [("C.UTF-8",)]
    with restored(scratch_on(elsewhere, manners), taken) as (room, _):
        assert room.check(asked("select current_setting('lc_messages')", "= C")) is None


def database_of(room: PostgresRoom) -> str:
    """The scratch database's name."""
    return room._keys.owner.database


INDEXED = "CREATE TABLE t AS SELECT i, md5(i::text) AS x FROM generate_series(1, 2000) i; CREATE INDEX t_i ON t (i)"


@pytest.mark.parametrize(
    ("relation", "says"),
    [("t", "heap table public.t: invalid page in block 1"), ("t_i", "btree index public.t_i: invalid page in block 1")],
)
def test_a_damaged_page(
    manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server, *, relation: str, says: str
) -> None:
    """It is found, and named with its reason."""
    taken = taken_of(postgres18, open_source, INDEXED)

    with restored(scratch_on(elsewhere, manners), taken) as (room, _):
        assert room.inspect() == Inspection()
        damage(elsewhere, database_of(room), relation)
        found = room.inspect().faults

    assert {fault.result for fault in found} == {"failed"}
    assert any(fault.what.startswith(says) for fault in found), found


def test_a_database_that_has_the_extension_itself(
    manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server
) -> None:
    """Its pages are looked at by that, wherever it lies."""
    taken = taken_of(postgres18, open_source, f'CREATE SCHEMA "a B"; CREATE EXTENSION amcheck SCHEMA "a B"; {INDEXED}')

    with restored(scratch_on(elsewhere, manners), taken) as (room, _):
        assert room.inspect() == Inspection()
        damage(elsewhere, database_of(room), "t")
        found = room.inspect().faults

    assert {"failed"} == {fault.result for fault in found}


def damage(server: Server, database: str, relation: str) -> None:
    """On the disk, under a server that has forgotten what it read."""
    file = server.execute(f"CHECKPOINT; SELECT pg_relation_filepath('{relation}')", database)[0][0]
    evict = "CREATE EXTENSION pg_buffercache; SELECT count(pg_buffercache_evict(bufferid)) FROM pg_buffercache"
    server.execute(evict, database)
    with (server.cluster.data / file).open("r+b") as content:
        content.seek(8192 + 12)
        content.write(b"\xff" * 8)


def without_amcheck(folder: Path) -> Path:
    """Debian's package of clients has all but that one."""
    for program in BINARIES[18].iterdir():
        if program.name != "pg_amcheck":
            (folder / program.name).symlink_to(program)
    return folder


def test_pages_that_nothing_here_checks(
    manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server, tmp_path: Path
) -> None:
    """No fault of the backup, and told: nobody takes what was not looked at for sound."""
    taken = taken_of(postgres18, open_source, INDEXED)
    told = msgspec.structs.replace(manners, client_bin=without_amcheck(tmp_path))

    found = rehearsed(scratch_on(elsewhere, told), taken, iter(taken.chunks))

    assert [] == found.faults
    assert [f"pages and indexes were not checked: no pg_amcheck of version 18.6 is in {tmp_path}"] == [
        what for what in found.left_out if "not checked" in what
    ]


def test_pages_on_a_server_without_the_extension(open_source: Open, postgres_servers: Servers, scratch: EmbeddedScratch) -> None:
    """The same, in the server's words: this major's comes from a wheel that has no extensions."""
    taken = taken_of(postgres_servers(16), open_source, INDEXED)

    with restored(scratch, taken) as (room, _):
        found = room.inspect()

    assert () == found.faults
    assert "pages and indexes were not checked: the scratch server can't have the extension amcheck: " in found.notes[0]


def test_pages_that_could_not_be_looked_at(
    manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server, stop: Event
) -> None:
    """A query that somebody cancels is no damage, though pg_amcheck exits alike; the reason is told."""
    taken = taken_of(postgres18, open_source, INDEXED)
    cancel = "SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    with restored(scratch_on(elsewhere, manners), taken) as (room, _), elsewhere.connect(database_of(room)) as other:
        other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        canceller = Thread(target=lambda: [comes_true(lambda: elsewhere.execute(cancel) != [(0,)]) for _ in range(2)])
        canceller.start()
        found = room.inspect().faults
        canceller.join()

    assert {fault.result for fault in found} == {"unproven"}
    assert "public.t could not be looked at: canceling statement due to user request" in found[0].what


def test_a_foreign_table(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """Servers, mappings and foreign tables are left out by name."""
    taken = taken_of(
        postgres18,
        open_source,
        "CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'postgres');"
        "CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere OPTIONS (password 'p');"
        "CREATE FOREIGN TABLE far (id int) SERVER elsewhere; CREATE VIEW near AS SELECT * FROM far",
    )

    with restored(shared, taken) as (_, restoration):
        said = " ".join(restoration.left_out)

    assert {fault.result for fault in restoration.faults} == {"unproven"}
    assert "SERVER elsewhere" in said
    assert "FOREIGN TABLE public.far" in said
    assert "USER MAPPING" in said


def test_columns_of_a_foreign_table(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """They are left out with it, as is what it checks: neither is missing, and the rest is proven."""
    statements = (
        "CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER elsewhere FOREIGN DATA WRAPPER wrapper;"
        'CREATE FOREIGN TABLE "F a.r" (id int NOT NULL, CONSTRAINT c CHECK (id > 0)) SERVER elsewhere;'
        "CREATE TABLE t AS SELECT 1 AS i"
    )
    taken, marks = marked(open_source(postgres18.url(postgres18.new_database(statements))))

    with restored(shared, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == room.inspect().faults == ()


def test_rows_that_do_not_fit(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """Data that its own constraint refuses is a failed backup, and the row is not quoted."""
    taken = taken_of(
        postgres18,
        open_source,
        "CREATE TABLE t (mail text); INSERT INTO t VALUES ('ana@example.com');"
        "ALTER TABLE t ADD CONSTRAINT no_at CHECK (position('@' in mail) = 0) NOT VALID;"
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'no_at'",
    )

    found = faults_of(shared, taken)

    assert "failed" in {fault.result for fault in found}
    assert "ana@" not in str(found)


def test_a_locale_that_is_not_here(postgres18: Server, open_source: Open, scratch: EmbeddedScratch, scratch_base: Path) -> None:
    """Order of text could not be proven: it is refused with the way to get it."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    facts = msgspec.structs.replace(taken.facts, collate="xx_YY.UTF-8", ctype="xx_YY.UTF-8")

    with pytest.raises(Refused, match=r"locale xx_YY\.UTF-8"), scratch.room(facts, taken.globals):
        pass
    assert left_in(scratch_base) == []


def test_no_server_of_that_major(manners: Manners, postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """An older one can't stand for it."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    scratch = EmbeddedScratch(tmp_path, manners, no_secret, server_bin=tmp_path)

    with pytest.raises(Refused, match="no PostgreSQL server of major 18"), scratch.room(taken.facts, taken.globals):
        pass


def test_a_server_for_rehearsals(
    manners: Manners, postgres_servers: Callable[[int], Server], open_source: Open, postgres18: Server
) -> None:
    """A database and its roles come and go there; the source's own server is refused."""
    source = postgres_servers(16)
    taken = take(open_source(source.url(odd_database(source))))
    before = postgres18.execute("SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles ORDER BY 1")
    scratch = scratch_on(postgres18, manners)
    at_home = scratch_on(source, manners)

    with restored(scratch, taken) as (room, restoration):
        found = [*restoration.faults, *room.inspect().faults]
        inside = postgres18.execute("SELECT count(*) FROM pg_database WHERE starts_with(datname, 'reconciler_scratch_')")

    assert found == []
    assert inside == [(1,)]
    assert before == postgres18.execute("SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles ORDER BY 1")
    with pytest.raises(Refused, match="is the server of the source"), at_home.room(taken.facts, taken.globals):
        pass


def test_what_a_death_left_on_a_server(
    manners: Manners, postgres_servers: Callable[[int], Server], open_source: Open, postgres18: Server
) -> None:
    """The next rehearsal drops it; one that is in use is left alone."""
    taken = take(open_source(postgres_servers(16).url(postgres_servers(16).new_database("CREATE TABLE t (id int)"))))
    scratch = scratch_on(postgres18, manners)
    postgres18.execute("CREATE DATABASE reconciler_scratch_00ff00ff00ff")
    postgres18.execute("CREATE ROLE left_by_a_death")
    postgres18.execute("COMMENT ON ROLE left_by_a_death IS 'made by reconcile for reconciler_scratch_00ff00ff00ff'")

    with restored(scratch, taken), restored(scratch, taken):
        names = [row[0] for row in postgres18.execute("SELECT datname FROM pg_database WHERE datname ~ '^reconciler_scratch_'")]

    assert len(names) == 2
    assert "reconciler_scratch_00ff00ff00ff" not in names
    assert postgres18.execute("SELECT FROM pg_roles WHERE rolname = 'left_by_a_death'") == []


def scratch_databases(server: Server) -> set[str]:
    return {row[0] for row in server.execute("SELECT datname FROM pg_database WHERE datname ~ '^reconciler_scratch_'")}


def test_urls_of_two_databases_of_one_server(manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server) -> None:
    """A lock belongs to one database: rehearsals see each other all the same, and none drops another's."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    other = scratch_on(elsewhere, manners, elsewhere.new_database())

    with restored(scratch_on(elsewhere, manners), taken) as (room, _), restored(other, taken) as (second, _):
        assert scratch_databases(elsewhere) == {database_of(room), database_of(second)}
        assert room.check(asked("select count(*) from t", "= 0")) is None
    assert scratch_databases(elsewhere) == set()


def test_a_server_without_the_usual_database(manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server) -> None:
    """Then they meet in the one that every server has."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    one, other = elsewhere.new_database(), elsewhere.new_database()
    elsewhere.execute("ALTER DATABASE postgres RENAME TO unusual", one)
    try:
        with (
            restored(scratch_on(elsewhere, manners, one), taken) as (room, _),
            restored(scratch_on(elsewhere, manners, other), taken) as (second, _),
        ):
            assert elsewhere.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^reconciler_'", one) == [(2,)]
    finally:
        elsewhere.execute("ALTER DATABASE unusual RENAME TO postgres", one)

    assert database_of(room) != database_of(second)


def test_roles_that_two_rehearsals_need(manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server) -> None:
    """The last one to end drops them, and not the one that made them."""
    role = postgres18.new_role()
    taken = taken_of(postgres18, open_source, f"CREATE TABLE t (id int); GRANT SELECT ON t TO {role}")
    scratch = scratch_on(elsewhere, manners)
    with ExitStack() as first:
        first.enter_context(restored(scratch, taken))
        with scratch.room(taken.facts, taken.globals) as second:
            first.close()
            restoration = second.restore(taken.chunks, raw_bytes=1)
            there = elsewhere.execute(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")

    assert restoration.faults == ()
    assert there == [(1,)]
    assert elsewhere.execute(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == [(0,)]


def test_roles_made_by_two_at_once(postgres18: Server, elsewhere: Server, open_source: Open) -> None:
    """Who comes second finds it made, and goes on."""
    role = postgres18.new_role()
    taken = taken_of(postgres18, open_source, f"CREATE TABLE t (id int); GRANT SELECT ON t TO {role}")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with elsewhere.connect() as one, elsewhere.connect() as other:
        with one.transaction():
            hostile.make_roles(one, taken.globals)
            second = ThreadPool(1).submit(lambda: hostile.make_roles(other, taken.globals))
            assert comes_true(lambda: elsewhere.execute(waits) == [(1,)])
        second.result(timeout=30)

    mark = f"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{role}'"
    assert elsewhere.execute(mark) == [(hostile.SHARED,)]
    elsewhere.execute(f"DROP ROLE {role}")


def test_the_server_of_another_source(manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server) -> None:
    """Any source of the policy is one, not this backup's own alone; one that can't be told may be."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    other = open_source(elsewhere.url("postgres")).facts().identity

    with pytest.raises(Refused, match="is the server of the source postgres"):
        scratch_on(elsewhere, manners, sources=(other,)).room(taken.facts, taken.globals).__enter__()
    assert scratch_databases(elsewhere) == set()


def marked(source: PostgresSource) -> tuple[Taken, Fingerprint]:
    """A dump and what its own snapshot held, rows hashed."""
    with source.dump("marked", expect=None, options=DumpOptions(fingerprint="checksums")) as dump:
        chunks, marks = list(dump.chunks()), dump.fingerprint()
    assert marks is not None
    return Taken(chunks, dump.facts, dump.globals), marks


def test_a_role_with_time_limits(manners: Manners, open_source: Open, postgres18: Server, elsewhere: Server) -> None:
    """Those of a server's settings cut nothing short: they are for whom it serves."""
    taken = taken_of(postgres18, open_source, INDEXED)

    with restored(scratch_on(elsewhere, manners), taken) as (room, _):
        elsewhere.execute(f"ALTER ROLE {database_of(room)}_owner SET statement_timeout = '1ms'")
        assert room.inspect() == Inspection()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM t WHERE id = 1", "table public.t has 2 rows, and had 3"),
        ("UPDATE t SET v = 'other' WHERE id = 2", "table public.t has other rows than it had"),
        ("DROP INDEX t_v", "index public.t_v is missing"),
        ("DROP TABLE t", "table public.t is missing"),
    ],
)
def test_rows_that_differ(postgres18: Server, open_source: Open, shared: ServerScratch, change: str, says: str) -> None:
    """An archive that holds something else than its snapshot did has failed, and the object is named."""
    name = postgres18.new_database(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, i::text FROM generate_series(1, 3) i;"
        "CREATE INDEX t_v ON t (v)"
    )
    source = open_source(postgres18.url(name))
    _, marks = marked(source)
    postgres18.execute(change, name)

    with restored(shared, take(source)) as (room, _):
        faults = room.compare(marks).faults

    assert says in " ".join(fault.what for fault in faults)
    assert {fault.result for fault in faults} == {"failed"}


SETTLING = """
CREATE DOMAIN short AS varchar(10) CHECK (VALUE IN ('a', 'it''s') OR VALUE NOT IN ('c', 'd'));
CREATE TABLE t (state varchar(10) DEFAULT 'a' CHECK (state IN ('a', 'b)')), net cidr, s short, at timestamp(3), c char(2),
    kind text GENERATED ALWAYS AS (CASE WHEN state IN ('a', 'b') THEN 'x' ELSE 'y' END) STORED);
INSERT INTO t VALUES ('a', '10.0.0.0/8', 'a', 'infinity', 'c');
CREATE INDEX partly ON t (at) WHERE state IN ('a', 'b') AND state NOT IN ('c', 'd');
CREATE INDEX computed ON t ((state IN ('x', 'y')));
CREATE STATISTICS reckoned ON (state IN ('x', 'y')), at FROM t;
CREATE VIEW seen AS SELECT *, CASE WHEN state NOT IN ('e', 'f') THEN 1 END FROM t
    WHERE net IN ('10.0.0.0/8'::cidr, '::1/128'::cidr) OR state::varchar(1) IN ('a', 'b'::varchar(7)) OR s IN ('a', 'b')
    OR c IN ('c', 'd') OR at IN ('2024-01-01', '2025-01-01');
CREATE MATERIALIZED VIEW kept AS SELECT at FROM t WHERE state IN ('a', 'b');
ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY those ON t USING (state IN ('a', 'b'));
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER looks BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.state IN ('a', 'b')) EXECUTE FUNCTION f();
CREATE RULE drops AS ON DELETE TO t WHERE OLD.state IN ('a', 'b') DO INSTEAD NOTHING;
CREATE FUNCTION told(v varchar) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN v IN ('a', 'b');
"""
"""`varchar IN (…)` is worded otherwise once it was restored: the cast of the array has become one of each element."""


def test_words_that_change_by_being_restored(postgres: Server, open_source: Open, scratch: EmbeddedScratch) -> None:
    """A backup of what every other application has is no worse for it."""
    taken, marks = marked(open_source(postgres.url(postgres.new_database(SETTLING))))

    with restored(scratch, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == ()


NAMED_ODDLY = """
CREATE ROLE "role of blanks"; ALTER SCHEMA public OWNER TO "role of blanks"; COMMENT ON SCHEMA public IS 'theirs';
CREATE SCHEMA aside AUTHORIZATION "role of blanks"; CREATE EXTENSION citext SCHEMA aside;
CREATE SCHEMA "aside as well" AUTHORIZATION "role of blanks"; CREATE TABLE "aside as well".t (word aside.citext)
"""


def test_schemas_of_a_role_with_blanks_in_its_name(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """A table of contents lists name and owner in one, with a blank between them."""
    name = postgres18.new_database(NAMED_ODDLY)
    try:
        assert faults_of(shared, take(open_source(postgres18.url(name)))) == []
    finally:
        postgres18.execute(f"DROP DATABASE {name}")
        postgres18.execute('DROP ROLE "role of blanks"')


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "CREATE TABLE t (i int); ALTER TABLE t ADD NOT NULL i NOT VALID", id="a column that is not null from now on"
        ),
        pytest.param(
            "CREATE TABLE p (i int) PARTITION BY RANGE (i); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);"
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER tr BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE p1 DISABLE TRIGGER tr",
            id="a trigger that one partition has switched off",
        ),
    ],
)
def test_entries_that_make_no_object_of_their_own(
    postgres18: Server, open_source: Open, shared: ServerScratch, statements: str
) -> None:
    """They are listed among those that do, and counted as what they are about."""
    assert faults_of(shared, taken_of(postgres18, open_source, statements)) == []


@pytest.mark.parametrize(
    ("change", "results"),
    [
        ("DELETE FROM t WHERE id = 1", {"unproven", "failed"}),
        ("UPDATE t SET v = 'other' WHERE id = 2", {"unproven", "failed"}),
        ("DROP VIEW near", {"unproven"}),
    ],
)
def test_rows_that_differ_beside_what_is_left_out(
    postgres18: Server, open_source: Open, shared: ServerScratch, change: str, results: set[str]
) -> None:
    """That an extension can't be made here excuses what may be missing for want of it, and no row of a table that came back."""
    name = postgres18.new_database(
        "CREATE EXTENSION postgres_fdw; CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');"
        "CREATE VIEW near AS SELECT 1 AS one"
    )
    source = open_source(postgres18.url(name))
    _, marks = marked(source)
    postgres18.execute(change, name)

    with restored(shared, take(source)) as (room, restoration):
        assert {fault.result for fault in (*restoration.faults, *room.compare(marks).faults)} == results


def test_a_manifest_that_was_lost(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """An orphan that was adopted knows no extension any more, and is not to blame for it: its archive names them."""
    taken = taken_of(postgres18, open_source, "CREATE EXTENSION citext; CREATE TABLE t (word citext PRIMARY KEY)")
    lost = msgspec.structs.replace(taken.facts, encoding="", collate="", ctype="", locale_provider="", locale="", extensions={})

    with restored(shared, taken._replace(facts=lost)) as (room, restoration):
        assert restoration.faults == room.inspect().faults == ()
    assert not [note for note in restoration.left_out if "version" in note]


def test_a_lost_manifest_makes_nothing_that_reaches_out(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """Whoever names it."""
    taken = taken_of(postgres18, open_source, "CREATE EXTENSION dblink")

    with restored(shared, taken._replace(facts=msgspec.structs.replace(taken.facts, extensions={}))) as (_, restoration):
        assert [("extension dblink", "unproven")] == [(fault.where, fault.result) for fault in restoration.faults]


def test_a_check_that_counts_rows_that_could_not_come(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """Where pg_restore itself missed what can't be made here, what a check gets is no word about the backup."""
    taken = taken_of(
        postgres18,
        open_source,
        "CREATE EXTENSION dblink; CREATE FUNCTION fits(i int) RETURNS boolean LANGUAGE plpgsql AS "
        "'BEGIN PERFORM public.dblink_get_connections(); RETURN true; END'; CREATE TABLE t (i int CHECK (fits(i)));"
        "INSERT INTO t VALUES (1); CREATE TABLE u AS SELECT 1 AS i",
    )

    with restored(shared, taken) as (room, restoration):
        assert {"unproven"} == {fault.result for fault in restoration.faults}
        found = room.check(asked("select count(*) from t", "= 1"))
        assert found is not None
        assert ("unproven", "answered 0, expected = 1") == (found.result, found.what)
        assert room.check(asked("select count(*) from u", "= 1")) is None


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (
            "CREATE EXTENSION pg_stat_statements; GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO {}",
            "FUNCTION pg_stat_stat",
        ),
        ("GRANT SELECT ON pg_catalog.pg_authid TO {}", "TABLE pg_authid"),
        (
            "CREATE TABLE t (i int); GRANT SELECT ON t TO {} WITH GRANT OPTION; SET ROLE {}; GRANT SELECT ON t TO pg_monitor",
            "TABLE t",
        ),
    ],
    ids=["an extension's function", "the server's own", "given on by who was given them"],
)
def test_rights_that_only_a_superuser_may_give(
    postgres18: Server, open_source: Open, shared: ServerScratch, statements: str, says: str
) -> None:
    """They are named, and no reason to call a backup unproven for ever: nothing that is compared or asked rests on them."""
    taken, marks = marked(open_source(postgres18.url(postgres18.new_database(statements.replace("{}", postgres18.new_role())))))

    with restored(shared, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == ()
        assert any(note.startswith(f"ACL {says}") and "permission denied" in note for note in restoration.left_out)


def test_rows_that_belong_into_another_partition_once_they_are_restored(
    postgres: Server, open_source: Open, scratch: EmbeddedScratch
) -> None:
    """An enum's values have other hashes in each database: rows move between partitions, and none of them is lost."""
    values = ", ".join(f"'v{number}'" for number in range(50))
    statements = (
        f"CREATE TYPE e AS ENUM ({values}); CREATE TABLE t (v e, at date) PARTITION BY RANGE (at);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (v);"
        "CREATE TABLE t1a PARTITION OF t1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE t1b PARTITION OF t1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "CREATE TABLE t2 PARTITION OF t DEFAULT; INSERT INTO t SELECT unnest(enum_range(NULL::e)), '2026-05-05'"
    )
    taken, marks = marked(open_source(postgres.url(postgres.new_database(statements))))

    with restored(scratch, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == ()
        assert {"public.t1a": "public.t", "public.t1b": "public.t"} == marks.roots


def test_a_materialized_view_of_a_table_whose_rows_are_hidden(
    postgres18: Server, open_source: Open, shared: ServerScratch
) -> None:
    """From its owner, too: at the source somebody else filled the view, and here it is filled all the same."""
    taken, marks = marked(
        open_source(
            postgres18.url(
                postgres18.new_database(
                    "CREATE TABLE t AS SELECT 1 AS i; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
                    "ALTER TABLE t FORCE ROW LEVEL SECURITY; CREATE MATERIALIZED VIEW m AS TABLE t"
                )
            )
        )
    )

    with restored(shared, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == room.inspect().faults == ()


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "CREATE AGGREGATE a (bigint) (sfunc = int8_avg_accum, stype = internal, finalfunc = numeric_poly_avg)",
            id="an aggregate that keeps its state in the server's own way",
        ),
        pytest.param(
            "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE t (i int) USING heap2;"
            "INSERT INTO t VALUES (1)",
            id="a table of an access method that is not here",
        ),
    ],
)
def test_what_only_a_superuser_may_make(postgres18: Server, open_source: Open, shared: ServerScratch, statements: str) -> None:
    """The backup is not to blame for it."""
    faults = faults_of(shared, taken_of(postgres18, open_source, statements))

    assert {"unproven"} == {fault.result for fault in faults}


def test_a_schema_that_is_called_like_a_kind_of_entry(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """Of a column in a schema ACL, the default is listed as DEFAULT ACL, which is what default privileges are listed as."""
    taken, marks = marked(
        open_source(postgres18.url(postgres18.new_database('CREATE SCHEMA "ACL"; CREATE TABLE "ACL".t (i serial)')))
    )

    with restored(shared, taken) as (room, restoration):
        assert restoration.faults == room.compare(marks).faults == ()
        assert restoration.left_out == ()


def test_several_jobs(
    postgres18: Server, open_source: Open, scratch: EmbeddedScratch, scratch_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large archive is written down first, and restored by several jobs; nothing of it stays."""
    monkeypatch.setattr(room_module, "WORTH_BYTES", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    taken, marks = marked(open_source(postgres18.url(odd_database(postgres18))))

    with restored(scratch, taken) as (room, restoration):
        faults = [*restoration.faults, *room.compare(marks).faults, *room.inspect().faults]

    assert "with 2 jobs" in restoration.did
    assert faults == []
    assert left_in(scratch_base) == []


def test_several_jobs_from_a_directory(
    postgres: Server, open_source: Open, scratch: EmbeddedScratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large directory archive too: its files are laid down, listed, restored and compared, and nothing of them stays."""
    monkeypatch.setattr(room_module, "WORTH_BYTES", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    database = odd_database(postgres)
    taken, marks = marked(open_source(postgres.url(database)))
    files = Taken([*as_directory(postgres, database, tmp_path / "archive")], taken.facts, taken.globals)

    with restored(scratch, files) as (room, restoration):
        faults = [*restoration.faults, *room.compare(marks).faults, *room.inspect().faults]

    assert "with 2 jobs" in restoration.did
    assert faults == []


def rehearsed(scratch: Scratch, taken: Taken, chunks: Iterator[bytes]) -> Rehearsed:
    """As a verification does it."""
    archive = Archive(
        facts=taken.facts,
        globals=taken.globals,
        chunks=Reading(chunks),
        raw_bytes=sum(map(len, taken.chunks)),
        fingerprint=None,
    )
    return rehearse(scratch, archive, (), SystemClock())


def test_no_room(postgres18: Server, open_source: Open, scratch: EmbeddedScratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at before a byte is restored."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t (id int)")
    monkeypatch.setattr(room_module, "SPARE_BYTES", 1 << 60)

    found = rehearsed(scratch, taken, iter(taken.chunks))

    assert [fault.result for fault in found.faults] == ["unproven"]
    assert "has room for" in found.faults[0].what
    assert "scratch.folder" in found.faults[0].what


def test_the_server_dies(postgres18: Server, open_source: Open, scratch: EmbeddedScratch, scratch_base: Path) -> None:
    """That is no word against the backup, and nothing of the server stays."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 300000) i")

    def deadly() -> Iterator[bytes]:
        for number, chunk in enumerate(taken.chunks):
            if number == len(taken.chunks) // 2:
                kill_servers(scratch_base)
            yield chunk

    found = rehearsed(scratch, taken, deadly())

    assert {fault.result for fault in found.faults} == {"unproven"}
    assert left_in(scratch_base) == []


def test_the_server_dies_before_it_is_compared(
    postgres18: Server, open_source: Open, scratch: EmbeddedScratch, scratch_base: Path
) -> None:
    """What it held can't be seen any more: no table is missing for that."""
    taken, marks = marked(open_source(postgres18.url(postgres18.new_database("CREATE TABLE t AS SELECT 1 AS id"))))

    with restored(scratch, taken) as (room, _):
        kill_servers(scratch_base)
        faults = room.compare(marks).faults

    assert {"unproven"} == {fault.result for fault in faults}
    assert any(fault.what.startswith("tables could not be compared: ") for fault in faults)


def kill_servers(base: Path) -> None:
    """`kill -9` for every process of the scratch server."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if str(path.readlink()).startswith(str(base)):
                os.kill(int(path.parent.name), signal.SIGKILL)


def test_the_disk_is_full(
    postgres18: Server, open_source: Open, manners: Manners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the scratch server is no word against the backup."""
    disk = Path(tempfile.mkdtemp(prefix="sd-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("takes a small disk, which only root may mount")
    try:
        disk.chmod(0o711)
        monkeypatch.setattr(room_module, "SPARE_BYTES", 0)
        monkeypatch.setattr(room_module, "ROOM", 0)
        rows = "SELECT repeat(i::text, 50) FROM generate_series(1, 700000) i"
        taken = taken_of(postgres18, open_source, f"CREATE TABLE t AS {rows}")
        found = rehearsed(EmbeddedScratch(disk, manners, no_secret), taken, iter(taken.chunks))
    finally:
        # A process of the server that was killed may be on its way out still.
        assert comes_true(lambda: subprocess.run(["umount", str(disk)], check=False).returncode == 0)  # noqa: S607  as root has it
        disk.rmdir()

    assert {fault.result for fault in found.faults} == {"unproven"}
    assert "could not go on" in found.faults[0].what


def test_an_archive_that_can_not_be_read(postgres18: Server, open_source: Open, shared: ServerScratch) -> None:
    """What reading it raises goes through, and is not taken for the scratch server's fault."""
    taken = taken_of(postgres18, open_source, "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i")

    def cut() -> Iterator[bytes]:
        yield taken.chunks[0]
        raise Unreachable("the target went away")

    with pytest.raises(Unreachable, match="the target went away"):
        rehearsed(shared, taken, cut())
