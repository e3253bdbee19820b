"""Roles in an archive under other names: in the SQL that names them, and in whole archives of each major."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex
from threading import Event

import msgspec
import pytest

from reconciler.errors import Corrupt, Refused
from reconciler.postgres.archive_roles import map_roles, with_roles
from reconciler.postgres.dump import Manners
from reconciler.postgres.environment import child_environment
from reconciler.postgres.fingerprint import take as take_fingerprint
from reconciler.postgres.restore import Choices, restore_into
from reconciler.postgres.roles import rename_roles
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.spool import Spool
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from reconciler.world.facts import Globals, Membership, Role
from reconciler.world.ports import DumpOptions
from tests.postgres.odd_schema import odd_database
from tests.postgres.taking import Taken, as_directory, take
from tests.servers.postgres import BINARIES, MAJORS, Server, Servers

Open = Callable[[str], PostgresSource]
NAMES = {"app": "new app", "Odd Role": "plain"}


@pytest.mark.parametrize(
    ("desc", "statement", "mapped"),
    [
        ("ACL", "GRANT SELECT ON TABLE app.app TO app;", 'GRANT SELECT ON TABLE app.app TO "new app";'),
        ("ACL", 'REVOKE ALL ON SCHEMA "Odd Role" FROM "Odd Role";', 'REVOKE ALL ON SCHEMA "Odd Role" FROM "plain";'),
        ("ACL", "GRANT ALL ON TABLE t TO PUBLIC;", "GRANT ALL ON TABLE t TO PUBLIC;"),
        (
            "ACL",
            "SET SESSION AUTHORIZATION app;\nGRANT SELECT(app) ON TABLE t TO other WITH GRANT OPTION;\n"
            "RESET SESSION AUTHORIZATION;",
            'SET SESSION AUTHORIZATION "new app";\nGRANT SELECT(app) ON TABLE t TO other WITH GRANT OPTION;\n'
            "RESET SESSION AUTHORIZATION;",
        ),
        (
            "DEFAULT ACL",
            "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES TO app;",
            'ALTER DEFAULT PRIVILEGES FOR ROLE "new app" IN SCHEMA app GRANT SELECT ON TABLES TO "new app";',
        ),
        (
            "POLICY",
            'CREATE POLICY app ON app FOR SELECT TO other, app, "Odd Role" '
            "USING ((x IN ( SELECT 1 FROM app WHERE y = ' TO app')));",
            'CREATE POLICY app ON app FOR SELECT TO other, "new app", "plain" '
            "USING ((x IN ( SELECT 1 FROM app WHERE y = ' TO app')));",
        ),
        ("USER MAPPING", "CREATE USER MAPPING FOR app SERVER app;", 'CREATE USER MAPPING FOR "new app" SERVER app;'),
        ("ACL", 'GRANT ALL ON TABLE " TO app;" TO app;', 'GRANT ALL ON TABLE " TO app;" TO "new app";'),
    ],
)
def test_roles_are_told_from_other_names(desc: str, statement: str, mapped: str) -> None:
    """A table, a column or a text of the same name stays."""
    assert mapped == map_roles(statement, desc, NAMES)


def test_without_a_map_nothing_is_read() -> None:
    """Chunks pass as they are."""
    assert [b"any", b"thing"] == list(with_roles([b"any", b"thing"], {}))


@pytest.mark.parametrize("chunks", [[], [b"PGD"], [b"no archive at all"], [b"no archive at all" * 100]])
def test_what_is_no_archive(chunks: list[bytes]) -> None:
    """It is refused as damaged."""
    with pytest.raises(Corrupt):
        list(with_roles(chunks, NAMES))


def test_globals_under_other_names() -> None:
    """Mapped roles are not made; who belonged to them belongs to the new ones, and the database's rights follow."""
    wanted = Globals(
        roles=(Role(name="app"), Role(name="other")),
        memberships=(Membership(role="app", member="other"),),
        settings=(),
        database_owner="app",
        database_acl=("app=CTc/app", "=c/app", '"Odd Role"=c*/app'),
        verifiers={"app": "SCRAM-SHA-256$x"},
    )

    mapped = rename_roles(wanted, NAMES)

    assert ["other"] == [role.name for role in mapped.roles]
    assert ("new app", "other") == (mapped.memberships[0].role, mapped.memberships[0].member)
    assert "new app" == mapped.database_owner
    assert ('"new app"=CTc/"new app"', '=c/"new app"', '"plain"=c*/"new app"') == mapped.database_acl
    assert {} == mapped.verifiers


