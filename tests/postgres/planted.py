"""Rule 10 on real servers: a database in which a role without rights planted what it could, and what it gained by a rehearsal.

What is planted tries all that would do harm, wherever it is called, and goes on: who calls it decides what comes of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import pytest

from reconciler.policy.expectation import Expectation
from reconciler.policy.model import Check
from reconciler.policy.units import Length
from reconciler.postgres.client import Client
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.dump import Manners
from reconciler.postgres.room import PostgresRoom
from reconciler.postgres.scratch import ServerScratch
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.throwaway import ADMIN, Throwaway, throwaway
from reconciler.postgres.url import parse
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import DumpOptions
from reconciler.world.scratch import Restoration
from tests.postgres.taking import Taken
from tests.servers.postgres import BINARIES, Server
from tests.servers.scratch import own_base

MAJOR: Final = 18
"""The first that takes extensions from other folders than its own."""
SERVER: Final = Client(major=MAJOR, version="18.0", folder=BINARIES[MAJOR])
SPY: Final = "planted_spy"
"""A role that nobody but the planted makes."""
MIGHTY: Final = "planted_mighty"
"""A superuser of the source, whom a right names."""
VARIABLE: Final = "A_SECRET_OF_OURS"
"""In our environment, and to be in nobody else's."""

EXTENSIONS: Final = {
    # As PostGIS has its spatial_ref_sys: rows that are dumped, under a key that anybody's table may refer to.
    "gazetteer": "CREATE TABLE place (id int PRIMARY KEY); SELECT pg_catalog.pg_extension_config_dump('place', '');",
    # No name of it stands in a list.
    "untrusted": "CREATE FUNCTION untrusted_handler() RETURNS language_handler LANGUAGE c "
    "AS '$libdir/plpgsql', 'plpgsql_call_handler'; CREATE LANGUAGE untrusted HANDLER untrusted_handler;",
}
"""Ours, since the servers at hand bring none of their kind."""

BY_THE_SOURCES_OWNER: Final = """
SET extension_control_path = '{extensions}:$system';
CREATE EXTENSION gazetteer; INSERT INTO place VALUES (1), (2); ALTER TABLE place OWNER TO {role};
CREATE EXTENSION untrusted; CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw;
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER planted_trigger ON ddl_command_end EXECUTE FUNCTION watch();
CREATE TABLE plain AS SELECT generate_series(1, 3) AS id; GRANT SELECT ON plain TO {mighty};
CREATE PUBLICATION planted_publication FOR TABLE plain;
CREATE SUBSCRIPTION planted_subscription CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE);
CREATE SERVER planted_server FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'nowhere');
CREATE USER MAPPING FOR CURRENT_USER SERVER planted_server OPTIONS (password 'p');
CREATE FOREIGN TABLE planted_far (id int) SERVER planted_server;
GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
BEYOND: Final = {
    "EVENT TRIGGER planted_trigger": "pg_event_trigger",
    "PUBLICATION planted_publication": "pg_publication",
    "SUBSCRIPTION planted_subscription": "pg_subscription",
    "SERVER planted_server": "pg_foreign_server",
    "USER MAPPING USER MAPPING postgres SERVER planted_server": "pg_user_mapping",
    "FOREIGN TABLE public.planted_far": "pg_foreign_table",
}
"""What of that acts beyond its database: how evidence must name it, and the catalog that must not have it."""

PLANTED: Final = """
CREATE UNLOGGED TABLE visitors (who name);
CREATE UNLOGGED TABLE loot (line text);
CREATE FUNCTION spring() RETURNS int LANGUAGE plpgsql AS $spring$
DECLARE deed text;
BEGIN
    FOREACH deed IN ARRAY ARRAY[
        $$COPY (SELECT 1) TO PROGRAM 'touch {marks}/program'$$,
        $$COPY (SELECT 1) TO '{marks}/file'$$,
        $$COPY public.loot FROM 'PG_VERSION'$$,
        $$CREATE ROLE {spy}$$,
        $$INSERT INTO public.visitors VALUES (session_user), (current_user)$$,
        format($$ALTER DATABASE %I SET search_path = public, pg_catalog$$, current_database())
    ] LOOP
        BEGIN EXECUTE deed; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    RETURN 1;
END $spring$;
CREATE VIEW trap AS SELECT public.spring() AS n;
CREATE MATERIALIZED VIEW eager AS SELECT public.spring() AS n;

