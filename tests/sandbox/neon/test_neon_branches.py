"""Branches by the API: names, limits, protection, expiry, deletion."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from reconciler.sandbox.patience import comes_true
from tests.servers.neon import NeonServer


@pytest.fixture(scope="module")
def spare(neon: NeonServer) -> str:
    """A branch without a compute, to be asked about."""
    return str(neon.branch(with_compute=False, name="spare")["branch"]["id"])


def in_days(days: float) -> str:
    """That long from now, as Neon writes it."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_new_branch_says_how_to_get_in(neon: NeonServer) -> None:
    """With a compute asked for, and one role and one database, the answer holds the whole connection string."""
    answer = neon.post(
        "/branches",
        {"branch": {"name": "review"}, "endpoints": [{"type": "read_write"}], "annotation_value": {"made-by": "reconciler"}},
    )

    made = answer["branch"]["id"]
    with psycopg.connect(answer["connection_uris"][0]["connection_uri"]) as connection:
        assert ("hotel_owner",) == connection.execute("select current_user").fetchone()
    assert {"made-by": "reconciler"} == neon.get(f"/branches/{made}")["annotation"]["value"]
    assert {"made-by": "reconciler"} == neon.get("/branches")["annotations"][made]["value"]
    neon.discard(made)


def test_operations_stand_in_the_way(neon: NeonServer) -> None:
    """While one is under way, any other change of the project is refused with 423; looking is not."""
    answer = neon.send("POST", "/branches", {"branch": {"name": "busy"}})

    status, said = neon.refused("POST", "/branches", {"branch": {"name": "impatient"}})
    state = neon.get(f"/branches/{answer.json()['branch']['id']}")["branch"]["current_state"]
    neon.wait()

    assert (423, "project already has running conflicting operations, scheduling of new ones is prohibited") == (status, said)
    assert "init" == state
    neon.discard(answer.json()["branch"]["id"])


