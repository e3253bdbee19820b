"""On a store that keeps versions: nothing is hidden unnoticed, and what is removed is removed with all its versions."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from reconciler.backups.erase import erase, erase_object
from reconciler.backups.layout import REMEMBERED, backup_root, object_key
from reconciler.backups.signing import new_pair
from reconciler.backups.tombstones import write_tombstone
from reconciler.duties import DUTIES
from reconciler.duties.keeping import UndeleteBackup
from reconciler.duties.leftovers import FinishDeletion, ForgetTombstone, SweepDebris
from reconciler.errors import Conflict, Refused, Unreachable
from reconciler.planning.plan import Consent
from reconciler.policy.secret import Revealed
from reconciler.targets.local_target import LocalTarget
from reconciler.turn import turn
from reconciler.world.facts import Tombstone
from reconciler.world.ports import Signatures, Stored, Upload, World
from reconciler.world.through import Through
from tests.backups.faking import MovedClock, VersionedTarget, at_effect, bury, catalogue, claim_text, make_world, states, take
from tests.building import DAY, HOUR, NOW, policy, retention

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


class TestAThiefWhoMayWriteAndHide:
    """His markers keep all versions; ours alone is the right to delete them."""

    @pytest.fixture
    def hidden(self, world: World, store: VersionedTarget, clock: MovedClock) -> str:
        """A whole backup, all of it behind markers, and a tombstone of his as well."""
        backup = take(world)
        clock.move(40 * DAY)
        bury(world, backup, NOW)
        for item in store.list(backup_root("hotel", backup)).items:
            store.delete(item.key)
        return backup

    def test_a_backup_and_a_tombstone_beside_it(self, world: World, hidden: str) -> None:
        """It is told: ours lie there for a month before we hide them. All of it can be brought back."""
        assert {hidden: "hidden"} == states(world)

        UndeleteBackup(database="hotel", backup=hidden, targets=("primary",)).perform(world, WANT)
        assert {hidden: "whole"} == states(world)

    def test_a_later_marker_on_the_tombstone(self, world: World, hidden: str, store: VersionedTarget, clock: MovedClock) -> None:
        """It lay there in sight for an instant all the same."""
        clock.move(40 * DAY)
        store.delete(bury(world, hidden, NOW))

        assert {hidden: "hidden"} == states(world)

    def test_an_intent_of_nobodys(self, world: World, hidden: str, store: VersionedTarget) -> None:
        """It does not make debris of the backup: nothing is swept, planned or not."""
        store.write(object_key("hotel", hidden, "intent.json"), [claim_text(None)])
        before = versions(world, backup_root("hotel", hidden))
        turn(world, WANT, DUTIES, Consent())

        assert "hidden" == states(world)[hidden]
        assert before == versions(world, backup_root("hotel", hidden))
        with pytest.raises(Conflict, match="is hidden"):
            SweepDebris(database="hotel", backup=hidden, target="primary").perform(world, WANT)

    @pytest.mark.parametrize("signed", [True, False], ids=["an old one of ours, or one that is due later", "one that he wrote"])
    def test_a_tombstone_in_sight(self, world: World, store: VersionedTarget, clock: MovedClock, signed: bool) -> None:
        """What it says is not due yet, or is believed by nobody: it does not explain that all else is hidden."""
        key, public = new_pair()
        pinned = Signatures(public_keys=(public,), signing_key=lambda: Revealed(key))
        world = msgspec.structs.replace(world, signatures=pinned)
        backup = take(world)
        record = Tombstone(id=backup, at=NOW, due=NOW + HOUR, reason="not kept by retention")
        clock.move(9 * DAY)
        write_tombstone(store, "hotel", record, pinned if signed else Signatures())
        for item in store.list(backup_root("hotel", backup)).items:
            if "tombstone" not in item.key:
                store.delete(item.key)

        assert {backup: "hidden"} == states(world)
        assert () == catalogue(world).doubted

        store.write(object_key("hotel", backup, "intent.json"), [claim_text(None)])
        clock.move(DAY)
        assert {backup: "hidden"} == states(world), "with an intent beside it, and once it is due"

        UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert {backup: "whole"} == states(world)

    def test_a_signature_alone(self, world: World, store: VersionedTarget) -> None:
        """It is no backup that nobody vouches for: it is hidden, and told and brought back as such."""
        key, public = new_pair()
        pinned = Signatures(public_keys=(public,), signing_key=lambda: Revealed(key))
        world = msgspec.structs.replace(world, signatures=pinned)
        backup = take(world)
        store.delete(object_key("hotel", backup, "manifest.sig"))

        (copy,) = catalogue(world).copies
        assert ("hidden", False, None) == (copy.state, copy.is_unsigned, copy.repository)
        assert "hides manifest.sig" in copy.why
        UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert {backup: "whole"} == states(world)


class HidesOnly(Through):
    """For a key that may not delete versions."""

    def delete(self, key: str, *, version: str | None = None) -> None:
        if version is not None:
            raise Refused("403", cure="give s3:DeleteObjectVersion")
        super().delete(key)


class TestAHiddenTombstoneThatBuriedNothing:
    """It lay there for a month, and is none that we hid a month after it was due, last of all."""

    @pytest.fixture
    def world(self, tmp_path: Path, store: VersionedTarget, clock: MovedClock) -> World:
        return make_world(tmp_path, clock, targets={"primary": HidesOnly(store)})

    def test_taken_back(self, world: World, store: VersionedTarget, clock: MovedClock) -> None:
        """An undelete hid it, long before somebody hid the backup: that is told, and an intent makes no debris of it."""
        backup = take(world)
        bury(world, backup, NOW)
        clock.move(40 * DAY)
        UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert {backup: "whole"} == states(world)

        clock.move(DAY)
        hide(store, backup)
        store.write(object_key("hotel", backup, "intent.json"), [claim_text(None)])
        assert {backup: "hidden"} == states(world)

    def test_due_later(self, world: World, store: VersionedTarget, clock: MovedClock) -> None:
        """As a long grace or a lock makes it: hidden with the rest, it takes nothing away that can still come back."""
        backup = take(world)
        bury(world, backup, NOW + 60 * DAY)
        clock.move(40 * DAY)
        hide(store, backup)

        assert {backup: "hidden"} == states(world)

    def test_the_rest_put_there_anew(self, world: World, store: VersionedTarget, clock: MovedClock) -> None:
        """What we hid and forgot came back, as from a target that was away: that somebody hides it is told."""
        backup = take(world)
        contents = {item.key: b"".join(store.read(item.key)) for item in store.list(backup_root("hotel", backup)).items}
        let_go(world, backup, clock)
        clock.move(DAY)
        for key, content in contents.items():
            store.write(key, [content])
        assert {backup: "whole"} == states(world)

        clock.move(DAY)
        hide(store, backup)
        assert {backup: "hidden"} == states(world)


def hide(store: VersionedTarget, backup: str) -> None:
    """All of it, behind markers."""
    for item in store.list(backup_root("hotel", backup)).items:
        store.delete(item.key)


def let_go(world: World, backup: str, clock: MovedClock) -> None:
    """By a tombstone that is due, which is forgotten in its time."""
    bury(world, backup, clock.now())
    FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
    clock.move(REMEMBERED)
    ForgetTombstone(database="hotel", backup=backup, target="primary").perform(world, WANT)


def test_hidden_long_before_it_was_given_up(tmp_path: Path, store: VersionedTarget, clock: MovedClock) -> None:
    """Somebody put the manifest back over a marker: it is not hidden since then, and what we hid later stays gone."""
    world = make_world(tmp_path, clock, targets={"primary": HidesOnly(store)})
    backup = take(world)
    manifest = object_key("hotel", backup, "manifest.json")
    content = b"".join(store.read(manifest))
    store.delete(manifest)
    clock.move(DAY)
    store.write(manifest, [content])
    clock.move(DAY)
    bury(world, backup, clock.now())
    FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)

    assert {} == states(world)


def test_hidden_twice(world: World, store: VersionedTarget) -> None:
    """A store puts a second marker over the first: all of them are taken away."""
    backup = take(world)
    hide(store, backup)
    store.delete(object_key("hotel", backup, "manifest.json"))
    UndeleteBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)

    assert {backup: "whole"} == states(world)


def test_what_we_hid_ourselves_stays_gone(tmp_path: Path, store: VersionedTarget, clock: MovedClock) -> None:
    """Also when its tombstone is forgotten, which is hidden then as well."""
    world = make_world(tmp_path, clock, targets={"primary": HidesOnly(store)})
    backup = take(world)
    bury(world, backup, NOW)
    FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
    clock.move(REMEMBERED)
    ForgetTombstone(database="hotel", backup=backup, target="primary").perform(world, WANT)

    assert {} == states(world)
    assert () == catalogue(world).tombstones


def test_two_months_of_hiding(tmp_path: Path, store: VersionedTarget, clock: MovedClock) -> None:
    """Backups are pruned, hidden and forgotten day by day, and none of that is ever told as another's work."""
    world = make_world(tmp_path, clock, targets={"primary": HidesOnly(store)})
    want = policy("0 2 * * *", ("primary",), retention(grace="1d", keep_last=2))
    seen: set[str] = set()
    for _ in range(60):
        done = turn(world, want, DUTIES, Consent())
        assert {"done"} == {outcome.result for outcome in done.outcomes}
        seen |= {*states(world).values(), *(found.severity for found in done.after.findings)}
        clock.move(DAY)

    assert {"whole", "deleted", "note"} == seen
    assert 60 == len({item.key.split("/")[2] for item in versions(world, "hotel/backups/")})
    assert 32 > len(catalogue(world).tombstones)


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
