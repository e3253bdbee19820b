"""Computes: they rest and are woken, their addresses stay; and visits to the past, which need none."""

from datetime import datetime
from urllib.parse import quote

import psycopg
import pytest

from reconciler.sandbox.patience import comes_true
from tests.servers.neon import Json, NeonServer


def state(neon: NeonServer, endpoint: Json) -> str:
    return str(neon.get(f"/endpoints/{endpoint['id']}")["endpoint"]["current_state"])


@pytest.fixture(scope="module")
def branched(neon: NeonServer) -> Json:
    """A branch with a compute."""
    return neon.branch(name="computed")


def test_suspended_compute_is_woken_by_who_connects(neon: NeonServer, branched: Json) -> None:
    """Looking through the API wakes nothing; a connection does, at the same address."""
    (endpoint,) = branched["endpoints"]
    uri = neon.uri(branched["branch"]["id"])

    neon.post(f"/endpoints/{endpoint['id']}/suspend")
    for path in ("", "/branches", "/endpoints", "/operations", "/snapshots", f"/branches/{branched['branch']['id']}/roles"):
        neon.get(path)
    rested = state(neon, endpoint)
    with psycopg.connect(uri) as connection:
        found = connection.execute("select 1").fetchone()

    assert ("idle", (1,), "active") == (rested, found, state(neon, endpoint))
    assert "start_compute" == neon.get("/operations", limit="1")["operations"][0]["action"]


def test_started_and_restarted_by_the_api(neon: NeonServer, branched: Json) -> None:
    """`start` wakes, `restart` ends every session."""
    (endpoint,) = branched["endpoints"]
    neon.post(f"/endpoints/{endpoint['id']}/suspend")

    neon.post(f"/endpoints/{endpoint['id']}/start")
    started = state(neon, endpoint)
    guest = neon.connect(branched["branch"]["id"])
    neon.post(f"/endpoints/{endpoint['id']}/restart")

    assert ("active", "active") == (started, state(neon, endpoint))
    with pytest.raises(psycopg.OperationalError):
        guest.execute("select 1")


def test_idle_compute_rests_by_itself(neon: NeonServer, branched: Json) -> None:
    """An open transaction keeps it awake, an idle connection doesn't."""
    (endpoint,) = branched["endpoints"]
    guest = neon.connect(branched["branch"]["id"])
    guest.execute("begin")
    neon.patch(f"/endpoints/{endpoint['id']}", {"endpoint": {"suspend_timeout_seconds": 1}})

    slept_over_a_transaction = comes_true(lambda: state(neon, endpoint) == "idle", seconds=6)
    guest.execute("commit")

    assert not slept_over_a_transaction
    assert comes_true(lambda: state(neon, endpoint) == "idle", seconds=60)
    neon.patch(f"/endpoints/{endpoint['id']}", {"endpoint": {"suspend_timeout_seconds": 0}})


def test_disabled_compute_lets_nobody_in(neon: NeonServer, branched: Json) -> None:
    """The refusal is PostgreSQL's own form, and says what to do."""
    (endpoint,) = branched["endpoints"]
    neon.patch(f"/endpoints/{endpoint['id']}", {"endpoint": {"disabled": True}})

    with pytest.raises(psycopg.OperationalError, match="endpoint is disabled"):
        neon.connect(branched["branch"]["id"])

    neon.patch(f"/endpoints/{endpoint['id']}", {"endpoint": {"disabled": False}})
    assert [(1,)] == neon.rows("select 1", branched["branch"]["id"])


def test_branch_has_one_compute_and_can_lose_it(neon: NeonServer) -> None:
    """A second one is refused; without any there is no way in, and the data stays."""
    branch = neon.branch(with_compute=False)["branch"]["id"]
    assert 404 == neon.refused("GET", "/connection_uri", branch_id=branch, database_name="hotel", role_name="hotel_owner")[0]
    wanted = {"endpoint": {"branch_id": branch, "type": "read_write"}}
    endpoint = neon.post("/endpoints", wanted)["endpoint"]
    with neon.connect(branch) as connection:
        connection.execute("create table kept ()")

    assert 422 == neon.refused("POST", "/endpoints", wanted)[0]
    neon.delete(f"/endpoints/{endpoint['id']}")
    assert 204 == neon.send("DELETE", f"/endpoints/{endpoint['id']}").status_code
    neon.post("/endpoints", wanted)

    assert [] == neon.rows("select * from kept", branch)
    neon.discard(branch)


