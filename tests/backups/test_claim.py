"""Who holds a claim, who may take it over, and when a holder must stop."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest

from reconciler.backups.claim import (
    COVERED_SECONDS,
    SILENT_SECONDS,
    YOUNG_SECONDS,
    Claim,
    ClaimRecord,
    Watch,
    beating,
    read_claim,
    take,
)
from reconciler.backups.fence import Fenced
from reconciler.backups.manifest import LARGEST
from reconciler.errors import Absent, Conflict, Corrupt, Unreachable
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.telling import Telling
from reconciler.world import events
from reconciler.world.clock import SystemClock
from reconciler.world.facts import Owner
from reconciler.world.ports import ABSENT, Clock, Stored, Target
from reconciler.world.process import SystemProcess
from tests.backups.faking import MovedClock, claim_text, stranger
from tests.building import NOW, SECOND

KEY = "hotel/lease-keep.json"
PROCESS = SystemProcess()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def target(tmp_path: Path, clock: MovedClock) -> Target:
    return LocalTarget("disk", tmp_path / "disk", clock=clock)


def claim_on(target: Target, clock: Clock, owner: Owner | None = None) -> Claim:
    record = ClaimRecord(owner=owner or PROCESS.begin(), counter=0, since=NOW, for_what="a test")
    return Claim(target, KEY, record, clock)


def taken(target: Target, clock: Clock, watch: Watch | None = None, waited: Callable[[float], bool] | None = None) -> Claim:
    """A claim that was taken by all the rules; waiting moves the clock."""
    claim = claim_on(target, clock)
    assert isinstance(clock, MovedClock)
    take(claim, watch or Watch(clock, PROCESS), waited or passing(clock))
    return claim


def passing(clock: MovedClock, meanwhile: Callable[[], object] = lambda: None) -> Callable[[float], bool]:
    """Time passes, and something may happen in it."""

    def sleep(seconds: float) -> bool:
        clock.move(timedelta(seconds=seconds))
        meanwhile()
        return False

    return sleep


def holder(target: Target) -> str:
    record, _ = read_claim(target, KEY)
    assert record is not None
    return record.owner.token if record.owner else "nobody"


class TestTaking:
    def test_over_nothing(self, target: Target, clock: MovedClock) -> None:
        """Where nothing is, it is ours at once."""
        claim = taken(target, clock)

        assert claim.record.owner is not None
        assert claim.record.owner.token == holder(target)
        assert 0.0 == clock.monotonic()

    def test_over_one_that_was_given_back(self, target: Target, clock: MovedClock) -> None:
        """Without waiting."""
        taken(target, clock).give_back()
        assert "nobody" == holder(target)

        taken(target, clock).check()
        assert 0.0 == clock.monotonic()

    def test_over_one_whose_death_is_proven(self, target: Target, clock: MovedClock) -> None:
        """Without waiting."""
        owner = PROCESS.begin()
        PROCESS.end(owner)
        claim_on(target, clock, owner).write("")

        taken(target, clock).check()
        assert 0.0 == clock.monotonic()

    def test_over_a_living_one(self, target: Target, clock: MovedClock) -> None:
        """Refused at once, saying who holds it; nothing is written."""
        first = taken(target, clock)

        with pytest.raises(Conflict, match=r"lease-keep.json on disk is held by process \d+ on .*, since 2025-10-25 11:12Z"):
            taken(target, clock)
        assert first.record.owner is not None
        assert first.record.owner.token == holder(target)

    def test_over_a_stranger_who_renews(self, target: Target, clock: MovedClock) -> None:
        """As soon as the counter moves, it is known to live."""
        theirs = claim_on(target, clock, stranger())
        theirs.write("")

        with pytest.raises(Conflict, match="process 17 on elsewhere"):
            taken(target, clock, waited=passing(clock, theirs.renew))
        assert clock.monotonic() < SILENT_SECONDS
        assert stranger().token == holder(target)

    @pytest.mark.parametrize("text", [claim_text(stranger()), b"", b"{", b"\x00" * 50])
    def test_over_a_silent_one(self, target: Target, clock: MovedClock, text: bytes) -> None:
        """A stranger, or a record that is torn: taken over once it was watched being silent for 90 s, and no sooner."""
        target.write(KEY, [text])

        taken(target, clock).check()
        assert SILENT_SECONDS <= clock.monotonic() < SILENT_SECONDS + 15

    def test_a_machine_that_was_suspended_with_both(self, target: Target, clock: MovedClock) -> None:
        """Two containers, say: its time is nobody's silence to who watches, and covers nobody who holds."""
        claim = claim_on(target, clock, stranger())
        claim.write(ABSENT)
        watch = Watch(clock, PROCESS)
        assert watch.is_gone(KEY, *read_claim(target, KEY)) is None

        clock.suspend(timedelta(hours=1))
        assert watch.is_gone(KEY, *read_claim(target, KEY)) is None
        with pytest.raises(Conflict, match="could not be renewed"):
            claim.check()
        claim.renew()
        claim.check()
        assert watch.is_gone(KEY, *read_claim(target, KEY)) is False

    def test_silence_is_measured_by_our_own_monotonic_clock(self, target: Target, clock: MovedClock) -> None:
        """What the record says of the time is of no matter."""
        old = claim_on(target, clock, stranger())
        old.record = ClaimRecord(owner=stranger(), counter=0, since=NOW - timedelta(days=400), for_what="long ago")
        old.write("")

        taken(target, clock)
        assert SILENT_SECONDS <= clock.monotonic()

    def test_the_loser_of_a_race_is_told_who_won(self, target: Target, clock: MovedClock) -> None:
        """Between looking and writing somebody else puts theirs down."""
        with pytest.raises(Conflict, match=f"is held by process .* on {stranger().host}"):
            taken(Overtaken(target, lambda: claim_on(target, clock, stranger()).write(ABSENT)), clock)

    def test_a_stop_ends_the_watching(self, target: Target, clock: MovedClock) -> None:
        """And nothing was taken."""
        claim_on(target, clock, stranger()).write("")

        with pytest.raises(Unreachable, match="asked to stop"):
            taken(target, clock, waited=lambda _: True)
        assert stranger().token == holder(target)

    def test_a_record_larger_than_any(self, target: Target, clock: MovedClock) -> None:
        """Is not read into memory."""
        target.write(KEY, (b"x" * 1_000_000 for _ in range(LARGEST // 1_000_000 + 1)))

        with pytest.raises(Corrupt):
            taken(target, clock)

    def test_two_at_once(self, tmp_path: Path) -> None:
        """Over nothing and over one that was given back: of two threads just one wins, each time."""
        target = LocalTarget("disk", tmp_path / "disk", clock=SystemClock())
        for _ in range(20):
            start = Barrier(2)

            def attempt(_: int, start: Barrier = start) -> Claim | None:
                claim = claim_on(target, SystemClock())
                start.wait(10)
                try:
                    take(claim, Watch(SystemClock(), PROCESS), lambda _: True)
                except Conflict:
                    return None
                return claim

            with ThreadPoolExecutor(2) as pool:
                winners = [claim for claim in pool.map(attempt, range(2)) if claim is not None]

            (winner,) = winners
            assert winner.record.owner is not None
            assert winner.record.owner.token == holder(target)
            winner.give_back()


class TestHolding:
    def test_it_covers_for_a_minute(self, target: Target, clock: MovedClock) -> None:
        """Then its holder must stop, well before anybody else may take over."""
        claim = taken(target, clock)

        clock.move(timedelta(seconds=COVERED_SECONDS - 1))
        claim.check()
        clock.move(timedelta(seconds=1))
        with pytest.raises(Conflict, match="could not be renewed for 60 s"):
            claim.check()
        assert COVERED_SECONDS < SILENT_SECONDS

    def test_renewing_covers_anew_and_changes_the_content(self, target: Target, clock: MovedClock) -> None:
        """Each time under another ETag, or nobody would see it."""
        claim = taken(target, clock)
        etags = {read_claim(target, KEY)[1]}
        for _ in range(5):
            clock.move(timedelta(seconds=30))
            claim.renew()
            claim.check()
            etags.add(read_claim(target, KEY)[1])

        assert 6 == len(etags)

    def test_refreshing_renews_what_is_not_young(self, tmp_path: Path, clock: MovedClock) -> None:
        """Counted from the last renewal that came through."""
        down: list[bool] = []

        def fail(_: events.Event) -> None:
            if down:
                raise Unreachable("no answer")

        claim = taken(Telling(LocalTarget("disk", tmp_path / "disk", clock=clock), fail), clock)
        young, seen = timedelta(seconds=YOUNG_SECONDS), claim.record.counter
        for passes, fails, tries in [(young, False, 0), (SECOND, True, 1), (SECOND, False, 1), (SECOND, False, 0)]:
            clock.move(passes)
            down[:] = [True] if fails else []
            claim.refresh()
            assert seen + tries == claim.record.counter
            seen = claim.record.counter

    def test_the_time_of_a_slow_renewal_does_not_count_as_covered(self, tmp_path: Path, clock: MovedClock) -> None:
        """It covers from when it was begun: when the store took it, nobody can say."""
        slow = Telling(LocalTarget("disk", tmp_path / "disk", clock=clock), lambda _: clock.move(timedelta(seconds=25)))
        claim = claim_on(slow, clock)
        claim.write(ABSENT)

        clock.move(timedelta(seconds=9))
        claim.check()
        clock.move(timedelta(seconds=2))
        with pytest.raises(Conflict):
            claim.check()

    def test_a_lost_answer_to_a_renewal(self, tmp_path: Path, clock: MovedClock) -> None:
        """The next one meets its own write, knows it, and covers."""
        losing: list[bool] = []

        def lose(event: events.Event) -> None:
            if losing and getattr(event, "phase", "") == "after":
                losing.pop()
                raise Unreachable("the answer was lost")

        claim = taken(Telling(LocalTarget("disk", tmp_path / "disk", clock=clock), lose), clock)
        clock.move(timedelta(seconds=30))
        losing.append(True)
        claim.renew()
        clock.move(timedelta(seconds=30))
        claim.renew()

        claim.check()
        clock.move(timedelta(seconds=30))
        claim.check()

    def test_a_write_that_won_and_was_answered_by_a_conflict(self, target: Target, clock: MovedClock) -> None:
        """As a store does whose client asked twice: it is our own write."""
        claim = taken(TwiceAsked(target), clock)
        clock.move(timedelta(seconds=30))
        claim.renew()

        clock.move(timedelta(seconds=45))
        claim.check()

    def test_a_claim_that_was_taken_over_stays_lost(self, target: Target, clock: MovedClock) -> None:
        """Its holder learns it at the next renewal; giving back what is another's does nothing."""
        claim = taken(target, clock)
        target.write(KEY, [claim_text(stranger())])

        claim.renew()
        with pytest.raises(Conflict, match="it was taken over by process 17 on elsewhere"):
            claim.check()
        claim.renew()
        claim.give_back()
        assert stranger().token == holder(target)

    def test_a_claim_that_was_removed_is_lost(self, target: Target, clock: MovedClock) -> None:
        """And is not put there again."""
        claim = taken(target, clock)
        target.delete(KEY)

        claim.renew()
        with pytest.raises(Conflict, match="taken away"):
            claim.check()
        with pytest.raises(Absent):
            read_claim(target, KEY)

    def test_giving_back_what_another_took_unseen(self, target: Target, clock: MovedClock) -> None:
        """Leaves it to them."""
        claim = taken(target, clock)
        target.write(KEY, [claim_text(stranger())])

        claim.give_back()
        assert stranger().token == holder(target)

    def test_a_store_out_of_reach_is_tried_at_the_next_beat(self, tmp_path: Path, clock: MovedClock) -> None:
        """One renewal that failed loses nothing yet."""
        down: list[bool] = []

        def fail(event: events.Event) -> None:
            if down:
                raise Unreachable("no answer")

        claim = taken(Telling(LocalTarget("disk", tmp_path / "disk", clock=clock), fail), clock)
        down.append(True)
        clock.move(timedelta(seconds=30))
        claim.renew()
        claim.check()
        down.clear()
        claim.renew()

        clock.move(timedelta(seconds=45))
        claim.check()

    def test_the_heart_beats_in_a_thread_of_its_own(self, tmp_path: Path) -> None:
        """While the body runs, and no longer."""
        target = LocalTarget("disk", tmp_path / "disk", clock=SystemClock())
        claim = claim_on(target, SystemClock())
        claim.write("")
        with beating(claim, 0.001):
            while claim.record.counter < 3:
                SystemClock().wait(0.001, Event())
        after = read_claim(target, KEY)

        assert after[0] is not None
        assert after[0].counter >= 3
        assert after == read_claim(target, KEY)


class TestFence:
    def test_effects_pass_while_the_lease_covers(self, target: Target, clock: MovedClock) -> None:
        """As they are."""
        fenced = Fenced(target, taken(target, clock))
        fenced.write("hotel/x", [b"1"])
        assert ["hotel/x"] == [item.key for item in fenced.list("hotel/x").items]

        fenced.delete("hotel/x")
        assert () == fenced.list("hotel/x").items

    def test_no_effect_after_the_lease_was_lost(self, target: Target, clock: MovedClock) -> None:
        """Neither write nor deletion nor abortion; looking is free."""
        target.write("hotel/x", [b"1"])
        fenced = Fenced(target, taken(target, clock))
        clock.move(timedelta(seconds=COVERED_SECONDS))

        for effect in (
            lambda: fenced.write("hotel/y", [b"2"]),
            lambda: fenced.delete("hotel/x"),
            lambda: fenced.write("hotel/x", [b"2"]),
        ):
            with pytest.raises(Conflict):
                effect()
        with fenced.read("hotel/x") as blob:
            assert b"1" == b"".join(blob)


class TestWatching:
    def test_a_forgotten_watch_begins_again(self, clock: MovedClock) -> None:
        """Nobody is declared dead by a watcher that was not there."""
        record = ClaimRecord(owner=stranger(), counter=0, since=NOW, for_what="a test")
        first, second = Watch(clock, PROCESS), Watch(clock, PROCESS)

        assert first.is_gone("a", record, "1") is None
        clock.move(timedelta(seconds=SILENT_SECONDS))
        assert second.is_gone("a", record, "1") is None
        assert first.is_gone("a", record, "1") is True

    def test_one_that_moved_and_then_fell_silent(self, clock: MovedClock) -> None:
        """Alive when it moved, dead 90 s after it moved last."""
        record = ClaimRecord(owner=stranger(), counter=0, since=NOW, for_what="a test")
        watch = Watch(clock, PROCESS)
        watch.is_gone("a", record, "1")
        clock.move(timedelta(seconds=80))
        assert watch.is_gone("a", record, "2") is False

        clock.move(timedelta(seconds=80))
        assert watch.is_gone("a", record, "2") is False
        clock.move(timedelta(seconds=10))
        assert watch.is_gone("a", record, "2") is True

    def test_names_are_watched_one_by_one(self, clock: MovedClock) -> None:
        """One that moves says nothing of another."""
        record = ClaimRecord(owner=stranger(), counter=0, since=NOW, for_what="a test")
        watch = Watch(clock, PROCESS)
        for etag in ("1", "2"):
            watch.is_gone("a", record, etag)

        assert watch.is_gone("b", record, "1") is None


class Overtaken(Telling):
    """Somebody else is always a moment faster."""

    def __init__(self, target: Target, faster: Callable[[], object]) -> None:
        super().__init__(target, lambda _: None)
        self._faster = faster

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        self._faster()
        return super().write(key, chunks, expect=expect)


class TwiceAsked(Telling):
    """Stores every overwriting, and says Conflict all the same."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, lambda _: None)
        self._next = True

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        stored = super().write(key, chunks, expect=expect)
        if expect and self._next:
            self._next = False
            raise Conflict("412 Precondition Failed")
        return stored
