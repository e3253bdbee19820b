"""A dump lands on the next target when the first takes nothing; whose fault it was is told apart."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from reconciler.duties.dumps import TakeDump
from reconciler.errors import Refused, Unreachable
from reconciler.targets.local_target import LocalTarget
from reconciler.world.facts import Identity
from reconciler.world.ports import AS_USUAL, DumpOptions, Stored, Target, World
from reconciler.world.through import Through
from tests.backups.faking import ROWS, FakeDump, FakeSource, MovedClock, Trouble, catalogue, content, make_world, states, take
from tests.building import HOTEL, policy

WANT = policy(targets=("primary", "offsite"))


class Full(Through):
    """Can be listed and read. Takes records for a while, and then nothing more."""

    def __init__(self, target: Target, failing: Callable[[str], bool]) -> None:
        super().__init__(target)
        self._failing = failing

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        if self._failing(key):
            for _ in chunks:
                raise Refused(f"{self.name}: no space left on device")
        return super().write(key, chunks, expect=expect, keep_until=keep_until)


def begun(
    tmp_path: Path, clock: MovedClock, failing: Callable[[str], bool], source: FakeSource | None = None
) -> tuple[World, str]:
    """A database with one backup on both, and from now on a first target that takes nothing."""
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
    world = make_world(tmp_path, clock, targets=targets)
    take(world)
    repository = catalogue(world).repository
    assert repository is not None
    full = make_world(tmp_path, clock, source, targets=targets | {"primary": Full(targets["primary"], failing)})
    return full, repository.id


def dump(world: World, repository: str) -> str:
    return TakeDump(database="hotel", target="primary", slot=None, repository=repository, identity=HOTEL).perform(world, WANT)


@pytest.mark.parametrize("part", ["intent.json", "globals.json.zst", "dump.zst", "manifest.json"])
def test_a_full_first_target(tmp_path: Path, clock: MovedClock, part: str) -> None:
    """Whenever it turns out to be full: no half of a dump counts there, all of it is on the next, and both are said."""
    world, repository = begun(tmp_path, clock, lambda key: key.endswith(part))
    said = dump(world, repository)
    (backup,) = states(world, "offsite")

    assert b"".join(ROWS) == content(world, backup, "offsite")
    # Once its manifest was sent, only a later turn may say what this is.
    assert ["debris", "whole"][part != "manifest.json" :] == sorted(states(world, "primary").values())
    assert said.startswith(f"{backup} on offsite:")
    assert "not on primary: no space left on device" in said


@pytest.mark.parametrize("part", ["repository.json", "intent.json", "dump.zst"])
def test_the_very_first_dump(tmp_path: Path, clock: MovedClock, part: str) -> None:
    """It begins the repository too: a target that takes nothing, from the start or later, does not cost it either."""
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
    full = Full(targets["primary"], lambda key: key.endswith(part))
    world = make_world(tmp_path, clock, targets=targets | {"primary": full})
    action = TakeDump(database="hotel", target="primary", slot=None, repository=None, identity=HOTEL)
    said = action.perform(world, WANT)
    (backup,) = states(world, "offsite")

    assert b"".join(ROWS) == content(world, backup, "offsite")
    assert "not on primary: no space left on device" in said
    begun = [catalogue(world, name).repository for name in ("primary", "offsite")]
    assert 1 == len({one.id for one in begun if one is not None})


def test_all_targets_are_full(tmp_path: Path, clock: MovedClock) -> None:
    """The first one's failure is the one that is told."""
    world, repository = begun(tmp_path, clock, lambda key: key.endswith("intent.json"))
    both = make_world(tmp_path, clock, targets={name: Full(target, lambda _: True) for name, target in world.targets.items()})
    with pytest.raises(Refused, match="primary: no space"):
        dump(both, repository)


@pytest.mark.parametrize("trouble", ["at the start", "half-way"])
def test_a_source_that_fails_is_asked_once(tmp_path: Path, clock: MovedClock, trouble: Trouble) -> None:
    """Another target would not help: a long dump that breaks is not begun again on each."""
    source = Counted(clock, trouble=trouble)
    world, repository = begun(tmp_path, clock, lambda _: False, source)

    with pytest.raises(Unreachable):
        dump(world, repository)
    assert 1 == source.dumps
    assert states(world, "offsite") == {}


class Counted(FakeSource):
    """Says how often it was dumped."""

    dumps = 0

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[FakeDump]:
        self.dumps += 1
        with super().dump(backup_id, expect=expect, options=options) as dump:
            yield dump


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()
