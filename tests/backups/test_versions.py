"""On a store that keeps versions: nothing is hidden unnoticed, and what is removed is removed with all its versions."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.backups.erase import erase, erase_object
from reconciler.backups.layout import backup_root, object_key
from reconciler.duties import DUTIES
from reconciler.errors import Refused, Unreachable
from reconciler.planning.plan import Consent
from reconciler.targets.local_target import LocalTarget
from reconciler.turn import turn
from reconciler.world.ports import Stored, Upload, World
from reconciler.world.through import Through
from tests.backups.faking import MovedClock, VersionedTarget, at_effect, bury, make_world, states, take
from tests.building import HOUR, NOW, policy, retention

WANT = policy("0 * * * *", ("primary",), retention(grace="1h", keep_last=2))


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def store(clock: MovedClock) -> VersionedTarget:
    return VersionedTarget("primary", clock)


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock, store: VersionedTarget) -> World:
    return make_world(tmp_path, clock, targets={"primary": store})


def versions(world: World, prefix: str) -> tuple[Stored, ...]:
    return world.targets["primary"].list(prefix, versions=True).items


def test_a_life_of_five_hours(world: World, clock: MovedClock) -> None:
    """Backups come, are pruned and go; of what went not one version is left but its tombstone, and no intent ever was."""
    for _ in range(5):
        assert {"done"} == {outcome.result for outcome in turn(world, WANT, DUTIES, Consent()).outcomes}
        clock.move(HOUR)
    ids = {item.key.split("/")[2] for item in versions(world, "hotel/backups/")}
    gone = ids - set(states(world))

    assert 2 == len(gone)
    for backup in gone:
        assert ["tombstone"] == [item.key.split("/")[3][:9] for item in versions(world, backup_root("hotel", backup))]
    assert not [item for item in versions(world, "hotel/") if item.key.endswith("intent.json")]


def test_a_manifest_that_somebody_deleted_is_hidden(world: World) -> None:
    """Neither an orphan nor gone: reported, and left as it is."""
    backup = take(world)
    world.targets["primary"].delete(object_key("hotel", backup, "manifest.json"))
    turn(world, WANT, DUTIES, Consent())

    assert "hidden" == states(world)[backup]
    assert 2 == len(versions(world, object_key("hotel", backup, "manifest.json")))


@pytest.mark.parametrize("number", range(8))
def test_an_erasure_cut_short_anywhere(tmp_path: Path, clock: MovedClock, store: VersionedTarget, number: int) -> None:
    """The manifest is gone first, and no older version of it makes a backup of what is left; met again, it ends."""

    def fail() -> None:
        raise Unreachable("no answer")

    world = make_world(tmp_path, clock, targets={"primary": store})
    backup = take(world)
    manifest = object_key("hotel", backup, "manifest.json")
    store.write(manifest, [b"".join(store.read(manifest))])
    bury(world, backup, clock.now())
    cut = make_world(tmp_path, clock, targets={"primary": store}, tell=at_effect(number, fail))

    with pytest.raises(Unreachable):
        erase(cut.targets["primary"], "hotel", backup, now=clock.now())
    assert "being_deleted" == states(world).get(backup, "being_deleted")
    erase(store, "hotel", backup, now=clock.now())
    assert ["tombstone"] == [item.key.split("/")[3][:9] for item in versions(world, backup_root("hotel", backup))]


def test_a_hold_protects_every_version(world: World, store: VersionedTarget, clock: MovedClock) -> None:
    """Until it is taken away, also where it was taken away once before."""
    backup = take(world)
    key = object_key("hotel", backup, "hold.json")
    store.write(key, [b"{}"])
    with pytest.raises(Refused, match="cannot be read"):
        erase(store, "hotel", backup, now=clock.now())
    assert {backup: "whole"} == states(world)

    store.delete(key)
    erase(store, "hotel", backup, now=clock.now())
    assert () == versions(world, backup_root("hotel", backup))


def test_one_object_goes_with_its_versions_and_no_neighbour(store: VersionedTarget, world: World) -> None:
    """Keys that begin alike are other keys."""
    for text in (b"1", b"2"):
        store.write("hotel/x", [text])
        store.write("hotel/xy", [text])
    erase_object(store, "hotel/x")

    assert ["hotel/xy", "hotel/xy"] == [item.key for item in versions(world, "hotel/")]


class LeavesSomething(Through):
    """Aborting an unfinished write leaves an object there, as on a store whose answer was lost."""

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        return (Upload(key=f"{prefix}dump.zst", upload_id="1", begun=NOW),)

    def abort(self, upload: Upload) -> None:
        self.write(upload.key, [b""])


def test_what_aborting_leaves_goes_too(tmp_path: Path, clock: MovedClock) -> None:
    """With the intent gone, nothing would ever tell whose it is."""
    inside = LocalTarget("primary", tmp_path, clock=clock)
    inside.write(object_key("hotel", "20251025T020000Z-3f9c2a", "intent.json"), [b"{}"])
    erase(LeavesSomething(inside), "hotel", "20251025T020000Z-3f9c2a", now=NOW)

    assert () == inside.list("").items