CREATE FUNCTION quiet(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 + public.spring(); END';
CREATE TABLE planned (id int); INSERT INTO planned VALUES (1); CREATE INDEX ON planned ((id + public.quiet(1)));

CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT public.spring()::text';
CREATE FUNCTION starts_with(text, text) RETURNS bool LANGUAGE sql AS 'SELECT public.spring() = 0';

CREATE TYPE bait AS ENUM ('bait');
CREATE FUNCTION swallow(bait) RETURNS int LANGUAGE sql AS 'SELECT public.spring()';
CREATE CAST (bait AS int) WITH FUNCTION swallow(bait) AS IMPLICIT;
CREATE UNLOGGED TABLE refers (place bait REFERENCES place (id));
CREATE FUNCTION refer() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.refers VALUES ('bait'); RETURN 1; END $$;
CREATE MATERIALIZED VIEW referring AS SELECT public.refer() AS n;

TRUNCATE visitors, loot, refers;
"""
"""Sprung by whoever restores or reads: a view by whom fills it or asks it; a constant in an index by whom plans to read its
table; functions named like the server's own by whose search_path finds them; a cast by whose table a key refers to."""

CHECKS: Final = {
    "select n from public.trap": "= 1",
    "select lower('A')": "= 1",
    "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'm') "
    "and has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE')": "= 0",
    "select current_setting('transaction_read_only')": "= on",
    "select count(*) from place": "= 2",
    "select count(*) from pg_constraint where conrelid = 'refers'::regclass and contype = 'f'": "= 1",
}
RIGHTS: Final = """
SELECT rolname FROM pg_roles WHERE rolname <> current_user AND NOT starts_with(rolname, 'pg_') AND (
    rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR EXISTS (
        SELECT FROM pg_roles AS of WHERE of.rolname ~ '^pg_.*_server_' AND pg_has_role(pg_roles.oid, of.oid, 'MEMBER')))
"""
PROGRAMS: Final = ("pg_restore", "pg_amcheck", "psql")
"""At hand for a rehearsal; the last is for nobody."""


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """A dump of such a database."""

    taken: Taken
    fingerprint: Fingerprint
    ground: Path
    """A folder that every account may look into: our extensions, marks of what was done, client programs that tell who ran."""

    @property
    def marks(self) -> Path:
        """Where the planted leaves its marks; every account may write there."""
        return self.ground / "marks"

    @property
    def ran(self) -> Path:
        """What client programs ran, and with what environment."""
        return self.ground / "ran"


@contextmanager
def planted(server: Server, manners: Manners) -> "Iterator[Planted]":
    """By a session of its own, which may nothing but make objects."""
    with own_base() as ground:
        _lay(ground)
        server.execute(f"CREATE ROLE {MIGHTY} SUPERUSER")
        role, database = server.new_role(), server.new_database(options="TEMPLATE template0")
        server.execute(BY_THE_SOURCES_OWNER.format(extensions=ground / "extensions", mighty=MIGHTY, role=role), database)
        with psycopg.connect(server.url(database, user=role), autocommit=True) as intruder:
            intruder.execute(PLANTED.format(marks=ground / "marks", spy=SPY).encode())
        server.execute(f"ALTER DATABASE {database} SET search_path = public, pg_catalog")
        source = PostgresSource(parse(server.url(database), field="url"), manners)
        with source.dump("planted", expect=None, options=DumpOptions(fingerprint="checksums")) as dump:
            chunks, fingerprint = list(dump.chunks()), dump.fingerprint()
        server.execute("ALTER SUBSCRIPTION planted_subscription DISABLE; DROP SUBSCRIPTION planted_subscription", database)
        server.execute(f"DROP DATABASE {database}")
        server.execute(f"DROP ROLE {MIGHTY}; DROP ROLE {role}")
        assert fingerprint is not None
        assert [] == list((ground / "marks").iterdir())
        yield Planted(taken=Taken(chunks, dump.facts, dump.globals), fingerprint=fingerprint, ground=ground)


def _lay(ground: Path) -> None:
    extensions = ground / "extensions" / "extension"
    for folder, mode in ((ground / "marks", 0o777), (extensions.parent, 0o755), (extensions, 0o755), (ground / "bin", 0o755)):
        folder.mkdir()
        folder.chmod(mode)
    for name, script in EXTENSIONS.items():
        (extensions / f"{name}.control").write_text("default_version = '1.0'\nrelocatable = true\n")
        (extensions / f"{name}--1.0.sql").write_text(script)
    for name in PROGRAMS:
        program = ground / "bin" / name
        program.write_text(f'#!/bin/sh\n{{ echo "{name} ran"; env; }} >> {ground}/ran\nexec {BINARIES[MAJOR] / name} "$@"\n')
        program.chmod(0o755)


@contextmanager
def hall(plot: Planted, manners: Manners) -> Iterator[Throwaway]:
    """A throw-away server for many rehearsals, which has our extensions too."""
    with throwaway(plot.ground, SERVER, manners) as server:
        with _entered(server.admin) as admin:
            admin.execute(f"ALTER ROLE {ADMIN} SET extension_control_path = '{plot.ground}/extensions:$system'")
        yield server


def gained(plot: Planted, server: Throwaway, manners: Manners) -> list[str]:
    """What of rule 10 does not hold for a rehearsal there. Nothing of it is left."""
    for mark in plot.marks.iterdir():
        mark.unlink()
    plot.ran.write_text("")
    told = msgspec.structs.replace(manners, client_bin=plot.ground / "bin")
    scratch = ServerScratch(server.admin, told, lambda _: None, lambda: ())
    with pytest.MonkeyPatch.context() as ours, _entered(server.admin) as admin:
        ours.setenv(VARIABLE, "told to nobody")
        with scratch.room(plot.taken.facts, plot.taken.globals) as room:
            restoration = room.restore(plot.taken.chunks, raw_bytes=sum(map(len, plot.taken.chunks)))
            room.compare(plot.fingerprint)
            room.inspect()
            faults = [room.check(_question(sql, answer)) for sql, answer in CHECKS.items()]
            assert [] == [fault for fault in restoration.faults if fault.result == "failed"]
            said = [f"{fault.where} {fault.what}" for fault in faults if fault is not None]
            said += [f"{name} has rights" for (name,) in admin.execute(RIGHTS)]
            said += _found_inside(room, server.admin)
        said += [f"{what} is not named" for what in BEYOND if not _names(restoration, what)]
        said += [f"a {mark.name} came of it" for mark in plot.marks.iterdir()]
        said += [
            f"a role came of it: {name}" for (name,) in admin.execute("SELECT rolname FROM pg_roles WHERE rolname = %s", [SPY])
        ]
        admin.execute(f"DROP ROLE IF EXISTS {SPY}")
    return said + _told_by_programs(plot.ran.read_text())


def _entered(admin: Conninfo) -> "psycopg.Connection[tuple[Any, ...]]":
    connection = psycopg.connect(**admin.for_session("look"), autocommit=True)  # type: ignore[arg-type]  # libpq's names
    # Whoever looks must not step into what was planted.
    connection.execute("SET search_path = pg_catalog")
    return connection


def _question(sql: str, answer: str) -> Check:
    return Check(name=sql, sql=sql, expect=Expectation.parse(answer), timeout=Length(seconds=10))


def _found_inside(room: PostgresRoom, admin: Conninfo) -> Iterator[str]:
    keys = room._keys
    with _entered(admin.in_database(keys.owner.database)) as inside:
        for what, catalog in BEYOND.items():
            if inside.execute(f"SELECT FROM {catalog}").fetchall():
                yield f"{what} is there"
        for (name,) in inside.execute("SELECT extname FROM pg_extension WHERE extname IN ('dblink', 'postgres_fdw')"):
            yield f"extension {name} is there"
        for (name,) in inside.execute(
            "SELECT lanname FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c')"
        ):
            yield f"language {name} is there"
        visitors = {who for (who,) in inside.execute("SELECT who FROM public.visitors")}
        assert keys.owner.user in visitors, "what was planted was not sprung"
        yield from (f"{who} came by" for who in visitors - {keys.owner.user})
        if inside.execute("SELECT FROM public.loot").fetchall():
            yield "a file of the server was read"


def _names(restoration: Restoration, what: str) -> bool:
    return any(one.startswith(f"{what}: ") for one in restoration.left_out)


def _told_by_programs(ran: str) -> list[str]:
    assert "pg_restore ran" in ran
    said = ["psql ran"] if "psql ran" in ran else []
    return [*said, "a program was told what is ours"] if VARIABLE in ran else said
