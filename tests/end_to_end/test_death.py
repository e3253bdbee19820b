"""Death at any instant of a real turn, on real parts: the world that is left heals by itself, and loses nothing."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as StopEvent
from time import monotonic
from typing import Any

import pytest

from reconciler.connect import KINDS, Means, connect
from reconciler.duties import DUTIES
from reconciler.planning.plan import Consent
from reconciler.policy.loading import read
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.turn import Survey, survey, turn
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.events import Effect, Event
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import World
from reconciler.world.process import SystemProcess
from tests.end_to_end.conftest import Stand
from tests.faults.dying import die, dies

MOST_EVENTS = 150
"""A dump with its fingerprint, its copy, prunings, a lease and renewals. Not reaching the end within these would be an endless
loop."""
SHARES = 8
"""The deaths are dealt out: each takes seconds, and all of them together would be longer than one test may last."""


def _world(stand: Stand, tell: Callable[[Event], None]) -> tuple[World, DatabasePolicy]:
    policy = read(stand.policy, KINDS)
    want = policy.databases["hotel"]
    means = Means(
        surroundings=Surroundings(base=stand.folder, environ=stand.environment(), redactor=Redactor()),
        clock=SystemClock(),
        process=SystemProcess(),
        pool=ThreadPool(8),
        cache=FileCache(stand.folder / "cache"),
        stop=StopEvent(),
        tell=tell,
        token=token,
    )
    return connect(policy, want, means, writable=True), want


def _turn(stand: Stand, tell: Callable[[Event], None]) -> None:
    turn(*_world(stand, tell), DUTIES, Consent())


def _look_and_turn(stand: Stand) -> Survey:
    """One process, as `apply` is: what it saw first."""
    world, want = _world(stand, lambda _: None)
    seen = survey(world, want, DUTIES)
    turn(world, want, DUTIES, Consent())
    return seen


def _survey(stand: Stand) -> Survey:
    return survey(*_world(stand, lambda _: None), DUTIES)


def _dies_at(stand: Stand, number: int) -> bool:
    """Runs a turn in a child that kills itself just before its n-th effect; False once it lived to the end.

    After one is as before the next: what lies there is the same.
    """
    left = [number]

    def tell(event: Event) -> None:
        if isinstance(event, Effect) and event.phase == "before":
            left[0] -= 1
            if left[0] == 0:
                die()

    return dies(lambda: _turn(stand, tell))


def _leftovers(stand: Stand) -> list[str]:
    """Whatever is neither a whole backup nor a record that stays."""
    files = [str(path.relative_to(stand.folder)) for path in (stand.folder / "disk").rglob("*") if path.is_file()]
    names = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst", "repository.json", "hotel.json", "lock"}
    stays = ("lease-", "tombstone-")
    found = [name for name in files if Path(name).name not in names and not Path(name).name.startswith(stays)]
    client, bucket = stand.s3(), stand.status.s3.bucket
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket, Prefix=stand.prefix).get("Contents", [])]
    found += [key for key in keys if Path(key).name not in names and not Path(key).name.startswith(stays)]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found + [each["Key"] for each in uploads if each["Key"].startswith(stand.prefix)]


def _sessions(stand: Stand) -> int:
    with stand.connect() as admin:
        row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'reconciler/2%'").fetchone()
    assert row is not None
    return int(row[0])


def _waited(condition: Callable[[], bool], seconds: float = 60) -> bool:
    ends = monotonic() + seconds
    while not condition():
        if monotonic() > ends:
            return False
        StopEvent().wait(0.1)
    return True


@pytest.fixture
def three(small: Stand) -> tuple[str, ...]:
    """Ids of backups, oldest first, whose time to be kept is over: with one more, the two older ones go."""
    small.rewrite("keep_last: 3", "keep_last: 3, grace: 0s")
    for _ in range(3):
        small.run("backups", "take", "--keep", "1s")
    # By their instants, as they are listed: two of one second have ids in any order.
    return tuple(one["id"] for one in reversed(small.backups()))


def _begin_with(stand: Stand, prefix: str, policy: str) -> None:
    """The same backups again, on a disk and under a prefix of their own."""
    shutil.rmtree(stand.folder / "disk", ignore_errors=True)
    shutil.copytree(stand.folder / "before", stand.folder / "disk")
    stand.policy.write_text(policy.replace(prefix, token(4)))
    client, bucket = stand.s3(), stand.status.s3.bucket
    for each in client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["Contents"]:
        key = each["Key"].replace(prefix, stand.prefix, 1)
        client.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": each["Key"]})


@pytest.mark.parametrize("first", range(1, SHARES + 1))
def test_death_at_every_effect(small: Stand, three: tuple[str, ...], first: int) -> None:
    """For every n, a turn that dies at its n-th effect (dump, copy, prune) leaves nothing torn listed and gives up nothing that
    stays; the next ones leave nothing else at all."""
    (small.folder / "disk").rename(small.folder / "before")
    prefix, policy = small.prefix, small.policy.read_text()
    deaths, died = 0, True
    for number in range(first, MOST_EVENTS, SHARES):
        _begin_with(small, prefix, policy)
        died = _dies_at(small, number)
        found = [(backup.id, copy.state) for backup in _look_and_turn(small).have.backups() for copy in backup.copies.values()]
        _turn(small, lambda _: None)
        seen = _survey(small)
        plan, left = seen.plan, seen.have.backups()

        assert {state for _, state in found} <= {"whole", "debris", "being_deleted"}, number
        assert {backup for backup, state in found if state == "being_deleted"} <= {*three[:2]}, number
        assert (False, (), ()) == (plan.blind, plan.steps, plan.blocked), number
        assert [three[2], {"disk", "primary"}] == [left[-1].id, set(left[-1].whole_on)], number
        assert {"whole"} == {copy.state for backup in left for copy in backup.copies.values()}, number
        assert 2 == len(left), number
        assert [] == _leftovers(small), number
        if not died:
            break
        deaths += 1

    # A slow turn has more, as it renews what it holds.
    assert deaths >= 48 // SHARES
    assert not died
    assert _waited(lambda: _sessions(small) == 0)


@pytest.fixture
def blocked(stand: Stand) -> Iterator[None]:
    """Somebody holds a lock that pg_dump has to wait behind."""
    with stand.connect() as other, other.transaction():
        other.execute("LOCK TABLE hotel.rooms IN ACCESS EXCLUSIVE MODE")
        yield


def _begun(stand: Stand) -> "subprocess.Popen[str]":
    """An apply whose pg_dump is waiting behind the lock."""
    running = subprocess.Popen(
        stand.command("apply", "--yes"),
        cwd=stand.folder,
        env=stand.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert _waited(lambda: _waiting(stand) == 1)
    return running


def _waiting(stand: Stand) -> int:
    with stand.connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'reconciler/2%' AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("blocked")
def test_sigterm_ends_within_seconds_and_leaves_nothing(stand: Stand) -> None:
    """Exit 1, no such backup, no session, no file."""
    running = _begun(stand)
    running.send_signal(signal.SIGTERM)
    stdout, stderr = running.communicate(timeout=60)

    assert running.returncode == 1
    assert "stopped" in (stdout + stderr)
    assert stand.backups() == []
    assert [] == _leftovers(stand)
    assert _waited(lambda: _sessions(stand) == 0)


@pytest.mark.usefixtures("blocked")
def test_kill_takes_pg_dump_and_its_session_along(stand: Stand) -> None:
    """`kill -9` of the reconciler, its pg_dump waiting behind a lock: both it and its session on the server are gone soon."""
    running = _begun(stand)
    running.kill()
    running.communicate(timeout=60)

    assert _waited(lambda: _sessions(stand) == 0)
    assert ["debris"] == [one["state"] for one in stand.backups()]


def test_kill_at_random_instants_converges(stand: Stand) -> None:
    """Wherever it is when it dies, older backups stay and the next runs finish the job."""
    stand.run("backups", "take")
    older = stand.backups()[0]["id"]
    for delay in (0.35, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8):
        running: Any = subprocess.Popen(
            stand.command("apply", "--yes"),
            cwd=stand.folder,
            env=stand.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            running.wait(delay)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
    stand.run("apply", "--yes")
    stand.run("apply", "--yes")

    assert older in [one["id"] for one in stand.backups() if one["state"] == "whole"]
    assert "nothing to do" in stand.run("--plan").stdout
    assert [] == _leftovers(stand)
