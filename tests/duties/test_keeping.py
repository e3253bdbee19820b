"""Holds, freezes, pins, deletion by name and back, adoption: what stays, and what a person may let go."""

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from secrets import token_bytes

import msgspec
import pytest

from reconciler.apply import apply
from reconciler.backups import layout
from reconciler.backups.catalogue import MARKED
from reconciler.backups.claim import Watch
from reconciler.backups.keeping import Freeze, change_freeze, read_freeze
from reconciler.backups.manifest import decode
from reconciler.backups.pins import pinned
from reconciler.backups.records import read_repository, read_whole
from reconciler.duties import DUTIES
from reconciler.duties.adopting import AdoptBackup, plan_adopt, plan_adopt_backup, rebind
from reconciler.duties.copies import CopyBackup
from reconciler.duties.holding import HoldBackup, ReleaseBackup
from reconciler.duties.keeping import (
    FreezeDeletions,
    LiftFreeze,
    RemovePin,
    plan_delete,
    plan_undelete,
)
from reconciler.duties.leftovers import FinishDeletion
from reconciler.duties.retention import PruneBackup
from reconciler.errors import Conflict, Corrupt, Refused
from reconciler.observe import observe
from reconciler.planning.plan import Consent, Plan, Shown, Step
from reconciler.planning.planner import plan
from reconciler.turn import turn
from reconciler.world.facts import Backup, Filters, Identity, Observation
from reconciler.world.ports import ABSENT, World
from tests.backups.faking import (
    ROWS,
    Interrupted,
    Lossy,
    MovedClock,
    VersionedTarget,
    bury,
    catalogue,
    claim_text,
    content,
    make_world,
    states,
    stranger,
    take,
)
from tests.building import HOUR, NOW, copy, observation, policy, retention
from tests.building import catalogue as catalogue_of

WANT = policy("0 * * * *", ("primary",), retention(grace="7d", keep_last=2))
WEEK = timedelta(days=7)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock) -> World:
    return make_world(tmp_path, clock, names=("primary",))


def look(world: World) -> Observation:
    return observe(world, WANT, Watch(world.clock, world.process))


def planned(world: World) -> Plan:
    return plan(DUTIES, WANT, look(world), world.clock.now(), policy_digest="")


def several(world: World, clock: MovedClock, count: int) -> list[str]:
    """Oldest first."""
    made = []
    for _ in range(count):
        made.append(take(world, repository=repository_of(world)))
        clock.move(HOUR)
    return made


def repository_of(world: World) -> str | None:
    found = catalogue(world).repository
    return found.id if found else None


def the(world: World, backup: str) -> Backup:
    return next(one for one in look(world).backups() if one.id == backup)


def drop_manifest(world: World, backup: str) -> None:
    """As a writer leaves it that died before the manifest."""
    owner = world.process.begin()
    world.process.end(owner)
    world.targets["primary"].write(layout.object_key("hotel", backup, layout.INTENT), [claim_text(owner)])
    world.targets["primary"].delete(layout.object_key("hotel", backup, layout.MANIFEST))


