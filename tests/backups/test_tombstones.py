"""Tombstones that nobody should believe: whoever may write to a store can put one there, with any date in it."""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from reconciler.backups.claim import Watch
from reconciler.backups.layout import MANIFEST, object_key, tombstone_key
from reconciler.backups.manifest import encode
from reconciler.backups.signing import Signature, new_pair
from reconciler.backups.tombstones import LATE, as_met, read_tombstone, write_tombstone
from reconciler.duties.keeping import UndeleteBackup
from reconciler.duties.leftovers import FinishDeletion, due
from reconciler.duties.retention import PruneBackup
from reconciler.errors import Corrupt, Refused
from reconciler.observe import observe
from reconciler.policy.secret import Revealed
from reconciler.world.facts import Tombstone
from reconciler.world.ports import Signatures, World
from tests.backups.faking import MovedClock, VersionedTarget, bury, catalogue, make_world, states, take
from tests.building import DAY, HOUR, MINUTE, NOW, planned, policy, retention

KEY, PUBLIC = new_pair()
HIS_KEY, HIS_PUBLIC = new_pair()
OURS = Signatures(public_keys=(PUBLIC,), signing_key=lambda: Revealed(KEY))
HIS = Signatures(public_keys=(HIS_PUBLIC,), signing_key=lambda: Revealed(HIS_KEY))
UNSIGNED = Signatures()
WANT = policy(targets=("primary", "offsite"), keep=retention(grace="2h", keep_last=1))


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock) -> World:
    """One whose policy pins our key."""
    return msgspec.structs.replace(make_world(tmp_path, clock), signatures=OURS)


def stone(backup: str, at: datetime = NOW, grace: timedelta = 0 * DAY) -> Tombstone:
    return Tombstone(id=backup, at=at, due=at + grace, reason="not kept by retention")


def put(world: World, record: Tombstone, signatures: Signatures, target: str = "primary") -> str:
    """Under the key that it belongs to."""
    write_tombstone(world.targets[target], "hotel", record, signatures)
    return tombstone_key("hotel", record.id, record.due)


def finish(world: World, backup: str) -> str:
    return FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)


def by_another_key(world: World, record: Tombstone) -> None:
    put(world, record, HIS)


def by_nobody(world: World, record: Tombstone) -> None:
    put(world, record, UNSIGNED)


def dated_back(world: World, record: Tombstone) -> None:
    """One of ours, that was due much later."""
    key = put(world, msgspec.structs.replace(record, due=record.due + 30 * DAY), OURS)
    text = msgspec.json.decode(world.targets["primary"].read(key).__iter__().__next__())
    world.targets["primary"].delete(key)
    text["due"] = msgspec.json.decode(msgspec.json.encode(record.due))
    world.targets["primary"].write(tombstone_key("hotel", record.id, record.due), [msgspec.json.encode(text)])


def of_another_backup(world: World, record: Tombstone) -> None:
    """One of ours, that condemned another."""
    key = put(world, msgspec.structs.replace(record, id="20251020T020000Z-3f9c2a"), OURS)
    text = b"".join(world.targets["primary"].read(key))
    world.targets["primary"].delete(key)
    ours = text.replace(b"20251020T020000Z-3f9c2a", record.id.encode())
    world.targets["primary"].write(tombstone_key("hotel", record.id, record.due), [ours])


def under_our_name(world: World, record: Tombstone) -> None:
    """His signature, said to be by our key."""
    key = put(world, record, HIS)
    text = b"".join(world.targets["primary"].read(key)).replace(HIS_PUBLIC.encode(), PUBLIC.encode())
    world.targets["primary"].write(key, [text])


FORGED = [by_another_key, by_nobody, dated_back, of_another_backup, under_our_name]


