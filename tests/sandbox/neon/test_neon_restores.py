"""A branch put back: in place from its own past, from another branch, from a snapshot."""

from collections.abc import Callable, Iterator
from datetime import datetime

import psycopg
import pytest

from tests.servers.neon import NeonServer


@pytest.fixture
def numbered(neon: NeonServer) -> Iterator[str]:
    """A branch whose table holds 1, and since an instant 2 as well."""
    branch = str(neon.branch(name="numbered")["branch"]["id"])
    with neon.connect(branch) as connection:
        connection.execute("create table numbers as select 1 as number")
    yield branch
    left = [each["id"] for each in neon.get("/branches")["branches"] if each["id"] != neon.main]
    for each in left:
        neon.send("DELETE", f"/branches/{each}", query={"hard_delete": "true"})
        neon.wait()


def instant_before(neon: NeonServer, branch: str, statement: str) -> str:
    """Its clock just before the statement was run."""
    with neon.connect(branch) as connection:
        (at,) = connection.execute("select clock_timestamp()").fetchone() or (None,)
        connection.execute(statement.encode())
    assert isinstance(at, datetime)
    return at.isoformat()


def numbers(neon: NeonServer, branch: str) -> list[int]:
    return [number for (number,) in neon.rows("select number from numbers order by number", branch)]


def test_restore_to_its_own_past(neon: NeonServer, numbered: str) -> None:
    """The connection string stays, all databases are rewound, the old state lies under its name, the children with it."""
    uri = neon.uri(numbered)
    child = neon.branch(with_compute=False, parent_id=numbered)["branch"]["id"]
    at = instant_before(neon, numbered, "insert into numbers values (2)")
    guest = neon.connect(numbered)

    neon.post(
        f"/branches/{numbered}/restore",
        {"source_branch_id": numbered, "source_timestamp": at, "preserve_under_name": "numbered (before)"},
    )

    assert uri == neon.uri(numbered)
    assert [1] == numbers(neon, numbered)
    with pytest.raises(psycopg.OperationalError):
        guest.execute("select 1")
    (old,) = neon.get("/branches", search="(before)")["branches"]
    assert old["id"] == neon.get(f"/branches/{child}")["branch"]["parent_id"]
    assert "parent_id" not in old
    assert [] == neon.get(f"/branches/{old['id']}/endpoints")["endpoints"]
    neon.post("/endpoints", {"endpoint": {"branch_id": old["id"], "type": "read_write"}})
    assert [1, 2] == numbers(neon, old["id"])
    assert "last_reset_at" in neon.get(f"/branches/{numbered}")["branch"]


def test_history_goes_on_behind_a_restore(neon: NeonServer, numbered: str) -> None:
    """What is written after it can be gone back to; what was before it belongs to the old state."""
    before = instant_before(neon, numbered, "insert into numbers values (2)")
    neon.post(
        f"/branches/{numbered}/restore",
        {"source_branch_id": numbered, "source_timestamp": before, "preserve_under_name": "first"},
    )
    between = instant_before(neon, numbered, "insert into numbers values (3)")

    neon.post(
        f"/branches/{numbered}/restore",
        {"source_branch_id": numbered, "source_timestamp": between, "preserve_under_name": "second"},
    )

    assert [1] == numbers(neon, numbered)
    again = {"source_branch_id": numbered, "source_timestamp": before, "preserve_under_name": "third"}
    assert 422 == neon.refused("POST", f"/branches/{numbered}/restore", again)[0]


def test_undo_from_the_preserved_branch(neon: NeonServer, numbered: str) -> None:
    """A restore is undone from what it kept; what the undo keeps can't be deleted."""
    at = instant_before(neon, numbered, "insert into numbers values (2)")
    body = {"source_branch_id": numbered, "source_timestamp": at, "preserve_under_name": "old"}
    neon.post(f"/branches/{numbered}/restore", body)
    (old,) = neon.get("/branches", search="old")["branches"]

    neon.post(f"/branches/{numbered}/restore", {"source_branch_id": old["id"], "preserve_under_name": "mistaken"})

    assert [1, 2] == numbers(neon, numbered)
    (mistaken,) = neon.get("/branches", search="mistaken")["branches"]
    assert 422 == neon.refused("DELETE", f"/branches/{mistaken['id']}")[0]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "is required to restore a branch to its own past"),
        ({"source_timestamp": "now"}, "preserve_under_name is required"),
        ({"source_timestamp": "now", "preserve_under_name": "main"}, "already exists"),
    ],
)
def test_half_a_restore_is_refused(neon: NeonServer, numbered: str, body: dict[str, str], says: str) -> None:
    """Nothing is begun that would lose the present."""
    at = instant_before(neon, numbered, "insert into numbers values (2)")
    given = {name: at if value == "now" else value for name, value in body.items()}

    _, said = neon.refused("POST", f"/branches/{numbered}/restore", {"source_branch_id": numbered, **given})

    assert says in said
    assert [1, 2] == numbers(neon, numbered)


def test_snapshot_outlives_what_it_was_taken_of(own_neon: Callable[..., NeonServer]) -> None:
    """Restored and finalized, it has the computes and the name; the branch id is new, the connection string is not."""
    neon = own_neon()
    main, uri = neon.main, neon.uri()
    with neon.connect() as connection:
        connection.execute("create table numbers as select 1 as number")
    snapshot = neon.post(f"/branches/{main}/snapshot", name="before the migration")["snapshot"]["id"]
    with neon.connect() as connection:
        connection.execute("drop table numbers")

    restored = neon.post(f"/snapshots/{snapshot}/restore", {"name": "preview", "target_branch_id": main})["branch"]

    assert ("restored", snapshot, main) == (restored["restore_status"], restored["restored_from"], restored["restored_as"])
    assert [("restore", True)] == [(each["name"], bool(each["reason"])) for each in restored["restricted_actions"]]
    neon.post(f"/branches/{restored['id']}/finalize_restore", {})
    neon.wait()
    assert uri == neon.uri()
    with psycopg.connect(uri) as connection:
        assert (1,) == connection.execute("select number from numbers").fetchone()
    names = {branch["name"]: branch for branch in neon.get("/branches")["branches"]}
    assert (restored["id"], main) == (names["main"]["id"], names["main (old)"]["id"])
    assert names["main"]["default"]
    self_restore = {"source_branch_id": restored["id"], "source_lsn": "0/1", "preserve_under_name": "x"}
    assert "still ongoing" in neon.refused("POST", f"/branches/{restored['id']}/restore", self_restore)[1]
    listed = neon.get("/snapshots")["snapshots"]
    assert [("before the migration", True, main)] == [(each["name"], each["manual"], each["source_branch_id"]) for each in listed]
    neon.patch(f"/snapshots/{snapshot}", {"snapshot": {"name": "renamed"}})
    neon.delete(f"/snapshots/{snapshot}")
    assert [] == neon.get("/snapshots")["snapshots"]