class TestHolds:
    def hold(self, world: World, backup: str, *, until: timedelta | None = None) -> None:
        end = world.clock.now() + until if until else None
        HoldBackup(database="hotel", backup=backup, targets=("primary",), who="ana", why="legal 7", until=end).perform(
            world, WANT
        )

    def test_a_held_one_is_never_pruned(self, world: World, clock: MovedClock) -> None:
        """Retention would let it go; the plan shows no prune of it until it is released."""
        oldest, *_ = several(world, clock, 4)
        self.hold(world, oldest)
        before = {step.action.loses for step in planned(world).steps} - {None}
        ReleaseBackup(database="hotel", backup=oldest, targets=("primary",)).perform(world, WANT)
        after = {step.action.loses for step in planned(world).steps} - {None}

        assert oldest not in before
        assert oldest in after

    def test_it_is_seen_as_long_as_it_lasts(self, world: World, clock: MovedClock) -> None:
        """In every plan, with who, why and how it ends: what nobody sees is never released."""
        newest = several(world, clock, 3)[-1]
        self.hold(world, newest)
        (note,) = [finding for finding in planned(world).findings if newest in finding.what]

        assert ("note", "primary") == (note.severity, note.where)
        assert 'by ana: "legal 7"' in note.what
        assert "backups release" in note.cure

    def test_it_says_who_and_why(self, world: World, clock: MovedClock) -> None:
        """Whoever meets it knows whom to ask."""
        (backup,) = several(world, clock, 1)
        self.hold(world, backup)

        assert 'held by ana: "legal 7"' == the(world, backup).copies["primary"].held

    def test_it_ends_by_itself(self, world: World, clock: MovedClock) -> None:
        """At the date that was given."""
        (backup,) = several(world, clock, 1)
        self.hold(world, backup, until=HOUR)
        clock.move(2 * HOUR)

        assert "" == the(world, backup).copies["primary"].held

    def test_a_prune_that_was_planned_before_it(self, world: World, clock: MovedClock) -> None:
        """The hold came between plan and prune: it is met there."""
        oldest, *_ = several(world, clock, 4)
        self.hold(world, oldest)

        with pytest.raises(Refused, match="legal 7"):
            PruneBackup(database="hotel", backup=oldest, targets=("primary",)).perform(world, WANT)
        assert "whole" == states(world)[oldest]

    @pytest.mark.parametrize("until", [timedelta(0), -HOUR], ids=["now", "an hour ago"])
    def test_an_end_that_has_passed(self, world: World, clock: MovedClock, until: timedelta) -> None:
        """Nothing would be held, so it is refused."""
        (backup,) = several(world, clock, 1)
        action = HoldBackup(
            database="hotel", backup=backup, targets=("primary",), who="ana", why="legal", until=clock.now() + until
        )
        with pytest.raises(Refused, match="has passed"):
            action.perform(world, WANT)

    @pytest.mark.parametrize("first", [None, 3 * HOUR], ids=["for ever", "for longer"])
    def test_anothers_hold_is_not_shortened(self, world: World, clock: MovedClock, first: timedelta | None) -> None:
        """Who wants to end it says so."""
        (backup,) = several(world, clock, 1)
        self.hold(world, backup, until=first)
        before = the(world, backup).copies["primary"].held

        with pytest.raises(Refused, match="for longer: held"):
            self.hold(world, backup, until=HOUR)
        assert before == the(world, backup).copies["primary"].held

    def test_a_hold_is_made_longer(self, world: World, clock: MovedClock) -> None:
        """That takes nothing away."""
        (backup,) = several(world, clock, 1)
        self.hold(world, backup, until=HOUR)
        self.hold(world, backup)
        clock.move(2 * HOUR)

        assert the(world, backup).copies["primary"].held


