"""What a kill, a stop or a restart at any instant leaves behind, and that it goes on from there."""

import signal
from collections.abc import Callable, Iterator

import psycopg
import pytest

from reconciler.sandbox import process
from reconciler.sandbox.neon.service import remove_neon, stop_neon
from reconciler.sandbox.patience import wait_for
from tests.servers.neon import NeonServer

Open = Callable[..., NeonServer]


@pytest.fixture
def sturdy(own_neon: Open) -> Iterator[NeonServer]:
    """One to kill parts of, with a table of one row."""
    neon = own_neon()
    with neon.connect() as connection:
        connection.execute("create table if not exists rows as select 1 as number")
    yield neon
    again = own_neon()
    again.wait()
    for branch in again.get("/branches")["branches"]:
        if branch["id"] != again.main:
            again.discard(branch["id"])


def kill(*processes: process.Process) -> None:
    # A session that was just begun looks as its server does, and may end of itself.
    process.end(processes, signals=((signal.SIGKILL, 60),))


def server_of(neon: NeonServer) -> tuple[process.Process, ...]:
    return process.find_module("reconciler.sandbox.neon.server", str(neon.folder.resolve()))


def computes_of(neon: NeonServer) -> tuple[process.Process, ...]:
    places = (neon.folder.resolve() / "timelines").iterdir()
    return tuple(found for place in places for found in process.find("postgres", str(place / "data")))


def test_compute_was_killed(sturdy: NeonServer) -> None:
    """The next connection wakes it, with every commit."""
    with sturdy.connect() as connection:
        connection.execute("insert into rows values (2)")

    kill(*computes_of(sturdy))

    assert [(1,), (2,)] == sturdy.rows("select number from rows order by 1")
    branch = sturdy.branch(with_compute=False)["branch"]["id"]
    kill(*computes_of(sturdy))
    assert "ready" == sturdy.get(f"/branches/{sturdy.branch(parent_id=branch)['branch']['id']}")["branch"]["current_state"]


def test_parent_was_killed(sturdy: NeonServer) -> None:
    """A branch of a parent whose compute just died has all that it had committed."""
    with sturdy.connect() as connection:
        (count,) = connection.execute("select count(*) from rows").fetchone() or (0,)
    kill(*computes_of(sturdy))

    branch = sturdy.branch()["branch"]["id"]

    assert [(count,)] == sturdy.rows("select count(*) from rows", branch)


@pytest.mark.parametrize("reached", ["data", "data/postmaster.pid"])
def test_server_was_killed_over_a_branch(sturdy: NeonServer, own_neon: Open, reached: str) -> None:
    """It is made all the same, once the server is started again; the computes lived on."""
    before = computes_of(sturdy)
    known = {place.name for place in (sturdy.folder.resolve() / "timelines").iterdir()}
    answer = sturdy.send("POST", "/branches", {"branch": {"name": "survivor"}, "endpoints": [{"type": "read_write"}]}).json()

    def has_come_that_far() -> bool:
        new = [place for place in (sturdy.folder.resolve() / "timelines").iterdir() if place.name not in known]
        return any((place / reached).exists() for place in new)

    wait_for(has_come_that_far, seconds=60, what=reached)
    kill(*server_of(sturdy))
    assert all(process.is_alive(compute) for compute in before)

    again = own_neon()
    done = again.wait(*answer["operations"])

    assert {"finished"} == {each["status"] for each in done}
    assert [(1,)] == again.rows("select number from rows where number = 1", answer["branch"]["id"])


def test_everything_was_killed_over_a_restore(sturdy: NeonServer, own_neon: Open) -> None:
    """The restore is finished, and the old state is there under its name."""
    uri = sturdy.uri()
    with sturdy.connect() as connection:
        row = connection.execute("select clock_timestamp(), count(*) from rows").fetchone()
        connection.execute("insert into rows values (3)")
    assert row is not None
    body = {"source_branch_id": sturdy.main, "source_timestamp": row[0].isoformat(), "preserve_under_name": "before"}
    answer = sturdy.send("POST", f"/branches/{sturdy.main}/restore", body).json()

    kill(*server_of(sturdy))
    kill(*computes_of(sturdy))
    again = own_neon()
    done = again.wait(*answer["operations"])

    assert {"finished"} == {each["status"] for each in done}
    with psycopg.connect(uri) as connection:
        assert (row[1],) == connection.execute("select count(*) from rows").fetchone()
    (old,) = again.get("/branches", search="before")["branches"]
    again.post("/endpoints", {"endpoint": {"branch_id": old["id"], "type": "read_write"}})
    assert [(row[1] + 1,)] == again.rows("select count(*) from rows", old["id"])


def test_stopped_and_started(sturdy: NeonServer, own_neon: Open) -> None:
    """Addresses, keys, branches and rows are the same; nothing ran in between."""
    branch = sturdy.branch()["branch"]["id"]
    uris = [sturdy.uri(), sturdy.uri(branch)]

    assert stop_neon(sturdy.folder)
    assert () == (*server_of(sturdy), *computes_of(sturdy))
    again = own_neon()

    assert (sturdy.api_host, sturdy.api_key, sturdy.project_id) == (again.api_host, again.api_key, again.project_id)
    assert uris == [again.uri(), again.uri(branch)]
    for uri in uris:
        with psycopg.connect(uri) as connection:
            assert (1,) == connection.execute("select min(number) from rows").fetchone()


def test_removed(own_neon: Open) -> None:
    """Nothing is left of it."""
    neon = own_neon()
    home = neon.folder.resolve()

    remove_neon(neon.folder)

    assert not home.exists()
    assert () == (*server_of(neon), *process.find("postgres", str(home)))
    assert not stop_neon(neon.folder)
