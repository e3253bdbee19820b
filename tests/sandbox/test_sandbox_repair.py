"""`kill -9` of any of it, at any instant: `up` again repairs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.sandbox import process
from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.patience import wait_for
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster, stop_cluster
from reconciler.sandbox.s3 import running_server, start_server, stop_server
from reconciler.sandbox.status import Status, status
from reconciler.sandbox.up import up

Sandbox = tuple[Path, Status]


@pytest.mark.parametrize("server", ["postgres", "s3"])
def test_server_was_killed(worn: Sandbox, server: str) -> None:
    """A killed server runs again, with the same address and keys; the other was left alone."""
    folder, _ = worn
    before = status(folder)
    kill(getattr(before, server).pid)

    after = up(folder, tell=lambda _: None, with_neon=False)

    assert after.running
    assert before.postgres.url == after.postgres.url
    assert before.s3.endpoint == after.s3.endpoint
    assert [before.postgres.pid == after.postgres.pid, before.s3.pid == after.s3.pid] == [server != "postgres", server != "s3"]


def test_session_was_killed(worn: Sandbox) -> None:
    """The server recovers from the kill of one session by itself, and `up` waits for it."""
    folder, stands = worn
    assert stands.postgres.admin_url is not None
    with psycopg.connect(stands.postgres.admin_url) as connection:
        kill(connection.info.backend_pid)

        after = up(folder, tell=lambda _: None, with_neon=False)

    assert after.running


def test_stale_pid_was_given_to_somebody_else(worn: Sandbox) -> None:
    """The pid file of a killed server names a process of ours that is no server: it is not taken for one."""
    folder, _ = worn
    kill(status(folder).postgres.pid)
    pid_file = (folder / "postgres").resolve() / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    owner = pid_file.parent.stat()
    with subprocess.Popen(["/bin/sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None) as other:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")

        after = up(folder, tell=lambda _: None, with_neon=False)

        assert other.poll() is None
        other.kill()
    assert after.running
    assert after.postgres.pid != other.pid


@pytest.mark.parametrize("name", ["s3/ports.json", "postgres/port", "postgres_url"])
def test_remembered_file_is_torn(worn: Sandbox, name: str) -> None:
    """Half a file where we remember something is as good as none."""
    folder, _ = worn
    torn = folder / name
    torn.write_text(torn.read_text()[:11])

    after = up(folder, tell=lambda _: None, with_neon=False)

    assert after.running
    assert after.postgres.url is not None
    with psycopg.connect(after.postgres.url) as connection:
        connection.execute("select from hotel.rooms")


@pytest.mark.parametrize("reached", ["postgres/data.partial", "postgres/data/base/16*", "s3/ports.json"])
def test_up_was_killed(folder: Path, reached: str) -> None:
    """`up` killed when it had just come that far: the next one finishes, with the whole hotel."""
    program = (
        "import sys; from pathlib import Path; from reconciler.sandbox.up import up;"
        " up(Path(sys.argv[1]), tell=print, with_neon=False)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.DEVNULL) as child:
        wait_for(lambda: any(folder.glob(reached)) or child.poll() is not None, seconds=60, what=reached)
        child.kill()

    after = up(folder, tell=lambda _: None, with_neon=False)

    assert after.running
    assert after.postgres.url is not None
    with psycopg.connect(after.postgres.url) as connection:
        assert connection.execute("select count(*) from hotel.reservations").fetchone() == (40000,)
        assert connection.execute("select datname from pg_database where datname like 'hotel%'").fetchall() == [("hotel",)]


def test_folder_was_deleted_under_running_servers(folder: Path) -> None:
    """Servers whose folder somebody deleted are ended, and not taken for the new ones."""
    before = up(folder, tell=lambda _: None, with_neon=False)
    shutil.rmtree((folder / "postgres").resolve())
    shutil.rmtree(folder)

    after = up(folder, tell=lambda _: None, with_neon=False)

    assert after.running
    assert after.s3.pid != before.s3.pid
    assert len(process.find("weed", f"-dir={folder / 's3' / 'data'}")) == 1


def test_port_was_taken_meanwhile(tmp_path: Path) -> None:
    """Ports are remembered; one that somebody took in between is replaced, and objects and data are still there."""
    try:
        s3 = start_server(tmp_path / "s3")
        cluster = start_cluster(postgres_binaries(), tmp_path / "pg", settings=FAST)
        stop_server(tmp_path / "s3")
        stop_cluster(tmp_path / "pg")
        with socket.create_server(("127.0.0.1", s3.ports.s3)), socket.create_server(("127.0.0.1", cluster.port)):
            s3_again = start_server(tmp_path / "s3")
            cluster_again = start_cluster(postgres_binaries(), tmp_path / "pg", settings=FAST)

        assert s3.ports.s3 != s3_again.ports.s3
        assert cluster.port != cluster_again.port
        assert s3.secret_access_key == s3_again.secret_access_key
        assert cluster.password == cluster_again.password
    finally:
        stop_server(tmp_path / "s3")
        remove_cluster(tmp_path / "pg")
    assert running_server(tmp_path / "s3") is None


def kill(pid: int | None) -> None:
    """As `kill -9`, and wait until the system has cleared it away."""
    assert pid is not None
    victim = next(found for found in _living() if found.pid == pid)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not process.is_alive(victim), seconds=10, what=f"process {pid} to be gone")


def _living() -> Iterator[process.Process]:
    for pid, _ in process._command_lines():
        if found := process._look_at(pid):
            yield found