class TestPins:
    def test_a_reader_stops_a_prune(self, world: World, clock: MovedClock) -> None:
        """And no tombstone of it stays."""
        oldest, *_ = several(world, clock, 4)
        target = world.targets["primary"]

        with (
            pinned(world, target, target, database="hotel", backup=oldest, for_what="fetch"),
            pytest.raises(Conflict, match="is being read"),
        ):
            PruneBackup(database="hotel", backup=oldest, targets=("primary",)).perform(world, WANT)
        assert "whole" == states(world)[oldest]

    def test_a_reader_stops_the_end_of_a_grace(self, world: World, clock: MovedClock) -> None:
        """The data stays under the reader."""
        oldest, *_ = several(world, clock, 4)
        target = world.targets["primary"]

        with pinned(world, target, target, database="hotel", backup=oldest, for_what="fetch"):
            bury(world, oldest, clock.now())
            with pytest.raises(Conflict, match="is being read"):
                FinishDeletion(database="hotel", backup=oldest, target="primary").perform(world, WANT)
            assert content(world, oldest)

    def test_a_reader_gives_way_to_a_tombstone(self, world: World, clock: MovedClock) -> None:
        """Who comes second gives way, and leaves no pin."""
        oldest, *_ = several(world, clock, 4)
        bury(world, oldest, clock.now() + WEEK)
        target = world.targets["primary"]

        with (
            pytest.raises(Conflict, match="is being deleted"),
            pinned(world, target, target, database="hotel", backup=oldest, for_what="fetch"),
        ):
            pass
        assert () == catalogue(world).pins

    def test_what_is_read_is_not_planned_to_go(self, world: World, clock: MovedClock) -> None:
        """Seen by the plan already."""
        oldest, *_ = several(world, clock, 4)
        target = world.targets["primary"]

        with pinned(world, target, target, database="hotel", backup=oldest, for_what="fetch"):
            assert oldest not in {step.action.loses for step in planned(world).steps}
        assert oldest in {step.action.loses for step in planned(world).steps}

    def test_a_dead_readers_pin_goes(self, world: World, clock: MovedClock) -> None:
        """Its process is gone, so it is swept, and nothing is kept by it."""
        oldest, *_ = several(world, clock, 4)
        owner = world.process.begin()
        world.process.end(owner)
        world.targets["primary"].write(layout.pin_key("hotel", oldest, owner.token), [claim_text(owner)], expect=ABSENT)
        turn(world, WANT, DUTIES, Consent())

        assert () == catalogue(world).pins
        assert "deleted" == states(world)[oldest]

    def test_a_living_readers_pin_is_not_removed(self, world: World, clock: MovedClock) -> None:
        """Whatever an older look said of it."""
        oldest, *_ = several(world, clock, 4)
        owner = world.process.begin()
        key = layout.pin_key("hotel", oldest, owner.token)
        world.targets["primary"].write(key, [claim_text(owner)], expect=ABSENT)

        with pytest.raises(Conflict, match="lives"):
            RemovePin(database="hotel", key=key, target="primary").perform(world, WANT)

    def test_a_reader_on_another_host_counts_until_it_was_silent(self, world: World, clock: MovedClock) -> None:
        """Not proven dead is as good as living."""
        oldest, *_ = several(world, clock, 4)
        key = layout.pin_key("hotel", oldest, "00ff")
        world.targets["primary"].write(key, [claim_text(stranger())], expect=ABSENT)

        with pytest.raises(Conflict, match="is being read"):
            PruneBackup(database="hotel", backup=oldest, targets=("primary",)).perform(world, WANT)


