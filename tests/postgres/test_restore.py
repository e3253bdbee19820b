"""Restoring an archive into an empty database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import msgspec
import psycopg
import pytest

from reconciler.errors import Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.postgres.dump import Manners
from reconciler.postgres.restore import Choices
from reconciler.postgres.source import PostgresSource
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import comes_true
from tests.postgres.taking import Taken, as_directory, put, take
from tests.servers.postgres import MAJORS, Server, Servers

Open = Callable[[str], PostgresSource]
ROWS = "CREATE TABLE t AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, 20000) i; CREATE INDEX ON t (i)"


TABLE = "FROM pg_class WHERE relname = 't' AND relkind = 'r'"


def owned_by(server: Server, open_source: Open, owner: str) -> Taken:
    """The backup of a table and its schema that are a role's, who owns nothing any more."""
    origin = server.new_database(f"CREATE SCHEMA {owner} AUTHORIZATION {owner}")
    server.execute(
        f"SET ROLE {owner}; CREATE TABLE {owner}.t (i int PRIMARY KEY); INSERT INTO {owner}.t VALUES (1), (2), (3)", origin
    )
    taken = take(open_source(server.url(origin)))
    server.execute(f"DROP OWNED BY {owner}", origin)
    return taken


def database_of(server: Server, owner: str) -> str:
    """A new one."""
    database = server.new_database(options="TEMPLATE template0")
    server.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
    # Before PostgreSQL 15 that gives no rights in it.
    server.execute(f"GRANT ALL ON SCHEMA public TO {owner}", database)
    return database


def tables(server: Server, database: str) -> list[str]:
    return [row[0] for row in server.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384", database)]


def test_a_database_with_everything_comes_back(postgres: Server, open_source: Open, manners: Manners) -> None:
    """What we restore has the very pg_dump text of the original."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")

    put(postgres.url(copy), take(open_source(postgres.url(original))), manners)

    assert postgres.schema_text(original) == postgres.schema_text(copy)


def test_a_materialized_view_under_row_security(postgres: Server, open_source: Open, manners: Manners) -> None:
    """Its owner fills it with the rows that he may see, as at the source: no restore fails over it."""
    viewer = postgres.new_role()
    original = postgres.new_database(
        "CREATE TABLE t (who text); INSERT INTO t VALUES ('one'), ('other'); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY p ON t USING (who = 'one'); GRANT SELECT ON t TO {viewer}; CREATE MATERIALIZED VIEW m AS TABLE t;"
        f"ALTER MATERIALIZED VIEW m OWNER TO {viewer}; REFRESH MATERIALIZED VIEW m"
    )
    copy = postgres.new_database(options="TEMPLATE template0")

    put(postgres.url(copy), take(open_source(postgres.url(original))), manners)

    assert [("one",)] == postgres.execute("TABLE m", original) == postgres.execute("TABLE m", copy)
    assert [("one",), ("other",)] == postgres.execute("TABLE t ORDER BY 1", copy)


@pytest.mark.parametrize("older", [major for major in MAJORS if major < 18])
def test_an_older_servers_backup_in_a_newer_server(
    older: int, postgres_servers: Servers, open_source: Open, manners: Manners
) -> None:
    """The archive of an older major goes into a newer one, whose server has none of the roles yet."""
    old, new = postgres_servers(older), postgres_servers(18)
    taken = take(open_source(old.url(odd_database(old))))
    copy = new.new_database(options="TEMPLATE template0")

    restored = put(new.url(copy), taken, manners)

    assert restored.roles_created
    assert 18 == restored.target.major
    assert [(100,)] == new.execute("SELECT count(*) FROM serials", copy)


@pytest.mark.skipif(len(MAJORS) < 3, reason="needs an older and a newer server")
def test_a_newer_servers_backup_in_an_older_server(postgres_servers: Servers, open_source: Open, manners: Manners) -> None:
    """PostgreSQL can't do that, and we say so before anything is read."""
    taken = take(open_source(postgres_servers(18).url(postgres_servers(18).new_database())))
    old = postgres_servers(15)

    with pytest.raises(Refused, match="PostgreSQL 15, older than the backup's 18") as refusal:
        put(old.url(old.new_database()), taken, manners)

    assert "18 or newer" in refusal.value.cure


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE left_behind (v int)", "left_behind"),
        ("CREATE SCHEMA left_behind", "left_behind"),
        ("CREATE TYPE left_behind AS ENUM ('a')", "left_behind"),
        ("CREATE TYPE left_behind AS (a int)", "left_behind"),
        ("CREATE FUNCTION left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'", "left_behind"),
        ("CREATE VIEW left_behind AS SELECT 1", "left_behind"),
        ("SELECT lo_create(4711)", "large object 4711"),
    ],
)
def test_a_database_that_is_not_empty(
    postgres18: Server, open_source: Open, manners: Manners, statement: str, named: str
) -> None:
    """Anything of somebody's refuses the restore, is named, and is left as it was."""
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    target = postgres18.new_database(statement)

    with pytest.raises(Refused, match=f"is not empty: it has .*{named}"):
        put(postgres18.url(target), taken, manners)