def _source(manners: Manners, url: str) -> PostgresSource:
    return PostgresSource(parse(url, field="url"), manners)


def owners(server: Server, database: str) -> set[str]:
    rows = server.execute(
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S')"
        " UNION SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE oid >= 16384",
        database,
    )
    return {row[0] for row in rows}


def granted(server: Server, database: str) -> set[str]:
    rows = server.execute(
        "SELECT pg_get_userbyid(grantee) FROM (SELECT relacl FROM pg_class UNION ALL SELECT attacl FROM pg_attribute"
        " UNION ALL SELECT nspacl FROM pg_namespace UNION ALL SELECT proacl FROM pg_proc UNION ALL SELECT lomacl FROM"
        " pg_largeobject_metadata UNION ALL SELECT defaclacl FROM pg_default_acl) a (acl), aclexplode(acl) WHERE grantee >= 16384"
        " UNION SELECT pg_get_userbyid(unnest(polroles)) FROM pg_policy WHERE polroles <> '{0}'",
        database,
    )
    return {row[0] for row in rows}


Make = Callable[[Taken, Server, str, Path], Iterable[bytes]]


def of_custom(taken: Taken, server: Server, database: str, folder: Path) -> Iterable[bytes]:
    """The archive as it was taken."""
    del server, database, folder
    return taken.chunks


def of_directory(taken: Taken, server: Server, database: str, folder: Path) -> Iterable[bytes]:
    """Another one of the same database."""
    del taken
    return as_directory(server, database, folder)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("make", [of_custom, of_directory])
def test_a_whole_database_under_other_roles(
    postgres: Server, open_source: Open, manners: Manners, tmp_path: Path, *, jobs: int, make: Make
) -> None:
    """Owners, rights, default rights and policies are the new roles'; the old ones, which are there too, get nothing."""
    original, copy = odd_database(postgres), postgres.new_database(options="TEMPLATE template0")
    taken = take(open_source(postgres.url(original)))
    old_owners, old_granted = owners(postgres, original) - {"postgres"}, granted(postgres, original)
    roles = {old: postgres.new_role() for old in old_owners | old_granted}

    restored = restore_into(
        parse(postgres.url(copy), field="url"),
        make(taken, postgres, original, tmp_path / "archive"),
        facts=taken.facts,
        globals=taken.globals,
        sources=(),
        manners=manners,
        by_jobs=Spool(jobs=jobs, folder=tmp_path, raw_bytes=1, cure="") if jobs > 1 else None,
        choices=Choices(roles=roles),
    )

    assert () == restored.roles_created
    assert {roles[old] for old in old_owners} == owners(postgres, copy) - {"postgres"}
    assert {roles[old] for old in old_granted} == granted(postgres, copy)
    assert [(100,)] == postgres.execute("SELECT count(*) FROM serials", copy)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_archive_that_tells_where_its_data_lie(
    postgres: Server, open_source: Open, manners: Manners, tmp_path: Path, jobs: int
) -> None:
    """As pg_dump writes it into a file: nothing is looked for where it lay before a longer name moved it."""
    role, longer = postgres.new_role(), f"longer_{token_hex(20)}"
    postgres.execute(f"CREATE ROLE {longer}")
    database, copy = postgres.new_database(), postgres.new_database()
    postgres.execute(
        f"CREATE TABLE a AS SELECT generate_series(1, 5) AS v; CREATE TABLE b AS TABLE a; ALTER TABLE a OWNER TO {role}", database
    )
    taken, path = take(open_source(postgres.url(database))), tmp_path / "dump"
    subprocess.run(
        [str(BINARIES[postgres.major] / "pg_dump"), "-Fc", "-f", str(path), postgres.url(database)],
        env=child_environment(password=None),
        check=True,
    )

    restore_into(
        parse(postgres.url(copy), field="url"),
        [path.read_bytes()],
        facts=taken.facts,
        globals=taken.globals,
        sources=(),
        manners=manners,
        by_jobs=Spool(jobs=jobs, folder=tmp_path, raw_bytes=1, cure="") if jobs > 1 else None,
        choices=Choices(roles={role: longer}),
    )

    assert {longer, "postgres"} == owners(postgres, copy)
    assert [(10,)] == postgres.execute("SELECT count(*) FROM (TABLE a UNION ALL TABLE b) x", copy)