class TestByName:
    def test_delete_and_back(self, world: World, clock: MovedClock) -> None:
        """Within the grace nothing is lost."""
        _, middle, *_ = several(world, clock, 4)
        plan_delete(the(world, middle), look(world), who="ana", grace=WEEK, min_verified=1).action.perform(world, WANT)
        gone = states(world)[middle]
        plan_undelete(the(world, middle), look(world)).action.perform(world, WANT)

        assert ("deleted", "whole") == (gone, states(world)[middle])

    def test_the_last_two_stay(self, world: World, clock: MovedClock) -> None:
        """Whoever asks."""
        first, _ = several(world, clock, 2)

        with pytest.raises(Refused, match="one of the last 2"):
            plan_delete(the(world, first), look(world), who="ana", grace=WEEK, min_verified=1)

    def test_half_of_a_backup_does_not_come_back(self, world: World, clock: MovedClock) -> None:
        """Its removal had begun: it stays deleted, and says so."""
        oldest, *_ = several(world, clock, 4)
        bury(world, oldest, clock.now())
        world.targets["primary"].delete(layout.object_key("hotel", oldest, layout.DUMP))

        with pytest.raises(Refused, match="partly gone"):
            plan_undelete(the(world, oldest), look(world)).action.perform(world, WANT)
        assert "being_deleted" == states(world)[oldest]

    @pytest.mark.parametrize("ends", ["deleted", "swept"])
    def test_what_people_laid_beside_it_outlives_it(self, world: World, clock: MovedClock, ends: str) -> None:
        """It is reported as theirs, the folder counts for nothing, and the tombstone is forgotten all the same."""
        oldest, *_ = several(world, clock, 4)
        theirs = [layout.object_key("hotel", oldest, name) for name in ("notes.txt", "old/dump.zst")]
        for key in theirs:
            world.targets["primary"].write(key, [b"mine"])
        if ends == "deleted":
            bury(world, oldest, clock.now())
        else:
            drop_manifest(world, oldest)
        for _ in range(2):
            turn(world, WANT, DUTIES, Consent())
            clock.move(timedelta(days=31))

        root = layout.backup_root("hotel", oldest)
        assert theirs == [item.key for item in world.targets["primary"].list(root).items]
        assert tuple(theirs) == catalogue(world).strays
        assert oldest not in states(world)

    def test_what_was_not_deleted_can_not_come_back(self, world: World, clock: MovedClock) -> None:
        """A sentence, and nothing done."""
        (backup,) = several(world, clock, 1)

        with pytest.raises(Refused, match="nothing to bring back"):
            plan_undelete(the(world, backup), look(world))