def test_a_database_with_an_extension_only(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Extensions are no user's data: a template may bring them."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE EXTENSION hstore; CREATE TABLE t (h hstore)"))))
    target = postgres18.new_database("CREATE EXTENSION hstore")

    put(postgres18.url(target), taken, manners)

    assert ["t"] == tables(postgres18, target)


def test_a_source_of_the_policy(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """A source is refused even while it is empty."""
    source = postgres18.new_database()
    taken = take(open_source(postgres18.url(source)))

    with pytest.raises(Refused, match="is a source of the policy"):
        put(postgres18.url(source), taken, manners, sources=(taken.facts.source.identity,))


@pytest.mark.parametrize("differs", [{"encoding": "LATIN1"}, {"collate": "xx_XX.UTF-8"}, {"ctype": "xx_XX.UTF-8"}])
def test_another_encoding_or_locale(postgres18: Server, open_source: Open, manners: Manners, differs: dict[str, str]) -> None:
    """Text would be refused or sorted otherwise: the sentence says how to make a database that fits."""
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    foreign = taken._replace(facts=msgspec.structs.replace(taken.facts, **differs))

    with pytest.raises(Refused, match="encoding") as refusal:
        put(postgres18.url(postgres18.new_database()), foreign, manners)

    assert f"ENCODING '{foreign.facts.encoding}' LC_COLLATE '{foreign.facts.collate}'" in refusal.value.cure


@pytest.mark.parametrize("survive", [1, -1], ids=["first chunk", "all but the last"])
def test_chunks_that_fail_on_the_way(postgres18: Server, open_source: Open, manners: Manners, survive: int) -> None:
    """A part that proves corrupt ends the restore, its own error goes through, and nothing is committed."""
    taken = take(open_source(postgres18.url(postgres18.new_database(ROWS))))
    target = postgres18.new_database()

    def failing() -> Iterator[bytes]:
        yield from taken.chunks[:survive]
        raise Corrupt("part 2 differs from its hash")

    with pytest.raises(Corrupt, match="part 2"):
        put(postgres18.url(target), taken._replace(chunks=failing()), manners)  # type: ignore[arg-type]  # read once, as a stream

    assert [] == tables(postgres18, target)


def test_chunks_that_fail_after_the_last_byte(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Even an archive that is complete is not committed unless its reading ended well."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE TABLE t (v int)"))))
    target = postgres18.new_database()

    def failing() -> Iterator[bytes]:
        yield from taken.chunks
        comes_true(lambda: tables(postgres18, target) != [], seconds=1.5)  # the time for a commit, if there were one
        raise Corrupt("the whole differs from its hash")

    with pytest.raises(Corrupt, match="the whole"):
        put(postgres18.url(target), taken._replace(chunks=failing()), manners)  # type: ignore[arg-type]  # read once, as a stream

    assert [] == tables(postgres18, target)


