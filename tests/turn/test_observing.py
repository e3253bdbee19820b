"""Observing: whatever one side does, it is Unknown at worst, and the others are seen."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from threading import Event as StopEvent
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from reconciler.backups.claim import SILENT_SECONDS, Watch
from reconciler.duties import DUTIES
from reconciler.errors import Refused, Unreachable
from reconciler.observe import observe, observe_decided
from reconciler.planning.plan import Consent
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.telling import Telling
from reconciler.targets.unusable import UnusableTarget
from reconciler.turn import turn
from reconciler.world.clock import SystemClock
from reconciler.world.events import Event, Waiting
from reconciler.world.facts import Known, Observation, Unknown
from reconciler.world.pool import InlinePool, ThreadPool
from reconciler.world.ports import Answer, Listing, Pool, Target, World
from reconciler.world.process import SystemProcess
from tests.backups.faking import FakeSource, MovedClock, claim_text, make_world, silent, states, stranger, take
from tests.building import NOW, policy, retention
from tests.postgres.processes import comes_true

T = TypeVar("T")
R = TypeVar("R")
WANT = policy("0 * * * *", ("primary", "offsite"))
DEBRIS = "20251025T090000Z-00dead"


class Odd(Telling):
    """A target whose listing does something else first."""

    def __init__(self, target: Target, act: Callable[[], object]) -> None:
        super().__init__(target, silent)
        self._act = act

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        self._act()
        return super().list(prefix, versions=versions)


class Unhurried:
    """A pool of which one piece of work hangs: it is waited for in vain as soon as all others are done, however late."""

    def __init__(self) -> None:
        self._pool = ThreadPool(8)
        self._begun: list[Future[Any]] = []

    def submit(self, work: Callable[[], T]) -> Answer[T]:
        future = self._pool.submit(work)
        self._begun.append(future)
        return Awaited(future, self._begun)

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
        return self._pool.map(work, items)


class Awaited(Generic[T]):
    def __init__(self, future: Future[T], begun: list[Future[Any]]) -> None:
        self._future, self._begun = future, begun

    def result(self, timeout: float | None = None) -> T:
        assert comes_true(lambda: sum(not each.done() for each in self._begun) <= 1)
        return self._future.result(timeout=0)


def with_odd_offsite(tmp_path: Path, act: Callable[[], object], pool: Pool) -> World:
    clock = SystemClock()
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
    take(make_world(tmp_path, clock, targets=targets))
    return make_world(tmp_path, clock, targets=targets | {"offsite": Odd(targets["offsite"], act)}, pool=pool)


def look(world: World) -> Observation:
    return observe(world, WANT, Watch(world.clock, world.process))


def fail(error: Exception) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("pool", [InlinePool(), ThreadPool(1), ThreadPool(8)])
def test_all_sides_are_seen(tmp_path: Path, pool: Pool) -> None:
    """At once or one after the other: the same."""
    have = look(with_odd_offsite(tmp_path, lambda: None, pool))

    assert isinstance(have.source, Known)
    assert {"primary", "offsite"} == set(have.known())
    assert ["primary"] == list(have.backups()[0].copies)


def test_who_is_waited_for_is_told(tmp_path: Path) -> None:
    """Silence for minutes would look like a program that hangs."""
    over, heard = StopEvent(), list[Event]()
    world = with_odd_offsite(tmp_path, lambda: over.wait(60), Unhurried())
    look(msgspec.structs.replace(world, tell=heard.append))
    over.set()

    (waiting,) = [event for event in heard if isinstance(event, Waiting)]
    assert re.fullmatch(r"waiting for an answer from offsite, for \d+ s at most", waiting.says)


def test_a_side_that_hangs(tmp_path: Path) -> None:
    """Is given up after the limit; the others had their answer."""
    over = StopEvent()
    have = look(with_odd_offsite(tmp_path, lambda: over.wait(60), Unhurried()))
    over.set()

    assert {"primary"} == set(have.known())
    assert "no answer within 120 s" == have.unknown()["offsite"].reason
    assert isinstance(have.source, Known)


@pytest.mark.parametrize("pool", [InlinePool(), ThreadPool(8)])
def test_a_side_that_refuses(tmp_path: Path, pool: Pool) -> None:
    """Unknown, with the reason and the cure."""
    refused = Refused("offsite: 403 AccessDenied", cure="give the key s3:ListBucket")
    have = look(with_odd_offsite(tmp_path, fail(refused), pool))

    assert {"primary"} == set(have.known())
    assert ("offsite: 403 AccessDenied", "give the key s3:ListBucket") == (
        have.unknown()["offsite"].reason,
        have.unknown()["offsite"].cure,
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), TimeoutError("its own"), RecursionError("deep")])
def test_a_bug_on_one_side(tmp_path: Path, error: Exception) -> None:
    """Blinds us to that side only, and is named as a bug."""
    have = look(with_odd_offsite(tmp_path, fail(error), ThreadPool(8)))

    assert {"primary"} == set(have.known())
    assert f"unforeseen {type(error).__name__}: {error}" == have.unknown()["offsite"].reason
    assert "please report this" == have.unknown()["offsite"].cure


def test_a_source_that_is_down(tmp_path: Path) -> None:
    """The catalogues are seen all the same."""
    clock = MovedClock()
    have = look(make_world(tmp_path, clock, FakeSource(clock, trouble="down")))

    assert isinstance(have.source, Unknown)
    assert {"primary", "offsite"} == set(have.known())


def test_observing_changes_nothing(tmp_path: Path) -> None:
    """Not one effect on any target."""
    told: list[Event] = []
    clock = MovedClock()
    take(make_world(tmp_path, clock))
    look(make_world(tmp_path, clock, tell=told.append))

    assert [] == told


class TestUndecidedWriters:
    """A turn looks until it is clear which writers live: else a dead one of another host would keep its slot taken for ever."""

    def begin(self, tmp_path: Path, clock: MovedClock, said: list[str]) -> World:
        def note(event: Event) -> None:
            if isinstance(event, Waiting):
                said.append(event.says)

        world = make_world(tmp_path, clock, tell=note)
        text = claim_text(stranger(), slot=NOW.replace(minute=0))
        world.targets["primary"].write(f"hotel/backups/{DEBRIS}/intent.json", [text])
        return world

    def test_a_silent_one_is_debris_after_90_seconds(self, tmp_path: Path) -> None:
        """Its slot is free again: the dump is taken and the debris swept, in one turn."""
        clock, said = MovedClock(), list[str]()
        world = self.begin(tmp_path, clock, said)
        outcomes = turn(world, WANT, DUTIES, Consent()).outcomes

        assert ["take", "copy", "sweep"] == [outcome.does.split(" ")[0] for outcome in outcomes]
        assert {"whole"} == set(states(world).values())
        assert SILENT_SECONDS <= clock.monotonic() < SILENT_SECONDS + 10
        assert [f"watching whether the writer or reader of {DEBRIS} lives (at most 90 s)"] == said

    def test_one_that_moves_is_left_alone(self, tmp_path: Path) -> None:
        """Its slot is taken: nothing is dumped, nothing is swept."""
        clock, said = MovedClock(), list[str]()
        world = self.begin(tmp_path, clock, said)
        beats = iter(range(1, 1000))

        class Living(MovedClock):
            def wait(self, seconds: float, stop: StopEvent) -> bool:
                text = claim_text(stranger(), next(beats), NOW.replace(minute=0))
                world.targets["primary"].write(f"hotel/backups/{DEBRIS}/intent.json", [text])
                return super().wait(seconds, stop)

        living = make_world(tmp_path, Living())
        assert () == turn(living, WANT, DUTIES, Consent()).outcomes
        assert {DEBRIS: "being_written"} == states(world)
        assert living.clock.monotonic() < SILENT_SECONDS

    def test_only_the_claim_is_read_meanwhile(self, tmp_path: Path) -> None:
        """Looking at everything every five seconds would cost a store, and a provider, eighteen times as much."""
        clock = MovedClock()
        self.begin(tmp_path, clock, [])
        listed: list[str] = []
        places = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
        targets: dict[str, Target] = {name: Odd(place, lambda name=name: listed.append(name)) for name, place in places.items()}  # type: ignore[misc]
        have = observe_decided(make_world(tmp_path, clock, targets=targets), WANT, Watch(clock, SystemProcess()))

        assert ["debris"] == [copy.state for backup in have.backups() for copy in backup.copies.values()]
        assert SILENT_SECONDS <= clock.monotonic()
        assert ["offsite", "primary"] * 2 == listed

    def test_a_claim_that_can_no_longer_be_read(self, tmp_path: Path) -> None:
        """All is looked at again, at once: the target is unknown then."""

        class Closing(MovedClock):
            def wait(self, seconds: float, stop: StopEvent) -> bool:
                world.targets["primary"] = UnusableTarget("primary", Unreachable("no route to host"))  # type: ignore[index]
                return super().wait(seconds, stop)

        clock = Closing()
        self.begin(tmp_path, clock, [])
        world = make_world(tmp_path, clock)
        have = observe_decided(world, WANT, Watch(clock, SystemProcess()))

        assert {"primary"} == set(have.unknown())
        assert clock.monotonic() < SILENT_SECONDS


def test_what_was_seen_last_is_remembered(tmp_path: Path) -> None:
    """Through failures, and by the cache alone: one that forgot begins anew."""
    clock = MovedClock()
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
    world = make_world(tmp_path, clock, targets=targets)
    taken = take(world)
    instant = next(copy.instant for backup in look(world).backups() for copy in backup.copies.values() if backup.id == taken)
    dark = {name: Odd(target, fail(Refused("403", cure="give s3:ListBucket"))) for name, target in targets.items()}
    blind = make_world(tmp_path, clock, targets=dark, cache=world.cache)

    for _ in range(2):
        clock.move(timedelta(hours=13))
        assert instant == getattr(look(blind).unknown()["primary"], "last", None)
    forgetful = make_world(tmp_path, clock, targets=dark)
    first = look(forgetful).unknown()["primary"].last
    clock.move(timedelta(hours=27))
    assert first == look(forgetful).unknown()["primary"].last


def test_a_key_that_is_forbidden_for_a_day(tmp_path: Path) -> None:
    """Unproven at once, violated after the RPO; nothing is deleted, and the right to give is named throughout."""
    clock = MovedClock()
    want = policy("0 * * * *", ("primary", "offsite"), retention(keep_last=1), rpo="3h")
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=clock) for name in ("primary", "offsite")}
    world = make_world(tmp_path, clock, targets=targets)
    for _ in range(4):
        clock.move(timedelta(hours=1))
        turn(world, want, DUTIES, Consent())
    there = {name: [item.key for item in target.list("").items] for name, target in targets.items()}
    dark = {name: Odd(target, fail(Refused("403", cure="give s3:ListBucket"))) for name, target in targets.items()}
    blind = make_world(tmp_path, clock, targets=dark, cache=world.cache)
    statuses = []
    for _ in range(24):
        clock.move(timedelta(hours=1))
        after = turn(blind, want, DUTIES, Consent()).after
        statuses.append(after.conditions[0].status)
        assert {"give s3:ListBucket"} == {finding.cure for finding in after.findings if finding.where in targets}

    assert ["unproven"] * 3 + ["violated"] * 21 == statuses
    assert there == {name: [item.key for item in target.list("").items] for name, target in targets.items()}