class TestWhereKeysArePinned:
    def test_ours_is_carried_out(self, world: World, clock: MovedClock) -> None:
        """Signed by whoever prunes, and read back by whoever removes."""
        backup = take(world)
        PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        (record,) = catalogue(world).tombstones
        assert ("deleted", NOW + 2 * HOUR) == (states(world)[backup], record.due)

        clock.move(2 * HOUR)
        assert "being_deleted" == states(world)[backup]
        assert "removed for good" in finish(world, backup)
        assert () == catalogue(world).copies

    @pytest.mark.parametrize("forge", FORGED)
    def test_a_forged_one_removes_nothing(self, world: World, forge: object) -> None:
        """It is told as an error, and `undelete` takes it away."""
        backup = take(world)
        forge(world, stone(backup, NOW - 40 * DAY))  # type: ignore[operator]

        assert "deleted" == states(world)[backup]
        assert () == catalogue(world).tombstones
        with pytest.raises(Corrupt, match="sign"):
            finish(world, backup)
        asked = due(WANT, observe(world, WANT, Watch(world.clock, world.process)), NOW)
        assert () == asked.steps
        (finding,) = (found for found in asked.findings if found.severity == "error")
        assert "a tombstone that can't be believed" in finding.what

        UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert "whole" == states(world)[backup]

    @pytest.mark.parametrize("forge", FORGED)
    def test_a_forged_one_that_is_all_that_lies_there(self, world: World, forge: object) -> None:
        """No copy is tried beside it, turn after turn; it is told, and left to a person."""
        backup, far = take(world), world.targets["offsite"]
        swapped = msgspec.structs.replace(world, targets={**world.targets, "primary": far})
        forge(swapped, stone(backup, NOW - 40 * DAY))  # type: ignore[operator]

        asked = planned(WANT, observe(world, WANT, Watch(world.clock, world.process)))
        assert [] == [step.action for step in asked.steps if backup in step.action.parameters.values()]
        (finding,) = (found for found in asked.findings if found.where == "offsite")
        assert ("warning", True) == (finding.severity, f"1 backup, the newest {backup}" in finding.what)
        assert (backup,) == catalogue(world, "offsite").doubted

    def test_beside_one_of_ours(self, world: World, clock: MovedClock) -> None:
        """What can't be believed might say later, as one that is torn might."""
        backup = take(world)
        PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        put(world, stone(backup), UNSIGNED)
        clock.move(3 * HOUR)

        assert "deleted" == states(world)[backup]

    def test_one_that_stands_where_ours_would(self, world: World) -> None:
        """It is not taken for the answer to our own write."""
        backup = take(world)
        put(world, stone(backup, grace=2 * HOUR), HIS)

        with pytest.raises(Corrupt, match="a key that the policy does not pin"):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)

    def test_without_a_signing_key(self, world: World) -> None:
        """Whoever can't sign deletes nothing: it would be believed by nobody."""
        backup = take(world)
        keyless = msgspec.structs.replace(world, signatures=Signatures(public_keys=(PUBLIC,)))

        with pytest.raises(Refused, match="backups and tombstones must be signed"):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(keyless, WANT)
        assert "whole" == states(world)[backup]

    def test_what_is_signed(self, world: World) -> None:
        """All that it says, and nothing else: the rest of the record, as it is written."""
        backup = take(world)
        record = stone(backup, grace=HOUR)
        key = put(world, record, OURS)

        told = msgspec.json.decode(b"".join(world.targets["primary"].read(key)))
        signature = msgspec.convert(told.pop("signature"), Signature)
        assert PUBLIC == signature.public_key
        assert told == msgspec.json.decode(encode(record))
        assert record == read_tombstone(world.targets["primary"], key, backup=backup, signatures=OURS)
        assert record == read_tombstone(world.targets["primary"], key, backup=backup, signatures=UNSIGNED)


class TestItsGrace:
    @pytest.mark.parametrize(
        ("after", "due"),
        [(0 * DAY, 2 * DAY), (LATE, 2 * DAY), (LATE + MINUTE, LATE + MINUTE + 2 * DAY), (9 * DAY, 11 * DAY)],
    )
    def test_is_counted_from_when_it_came(self, after: timedelta, due: timedelta) -> None:
        """A write that took its time changes nothing; one that was put back has all its grace again, where it is signed."""
        record = stone("20251020T020000Z-3f9c2a", grace=2 * DAY)

        assert NOW + due == as_met(record, NOW + after, OURS).due
        assert record == as_met(record, NOW + after, UNSIGNED)

    @pytest.mark.parametrize("grace", [0 * HOUR, 2 * HOUR])
    def test_is_a_day_at_least(self, grace: timedelta) -> None:
        """Where it came late: one without grace would be carried out at once, whoever puts it back. Mere debris may go."""
        record = stone("20251020T020000Z-3f9c2a", grace=grace)
        debris = msgspec.structs.replace(record, counts=False)

        assert NOW + 9 * DAY + DAY == as_met(record, NOW + 9 * DAY, OURS).due
        assert NOW + 9 * DAY + grace == as_met(debris, NOW + 9 * DAY, OURS).due
        assert record == as_met(record, NOW, OURS) == as_met(record, NOW + 9 * DAY, UNSIGNED)

    @pytest.mark.parametrize("grace", [0 * HOUR, 2 * HOUR, 2 * DAY])
    def test_an_old_one_that_is_put_back(self, world: World, clock: MovedClock, grace: timedelta) -> None:
        """Once it was taken back, its signature still holds; but nothing goes at once by it."""
        backup = take(world)
        key = put(world, stone(backup, grace=grace), OURS)
        text = b"".join(world.targets["primary"].read(key))
        world.targets["primary"].delete(key)
        clock.move(5 * DAY)
        world.targets["primary"].write(key, [text])

        assert "deleted" == states(world)[backup]
        with pytest.raises(Refused, match="may not be removed yet"):
            finish(world, backup)
        (copy,) = catalogue(world).copies
        assert f"its tombstone came anew {world.clock.now():%Y-%m-%d %H:%MZ}" in copy.why
        asked = due(WANT, observe(world, WANT, Watch(world.clock, world.process)), world.clock.now())
        (finding,) = (found for found in asked.findings if found.severity == "warning")
        assert "the grace of 1 deleted backup began anew" in finding.what
        clock.move(max(grace, DAY))
        assert "removed for good" in finish(world, backup)


