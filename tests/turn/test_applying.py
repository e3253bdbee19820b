"""Applying: rounds, the lease, what is skipped, and what one failure does to the rest."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Event as StopEvent

import msgspec
import pytest

from reconciler.backups.claim import read_claim
from reconciler.backups.writer import drafting
from reconciler.duties import DUTIES
from reconciler.duties.copies import CopyBackup
from reconciler.duties.keeping import FreezeDeletions
from reconciler.duties.leftovers import FinishDeletion, SweepDebris
from reconciler.duties.retention import PruneBackup
from reconciler.errors import Conflict, Refused, Unreachable
from reconciler.planning.plan import Action, Consent, Due, Duty, Outcome, Shown, Step
from reconciler.policy.model import DatabasePolicy
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.telling import Telling
from reconciler.turn import survey, turn
from reconciler.world.clock import token
from reconciler.world.events import Effect, Ended, Event, Moved, Waiting
from reconciler.world.facts import Observation, Owner, Tombstone
from reconciler.world.ports import Blob, Target, World
from tests.backups.faking import (
    ROWS,
    FakeSource,
    MovedClock,
    bury,
    catalogue,
    claim_text,
    content,
    files,
    make_world,
    manifest_of,
    silent,
    states,
    stranger,
    take,
)
from tests.building import HOUR, MINUTE, policy, retention

WANT = policy("0 * * * *", ("primary", "offsite"), retention(grace="1h", keep_last=2))
LEASE = "hotel/lease-keep.json"
DEBRIS = "20251025T090000Z-00dead"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock) -> World:
    return make_world(tmp_path, clock)


def run(world: World, consent: Consent | None = None) -> tuple[Outcome, ...]:
    return turn(world, WANT, DUTIES, consent or Consent()).outcomes


def short(outcomes: Iterable[Outcome]) -> list[tuple[str, str]]:
    """What was done, by its first word, and how it went."""
    return [(outcome.does.split(" ")[0], outcome.result) for outcome in outcomes]


def after_hours(world: World, clock: MovedClock, hours: int) -> None:
    """So many turns, an hour apart, and the next one is due."""
    for _ in range(hours):
        assert {"done"} == {outcome.result for outcome in run(world)}
        clock.move(HOUR)


class TestRounds:
    def test_a_fresh_dump_is_copied_in_the_same_apply(self, world: World) -> None:
        """And then nothing is left to do."""
        outcomes = run(world)

        assert [("take", "done"), ("copy", "done")] == short(outcomes)
        assert states(world, "primary") == states(world, "offsite")
        assert () == survey(world, WANT, DUTIES).plan.steps
        assert () == run(world)

    def test_the_due_dump_does_not_wait_for_copies(self, world: World, clock: MovedClock) -> None:
        """An old backup without its copy, and a slot that is due: the RPO comes first."""
        run(world)
        older = next(iter(states(world, "primary")))
        for item in world.targets["offsite"].list(f"hotel/backups/{older}/").items:
            world.targets["offsite"].delete(item.key)
        clock.move(HOUR)

        assert ["take", "copy", "copy"] == [does for does, _ in short(run(world))]

    def test_after_hours_of_work_the_rest_is_looked_at_again(self, tmp_path: Path, clock: MovedClock) -> None:
        """A dump took so long that the copies that were planned with it may be another's by now."""
        run(make_world(tmp_path, clock))
        other = make_world(tmp_path, clock)
        older = next(iter(states(other, "primary")))
        for item in other.targets["offsite"].list(f"hotel/backups/{older}/").items:
            other.targets["offsite"].delete(item.key)
        clock.move(HOUR)
        copied: list[bool] = []

        def slow(event: Event) -> None:
            if isinstance(event, Moved) and not copied:
                copied.append(True)
                clock.move(20 * MINUTE)
                CopyBackup(database="hotel", backup=older, origin="primary", target="offsite").perform(other, WANT)

        outcomes = run(make_world(tmp_path, clock, tell=slow, process=other.process))
        assert [("take", "done"), ("copy", "done")] == short(outcomes)

    def test_pruning_comes_last(self, world: World, clock: MovedClock) -> None:
        """What the fresh dump makes superfluous goes in the same apply, through a tombstone on each target."""
        after_hours(world, clock, 2)
        oldest = min(states(world))

        assert [("take", "done"), ("copy", "done"), ("prune", "done")] == short(run(world))
        assert "deleted" == states(world, "primary")[oldest]
        assert "deleted" == states(world, "offsite")[oldest]
        assert b"".join(ROWS) == content(world, oldest)

    def test_a_deletion_is_finished_once_its_grace_has_passed(self, world: World, clock: MovedClock) -> None:
        """And not a minute sooner; the tombstones stay."""
        after_hours(world, clock, 3)
        oldest = min(states(world))
        clock.move(-MINUTE)
        assert () == tuple(outcome for outcome in run(world) if outcome.does.startswith("remove"))

        clock.move(MINUTE)
        assert ("remove", "done") in short(run(world))
        assert oldest not in states(world)
        assert oldest in {stone.id for stone in known(world, "primary")}

    def test_what_the_holder_of_the_lease_did_meanwhile_is_not_done_again(self, tmp_path: Path, clock: MovedClock) -> None:
        """Two reconcilers start at once: the second plans afresh when the lease is its own."""
        first = make_world(tmp_path, clock)
        begun: list[bool] = []

        def overtaken(event: Event) -> None:
            if getattr(event, "key", "") == LEASE and not begun:
                begun.append(True)
                run(first)

        second = make_world(tmp_path, clock, tell=overtaken, process=first.process)
        with pytest.raises(Conflict):
            run(second)
        assert 1 == len(states(first))
        assert () == run(make_world(tmp_path, clock, process=first.process))

    def test_a_stale_first_plan_is_not_carried_out(self, tmp_path: Path, clock: MovedClock) -> None:
        """Another's whole turn fits between looking and taking the lease it gave back."""
        first = make_world(tmp_path, clock)
        given_back = make_world(tmp_path, clock)
        run(given_back)
        clock.move(HOUR)
        looks: list[bool] = []

        class Overtaken(Telling):
            def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
                if key == LEASE and not looks:
                    looks.append(True)
                    run(first)
                return super().read(key, start=start, version=version)

        targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
        second = make_world(tmp_path, clock, targets=targets | {"primary": Overtaken(targets["primary"], silent)})

        assert () == run(second)
        assert 2 == len(states(first))

    def test_a_dead_readers_pin_goes_before_what_it_kept(self, world: World, clock: MovedClock) -> None:
        """A torn one is watched until it was silent for long enough; then one turn removes it, and prunes."""
        after_hours(world, clock, 2)
        oldest = min(states(world))
        world.targets["primary"].write(f"hotel/pins/{oldest}-0123abcd.json", [b"{"])
        outcomes = run(world)

        assert ["done"] * 4 == [outcome.result for outcome in outcomes]
        assert "deleted" == states(world)[oldest]
        assert () == world.targets["primary"].list("hotel/pins/").items