class TestFreezes:
    def test_it_stops_every_deletion(self, world: World, clock: MovedClock) -> None:
        """Dumps go on."""
        several(world, clock, 4)
        change_freeze(world.targets["primary"], "hotel", lambda _: Freeze(who="ana", why="rows are missing"))
        found = planned(world)

        assert [] == [step for step in found.steps if step.action.effect == "delete"]
        assert {"freeze"} == {held.by for held in found.blocked}
        assert any("rows are missing" in finding.what for finding in found.findings)

    def test_a_torn_one_freezes(self, world: World, clock: MovedClock) -> None:
        """Somebody meant something by it."""
        several(world, clock, 4)
        world.targets["primary"].write("hotel/freeze.json", [b"{"])

        assert {"freeze"} == {held.by for held in planned(world).blocked}

    def test_it_ends_by_itself(self, world: World, clock: MovedClock) -> None:
        """At the date that was given."""
        several(world, clock, 4)
        change_freeze(world.targets["primary"], "hotel", lambda _: Freeze(who="ana", why="x", until=clock.now() + HOUR))
        clock.move(HOUR)

        assert () == planned(world).blocked

    def test_a_dump_that_shrank_freezes_by_itself(self, tmp_path: Path, clock: MovedClock) -> None:
        """In the same turn nothing is pruned; once a person has looked, it does not come back."""
        big = make_world(tmp_path, clock, names=("primary",))
        source = big.provider.source()
        source.rows = tuple(token_bytes(1 << 17) for _ in range(40))  # type: ignore[attr-defined]  # the fake's
        several(big, clock, 3)
        source.rows = (b"left",)  # type: ignore[attr-defined]  # the fake's
        turn(big, WANT, DUTIES, Consent())
        frozen = catalogue(big).frozen
        kept = set(states(big).values())
        LiftFreeze(database="hotel", who="ana", acknowledged=(look(big).backups()[0].id,)).perform(big, WANT)
        turn(big, WANT, DUTIES, Consent())

        assert "the one before it" in frozen
        assert {"whole"} == kept
        assert "" == catalogue(big).frozen
        assert "deleted" in states(big).values()

    def test_a_table_that_lost_its_rows_freezes_by_itself(self, tmp_path: Path, clock: MovedClock) -> None:
        """Though the dump is as large as before, and whatever the table's size."""
        world = make_world(tmp_path, clock, names=("primary",))
        several(world, clock, 3)
        world.provider.source().rows = ROWS[:3]  # type: ignore[attr-defined]  # the fake's, a thousand rows each
        turn(world, WANT, DUTIES, Consent())
        frozen = catalogue(world).frozen
        kept = set(states(world).values())
        LiftFreeze(database="hotel", who="ana", acknowledged=(look(world).backups()[0].id,)).perform(world, WANT)
        turn(world, WANT, DUTIES, Consent())

        assert "table public.guests has 3000 rows" in frozen
        assert "and had 8000" in frozen
        assert {"whole"} == kept
        assert "" == catalogue(world).frozen

    def test_partial_dumps_in_between_do_not_hide_what_was_lost(self, world: World, clock: MovedClock) -> None:
        """However many there are: the last whole one before them still tells what was there."""
        several(world, clock, 1)
        for _ in range(MARKED):
            take(world, repository=repository_of(world), filters=Filters(exclude=("public.log",)))
            clock.move(HOUR)
        world.provider.source().rows = ROWS[:3]  # type: ignore[attr-defined]  # the fake's, a thousand rows each
        several(world, clock, 1)

        assert "freeze_deletions" in {step.action.kind for step in planned(world).steps}

    def freeze(self, world: World, why: str = "audit", until: timedelta | None = None) -> str:
        end = world.clock.now() + until if until is not None else None
        return FreezeDeletions(database="hotel", why=why, who="ana", until=end).perform(world, WANT)

    def test_it_outlives_its_home(self, tmp_path: Path, clock: MovedClock) -> None:
        """It lies on every target: one that leaves the policy, or comes back empty, takes no freeze with it."""
        world = make_world(tmp_path, clock, names=("primary", "offsite"))
        several(world, clock, 4)
        self.freeze(world)
        left = make_world(tmp_path, clock, names=("offsite",))

        assert catalogue(left, "offsite").frozen

    def test_a_target_out_of_reach_does_not_keep_it_from_the_others(self, tmp_path: Path, clock: MovedClock) -> None:
        """And it is said where it is not."""
        world = make_world(tmp_path, clock, names=("primary", "offsite"))
        several(world, clock, 1)
        (tmp_path / "offsite").rename(tmp_path / "away")
        (tmp_path / "offsite").write_text("no folder")

        assert "not written everywhere: offsite" in self.freeze(world)
        assert catalogue(world).frozen

    def test_it_is_lifted_wherever_it_is(self, tmp_path: Path, clock: MovedClock) -> None:
        """On a target that was home once, too, and where it is torn."""
        world = make_world(tmp_path, clock, names=("primary", "offsite"))
        several(world, clock, 1)
        world.targets["offsite"].write(layout.freeze_key("hotel"), [b"{"])
        LiftFreeze(database="hotel", who="ana", acknowledged=()).perform(world, WANT)

        assert "" == catalogue(world, "offsite").frozen

    def test_an_end_that_has_passed(self, world: World, clock: MovedClock) -> None:
        """Nothing would be frozen, so it is refused."""
        with pytest.raises(Refused, match="has passed"):
            self.freeze(world, until=-HOUR)

    def test_anothers_freeze_is_not_shortened(self, world: World, clock: MovedClock) -> None:
        """Who wants to end it says so."""
        several(world, clock, 1)
        self.freeze(world, "real")

        with pytest.raises(Refused, match=r"for longer: real \(ana\)"):
            self.freeze(world, "other", until=HOUR)
        assert "real" in catalogue(world).frozen

    def test_what_is_acknowledged_meanwhile_stays_so(self, world: World, clock: MovedClock) -> None:
        """Somebody lifts a freeze between the look at it and the write of another."""
        several(world, clock, 1)
        LiftFreeze(database="hotel", who="eva", acknowledged=("first",)).perform(world, WANT)
        other = Interrupted(
            world.targets["primary"],
            lambda: LiftFreeze(database="hotel", who="eva", acknowledged=("second",)).perform(world, WANT),
        )
        self.freeze(msgspec.structs.replace(world, targets={"primary": other}))

        assert ("first", "second") == read_freeze(world.targets["primary"], layout.freeze_key("hotel")).acknowledged
        assert "audit" in catalogue(world).frozen

    def test_one_that_nobody_saw_is_not_lifted(self, world: World, clock: MovedClock) -> None:
        """Somebody freezes between the look at a freeze and its lifting."""
        several(world, clock, 1)
        self.freeze(world, "first")
        other = Interrupted(world.targets["primary"], lambda: self.freeze(world, "second"))

        with pytest.raises(Conflict, match="meanwhile"):
            LiftFreeze(database="hotel", who="eva", acknowledged=()).perform(
                msgspec.structs.replace(world, targets={"primary": other}), WANT
            )
        assert "second" in catalogue(world).frozen

    def test_a_lost_answer_is_found_again(self, world: World, clock: MovedClock) -> None:
        """Our own write is no other's."""
        several(world, clock, 1)
        self.freeze(world)
        lossy = msgspec.structs.replace(world, targets={"primary": Lossy(world.targets["primary"])})
        LiftFreeze(database="hotel", who="ana", acknowledged=()).perform(lossy, WANT)

        assert "" == catalogue(world).frozen

    def test_it_waits_for_nobody(self, world: World, clock: MovedClock, tmp_path: Path) -> None:
        """A dump of hours holds the lease; what protects is done at once."""
        several(world, clock, 1)
        owner = world.process.begin()
        world.targets["primary"].write("hotel/lease-keep.json", [claim_text(owner)])
        step = Step(action=FreezeDeletions(database="hotel", why="audit", who="ana"), shown=Shown(does="freeze"))
        whole = planned(world)
        done = apply(world, WANT, lambda: msgspec.structs.replace(whole, steps=(step,)), Consent(), Watch(clock, world.process))

        assert ["done"] == [outcome.result for outcome in done.outcomes]
        assert "audit" in catalogue(world).frozen

    def test_a_second_small_dump_does_not_hide_the_first(self, tmp_path: Path, clock: MovedClock) -> None:
        """Two dumps by name, and no turn looked in between."""
        world = make_world(tmp_path, clock, names=("primary",))
        source = world.provider.source()
        for size in (4 << 20, 300, 300):
            source.rows = (token_bytes(size),)  # type: ignore[attr-defined]  # the fake's
            several(world, clock, 1)

        assert "freeze_deletions" in {step.action.kind for step in planned(world).steps}


