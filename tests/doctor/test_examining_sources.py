"""A source is looked at as the role that dumps: each right that is missing comes with the grant, and the grant cures it."""

from pathlib import Path

import pytest

from reconciler.doctor import source
from reconciler.doctor.report import Passed
from reconciler.errors import Finding
from reconciler.postgres.examination import Examination
from reconciler.postgres.source import PostgresSource
from tests.doctor.standing import errors, said, stand
from tests.servers.postgres import Server

SCHEMA = """
CREATE TABLE rooms (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE nights (day date) PARTITION BY RANGE (day);
CREATE TABLE nights_2025 PARTITION OF nights FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE SEQUENCE numbers;
SELECT lo_create(4711);
CREATE FUNCTION secret() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION secret() FROM PUBLIC;
"""
LARGE_OBJECT = "GRANT SELECT ON LARGE OBJECT 4711 TO {role}"


def findings(seen: Examination) -> list[Finding]:
    return [verdict for verdict in source.judge(seen) if isinstance(verdict, Finding)]


def examined(server: Server, database: str, role: str | None, tmp_path: Path) -> Examination:
    opened = stand(tmp_path, url=server.url(database, user=role)).world.provider.source()
    assert isinstance(opened, PostgresSource)
    return opened.examine()


def test_the_least_role(postgres: Server, tmp_path: Path) -> None:
    """pg_read_all_data, BYPASSRLS and the large objects are enough; what functions of the schema may be called is no matter."""
    role = postgres.new_role("BYPASSRLS IN ROLE pg_read_all_data")
    database = postgres.new_database(SCHEMA + LARGE_OBJECT.format(role=role))

    checkup = stand(tmp_path, url=postgres.url(database, user=role)).examine()

    assert [] == [finding for finding in checkup.findings if finding.where == "source"]
    assert "a snapshot was exported" in said(checkup, "source")
    assert f"{role} may read all of it: 3 tables, sequences, large objects" in said(checkup, "source")


def test_grants_that_are_missing(postgres: Server, tmp_path: Path) -> None:
    """Everything is named at once, partitions one by one, and doing as told cures all of it."""
    role = postgres.new_role()
    database = postgres.new_database(
        SCHEMA
        + "CREATE TABLE guests (id int); ALTER TABLE guests ENABLE ROW LEVEL SECURITY; ALTER TABLE guests OWNER TO pg_monitor"
    )

    found = findings(examined(postgres, database, role, tmp_path))

    assert ["error"] * 3 == [finding.severity for finding in found]
    assert "public.nights, public.nights_2025, public.numbers" in found[0].what
    assert "row security hides rows of public.guests" in found[1].what
    assert "large object 4711" in found[2].what
    postgres.execute(found[0].cure.rpartition(" all at once: ")[2], database)
    postgres.execute(found[1].cure.partition(" (as")[0], database)
    postgres.execute(found[2].cure.partition(" for each")[0], database)
    assert [] == findings(examined(postgres, database, role, tmp_path))