class TestTheLease:
    def test_it_is_given_back(self, world: World) -> None:
        """After a turn it is free at once."""
        run(world)
        record, _ = read_claim(world.targets["primary"], LEASE)

        assert record is not None
        assert record.owner is None

    def test_it_is_given_back_after_an_interrupt(self, tmp_path: Path, clock: MovedClock) -> None:
        """Whoever comes next, from wherever, need not watch."""

        def interrupt(event: Event) -> None:
            if getattr(event, "key", "").endswith("dump.zst"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(make_world(tmp_path, clock, tell=interrupt))
        record, _ = read_claim(make_world(tmp_path, clock).targets["primary"], LEASE)
        assert record is not None
        assert record.owner is None

    def test_another_living_holder(self, world: World, tmp_path: Path) -> None:
        """Conflict, and nothing at all was done."""
        owner = world.process.begin()
        world.targets["primary"].write(LEASE, [claim_text(owner)])
        before = files(tmp_path)

        with pytest.raises(Conflict, match="is held by process"):
            run(world)
        assert before == files(tmp_path)

    def test_a_silent_holder_is_watched_and_then_replaced(self, tmp_path: Path, clock: MovedClock) -> None:
        """One of another host: the turn says that it waits."""
        said: list[str] = []

        def note(event: Event) -> None:
            if isinstance(event, Waiting):
                said.append(event.says)

        world = make_world(tmp_path, clock, tell=note)
        world.targets["primary"].write(LEASE, [claim_text(stranger())])

        assert ["done", "done"] == [outcome.result for outcome in run(world)]
        assert ["hotel/lease-keep.json on primary is held by process 17 on elsewhere, since 2025-10-25 11:12Z"] == [
            text.partition(";")[0] for text in said
        ]

    @pytest.mark.parametrize("error", [Unreachable("no answer"), Refused("403 AccessDenied")])
    def test_a_home_out_of_reach_costs_the_deletions_never_the_dump(
        self, tmp_path: Path, clock: MovedClock, error: Exception
    ) -> None:
        """The lease is polite for what creates, and needed for what deletes."""
        after_hours(make_world(tmp_path, clock), clock, 2)

        def fail(event: Event) -> None:
            if getattr(event, "key", "") == LEASE:
                raise error

        outcomes = run(make_world(tmp_path, clock, tell=fail))
        assert [("take", "done"), ("copy", "done"), ("prune", "skipped")] == short(outcomes)
        assert f"no lease: {error}" == outcomes[-1].says

    def test_a_lease_that_is_no_record_of_ours(self, world: World) -> None:
        """20 MB of it: neither read into memory nor a reason to take no dump."""
        world.targets["primary"].write(LEASE, (b"x" * 1_000_000 for _ in range(20)))

        assert [("take", "done"), ("copy", "done")] == short(run(world))

    def test_a_lease_taken_away_among_the_deletions(self, tmp_path: Path, clock: MovedClock) -> None:
        """The one that meets it fails, and from there on nothing more is deleted."""
        self.several_to_prune(tmp_path, clock)
        buried: list[str] = []

        def slow(event: Event) -> None:
            if "tombstone-" in getattr(event, "key", "") and getattr(event, "phase", "") == "after":
                buried.append(getattr(event, "key", ""))
                clock.move(2 * MINUTE)

        world = make_world(tmp_path, clock, tell=slow)
        outcomes = [outcome for outcome in run(world) if outcome.does.startswith("prune")]

        assert len(outcomes) > 2
        assert {"failed"} == {outcome.result for outcome in outcomes}
        assert all("another may have taken over" in outcome.says for outcome in outcomes)
        assert 1 == len(buried)

    def test_a_freeze_that_comes_among_the_deletions(self, tmp_path: Path, clock: MovedClock) -> None:
        """Somebody looks into something while a plan is carried out: what was begun is done, and nothing after it."""
        self.several_to_prune(tmp_path, clock)
        seen: list[Event] = []

        def freeze(event: Event) -> None:
            if "tombstone-" in getattr(event, "key", "") and not seen:
                seen.append(event)
                FreezeDeletions(database="hotel", why="audit", who="ana").perform(quiet, WANT)

        quiet = make_world(tmp_path, clock)
        outcomes = [outcome for outcome in run(make_world(tmp_path, clock, tell=freeze)) if outcome.does.startswith("prune")]

        assert ["done", *["failed"] * (len(outcomes) - 1)] == [outcome.result for outcome in outcomes]
        assert len(outcomes) > 2
        assert all("frozen by now: audit (ana)" in outcome.says for outcome in outcomes[1:])

    def several_to_prune(self, tmp_path: Path, clock: MovedClock) -> None:
        """Five backups on two targets, of which two are kept: no slot is due before the next hour."""
        world = make_world(tmp_path, clock)
        clock.move(-5 * HOUR)
        first = take(world)
        repository = manifest_of(world, first).repository
        for _ in range(4):
            clock.move(HOUR)
            take(world, repository=repository)
        clock.move(HOUR)
        turn(world, policy("0 * * * *", ("primary", "offsite"), retention(keep_last=6)), DUTIES, Consent())


class TestFailures:
    def test_a_failed_creation_skips_the_deletions(self, tmp_path: Path, clock: MovedClock) -> None:
        """They are named, so that somebody can see what did not happen. What was given up before goes: it may make room."""
        after_hours(make_world(tmp_path, clock), clock, 2)
        source = FakeSource(clock)
        world = make_world(tmp_path, clock, source)
        bury(world, min(states(world)), clock.now(), "primary")
        take(world, repository=manifest_of(world, min(states(world))).repository)
        source.trouble = "half-way"
        outcomes = run(world)

        assert ("take", "failed") in short(outcomes)
        assert ("prune", "skipped") in short(outcomes)
        assert ("remove", "done") in short(outcomes)
        assert {"something failed before it"} == {outcome.says for outcome in outcomes if outcome.result == "skipped"}

    def test_what_failed_just_now_is_not_swept_in_the_same_turn(self, tmp_path: Path, clock: MovedClock) -> None:
        """Its manifest was sent, and may still arrive. What lay there before is swept all the same."""
        ended: list[Event] = []

        def cut_off(event: Event) -> None:
            if isinstance(event, Ended):
                ended.append(event)
            if not ended and isinstance(event, Effect) and (event.verb == "delete" or event.key.endswith("/manifest.json")):
                raise Unreachable(f"no answer to {event.verb} {event.key}")

        make_world(tmp_path, clock).targets["primary"].write(f"hotel/backups/{DEBRIS}/intent.json", [claim_text(None)])
        outcomes = run(make_world(tmp_path, clock, tell=cut_off))
        left = states(make_world(tmp_path, clock))

        assert [("take", "failed"), ("sweep", "done"), ("sweep", "skipped")] == short(outcomes)
        assert ["debris"] == list(left.values())
        assert DEBRIS not in left

    def test_what_failed_is_not_tried_twice_in_one_turn(self, tmp_path: Path, clock: MovedClock) -> None:
        """Neither is it forgotten: the last plan still wants it."""
        world = make_world(tmp_path, clock, FakeSource(clock, trouble="half-way"))
        applied = turn(world, WANT, DUTIES, Consent())

        assert [("take", "failed")] == short(applied.outcomes)
        assert ["take_dump"] == [step.action.kind for step in applied.after.steps]

    def test_an_unforeseen_exception_fails_one_action_only(self, tmp_path: Path, clock: MovedClock) -> None:
        """The others go on; it is named as a bug."""
        world = make_world(tmp_path, clock)
        first = take(world)
        clock.move(MINUTE)
        second = take(world, repository=manifest_of(world, first).repository)

        def slip(event: Event) -> None:
            if getattr(event, "target", "") == "offsite" and first in getattr(event, "key", ""):
                raise ZeroDivisionError("division by zero")

        outcomes = run(make_world(tmp_path, clock, tell=slip))
        failed = [outcome for outcome in outcomes if outcome.result == "failed"]

        assert ["unforeseen ZeroDivisionError: division by zero"] == [outcome.says for outcome in failed]
        assert "whole" == states(world, "offsite")[second]

    def test_a_stop_fails_what_is_left(self, tmp_path: Path, clock: MovedClock) -> None:
        """Each is named; nothing of it was begun."""
        source = FakeSource(clock)
        world = make_world(tmp_path, clock, source)
        source.stop.set()
        outcomes = run(world)

        assert [("take", "failed")] == short(outcomes)
        assert "asked to stop" == outcomes[0].says
        assert {} == states(world)


class TestConsent:
    def test_deletions_that_were_not_approved_are_left(self, world: World, clock: MovedClock) -> None:
        """Named, and still due; creations need no approval."""
        after_hours(world, clock, 2)
        applied = turn(world, WANT, DUTIES, Consent(approved=frozenset()))

        assert [("take", "done"), ("copy", "done")] == short(applied.outcomes)
        assert ["prune_backup"] == [step.action.kind for step in applied.not_approved]
        assert {"whole"} == set(states(world).values())

    def test_what_is_no_longer_planned_is_not_done(self, world: World, clock: MovedClock) -> None:
        """An approval of something else deletes nothing."""
        after_hours(world, clock, 2)
        applied = turn(world, WANT, DUTIES, Consent(approved=frozenset({"0123456789abcdef"})))

        assert {"whole"} == set(states(world).values())
        assert ["prune_backup"] == [step.action.kind for step in applied.not_approved]


class TestDeletionsByThemselves:
    """Each looks again at what its plan rested on."""

    def test_a_backup_of_another_repository_is_not_buried(self, world: World) -> None:
        """Though a plan said so."""
        backup = take(world)
        world.targets["primary"].write(
            "hotel/repository.json",
            [b"".join(world.targets["primary"].read("hotel/repository.json")).replace(repository_of(world, backup), b"0" * 16)],
        )

        with pytest.raises(Refused, match="belongs to another repository"):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)
        assert {backup: "foreign"} == states(world)

    def test_a_manual_backup_is_not_buried_before_its_time(self, world: World) -> None:
        """Not even where a cache told the plan that it is a scheduled one."""
        run(world)
        (backup,) = states(world)
        path = f"hotel/backups/{backup}/manifest.json"
        text = b"".join(world.targets["primary"].read(path)).replace(b'"kind": "scheduled"', b'"kind": "manual"')
        world.targets["primary"].write(path, [text])

        with pytest.raises(Refused, match="is manual, and its time to be kept is not over"):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)

    def test_burying_twice_is_the_same(self, world: World) -> None:
        """One tombstone, and no fault."""
        backup = take(world)
        for _ in range(2):
            PruneBackup(database="hotel", backup=backup, targets=("primary",)).perform(world, WANT)

        assert 1 == len(known(world, "primary"))

    def test_a_tombstone_that_was_put_off_meanwhile(self, world: World, clock: MovedClock) -> None:
        """The later one holds."""
        backup = take(world)
        bury(world, backup, clock.now())
        bury(world, backup, clock.now() + HOUR)

        with pytest.raises(Refused, match="may not be removed yet"):
            FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert b"".join(ROWS) == content(world, backup)

    def test_a_hold_that_came_meanwhile(self, world: World, clock: MovedClock) -> None:
        """Nothing of it goes."""
        backup = take(world)
        bury(world, backup, clock.now())
        world.targets["primary"].write(f"hotel/backups/{backup}/hold.json", [b"{}"])

        with pytest.raises(Refused, match=r"hold\.json is there"):
            FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert b"".join(ROWS) == content(world, backup)

    def test_debris_that_became_a_backup(self, world: World) -> None:
        """Its writer only slept: a manifest is there now, so nothing is swept."""
        backup = take(world)
        world.targets["primary"].write(f"hotel/backups/{backup}/intent.json", [claim_text(stranger())])

        with pytest.raises(Conflict, match="has a manifest by now"):
            SweepDebris(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert b"".join(ROWS) == content(world, backup)

    def test_debris_whose_writer_lives_after_all(self, world: World) -> None:
        """Nothing is swept."""
        world.targets["primary"].write(f"hotel/backups/{DEBRIS}/intent.json", [claim_text(world.process.begin())])

        with pytest.raises(Conflict, match="is being written by process"):
            SweepDebris(database="hotel", backup=DEBRIS, target="primary").perform(world, WANT)
        assert {DEBRIS: "being_written"} == states(world)

    def test_debris_whose_sweep_lost_its_answer(self, world: World, tmp_path: Path, clock: MovedClock) -> None:
        """Its claim is there all the same, and keeps nobody from sweeping: not the process either that goes on living."""
        owner = world.process.begin()
        world.process.end(owner)
        world.targets["primary"].write(f"hotel/backups/{DEBRIS}/intent.json", [claim_text(owner)])
        lost: list[Event] = []

        def lose(event: Event) -> None:
            if not lost and getattr(event, "verb", "") == "write" and getattr(event, "phase", "") == "after":
                lost.append(event)
                raise Unreachable("the answer was lost")

        once_more = make_world(tmp_path, clock, tell=lose, process=world.process)
        sweep = SweepDebris(database="hotel", backup=DEBRIS, target="primary")
        with pytest.raises(Unreachable):
            sweep.perform(once_more, WANT)

        assert {DEBRIS: "debris"} == states(world)
        sweep.perform(once_more, WANT)
        assert {} == states(world)

    def test_a_writer_that_wakes_while_its_debris_is_swept(self, world: World, tmp_path: Path, clock: MovedClock) -> None:
        """Just before its data goes, it tries to seal it: it meets Conflict, and no manifest without data is left."""
        unprovable = Unprovable()
        writing = sealing(make_world(tmp_path, clock, process=unprovable))
        next(writing)
        woken: list[bool] = []

        def wake(event: Event) -> None:
            if getattr(event, "verb", "") == "delete" and not woken:
                woken.append(True)
                with pytest.raises(Conflict, match="taken over"):
                    next(writing)

        sweeper = make_world(tmp_path, clock, process=unprovable, tell=wake)
        SweepDebris(database="hotel", backup=DEBRIS, target="primary").perform(sweeper, WANT)

        assert [True] == woken
        assert {} == states(world)
        assert {".reconciler/lock"} == files(tmp_path / "primary")


def sealing(world: World) -> Iterator[None]:
    """A writer in two steps: its data, and then its manifest."""
    with drafting(world, world.targets["primary"], "hotel", DEBRIS, kind="manual", slot=None, repository="r") as draft:
        draft.put("dump.zst", [b"data"])
        yield
        draft.seal(b"{}")


class Unprovable:
    """Owners of whom nobody can prove anything."""

    def begin(self) -> Owner:
        return stranger(token=token(8))

    def end(self, owner: Owner) -> None:
        """Nobody would know."""

    def is_gone(self, owner: Owner) -> bool | None:
        return None


def known(world: World, target: str) -> tuple[Tombstone, ...]:
    return catalogue(world, target).tombstones


def repository_of(world: World, backup: str) -> bytes:
    return manifest_of(world, backup).repository.encode()


class Waits(Action, frozen=True, kw_only=True, tag="waits"):
    """Something at a provider that others keep busy for long."""

    minutes: int

    def perform(self, world: World, want: DatabasePolicy) -> str:
        world.clock.wait(self.minutes * 60, world.stop)
        world.fence()
        return "sent"


class Destroys(Waits, frozen=True, kw_only=True, tag="destroys"):
    effect = "delete"


class Changes(Waits, frozen=True, kw_only=True, tag="changes"):
    effect = "change"


def waiting(kind: type[Waits], minutes: int) -> Duty:
    step = Step(action=kind(database="hotel", minutes=minutes), shown=Shown(does="wait"))

    def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
        return Due(steps=(step,))

    return Duty(name="waits", lane="keep", due=due, actions=(kind,))


class TestWaitingForAProvider:
    @pytest.mark.parametrize("kind", [Destroys, Changes])
    @pytest.mark.parametrize(("minutes", "result"), [(0, "done"), (20, "failed")])
    def test_what_waited_for_long(self, world: World, kind: type[Waits], minutes: int, result: str) -> None:
        """It rests on a look of before: it is not sent any more, and the next turn looks again."""
        outcomes = turn(world, WANT, (waiting(kind, minutes),), Consent()).outcomes

        assert [result] == [outcome.result for outcome in outcomes]

    @pytest.mark.parametrize(("kind", "result"), [(Destroys, "failed"), (Changes, "done")])
    def test_a_freeze_that_comes_while_it_waits(self, world: World, kind: type[Waits], result: str) -> None:
        """No deletion is sent any more; what deletes nothing is."""
        take(world)

        class Meanwhile(MovedClock):
            def wait(self, seconds: float, stop: StopEvent) -> bool:
                FreezeDeletions(database="hotel", why="audit", who="ana").perform(world, WANT)
                return False

        outcomes = turn(msgspec.structs.replace(world, clock=Meanwhile()), WANT, (waiting(kind, 0),), Consent()).outcomes

        assert [result] == [outcome.result for outcome in outcomes]