def test_roles_and_databases(neon: NeonServer, branched: Json) -> None:
    """What the API makes is there in SQL, by the administrator's hand; what it drops is not."""
    branch = branched["branch"]["id"]

    role = neon.post(f"/branches/{branch}/roles", {"role": {"name": "porter"}})["role"]
    neon.post(f"/branches/{branch}/databases", {"database": {"name": "lodge", "owner_name": "porter"}})
    uri = neon.get("/connection_uri", branch_id=branch, database_name="lodge", role_name="porter")["uri"]

    with psycopg.connect(uri) as connection:
        assert ("5min",) == connection.execute("show idle_in_transaction_session_timeout").fetchone()
        granted = connection.execute("select pg_get_userbyid(defaclrole) from pg_default_acl").fetchall()
        connection.execute("create table keys ()")
    assert role["password"] in uri
    assert [("cloud_admin",), ("cloud_admin",)] == granted
    assert 409 == neon.refused("POST", f"/branches/{branch}/roles", {"role": {"name": "porter"}})[0]
    assert 422 == neon.refused("DELETE", f"/branches/{branch}/roles/porter")[0]
    fresh = neon.post(f"/branches/{branch}/roles/porter/reset_password")["role"]["password"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(uri)
    assert fresh == neon.get(f"/branches/{branch}/roles/porter/reveal_password")["password"]
    neon.patch(f"/branches/{branch}/databases/lodge", {"database": {"owner_name": "hotel_owner"}})
    neon.delete(f"/branches/{branch}/roles/porter")
    assert [("hotel_owner",)] == neon.rows("select pg_get_userbyid(datdba) from pg_database where datname = 'lodge'", branch)
    assert 204 == neon.send("DELETE", f"/branches/{branch}/roles/porter").status_code
    neon.delete(f"/branches/{branch}/databases/lodge")
    assert ["hotel"] == [each["name"] for each in neon.get(f"/branches/{branch}/databases")["databases"]]
    assert 404 == neon.refused("GET", f"/branches/{branch}/databases/lodge")[0]


def test_visit_to_the_past(neon: NeonServer, branched: Json) -> None:
    """An instant or an LSN among the options: all is as it was then, nothing can be changed, and no branch is made."""
    branch = branched["branch"]["id"]
    with neon.connect(branch) as connection:
        connection.execute("create table seen as select 1 as number")
        row = connection.execute("select clock_timestamp(), pg_current_wal_insert_lsn()::text").fetchone()
        connection.execute("insert into seen values (2)")
    assert row is not None
    assert isinstance(row[0], datetime)
    before = neon.get("/branches")["branches"]

    for option in (f"neon_timestamp:{row[0].isoformat()}", f"neon_lsn:{row[1]}"):
        with psycopg.connect(f"{neon.uri(branch)}&options={quote(option)}", autocommit=True) as guest:
            assert [(1,)] == guest.execute("select number from seen").fetchall()
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                guest.execute("insert into seen values (3)")
    with pytest.raises(psycopg.OperationalError, match="outside the history retention window"):
        psycopg.connect(f"{neon.uri(branch)}&options={quote('neon_timestamp:2025-01-01T00:00:00Z')}")

    assert before == neon.get("/branches")["branches"]


def test_pooled_host_says_so(neon: NeonServer, branched: Json) -> None:
    """Who asks for the pooled connection is given a host by which it is known."""
    query = {"branch_id": branched["branch"]["id"], "database_name": "hotel", "role_name": "hotel_owner"}

    pooled, direct = (neon.get("/connection_uri", pooled=flag, **query)["uri"] for flag in ("true", "false"))

    assert (True, False) == ("-pooler." in pooled, "-pooler" in direct)
    with psycopg.connect(pooled) as connection:
        assert (1,) == connection.execute("select 1").fetchone()


def test_past_holds_no_locks(neon: NeonServer, branched: Json) -> None:
    """An instant in the middle of somebody's change: the visitor reads what was there, and waits for nobody."""
    branch = branched["branch"]["id"]
    with neon.connect(branch) as connection:
        connection.execute("create table locked as select 1 as number")
        with connection.transaction():
            connection.execute("alter table locked add column more int")
            row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None

    option = quote(f"neon_timestamp:{row[0].isoformat()} -c lock_timeout=5s")
    with psycopg.connect(f"{neon.uri(branch)}&options={option}") as guest:
        assert [(1,)] == guest.execute("select * from locked").fetchall()


def test_a_compute_says_what_it_is_of(neon: NeonServer) -> None:
    """Project, branch and endpoint, as Neon's do: what a guest says of them itself does not count."""
    made = neon.branch(name="told")
    branch, endpoint = made["branch"]["id"], made["endpoints"][0]["id"]
    asked = "select " + ", ".join(f"current_setting('neon.{name}_id', true)" for name in ("project", "branch", "endpoint"))

    with psycopg.connect(neon.uri(branch), options="-c work_mem=5MB -c neon.branch_id=br-another") as connection:
        (found,) = connection.execute(asked.encode()).fetchall()
        work_mem = connection.execute("show work_mem").fetchall()

    neon.discard(branch)
    assert (neon.project_id, branch, endpoint) == found
    assert [("5MB",)] == work_mem