@pytest.mark.parametrize("function", ["pg_export_snapshot()", "pg_control_system()", "pg_current_wal_lsn()"])
def test_a_function_of_the_server_that_was_taken_away(postgres18: Server, tmp_path: Path, function: str) -> None:
    """The grant is told, also where the first look at the source already failed by it."""
    role = postgres18.new_role("BYPASSRLS IN ROLE pg_read_all_data")
    database = postgres18.new_database(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    standing = stand(tmp_path, url=postgres18.url(database, user=role))

    found = [finding.cure for finding in errors(standing.examine()) if finding.where == "source"]

    assert f"GRANT EXECUTE ON FUNCTION {function} TO {role};" in found
    postgres18.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {role}", database)
    assert [] == errors(standing.examine())


def test_time_outs_of_role_and_database(postgres: Server, tmp_path: Path) -> None:
    """They are noted with their value and whose they are, and are no fault."""
    role = postgres.new_role("BYPASSRLS IN ROLE pg_read_all_data")
    database = postgres.new_database()
    postgres.execute(f"ALTER ROLE {role} SET statement_timeout = '5min'")
    postgres.execute(f"ALTER DATABASE {database} SET idle_in_transaction_session_timeout = '30s'")

    found = findings(examined(postgres, database, role, tmp_path))

    assert ["note", "note"] == [finding.severity for finding in found]
    assert found[0].what.startswith("idle_in_transaction_session_timeout = 30s is set for the database")
    assert found[1].what.startswith("statement_timeout = 5min is set for the user")


def test_what_an_archive_will_not_hold(postgres: Server, tmp_path: Path) -> None:
    """Foreign and unlogged tables are named; subscriptions and options of user mappings are left out for who is no superuser."""
    role = postgres.new_role("BYPASSRLS IN ROLE pg_read_all_data")
    database = postgres.new_database(
        "CREATE UNLOGGED TABLE sessions (id int); CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far;"
        'CREATE FOREIGN TABLE "Prices" (id int) SERVER away;'
        "CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (password 'p');"
        "CREATE SUBSCRIPTION feed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)"
    )

    found = findings(examined(postgres, database, role, tmp_path))
    as_superuser = findings(examined(postgres, database, None, tmp_path))

    assert ["warning", "warning", "note", "note"] == [finding.severity for finding in found]
    assert "subscription feed" in found[0].what
    assert "the options of user mapping public at away" in found[1].what
    assert 'public."Prices"' in found[2].what
    assert "unlogged table public.sessions" in found[3].what
    assert not [finding for finding in as_superuser if "subscription" in finding.what or "mapping" in finding.what]
    assert any("counted without checksums" in finding.what for finding in as_superuser)


def test_a_table_that_somebody_locks(postgres18: Server, tmp_path: Path) -> None:
    """Its holder is named; the look itself does not wait for the lock."""
    database = postgres18.new_database("CREATE TABLE rooms (id int)")
    with postgres18.connect(database) as holder, holder.transaction():
        holder.execute("LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")

        pid = holder.info.backend_pid

        seen = examined(postgres18, database, None, tmp_path)

    assert [("public.rooms", f"pid {pid}")] == [(lock.table, lock.holder) for lock in seen.exclusive]
    assert seen.exclusive[0].since is not None


def test_a_source_that_does_not_answer(tmp_path: Path) -> None:
    """One finding; the tools are shown all the same, and the password in the url is in none of it."""
    checkup = stand(tmp_path, url="postgresql://backup:hunter2@127.0.0.1:1/hotel").examine()

    assert ["source"] == [finding.where for finding in errors(checkup)]
    assert any(what.startswith("pg_dump ") for what in said(checkup, "tools"))
    assert "hunter2" not in repr(checkup)


def test_a_wrong_password(postgres18: Server, tmp_path: Path) -> None:
    """It is told once, with the cure, and without the password."""
    role = postgres18.new_role()
    database = postgres18.new_database()

    checkup = stand(tmp_path, url=postgres18.url(database, user=role, password="hunter2")).examine()

    assert ["check user and password in the url"] == [finding.cure for finding in errors(checkup)]
    assert "hunter2" not in repr(checkup)


def test_tools_that_fit(postgres: Server, tmp_path: Path) -> None:
    """For every server that tests run there is a client of its own major."""
    checkup = stand(tmp_path, url=postgres.url(postgres.new_database())).examine()

    assert any(f"is of the server's major, {postgres.major}" in what for what in said(checkup, "tools"))
    assert Passed(where="source", what="its clock and ours agree to 5 s") in checkup.passed


@pytest.mark.parametrize(("options", "may"), [("", False), ("IN ROLE pg_read_all_data", True)])
def test_passwords_that_the_policy_asks_for(postgres: Server, tmp_path: Path, options: str, may: bool) -> None:
    """Whether the role may read them; the grant that is named is enough, and without the policy's word it is no matter."""
    role = postgres.new_role(f"BYPASSRLS {options}")
    url = postgres.url(postgres.new_database(), user=role)

    asking = stand(tmp_path, url=url, dumps=", roles: with_passwords").examine()
    silent = stand(tmp_path, url=url).examine()

    sentence = f"{role} may not read pg_authid: dumps.roles asks for passwords, and none are kept"
    assert may == (f"{role} may read the verifiers of passwords" in said(asking, "source"))
    assert (not may) == (sentence in [finding.what for finding in asking.findings])
    assert "pg_authid" not in str(silent.findings)
