"""What a person sees: up, again, down, purge."""

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import boto3
import psycopg
import pytest

from reconciler.errors import Refused
from reconciler.sandbox import process
from reconciler.sandbox.down import down
from reconciler.sandbox.status import Status, status
from reconciler.sandbox.up import up

Sandbox = tuple[Path, Status]


def test_hotel_is_open(sandbox: Sandbox) -> None:
    """After `up` the backup role reads tens of thousands of rows, row security or not."""
    _, stands = sandbox
    assert stands.postgres.url is not None

    with psycopg.connect(stands.postgres.url) as connection:
        counted = connection.execute(
            "select (select count(*) from hotel.guests), (select count(*) from hotel.reservations), count(*) from hotel.rooms"
        ).fetchone()

    assert counted == (20000, 40000, 200)


def test_backup_role_reads_large_objects(sandbox: Sandbox) -> None:
    """Reading all data does not cover large objects: each is granted."""
    _, stands = sandbox
    assert stands.postgres.url is not None

    with psycopg.connect(stands.postgres.url) as connection:
        sizes = connection.execute("select length(lo_get(plan)) from hotel.floor_plans order by floor").fetchall()

    assert sizes == [(128000,)] * 3


def test_neon_has_the_hotel_too(sandbox: Sandbox) -> None:
    """The project's main branch holds the same rows, and they belong to its owner."""
    _, stands = sandbox
    assert stands.neon.url is not None

    with psycopg.connect(stands.neon.url) as connection:
        counted = connection.execute("select count(*), current_user::text from hotel.reservations").fetchone()

    assert counted == (40000, "hotel_owner")


@pytest.mark.parametrize(
    "statement", ["delete from hotel.guests", "create table hotel.mine ()", "select pg_read_file('/etc/passwd')"]
)
def test_backup_role_can_do_no_harm(sandbox: Sandbox, statement: str) -> None:
    """The role that dumps has no right to anything but reading tables."""
    _, stands = sandbox
    assert stands.postgres.url is not None

    with psycopg.connect(stands.postgres.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_bucket_takes_objects(sandbox: Sandbox) -> None:
    """After `up` the bucket is there and stores what is put."""
    _, stands = sandbox
    client = boto3.client(
        "s3",
        endpoint_url=stands.s3.endpoint,
        aws_access_key_id=stands.s3.access_key_id,
        aws_secret_access_key=stands.s3.secret_access_key,
        region_name="us-east-1",
    )

    client.put_object(Bucket=stands.s3.bucket, Key="a/b", Body=b"bytes")

    assert client.get_object(Bucket=stands.s3.bucket, Key="a/b")["Body"].read() == b"bytes"
    client.close()


def test_up_twice_changes_nothing(sandbox: Sandbox) -> None:
    """Started twice is fine: same processes, same ports, same keys."""
    folder, stands = sandbox

    again = up(folder, tell=lambda _: None, with_neon=False)

    assert stands == again


def test_two_ups_at_once_take_turns(sandbox: Sandbox) -> None:
    """Two callers at the same time end with one sandbox."""
    folder, stands = sandbox

    with ThreadPoolExecutor(max_workers=2) as pool:
        both = list(pool.map(lambda _: up(folder, tell=lambda _: None, with_neon=False), range(2)))

    assert [stands, stands] == both


def test_references_are_for_their_owner_only(sandbox: Sandbox) -> None:
    """The files that hold secrets are 0600, in a folder of 0700."""
    folder, stands = sandbox

    names = ["postgres_url", "postgres_admin_url", "s3_endpoint", "s3_access_key_id", "s3_secret_access_key"]
    names += ["neon_api_host", "neon_api_key", "neon_project_id", "neon_url"]
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in names}

    assert dict.fromkeys(names, 0o600) == modes
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "postgres_url").read_text().strip() == stands.postgres.url


def test_no_secret_in_any_command_line(sandbox: Sandbox) -> None:
    """What everybody may read, the processes' arguments, holds no key and no password."""
    folder, _ = sandbox
    secrets = [(folder / name).read_text().strip() for name in ("postgres_url", "s3_access_key_id", "s3_secret_access_key")]
    secrets.append((folder / "postgres" / "password").read_text())
    secrets.append(secrets[0].split(":")[2].split("@")[0])
    secrets += [(folder / "neon_api_key").read_text().strip(), (folder / "neon" / "password").read_text()]

    seen = " ".join(word for _, argv in process._command_lines() for word in argv)

    assert str(folder / "s3") in seen
    assert [secret for secret in secrets if secret in seen] == []


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_listens_on_loopback_only(sandbox: Sandbox) -> None:
    """Nobody on the network reaches it: every listening socket is bound to 127.0.0.1."""
    _, stands = sandbox
    assert stands.postgres.pid is not None
    assert stands.s3.pid is not None

    assert stands.neon.pid is not None

    listening = _listening(stands.postgres.pid) + _listening(stands.s3.pid) + _listening(stands.neon.pid)

    assert len(listening) == 13  # PostgreSQL one; five services and their gRPC twins; an API and an endpoint
    assert {"0100007F"} == set(listening)


def test_down_ends_every_process(folder: Path) -> None:
    """After `down` nothing runs that `up` started, and `up` goes on with the same data."""
    stands = up(folder, tell=lambda _: None, with_neon=False)
    assert stands.postgres.admin_url is not None
    with psycopg.connect(stands.postgres.admin_url) as connection:
        connection.execute("create table kept ()")

    ran = down(folder, purge=False)

    assert ran
    assert [argv for _, argv in process._command_lines() if str(folder) in " ".join(argv)] == []
    assert not process.find("postgres", str((folder / "postgres").resolve() / "data"))
    assert not status(folder).running
    again = up(folder, tell=lambda _: None, with_neon=False)
    assert stands.postgres.url == again.postgres.url
    assert again.postgres.admin_url is not None
    with psycopg.connect(again.postgres.admin_url) as connection:
        connection.execute("select from kept")


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    """A folder with other files is neither made a sandbox nor purged."""
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(Refused, match="is no sandbox"):
        up(tmp_path, tell=lambda _: None)
    with pytest.raises(Refused, match="is no sandbox"):
        down(tmp_path, purge=True)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    """Where no sandbox ever was, `down` says that nothing ran."""
    ran = down(tmp_path / ".sandbox", purge=True)

    assert not ran


def test_status_of_nothing(tmp_path: Path) -> None:
    """Where no sandbox ever was, nothing runs, and asking makes no folder."""
    stands = status(tmp_path / ".sandbox")

    assert not stands.running
    assert stands.postgres.url is None
    assert not (tmp_path / ".sandbox").exists()


def test_two_sandboxes_side_by_side(sandbox: Sandbox, folder: Path) -> None:
    """Two folders share neither port, key nor data, and the purge of one leaves the other, and nothing of itself."""
    _, one = sandbox

    other = up(folder, tell=lambda _: None, with_neon=False)

    assert other.running
    assert one.postgres.url != other.postgres.url
    assert one.s3.endpoint != other.s3.endpoint
    assert one.s3.secret_access_key != other.s3.secret_access_key
    real = (folder / "postgres").resolve()
    down(folder, purge=True)
    assert one == status(sandbox[0])
    assert not folder.exists()
    assert not real.exists()


def _listening(pid: int) -> list[str]:
    sockets = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        # One may be closed between the listing and the look.
        with suppress(FileNotFoundError):
            sockets.add(str(handle.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1].partition(":")[0])
    return found