class TestAdoption:
    def test_another_source_takes_over_by_name_only(self, world: World, clock: MovedClock) -> None:
        """Before it nothing counts; after it all of it does."""
        several(world, clock, 2)
        rebind(world.targets["primary"], "hotel", identity=Identity(provider="postgres", cluster="1", database="old"))
        before = planned(world)
        plan_adopt(look(world), world.clock.now()).action.perform(world, WANT)

        assert before.foreign
        assert not planned(world).foreign
        assert look(world).source.value.identity == read_repository(world.targets["primary"], "hotel/repository.json").identity  # type: ignore[union-attr]  # it is known

    def test_what_is_ours_needs_no_adoption(self, world: World, clock: MovedClock) -> None:
        """A sentence, and nothing done."""
        several(world, clock, 1)

        with pytest.raises(Refused, match="belong to this source already"):
            plan_adopt(look(world), world.clock.now())

    def test_an_orphan_that_is_no_archive(self, world: World, clock: MovedClock) -> None:
        """The fake's rows are no archive: every byte is read, and it stays an orphan."""
        (backup,) = several(world, clock, 1)
        world.targets["primary"].delete(layout.object_key("hotel", backup, layout.MANIFEST))

        with pytest.raises(Corrupt, match="no archive"):
            AdoptBackup(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert "orphan" == states(world)[backup]

    def test_an_orphan_whose_copy_is_whole(self, tmp_path: Path, clock: MovedClock) -> None:
        """The copy's manifest knows more than the data tells: it comes back byte for byte, for retention too."""
        world, backup = self.two_copies(tmp_path, clock)
        before = read_whole(world.targets["offsite"], layout.object_key("hotel", backup, layout.MANIFEST))[0]
        world.targets["primary"].delete(layout.object_key("hotel", backup, layout.MANIFEST))
        have = look(world)
        plan_adopt_backup(next(one for one in have.backups() if one.id == backup), have).action.perform(world, WANT)

        assert before == read_whole(world.targets["primary"], layout.object_key("hotel", backup, layout.MANIFEST))[0]
        assert "whole" == states(world)[backup]

    def test_an_orphan_that_differs_from_its_copy(self, tmp_path: Path, clock: MovedClock) -> None:
        """Then the copy's manifest would be a lie here."""
        world, backup = self.two_copies(tmp_path, clock)
        world.targets["primary"].delete(layout.object_key("hotel", backup, layout.MANIFEST))
        key = layout.object_key("hotel", backup, layout.DUMP)
        data = read_whole(world.targets["primary"], key)[0]
        world.targets["primary"].write(key, [data[:-1] + bytes([data[-1] ^ 1])])
        have = look(world)

        with pytest.raises(Corrupt, match="the bytes are not those that were written"):
            plan_adopt_backup(next(one for one in have.backups() if one.id == backup), have).action.perform(world, WANT)
        assert "orphan" == states(world)[backup]

    @staticmethod
    def two_copies(tmp_path: Path, clock: MovedClock) -> tuple[World, str]:
        world = make_world(tmp_path, clock, names=("primary", "offsite"))
        (backup,) = several(world, clock, 1)
        CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(world, WANT)
        return world, backup


def test_a_marker_on_the_dump_alone_hides_the_backup_and_undelete_brings_it_back(tmp_path: Path, clock: MovedClock) -> None:
    """It is no damage: the version below the marker is whole."""
    world = make_world(tmp_path, clock, targets={"primary": VersionedTarget("primary", clock)})
    backup = take(world)
    world.targets["primary"].delete(layout.object_key("hotel", backup, layout.DUMP))
    hidden = the(world, backup)
    plan_undelete(hidden, look(world)).action.perform(world, WANT)

    assert "hidden" == hidden.state
    assert "dump.zst" in hidden.copies["primary"].why
    assert "whole" == the(world, backup).state


def test_manifests_are_untouched_by_all_of_this(world: World, clock: MovedClock) -> None:
    """Whatever is said about a backup is said beside it."""
    _, middle, *_ = several(world, clock, 4)
    key = layout.object_key("hotel", middle, layout.MANIFEST)
    before, _ = read_whole(world.targets["primary"], key)
    plan_delete(the(world, middle), look(world), who="ana", grace=WEEK, min_verified=1).action.perform(world, WANT)
    plan_undelete(the(world, middle), look(world)).action.perform(world, WANT)
    after, _ = read_whole(world.targets["primary"], key)

    assert before == after
    assert middle == decode(after, backup=middle).id


@pytest.mark.parametrize(("partial", "refused"), [(False, True), (True, False)])
def test_partial_backups_do_not_stand_in_for_whole_ones(partial: bool, refused: bool) -> None:
    """However many there are, the last whole ones are not deleted by name; a partial one may go while others are left."""
    copies = [copy(NOW - number * HOUR, partial=True) for number in range(5)] + [
        copy(NOW - (9 + number) * HOUR) for number in (0, 1)
    ]
    have = observation(primary=catalogue_of(copies))
    backup = next(one for one in have.backups() if one.partial == partial)

    with pytest.raises(Refused, match="one of the last 2") if refused else nullcontext():
        plan_delete(backup, have, who="ana", grace=WEEK, min_verified=1)