@pytest.mark.parametrize("signatures", [OURS, UNSIGNED], ids=["that we wrote for debris of a copy", "that anybody wrote"])
class TestOneOfMereDebris:
    """It says that there never was a backup, so no rule counts what goes by it; signed ones can be had where a copy failed."""

    def test_on_a_whole_backup(self, tmp_path: Path, clock: MovedClock, signatures: Signatures) -> None:
        """The manifest says otherwise: nothing goes by it, it is told as an error, and `undelete` takes it away."""
        world = msgspec.structs.replace(make_world(tmp_path, clock), signatures=signatures)
        backup = take(world)
        put(world, msgspec.structs.replace(stone(backup, NOW - 40 * DAY), counts=False), signatures)

        assert "deleted" == states(world)[backup]
        asked = planned(WANT, observe(world, WANT, Watch(world.clock, world.process)))
        assert [] == [step.action for step in asked.steps if step.action.effect == "delete"]
        (finding,) = (found for found in asked.findings if found.severity == "error")
        assert "says that there never was a backup" in finding.what
        with pytest.raises(Corrupt, match="never was a backup"):
            finish(world, backup)

        UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert "whole" == states(world)[backup]

    def test_on_one_whose_manifest_is_hidden(self, tmp_path: Path, clock: MovedClock, signatures: Signatures) -> None:
        """A marker over it changes nothing."""
        store = VersionedTarget("primary", clock)
        world = msgspec.structs.replace(make_world(tmp_path, clock, targets={"primary": store}), signatures=signatures)
        backup = take(world)
        store.delete(object_key("hotel", backup, MANIFEST))
        put(world, msgspec.structs.replace(stone(backup, NOW - 40 * DAY), counts=False), signatures)

        assert "deleted" == states(world)[backup]
        with pytest.raises(Corrupt, match="never was a backup"):
            finish(world, backup)


@pytest.mark.parametrize("instant", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("which", ["at", "due"])
def test_an_instant_at_the_end_of_the_calendar(tmp_path: Path, clock: MovedClock, instant: str, which: str) -> None:
    """Nothing can be reckoned from it: it is not believed, and no turn fails for its sake."""
    world = make_world(tmp_path, clock)
    backup = take(world)
    bury(world, backup, NOW - 9 * DAY)
    (listed,) = (item for item in world.targets["primary"].list("hotel/backups/").items if "tombstone-" in item.key)
    text = msgspec.json.decode(b"".join(world.targets["primary"].read(listed.key))) | {which: instant}
    world.targets["primary"].write(listed.key, [msgspec.json.encode(text)])

    assert "deleted" == states(world)[backup]
    asked = planned(WANT, observe(world, WANT, Watch(world.clock, world.process)))
    (finding,) = (found for found in asked.findings if backup in found.what)
    assert ("error", True) == (finding.severity, f"{which} tells" in finding.what)


def test_what_came_is_told_of_those_that_nobody_signed(tmp_path: Path, clock: MovedClock) -> None:
    """By the store's clock, whatever they say."""
    world = make_world(tmp_path, clock)
    backup = take(world)
    clock.move(HOUR)
    bury(world, backup, NOW - 9 * DAY)

    assert {backup: NOW + HOUR} == catalogue(world).came
    assert {} == catalogue(msgspec.structs.replace(world, signatures=OURS)).came
    assert world.targets["primary"].read(object_key("hotel", backup, MANIFEST)).stored.modified == NOW