@pytest.mark.parametrize("cut", [30, 1500])
def test_an_archive_that_ends_too_early(postgres18: Server, open_source: Open, cut: int) -> None:
    """Within its table of contents: it is told as damaged, and nothing of it passes."""
    whole = b"".join(take(open_source(postgres18.url(odd_database(postgres18)))).chunks)

    with pytest.raises(Corrupt, match="ends within"):
        next(with_roles([whole[:cut]], NAMES))


def test_a_name_in_another_encoding(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """What the archive calls by other bytes is not passed over: it is refused."""
    database = postgres18.new_database(options="TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    copy = postgres18.new_database(options="TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    role, new = f"müller_{token_hex(4)}", postgres18.new_role()
    postgres18.execute(f'CREATE ROLE "{role}"')
    postgres18.execute(f'CREATE TABLE t AS SELECT 1 AS v; ALTER TABLE t OWNER TO "{role}"', database)
    taken = take(open_source(postgres18.url(database)))

    with pytest.raises(Refused, match="the archive is in LATIN1"):
        restore_into(
            parse(postgres18.url(copy), field="url"),
            taken.chunks,
            facts=taken.facts,
            globals=taken.globals,
            sources=(),
            manners=manners,
            choices=Choices(roles={role: new}),
        )


def test_an_archive_in_small_pieces(postgres18: Server, open_source: Open) -> None:
    """However it arrives, the bytes that come out are the same."""
    taken = take(open_source(postgres18.url(odd_database(postgres18))))
    whole = b"".join(taken.chunks)
    names = {role.name: f"x{role.name}" for role in taken.globals.roles if role.name.startswith("role_")}

    mapped = b"".join(with_roles([whole], names))

    assert mapped != whole
    assert mapped == b"".join(with_roles((whole[start : start + 1000] for start in range(0, len(whole), 1000)), names))
    assert whole == b"".join(with_roles([whole], {"nobody_of_that_name": "x"}))


def test_no_roles_at_all(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Everything belongs to whoever restores; nothing is made, nothing granted."""
    owner, gone = postgres18.new_role(), f"gone_{token_hex(4)}"
    postgres18.execute(f"CREATE ROLE {gone}")
    database = postgres18.new_database(
        f"CREATE TABLE t AS SELECT 1 AS v; ALTER TABLE t OWNER TO {gone}; GRANT SELECT ON t TO {owner}"
    )
    taken = take(open_source(postgres18.url(database)))
    postgres18.execute(f"DROP OWNED BY {gone}; DROP ROLE {gone}", database)
    copy = postgres18.new_database()

    restored = restore_into(
        parse(postgres18.url(copy), field="url"),
        taken.chunks,
        facts=taken.facts,
        globals=taken.globals,
        sources=(),
        manners=manners,
        choices=Choices(no_roles=True),
    )

    assert ((), ()) == (restored.roles_created, restored.left_out)
    assert {"postgres"} == owners(postgres18, copy)
    assert set() == granted(postgres18, copy)


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ({"nobody": "postgres"}, "the backup has no role nobody"),
        ({"postgres": "nobody"}, "has no role nobody to map postgres to"),
    ],
)
def test_a_role_that_is_not_there(
    postgres18: Server, open_source: Open, manners: Manners, roles: dict[str, str], says: str
) -> None:
    """A slip in a name is told before anything is done."""
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    copy = postgres18.new_database()

    with pytest.raises(Refused, match=says):
        restore_into(
            parse(postgres18.url(copy), field="url"),
            taken.chunks,
            facts=taken.facts,
            globals=taken.globals,
            sources=(),
            manners=manners,
            choices=Choices(roles=roles),
        )


def test_passwords_come_back_where_they_are_kept(postgres: Server, open_source: Open, manners: Manners) -> None:
    """A role that a restore makes logs in with the password that it had; without the policy's word nothing of it is read."""
    role, database, copy = postgres.new_role(), postgres.new_database(), postgres.new_database()
    source = open_source(postgres.url(database))
    plain = take(source)
    with source.dump("pw", expect=None, options=DumpOptions(passwords=True)) as dump:
        chunks, facts, globals_ = list(dump.chunks()), dump.facts, dump.globals
    only = tuple(one for one in globals_.roles if one.name == role)
    postgres.execute(f"DROP ROLE {role}")

    restored = restore_into(
        parse(postgres.url(copy), field="url"),
        chunks,
        facts=facts,
        globals=msgspec.structs.replace(globals_, roles=only),
        sources=(),
        manners=manners,
    )

    assert {} == plain.globals.verifiers
    assert (role,) == restored.roles_created
    assert not [said for said in restored.left_out if "password" in said]
    found = take_fingerprint(
        parse(postgres.url(copy, user=role), field="url"),
        application_name="reconciler/fp",
        level="counts",
        clock=SystemClock(),
        stop=Event(),
    )
    assert () == found.uncovered


def test_passwords_that_may_not_be_read(postgres18: Server, open_source: Open) -> None:
    """The dump goes on without them, and tells."""
    role = postgres18.new_role()
    database = postgres18.new_database()
    postgres18.execute(f"GRANT EXECUTE ON FUNCTION pg_control_system TO {role}", database)

    source = open_source(postgres18.url(database, user=role))
    with source.dump("pw", expect=None, options=DumpOptions(passwords=True)) as dump:
        assert dump.globals.unread_passwords
        assert {} == dump.globals.verifiers


def test_a_missing_extension_is_named_first(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """Before a role is made or a byte is read."""
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    copy = postgres18.new_database()
    facts = msgspec.structs.replace(taken.facts, extensions={**taken.facts.extensions, "postgis": "3.4", "timescaledb": "2.17"})

    with pytest.raises(Refused, match=r"postgis \(3\.4\), timescaledb \(2\.17\)"):
        restore_into(
            parse(postgres18.url(copy), field="url"),
            taken.chunks,
            facts=facts,
            globals=taken.globals,
            sources=(),
            manners=manners,
        )


def test_another_version_of_an_extension_is_told(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """The archive does not say which version it needs: the server's is taken, and people read that it is another one."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE EXTENSION citext"))))
    copy = postgres18.new_database()

    restored = restore_into(
        parse(postgres18.url(copy), field="url"),
        taken.chunks,
        facts=msgspec.structs.replace(taken.facts, extensions={**taken.facts.extensions, "citext": "0.9"}),
        globals=taken.globals,
        sources=(),
        manners=manners,
    )

    assert [said for said in restored.left_out if "extension citext" in said and "the backup was of 0.9" in said]


def test_a_missing_tablespace(postgres18: Server, open_source: Open, manners: Manners) -> None:
    """It is named with the choice that there is; with that choice everything goes into the default one."""
    taken = take(open_source(postgres18.url(postgres18.new_database("CREATE TABLE t AS SELECT 1 AS v"))))
    copy = postgres18.new_database()
    wanted = msgspec.structs.replace(taken.globals, tablespaces=("fast_disk",))
    given = {"facts": taken.facts, "globals": wanted, "sources": (), "manners": manners}
    conninfo = parse(postgres18.url(copy), field="url")

    with pytest.raises(Refused, match="fast_disk") as refusal:
        restore_into(conninfo, taken.chunks, **given)  # type: ignore[arg-type]  # a mapping of several kinds
    restore_into(conninfo, taken.chunks, **given, choices=Choices(no_tablespaces=True))  # type: ignore[arg-type]  # as above

    assert "--no-tablespaces" in refusal.value.cure
    assert [(1,)] == postgres18.execute("SELECT v FROM t", copy)


@pytest.mark.parametrize(
    ("major", "options", "named"),
    [
        pytest.param(
            15,
            "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C' ENCODING UTF8",
            "ordered by icu en-US",
            marks=pytest.mark.skipif(15 not in MAJORS, reason="only Debian's server speaks ICU"),
        ),
        (18, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C' ENCODING UTF8", "ordered by builtin C.UTF-8"),
    ],
)
def test_the_order_of_text_is_compared(major: int, postgres_servers: Servers, manners: Manners, options: str, named: str) -> None:
    """Another provider of locales, or another locale of it, is refused with the statement that makes the right database."""
    server = postgres_servers(major)
    taken = take(_source(manners, server.url(server.new_database(options=f"TEMPLATE template0 {options}"))))
    other = server.new_database(options="TEMPLATE template0 LOCALE 'C' ENCODING UTF8")
    same = server.new_database(options=f"TEMPLATE template0 {options}")

    def put(database: str) -> None:
        restore_into(
            parse(server.url(database), field="url"),
            taken.chunks,
            facts=taken.facts,
            globals=taken.globals,
            sources=(),
            manners=manners,
        )

    with pytest.raises(Refused, match=named) as refusal:
        put(other)
    put(same)

    assert options.partition(" LOCALE 'C'")[0] in refusal.value.cure
