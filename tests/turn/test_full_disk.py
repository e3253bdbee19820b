"""A disk without a single free byte: turns get out of it by themselves, and a person by name."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from reconciler.apply import apply
from reconciler.backups.claim import Watch
from reconciler.duties import DUTIES
from reconciler.duties.keeping import plan_delete
from reconciler.observe import observe
from reconciler.planning.plan import Consent, Outcome, Plan
from reconciler.planning.planner import plan
from reconciler.turn import turn
from reconciler.world.ports import World
from tests.backups.faking import FakeSource, MovedClock, make_world, states
from tests.building import HOUR, policy, retention

WANT = policy("0 * * * *", ("disk",), retention(grace="1h", keep_last=2))
DUMP_BYTES = 300_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MiB."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607 - wherever the system has it


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(disk: Path, clock: MovedClock) -> World:
    """Dumps of nothing that compresses."""
    return make_world(disk, clock, FakeSource(clock, [os.urandom(DUMP_BYTES)]), names=("disk",))


def fill(folder: Path) -> None:
    """To the last byte."""
    with (folder / "of-somebody-else").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    status = os.statvfs(folder)
    assert status.f_bavail == 0


def run(world: World) -> list[tuple[str, str]]:
    """One turn: each action by its first word, and how it went."""
    return short(turn(world, WANT, DUTIES, Consent()).outcomes)


def short(outcomes: tuple[Outcome, ...]) -> list[tuple[str, str]]:
    return [(outcome.does.split(" ")[0], outcome.result) for outcome in outcomes]


def test_what_was_given_up_goes_and_the_next_dump_finds_room(world: World, disk: Path, clock: MovedClock) -> None:
    """The dump fails for lack of room; removing what was deleted before needs none, and goes on."""
    for _ in range(4):
        run(world)
        clock.move(HOUR)
    fill(disk)
    first, second = run(world), run(world)

    assert ("take", "failed") in first
    assert ("remove", "done") in first
    assert ("take", "done") in second


def test_a_backup_is_let_go_by_name(world: World, disk: Path, clock: MovedClock) -> None:
    """Lease and tombstone find the room that was kept for them; then a turn removes it."""
    want = policy("0 * * * *", ("disk",), retention(grace="7d", keep_last=9))
    for _ in range(4):
        turn(world, want, DUTIES, Consent())
        clock.move(HOUR)
    fill(disk)
    oldest = min(states(world, "disk"))
    watch = Watch(world.clock, world.process)

    def look() -> Plan:
        have = observe(world, want, watch)
        found = [one for one in have.backups() if one.id == oldest and one.whole_on]
        steps = tuple(plan_delete(one, have, who="ana", grace=timedelta(0), min_verified=2) for one in found)
        return msgspec.structs.replace(plan((), want, have, clock.now(), policy_digest=""), steps=steps)

    by_name = apply(world, want, look, Consent(), watch)
    after = turn(world, want, DUTIES, Consent())

    assert [("delete", "done")] == short(by_name.outcomes)
    assert ("remove", "done") in short(after.outcomes)
    assert oldest not in states(world, "disk")
    assert os.statvfs(disk).f_bavail * 4096 > 200_000