@pytest.mark.parametrize(
    ("wanted", "status", "says"),
    [
        ({"name": "spare"}, 409, "already exists"),
        ({"parent_id": "br-no-such-branch"}, 404, "not found"),
        ({"parent_timestamp": "yesterday"}, 422, "no RFC 3339"),
        ({"parent_timestamp": "2025-01-01T00:00:00"}, 422, "no time zone"),
        ({"parent_timestamp": "9999-12-31T23:59:59-14:00"}, 422, "no RFC 3339"),
        ({"parent_timestamp": "2025-01-01T00:00:00Z"}, 422, "outside the history retention window"),
        ({"parent_lsn": "0/10"}, 406, "less than latest GC cutoff"),
        ({"parent_lsn": "far"}, 422, "no LSN"),
        ({"parent_lsn": "0/10", "parent_timestamp": "2025-01-01T00:00:00Z"}, 422, "exclude each other"),
        ({"expires_at": "2025-01-01T00:00:00Z"}, 422, "in the future"),
        ({"expires_at": in_days(31)}, 422, "30 days"),
        ({"expires_at": in_days(1), "protected": True}, 422, "protected"),
        ({"init_source": "schema-only"}, 422, "not served"),
        ({"name": ""}, 422, "length >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused(neon: NeonServer, spare: str, wanted: dict[str, Any], status: int, says: str) -> None:
    """A refusal leaves nothing behind."""
    before = neon.get("/branches")

    refused = neon.refused("POST", "/branches", {"branch": wanted})

    assert (status, True) == (refused[0], says in refused[1]), refused
    assert before == neon.get("/branches")


def test_list_is_searched_and_paged(neon: NeonServer, spare: str) -> None:
    """`search` is a part of the name or id; the cursor leads through all of them once."""
    pages: list[str] = []
    query = {"limit": "1"}
    while True:
        page = neon.get("/branches", **query)
        pages += [branch["name"] for branch in page["branches"]]
        if "pagination" not in page:
            break
        query["cursor"] = page["pagination"]["next"]

    assert {"main", "spare"} <= set(pages)
    assert len(set(pages)) == len(pages)
    assert ["spare"] == [branch["name"] for branch in neon.get("/branches", search="par")["branches"]]
    assert 1 == neon.get("/branches/count", search="spare")["count"]


def test_protected_branch(neon: NeonServer) -> None:
    """It can't be deleted nor lose its compute, and its children have passwords of their own."""
    made = neon.branch(name="guarded")
    branch, endpoint = made["branch"]["id"], made["endpoints"][0]["id"]
    assert neon.patch(f"/branches/{branch}", {"branch": {"protected": True}})["branch"]["protected"]

    child = neon.branch(parent_id=branch)["branch"]["id"]

    assert 422 == neon.refused("DELETE", f"/branches/{branch}")[0]
    assert 422 == neon.refused("DELETE", f"/endpoints/{endpoint}")[0]
    old, new = (neon.get(f"/branches/{each}/roles/hotel_owner/reveal_password")["password"] for each in (branch, child))
    assert old != new
    assert [(1,)] == neon.rows("select 1", child)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(neon.uri(child).replace(new, old))
    assert 422 == neon.refused("PATCH", f"/branches/{branch}", {"branch": {"expires_at": in_days(1)}})[0]
    neon.patch(f"/branches/{branch}", {"branch": {"protected": False, "name": "unguarded"}})
    assert "unguarded" == neon.get(f"/branches/{branch}")["branch"]["name"]
    neon.discard(child, branch)


def test_default_root_and_parents_stay(neon: NeonServer, spare: str) -> None:
    """What the project hangs on can't be deleted, nor expire."""
    child = neon.branch(with_compute=False, parent_id=spare)["branch"]["id"]

    assert "default branch" in neon.refused("DELETE", f"/branches/{neon.main}")[1]
    assert "children" in neon.refused("DELETE", f"/branches/{spare}")[1]
    neon.post(f"/branches/{child}/set_as_default")
    assert "children" in neon.refused("DELETE", f"/branches/{neon.main}")[1]
    assert "default branch" in neon.refused("DELETE", f"/branches/{child}")[1]
    neon.post(f"/branches/{neon.main}/set_as_default")
    neon.discard(child)


def test_expired_branch_goes_by_itself(neon: NeonServer) -> None:
    """Some time after its `expires_at`, and so that it can be had back, without an expiry."""
    branch = neon.branch(with_compute=False, name="brief")["branch"]["id"]
    neon.patch(f"/branches/{branch}", {"branch": {"expires_at": in_days(1)}})
    assert 422 == neon.refused("POST", "/branches", {"branch": {"parent_id": branch}})[0]
    # An instant that has passed when it is asked for would be refused.
    soon = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    neon.patch(f"/branches/{branch}", {"branch": {"expires_at": soon}})

    assert comes_true(lambda: neon.get("/branches", search="brief")["branches"] == [], seconds=60)
    neon.wait()

    (deleted,) = neon.get("/branches", search="brief", include_deleted="true")["branches"]
    assert "ttl" == deleted["recovery"]["deletion_method"]
    neon.post(f"/branches/{branch}/recover")
    neon.wait()
    assert "expires_at" not in neon.get(f"/branches/{branch}")["branch"]
    neon.discard(branch)


def test_deleted_branch_can_be_had_back(neon: NeonServer) -> None:
    """All that was committed is there again, behind the same connection string; after a hard delete nothing is."""
    branch = neon.branch(name="mistake")["branch"]["id"]
    uri = neon.uri(branch)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) as number")

    neon.delete(f"/branches/{branch}")
    assert 404 == neon.send("GET", f"/branches/{branch}").status_code
    assert 204 == neon.send("DELETE", f"/branches/{branch}").status_code
    neon.post(f"/branches/{branch}/recover")
    neon.wait()

    with psycopg.connect(uri) as connection:
        assert (1000,) == connection.execute("select count(*) from kept").fetchone()
    neon.discard(branch)
    assert 404 == neon.refused("POST", f"/branches/{branch}/recover")[0]
    assert 204 == neon.send("DELETE", f"/branches/{branch}", query={"hard_delete": "true"}).status_code


def test_free_plan_is_narrow(own_neon: Callable[..., NeonServer]) -> None:
    """Limits are refused with the published codes."""
    neon = own_neon(plan="free")
    made = [neon.branch(with_compute=False)["branch"]["id"] for _ in range(2)]

    wide = neon.refused("PATCH", "", {"project": {"history_retention_seconds": 86400}})
    guarded = neon.send("PATCH", f"/branches/{neon.main}", {"branch": {"protected": True}}).json()["code"]
    scheduled = neon.refused("PUT", f"/branches/{neon.main}/backup_schedule", {"schedule": [{"frequency": "daily", "hour": 1}]})
    neon.post(f"/branches/{neon.main}/snapshot", name="only")
    second = neon.refused("POST", f"/branches/{neon.main}/snapshot", name="one more")
    limit = neon.http.get("/users/me").json()["branches_limit"]

    assert [422, 422, 422, 10] == [wide[0], scheduled[0], second[0], limit]
    assert "BRANCHES_PROTECTED_LIMIT_EXCEEDED" == guarded
    neon.discard(*made)