def test_an_archive_that_is_cut_short(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """An end of file in the middle is a failure, and nothing is committed."""
    taken = take(open_source(postgres18.url(postgres18.new_database(ROWS))))
    target = postgres18.new_database()

    with pytest.raises(Refused, match="pg_restore failed"):
        put(postgres18.url(target), taken._replace(chunks=taken.chunks[:-1]), manners)

    assert [] == tables(postgres18, target)


def test_a_wish_to_stop_on_the_way(postgres18: Server, open_source: Open, manners: Manners, stop: Event) -> None:
    """It is heard between two chunks, and nothing is committed."""
    taken = take(open_source(postgres18.url(postgres18.new_database(ROWS))))
    target = postgres18.new_database()

    def stopping() -> Iterator[bytes]:
        yield taken.chunks[0]
        stop.set()
        yield from taken.chunks[1:]

    with pytest.raises(Stopped):
        put(postgres18.url(target), taken._replace(chunks=stopping()), manners)  # type: ignore[arg-type]  # read once, as a stream

    assert [] == tables(postgres18, target)


def test_the_server_ends_the_session_on_the_way(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """A lost connection is worth another try."""
    taken = take(open_source(postgres18.url(postgres18.new_database(ROWS))))
    target = postgres18.new_database()

    archive = b"".join(taken.chunks)

    def cutting() -> Iterator[bytes]:
        # One is held back until the next one comes: by now pg_restore has all but the end, however it was read.
        yield archive[:-2]
        yield archive[-2:-1]
        others = "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        ended = f"SELECT pg_terminate_backend(pid) {others} AND pid <> pg_backend_pid()"
        assert comes_true(lambda: bool(postgres18.execute(ended, target)))
        yield archive[-1:]

    with pytest.raises(Unreachable):
        put(postgres18.url(target), taken._replace(chunks=cutting()), manners)  # type: ignore[arg-type]  # read once, as a stream

    assert [] == tables(postgres18, target)


def test_a_role_that_may_not(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """What the restoring role lacks is told in a sentence, without the commands of the archive."""
    taken = take(open_source(postgres18.url(postgres18.new_database(ROWS))))
    role = postgres18.new_role()
    target = postgres18.new_database()

    with pytest.raises(Refused, match="pg_restore failed at TABLE t on") as refusal:
        put(postgres18.url(target, user=role), taken, manners)

    assert "Command was" not in str(refusal.value)
    assert refusal.value.cure


def test_the_database_gets_its_settings_rights_comment_and_owner(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """They come after the data: a database that is read-only by default can be restored."""
    owner, reader = postgres18.new_role(), postgres18.new_role()
    original = postgres18.new_database(ROWS)
    postgres18.execute(
        f"ALTER DATABASE {original} OWNER TO {owner}; GRANT CREATE, TEMP ON DATABASE {original} TO {reader} WITH GRANT OPTION;"
        f'REVOKE CONNECT ON DATABASE {original} FROM PUBLIC; ALTER DATABASE {original} SET search_path = \'a b\', "C""", public;'
        f"ALTER DATABASE {original} SET my.setting = 'x, ''y'''; ALTER ROLE {reader} IN DATABASE {original} SET work_mem = '7MB';"
        f"ALTER DATABASE {original} CONNECTION LIMIT 7; COMMENT ON DATABASE {original} IS 'it''s ours';"
        f"ALTER DATABASE {original} SET default_transaction_read_only = on"
    )
    taken = take(open_source(postgres18.url(original)))
    target = postgres18.new_database()

    restored = put(postgres18.url(target), taken, manners)
    again = take(open_source(postgres18.url(target))).globals

    assert taken.globals.settings == again.settings
    assert owner == again.database_owner
    assert set(taken.globals.database_acl or ()) == set(again.database_acl or ())
    assert (7, "it's ours") == (again.connection_limit, again.database_comment)
    assert () == restored.left_out


def test_roles_are_made_and_never_overwritten(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Missing roles come back with all but their passwords; one that is there stays as it is, memberships included."""
    group, member, present = "gr\"o'up x", postgres18.new_role(), postgres18.new_role()
    quoted = '"gr""o\'up x"'
    postgres18.execute(f"DROP ROLE IF EXISTS {quoted}")
    postgres18.execute(
        f"CREATE ROLE {quoted} NOINHERIT CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2031-02-03 04:05:06+00';"
        f"GRANT {quoted} TO {member} WITH ADMIN OPTION; GRANT pg_monitor TO {member};"
        f"GRANT {quoted} TO {present};"
        f"ALTER ROLE {member} SET search_path = 'x y', z; COMMENT ON ROLE {member} IS 'it''s'"
    )
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    postgres18.execute(f"DROP ROLE {quoted}; DROP ROLE {member}; ALTER ROLE {present} CREATEROLE")

    restored = put(postgres18.url(postgres18.new_database()), taken, manners)
    again = take(open_source(postgres18.url(postgres18.new_database()))).globals

    ours = {group, member}
    assert ours == set(restored.roles_created)
    assert [r for r in taken.globals.roles if r.name in ours] == [r for r in again.roles if r.name in ours]
    assert [m for m in taken.globals.memberships if m.member in ours] == [m for m in again.memberships if m.member in ours]
    assert [s for s in taken.globals.settings if s.role in ours] == [s for s in again.settings if s.role in ours]
    assert [True] == [r.create_role for r in again.roles if r.name == present]
    assert [] == [m for m in again.memberships if m.member == present]
    assert [f"password of role {member}: it is in no backup, set a new one"] == list(restored.left_out)


def test_superuser_is_not_given_by_a_role_that_is_none(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """A restoring role without that right makes the role without it, and says so."""
    mighty, restorer = postgres18.new_role("SUPERUSER"), postgres18.new_role("CREATEROLE CREATEDB")
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    postgres18.execute(f"DROP ROLE {mighty}")
    target = postgres18.new_database()
    postgres18.execute(f"ALTER DATABASE {target} OWNER TO {restorer}")

    restored = put(postgres18.url(target, user=restorer), taken, manners)

    assert [(False,)] == postgres18.execute(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{mighty}'")
    assert f"SUPERUSER of role {mighty}: only a superuser may give it" in restored.left_out


def test_who_is_no_superuser_gives_to_the_roles_that_he_makes(postgres: Server, open_source: Open, manners: Manners) -> None:
    """At the first try: he is made a member of them."""
    owner, restorer = postgres.new_role(), postgres.new_role("CREATEROLE")
    taken = owned_by(postgres, open_source, owner)
    postgres.execute(f"DROP ROLE {owner}")
    target = database_of(postgres, restorer)

    put(postgres.url(target, user=restorer), taken, manners)

    assert [(owner, 3)] == postgres.execute(
        f"SELECT pg_get_userbyid(relowner)::text, (SELECT count(*) FROM {owner}.t) {TABLE}", target
    )


def test_who_may_make_no_roles(postgres: Server, open_source: Open, manners: Manners) -> None:
    """What is advised is of the roles that own something, can be typed by a superuser, and suffices."""
    owner, other, restorer = (postgres.new_role() for _ in range(3))
    taken = owned_by(postgres, open_source, owner)
    postgres.execute(f"DROP ROLE {owner}")
    target = database_of(postgres, restorer)
    url = postgres.url(target, user=restorer)

    with pytest.raises(Refused, match=f"at SCHEMA {owner} on .*does not exist") as missing:
        put(url, taken, manners)
    postgres.execute(f"CREATE ROLE {owner}")
    with pytest.raises(Refused, match=f"at SCHEMA {owner} on .*must be ") as lacking:
        put(url, taken, manners)

    assert missing.value.cure.startswith(f"make the role {owner} there and GRANT")
    assert other not in missing.value.cure
    postgres.execute(lacking.value.cure.partition(";")[0])
    put(url, taken, manners)
    assert ["t"] == tables(postgres, target)


def test_what_a_superuser_owned(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Nobody is advised to be made a superuser."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE TABLE t (i int)"))))
    restorer = postgres18.new_role()

    with pytest.raises(Refused, match="at TABLE t on ") as refusal:
        put(postgres18.url(database_of(postgres18, restorer), user=restorer), taken, manners)

    assert refusal.value.cure.startswith(f"add --map-role postgres={restorer}")


def test_what_lies_in_somebody_elses_schema(postgres: Server, open_source: Open, manners: Manners) -> None:
    """Only a superuser gives things to who may not create there yet: the cure says which grant must come before."""
    owner, restorer = postgres.new_role(), postgres.new_role("CREATEROLE")
    origin = postgres.new_database(f"CREATE TABLE t (i int); ALTER TABLE t OWNER TO {owner}")
    taken = take(open_source(postgres.url(origin)))
    postgres.execute(f"DROP OWNED BY {owner}", origin)
    postgres.execute(f"DROP ROLE {owner}")
    target = database_of(postgres, restorer)
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", target)
    url = postgres.url(target, user=restorer)

    with pytest.raises(Refused, match=r"at TABLE t on .*permission denied for schema public") as refusal:
        put(url, taken, manners)
    grant, _, _ = refusal.value.cure.partition(" and try again")
    postgres.execute(grant, target)
    put(url, taken, manners)

    assert ["t"] == tables(postgres, target)


def test_what_only_a_superuser_may_make_and_nothing_rests_on(postgres: Server, open_source: Open, manners: Manners) -> None:
    """It is left out where the server refuses it, and named; all else is restored."""
    restorer = postgres.new_role()
    origin = postgres.new_database(
        "CREATE TABLE t (i int PRIMARY KEY); CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION one FOR TABLE t;"
        "COMMENT ON PUBLICATION everything IS 'x';"
        "CREATE SUBSCRIPTION s CONNECTION 'dbname=none' PUBLICATION p WITH (connect=false);"
        "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()"
    )
    taken = take(open_source(postgres.url(origin)))
    postgres.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)", origin)
    postgres.execute("DROP SUBSCRIPTION s", origin)
    target = database_of(postgres, restorer)

    restored = put(postgres.url(target, user=restorer), taken, manners, choices=Choices(no_roles=True))

    assert ["t"] == tables(postgres, target)
    assert [("one",)] == postgres.execute("SELECT pubname FROM pg_publication", target)
    assert {
        "COMMENT PUBLICATION everything: a role with more rights may make it",
        "EVENT TRIGGER e: a role with more rights may make it",
        "PUBLICATION everything: a role with more rights may make it",
        "SUBSCRIPTION s: a role with more rights may make it",
    } == set(restored.left_out)


def test_an_extension_that_somebody_else_made_beforehand(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Who may not make it has it made; its comment, which he may not set either, is left out."""
    restorer = postgres18.new_role()
    made = "CREATE EXTENSION pg_stat_statements"
    taken = take(open_source(postgres18.url(postgres18.new_database(f"{made}; CREATE TABLE t (i int)"))))
    target = database_of(postgres18, restorer)
    url = postgres18.url(target, user=restorer)

    with pytest.raises(Refused, match="at EXTENSION pg_stat_statements on ") as refusal:
        put(url, taken, manners, choices=Choices(no_roles=True))
    postgres18.execute(made, target)
    restored = put(url, taken, manners, choices=Choices(no_roles=True))

    assert "have it made in the database by somebody who may, and try again" == refusal.value.cure
    assert ("COMMENT EXTENSION pg_stat_statements: the extension is there, and is somebody else's",) == restored.left_out
    assert ["t"] == tables(postgres18, target)


def test_rights_on_what_is_the_servers_own(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Who may not give them restores all else, rights on what he restores too, however it is called."""
    restorer, reader = postgres18.new_role(), postgres18.new_role()
    origin = postgres18.new_database(
        "CREATE EXTENSION pg_stat_statements;"
        f'CREATE SCHEMA "TABLE S"; CREATE TABLE "TABLE S"."T ""x" (i int); GRANT SELECT ON "TABLE S"."T ""x" TO {reader};'
        f'CREATE FUNCTION "F x"("TABLE S"."T ""x") RETURNS int LANGUAGE sql AS \'SELECT 1\';'
        f'GRANT EXECUTE ON FUNCTION "F x" TO {reader};'
        f"CREATE DOMAIN d AS int; GRANT USAGE ON DOMAIN d TO {reader}; CREATE VIEW v AS SELECT 1 AS x;"
        f" GRANT SELECT ON v TO {reader};"
        f"GRANT EXECUTE ON FUNCTION pg_read_file(text), pg_stat_statements_reset TO {reader};"
        f"GRANT SELECT ON pg_stat_statements TO {reader}; GRANT USAGE ON SCHEMA public TO {reader}"
    )
    taken = take(open_source(postgres18.url(origin)))
    target = database_of(postgres18, restorer)
    postgres18.execute("CREATE EXTENSION pg_stat_statements", target)
    url = postgres18.url(target, user=restorer)

    restored = put(url, taken, manners, choices=Choices(roles={"postgres": restorer}))

    left_out = {one.partition(": ")[0].partition("(")[0] for one in restored.left_out if one.startswith("ACL ")}
    assert {
        "ACL pg_catalog.FUNCTION pg_read_file",
        "ACL public.FUNCTION pg_stat_statements_reset",
        "ACL public.TABLE pg_stat_statements",
    } == left_out
    given = (
        "SELECT has_table_privilege('{0}', '\"TABLE S\".\"T \"\"x\"', 'SELECT'), has_type_privilege('{0}', 'd', 'USAGE'),"
        "has_table_privilege('{0}', 'v', 'SELECT'), (SELECT proacl::text LIKE '%{0}%' FROM pg_proc WHERE proname = 'F x')"
    )
    assert [(True, True, True, True)] == postgres18.execute(given.format(reader), target)


def speaking_of_a_role(server: Server, open_source: Open, statement: str) -> tuple[str, Taken]:
    """One that is gone since, and the backup."""
    reader = server.new_role()
    origin = server.new_database(f"CREATE TABLE t (i int); INSERT INTO t VALUES (1); {statement.format(reader)}")
    taken = take(open_source(server.url(origin)))
    server.execute(f"DROP OWNED BY {reader}", origin)
    server.execute(f"DROP ROLE {reader}")
    return reader, taken


@pytest.mark.parametrize("statement", ["GRANT SELECT ON t TO {}", "CREATE POLICY p ON t TO {}"])
def test_rights_of_a_role_that_is_not_there(postgres: Server, open_source: Open, manners: Manners, statement: str) -> None:
    """Told before a row is restored: PostgreSQL itself would miss it once all of them are in."""
    reader, taken = speaking_of_a_role(postgres, open_source, statement)
    restorer = postgres.new_role()
    url = postgres.url(database_of(postgres, restorer), user=restorer)

    said = f"has not the roles that rights or policies of the backup name: {reader}"
    with pytest.raises(Refused, match=said) as refusal:
        put(url, taken, manners, choices=Choices(roles={"postgres": restorer}))

    assert "make them there first" in refusal.value.cure


def test_rights_in_a_directory_archive(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """It comes as a tar, of which the beginning tells as much."""
    restorer, rows = postgres.new_role(), "SELECT i, md5(i::text) AS x FROM generate_series(1, 50000) i"
    origin = postgres.new_database(f"CREATE TABLE t AS {rows}; GRANT SELECT ON t TO {postgres.new_role()}")
    chunks = list(as_directory(postgres, origin, tmp_path / "archive"))
    taken = take(open_source(postgres.url(origin)))._replace(chunks=chunks)
    target = database_of(postgres, restorer)

    put(postgres.url(target, user=restorer), taken, manners, choices=Choices(roles={"postgres": restorer}))

    assert [(50000,)] == postgres.execute("SELECT count(*) FROM t", target)


def test_rights_that_were_granted_on(postgres: Server, open_source: Open, manners: Manners) -> None:
    """Only a superuser speaks in another's name: who is none is told before a row is restored, with what helps."""
    first, second, restorer = (postgres.new_role() for _ in range(3))
    origin = postgres.new_database(
        f"CREATE TABLE t (i int); GRANT SELECT ON t TO {first} WITH GRANT OPTION; SET ROLE {first}; GRANT SELECT ON t TO {second}"
    )
    taken = take(open_source(postgres.url(origin)))
    target = database_of(postgres, restorer)
    url, mapped = postgres.url(target, user=restorer), {"postgres": restorer}

    with pytest.raises(Refused, match=f"^{first} granted rights on what is somebody else's") as refusal:
        put(url, taken, manners, choices=Choices(roles=mapped))
    put(url, taken, manners, choices=Choices(roles=mapped | {first: restorer}))

    assert f"--map-role OLD={restorer}" in refusal.value.cure
    assert ["t"] == tables(postgres, target)


def test_a_policy_without_its_role(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Without roles it needs that one all the same, whoever restores."""
    reader, taken = speaking_of_a_role(postgres18, open_source, "CREATE POLICY p ON t TO {}")

    with pytest.raises(Refused, match=f"policies of the backup name: {reader}"):
        put(postgres18.url(postgres18.new_database()), taken, manners, choices=Choices(no_roles=True))


@pytest.mark.parametrize(
    "statement",
    ["GRANT SELECT ON t TO {}", 'CREATE TABLE "{0}" (i int); CREATE POLICY p ON t USING (i IN (SELECT i FROM "{0}"))'],
)
def test_a_role_that_nothing_restored_speaks_of(postgres18: Server, open_source: Open, manners: Manners, statement: str) -> None:
    """Rights are left out with the roles; and a table may be called like one."""
    _, taken = speaking_of_a_role(postgres18, open_source, statement)
    target = postgres18.new_database()

    put(postgres18.url(target), taken, manners, choices=Choices(no_roles=True))

    assert "t" in tables(postgres18, target)


def test_default_rights_of_somebody_else(postgres: Server, open_source: Open, manners: Manners) -> None:
    """They are of what is made later: who may not set them restores all else."""
    owner, restorer = postgres.new_role(), postgres.new_role()
    origin = postgres.new_database(
        f"CREATE TABLE t (i int); ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO PUBLIC"
    )
    taken = take(open_source(postgres.url(origin)))
    target = database_of(postgres, restorer)

    restored = put(postgres.url(target, user=restorer), taken, manners, choices=Choices(roles={"postgres": restorer}))

    assert ["t"] == tables(postgres, target)
    assert any(f"nobody but {owner} may set them" in one for one in restored.left_out)


def test_roles_that_were_made_before_a_failure(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Whoever tries again is not told of them any more, so the failure tells."""
    owner = postgres18.new_role()
    taken = owned_by(postgres18, open_source, owner)
    postgres18.execute(f"DROP ROLE {owner}")

    with pytest.raises(ReconcilerError) as failure:
        put(postgres18.url(postgres18.new_database()), taken._replace(chunks=taken.chunks[:-1]), manners)

    assert "roles were made, and stay" in failure.value.cure
    assert owner in failure.value.cure


def test_more_than_one_transaction_can_lock(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """The cure names the setting, and the way that takes no such transaction."""
    origin = postgres18.new_database("SELECT lo_create(0) FROM generate_series(1, 8000)")
    taken = take(open_source(postgres18.url(origin)))
    target = postgres18.new_database()

    with pytest.raises(Refused, match=r"at BLOB .* out of shared memory") as refusal:
        put(postgres18.url(target), taken, manners)

    assert "max_locks_per_transaction" in refusal.value.cure
    assert "--jobs" in refusal.value.cure
    assert [(0,)] == postgres18.execute("SELECT count(*) FROM pg_largeobject_metadata", target)


def test_a_failure_once_all_was_restored(
    postgres18: Server, open_source: Open, manners: Manners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and no other copy is tried into a database that is full by now."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE TABLE t (i int)"))))
    target = postgres18.new_database()

    def fail(*_: object) -> list[str]:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr("reconciler.postgres.restore.finish_database", fail)
    with pytest.raises(Unreachable, match="cannot finish the restore") as failure:
        put(postgres18.url(target), taken, manners)

    assert failure.value.left_a_part
    assert "was restored" in failure.value.cure
    assert ["t"] == tables(postgres18, target)


def test_a_table_that_is_called_like_a_sign(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """A name is no word of the server's: what misses `snapshot` has not lost its connection."""
    origin = postgres18.new_database(
        "CREATE TABLE snapshot (i int); CREATE TABLE a (i int); INSERT INTO a VALUES (1);"
        "CREATE FUNCTION f(int) RETURNS bool LANGUAGE sql AS 'SELECT count(*) >= 0 FROM snapshot';"
        "ALTER TABLE a ADD CHECK (f(i))"
    )
    taken = take(open_source(postgres18.url(origin)))

    with pytest.raises(Refused, match=r'at TABLE DATA a on .*relation "snapshot" does not exist'):
        put(postgres18.url(postgres18.new_database()), taken, manners)


def test_a_client_that_is_too_old_for_the_archive(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """An archive of a client newer than all here is refused by name, with what to install."""
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    newer = taken._replace(facts=msgspec.structs.replace(taken.facts, client_version="19.1"))

    with pytest.raises(Refused, match="to read an archive of pg_dump 19") as refusal:
        put(postgres18.url(postgres18.new_database()), newer, manners)

    assert "postgresql-client-19" in refusal.value.cure
