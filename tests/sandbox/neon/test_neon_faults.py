"""Faults on demand: each as a client meets it, as often as ordered, and whom it was ordered for."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reconciler.sandbox.neon.asking import order_fault
from reconciler.sandbox.neon.faults import Fault
from tests.servers.neon import NeonServer


@pytest.fixture(autouse=True)
def clean(neon: NeonServer) -> Iterator[None]:
    """None is left for the next test."""
    yield
    order_fault(neon.folder, None)


def order(neon: NeonServer, **wanted: Any) -> None:
    order_fault(neon.folder, Fault(**wanted))


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ({"kind": "locked"}, 423, None),
        ({"kind": "limited", "seconds": 7}, 429, "7"),
        ({"kind": "broken", "status": 500}, 500, None),
        ({"kind": "broken"}, 503, None),
    ],
)
def test_refused_so_many_times(neon: NeonServer, fault: dict[str, Any], status: int, retry_after: str | None) -> None:
    """The published form, and then all is well."""
    order(neon, times=2, **fault)

    answers = [neon.send("GET", "/branches") for _ in range(3)]

    assert [status, status, 200] == [answer.status_code for answer in answers]
    assert retry_after == answers[0].headers.get("retry-after")


def test_only_whom_it_was_ordered_for(neon: NeonServer) -> None:
    """By method and by a part of the path."""
    order(neon, kind="broken", method="GET", path="/snapshots")

    assert [200, 503, 200] == [neon.send("GET", path).status_code for path in ("/branches", "/snapshots", "/snapshots")]


def test_answer_that_is_lost(neon: NeonServer) -> None:
    """It happened: the branch is found by its name."""
    order(neon, kind="dropped", method="POST", path="/branches")

    with pytest.raises(httpx.RemoteProtocolError):
        neon.send("POST", "/branches", {"branch": {"name": "unheard"}})

    neon.wait()
    (made,) = neon.get("/branches", search="unheard")["branches"]
    neon.discard(made["id"])


def test_no_answer_at_all(neon: NeonServer) -> None:
    """A time-out: it did not happen."""
    order(neon, kind="timeout", seconds=0.2, method="POST")

    with pytest.raises(httpx.RemoteProtocolError):
        neon.send("POST", "/branches", {"branch": {"name": "never"}})

    assert [] == neon.get("/branches", search="never")["branches"]


def test_slow_answer(neon: NeonServer) -> None:
    """It comes, later than an impatient client waits."""
    order(neon, kind="slow", seconds=2)

    with pytest.raises(httpx.ReadTimeout):
        neon.http.get(f"/projects/{neon.project_id}", timeout=httpx.Timeout(60, read=0.3))

    assert 200 == neon.send("GET", "").status_code


def test_operation_that_fails_and_then_finishes(neon: NeonServer) -> None:
    """`failed` with `retry_at` is not the end."""
    order(neon, kind="operation_fails", path="create_branch")

    made = neon.post("/branches", {"branch": {"name": "stumbled"}})

    (operation,) = neon.wait(*made["operations"])
    assert ("finished", 1) == (operation["status"], operation["failures_count"])
    neon.discard(made["branch"]["id"])


def test_operation_that_fails_for_good(neon: NeonServer) -> None:
    """Those that come after it in the same request are cancelled, the project is free again, the branch can be deleted."""
    order(neon, kind="operation_errors", path="create_branch")

    answer = neon.send("POST", "/branches", {"branch": {"name": "broken"}, "endpoints": [{"type": "read_write"}]}).json()

    assert {"failed", "cancelled"} == {each["status"] for each in neon.wait(*answer["operations"])}
    assert "init" == neon.get(f"/branches/{answer['branch']['id']}")["branch"]["current_state"]
    neon.discard(answer["branch"]["id"])
    assert [] == neon.get("/branches", search="broken", include_deleted="true")["branches"]


def test_storage_that_lags(neon: NeonServer) -> None:
    """By time, a branch near now silently lacks the newest commits; by LSN it has them."""
    with neon.connect() as connection:
        connection.execute("create table late ()")
        row = connection.execute("select clock_timestamp(), pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    order(neon, kind="lag", seconds=5, times=2)

    by_time = neon.branch(parent_timestamp=row[0].isoformat())["branch"]["id"]
    by_lsn = neon.branch(parent_lsn=row[1])["branch"]["id"]

    question = "select to_regclass('late')::text"
    assert [[(None,)], [("late",)]] == [neon.rows(question, branch) for branch in (by_time, by_lsn)]
    with neon.connect() as connection:
        connection.execute("drop table late")
    neon.discard(by_time, by_lsn)


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic abc"])
def test_without_the_key(neon: NeonServer, authorization: str | None) -> None:
    """Nobody without it learns anything."""
    headers = {"Authorization": authorization} if authorization else {}

    answer = httpx.get(f"{neon.api_host}/projects", headers=headers)

    assert (401, {"request_id", "code", "message"}) == (answer.status_code, set(answer.json()))


def test_what_is_not_served_says_so(neon: NeonServer) -> None:
    """Another project is not found; what the sandbox leaves out says that it does."""
    foreign = neon.http.get("/projects/somebody-elses-project/branches")
    unserved = neon.http.post("/projects", json={"project": {}})

    assert [404, 404] == [foreign.status_code, unserved.status_code]
    assert "does not serve POST /api/v2/projects" in unserved.json()["message"]
    assert 400 == neon.http.post(f"/projects/{neon.project_id}/branches", content=b"{").status_code
