"""What a clone must not inherit; and what is left of clones that went."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from reconciler.sandbox import process
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from tests.servers.neon import NeonServer
from tests.servers.postgres import BINARIES, Server


@pytest.fixture
def publisher() -> Iterator[Server]:
    """A server that publishes."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        settings = {**FAST, "wal_level": "logical"}
        try:
            yield Server(major=18, cluster=start_cluster(BINARIES[18], Path(folder) / "publisher", settings=settings))
        finally:
            remove_cluster(Path(folder) / "publisher")


def test_clone_does_not_subscribe(own_neon: Callable[..., NeonServer], publisher: Server) -> None:
    """A branch of a subscriber takes nothing from the publisher: the subscription is there, disabled, without its slot."""
    neon = own_neon()
    database = publisher.new_database("create table news (number int primary key); create publication all_news for all tables")
    with neon.connect() as connection:
        connection.execute("create table news (number int primary key)")
        address = f"host=127.0.0.1 port={publisher.port} user=postgres password={publisher.cluster.password} dbname={database}"
        connection.execute(sql.SQL("create subscription reading connection {} publication all_news").format(sql.Literal(address)))

    branch = neon.branch()["branch"]["id"]

    assert [(False, None)] == neon.rows("select subenabled, subslotname from pg_subscription", branch)
    assert [(True, "reading")] == neon.rows("select subenabled, subslotname from pg_subscription")
    assert [(0,)] == neon.rows("select count(*) from pg_stat_activity where backend_type ~ 'logical replication.*worker'", branch)


def test_clone_archives_into_its_own_log(neon: NeonServer) -> None:
    """Whatever the parent was told by ALTER SYSTEM: a clone's own settings are on its command line."""
    branch = neon.branch()["branch"]["id"]

    commands = {neon.rows("select setting from pg_settings where name = 'archive_command'", each)[0] for each in ("", branch)}
    given = "select from pg_settings where source = 'command line' and name in ('archive_command', 'port')"
    sources = neon.rows(given, branch)

    assert 2 == len(commands)
    assert 2 == len(sources)
    neon.discard(branch)


def leftovers(neon: NeonServer) -> tuple[int, int, int]:
    """Timelines on disk, servers, and endpoints."""
    home = neon.folder.resolve()
    places = list((home / "timelines").iterdir())
    servers = [found for place in places for found in process.find("postgres", str(place / "data"))]
    return len(places), len(servers), len(neon.get("/endpoints")["endpoints"])


def make_and_delete(neon: NeonServer, number: int) -> None:
    made = neon.branch(name=f"passing {number}", with_compute=number % 2 == 0)["branch"]["id"]
    if number % 2 == 0:
        with neon.connect(made) as connection:
            connection.execute("create table filled as select generate_series(1, 1000)")
    neon.discard(made)


@pytest.mark.parametrize("branches", [4, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_branches_that_went_leave_nothing(neon: NeonServer, branches: int) -> None:
    """No folder, no process, no address, no port, and no growth of what is remembered."""
    make_and_delete(neon, 0)
    before = leftovers(neon)
    handles = open_files(neon)

    for number in range(branches):
        make_and_delete(neon, number)

    # Fewer is fine: an idle compute of others may have been put to rest meanwhile.
    assert all(now <= then for now, then in zip(leftovers(neon), before, strict=True))
    assert open_files(neon) <= handles + 3
    assert [] == neon.get("/branches", search="passing", include_deleted="true")["branches"]


def open_files(neon: NeonServer) -> int:
    (server,) = process.find_module("reconciler.sandbox.neon.server", str(neon.folder.resolve()))
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
