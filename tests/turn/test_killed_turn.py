"""A turn that is killed at any event: nothing is lost, nothing torn counts, and the next turns converge."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from reconciler.backups.layout import object_key
from reconciler.duties import DUTIES
from reconciler.planning.plan import Consent, Plan
from reconciler.turn import survey, turn
from reconciler.world.events import Event
from reconciler.world.ports import World
from tests.backups.faking import ROWS, MovedClock, at_effect, claim_text, content, files, make_world, states
from tests.building import HOUR, MINUTE, NOW, policy, retention
from tests.faults.dying import die, dies

WANT = policy("0 * * * *", ("primary", "offsite"), retention(grace="1h", keep_last=2), rpo="2h", disaster="2h")
DEBRIS = "20251025T090000Z-00dead"
TURNS_TO_CONVERGE = 3


def run(world: World) -> None:
    turn(world, WANT, DUTIES, Consent())


def begin(folder: Path) -> MovedClock:
    """Four hours of a database's life, so that one turn has all kinds of work: dump, copy, prune, finish, sweep."""
    folder.mkdir(exist_ok=True)
    clock = MovedClock(NOW - 3 * HOUR)
    for _ in range(3):
        run(make_world(folder, clock))
        clock.move(HOUR)
    clock.move(MINUTE)
    leave_debris(make_world(folder, clock))
    return clock


def leave_debris(world: World) -> None:
    """As a writer leaves it that died in the middle of its dump."""
    owner = world.process.begin()
    world.process.end(owner)
    for name, text in (("intent.json", claim_text(owner)), ("globals.json.zst", b"roles")):
        world.targets["primary"].write(object_key("hotel", DEBRIS, name), [text])


def run_and_die(folder: Path, clock: MovedClock, number: int) -> bool:
    """Run a turn in a child that is killed at the event of that number; whether it got so far."""
    return dies(lambda: run(make_world(folder, clock, tell=at_effect(number, die))))


def converge(folder: Path, clock: MovedClock) -> Plan:
    """Turns until there is nothing to do; the last plan."""
    for _ in range(TURNS_TO_CONVERGE):
        run(make_world(folder, clock))
        plan = survey(make_world(folder, clock), WANT, DUTIES).plan
        if not plan.steps and not plan.blocked:
            return plan
    pytest.fail(f"after {TURNS_TO_CONVERGE} turns there is still to do: {plan.steps} {plan.blocked}")


def whole(world: World) -> Iterator[tuple[str, str]]:
    """Target and id of everything that is listed as whole."""
    for target in world.targets:
        yield from ((target, backup) for backup, state in states(world, target).items() if state == "whole")


def expected_files(world: World) -> set[str]:
    """What may lie there after convergence: whole backups, deleted ones that can come back, tombstones, records."""
    expected = set()
    for target in world.targets:
        expected |= {f"{target}/hotel/repository.json", f"{target}/.databases/hotel.json", f"{target}/.reconciler/lock"}
        for backup in states(world, target):
            expected |= {
                f"{target}/{object_key('hotel', backup, name)}"
                for name in ("manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst")
            }
    return expected | {"primary/hotel/lease-keep.json"}


def check_what_the_dead_left(folder: Path, clock: MovedClock, before: set[tuple[str, str]]) -> None:
    """Whatever was whole is, or is deleted by plan; whatever is listed as whole reads back."""
    world = make_world(folder, clock)
    for target, backup in whole(world):
        assert b"".join(ROWS) == content(world, backup, target)
    for target, backup in before:
        assert states(world, target)[backup] in ("whole", "deleted")


def check_the_converged(folder: Path, clock: MovedClock, plan: Plan) -> None:
    """The objectives are met, every whole copy reads back on both targets, and no file is left that has no meaning."""
    world = make_world(folder, clock)
    tombstones = {name for name in files(folder) if "/tombstone-" in name}

    assert {"met"} == {condition.status for condition in plan.conditions}
    assert [] == [finding for finding in plan.findings if finding.severity != "note"]
    assert expected_files(world) == files(folder) - tombstones
    assert {backup for _, backup in whole(world)} == set(states(world, "primary")) - deleted(world, "primary")
    for target, backup in whole(world):
        assert b"".join(ROWS) == content(world, backup, target)


def deleted(world: World, target: str) -> set[str]:
    return {backup for backup, state in states(world, target).items() if state == "deleted"}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Path]:
    """A folder that is made afresh for each death, beside the one that is copied."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


SHARES = 4
"""The deaths are dealt out, so that workers share them."""


@pytest.mark.parametrize("first", range(SHARES))
def test_death_at_any_event_of_a_full_turn(sandbox: Path, first: int) -> None:
    """Dump, copy, prune, finished deletion, sweep: killed at event n, for every n, and the next turns make it good."""
    clock = begin(sandbox / "before")
    before = set(whole(make_world(sandbox / "before", clock)))
    instant = clock.now()

    for number in count(first, SHARES):
        folder = sandbox / str(number)
        shutil.copytree(sandbox / "before", folder)
        moved = MovedClock(instant)
        died = run_and_die(folder, moved, number)
        check_what_the_dead_left(folder, moved, before)
        moved.move(timedelta(seconds=5))
        check_the_converged(folder, moved, converge(folder, moved))
        shutil.rmtree(folder)
        if not died:
            break
    assert number > 60, "the turn had less to do than it was meant to"


@pytest.mark.parametrize("first", range(SHARES))
def test_death_at_any_event_of_the_very_first_turn(sandbox: Path, first: int) -> None:
    """Where nothing was yet: repository, lease, first dump and first copy."""
    for number in count(first, SHARES):
        folder = sandbox / str(number)
        folder.mkdir()
        clock = MovedClock()
        died = run_and_die(folder, clock, number)
        check_what_the_dead_left(folder, clock, set())
        clock.move(timedelta(seconds=5))
        check_the_converged(folder, clock, converge(folder, clock))
        shutil.rmtree(folder)
        if not died:
            break
    assert number > 30, "the turn had less to do than it was meant to"


def test_an_undisturbed_turn_does_all_kinds_of_work(sandbox: Path) -> None:
    """What the deaths above interrupt is the whole of it: this holds the scenario to that."""
    clock = begin(sandbox)
    kinds: list[str] = []

    def note(event: Event) -> None:
        if type(event).__name__ == "Began":
            kinds.append(getattr(event, "says", "").split(" ")[0])

    turn(make_world(sandbox, clock, tell=note), WANT, DUTIES, Consent())

    assert {"take", "copy", "prune", "remove", "sweep"} == set(kinds)
