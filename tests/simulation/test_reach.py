"""Time, death and heartbeats of simulated processes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Event

import pytest

from reconciler.errors import Unreachable
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Fault, Faults
from reconciler.simulation.host import Death, Host
from reconciler.simulation.reach import Reach, SimulatedClock
from reconciler.simulation.store import Store
from reconciler.simulation.target import SimulatedTarget
from reconciler.simulation.timeline import Timeline

KEY = "hotel/backups/20251025T020000Z-3f9c2a/dump.zst"


class Staged(Faults):
    """What was asked for happens at the next change, and nothing else."""

    def __init__(self) -> None:
        super().__init__(Chance(0), share=0.0)
        self.next: Fault = "none"

    def draw(self, *, changes: bool) -> Fault:
        fault: Fault = self.next if changes else "none"
        self.next = "none" if changes else self.next
        return fault


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(datetime(2025, 10, 20, tzinfo=UTC))


@pytest.fixture
def faults() -> Staged:
    return Staged()


@pytest.fixture
def host(timeline: Timeline) -> Host:
    return Host("host", timeline, boot="b", namespace="n", offset=0.0, drift=0.0)


@pytest.fixture
def reach(host: Host, faults: Staged) -> Reach:
    return Reach(host.start(), faults)


@pytest.fixture
def store(timeline: Timeline) -> Store:
    return Store("primary", timeline, versioned=False)


@pytest.fixture
def target(store: Store, reach: Reach) -> SimulatedTarget:
    return SimulatedTarget(store, reach)


def test_an_answer_that_is_lost(target: SimulatedTarget, store: Store, faults: Staged) -> None:
    """It was done all the same."""
    faults.next = "lost answer"

    with pytest.raises(Unreachable):
        target.write(KEY, [b"x"])
    assert store.current(KEY)


def test_an_effect_that_comes_late(target: SimulatedTarget, store: Store, faults: Staged, timeline: Timeline) -> None:
    """Not at first, but then."""
    faults.next = "late effect"

    with pytest.raises(Unreachable):
        target.write(KEY, [b"x"])
    assert store.current(KEY) is None
    timeline.sleep(timeline.seconds + 60)
    assert store.current(KEY)


@pytest.mark.parametrize(("fault", "there"), [("death before", False), ("death after", True)])
def test_a_death_at_an_effect(target: SimulatedTarget, store: Store, faults: Staged, fault: Fault, there: bool) -> None:
    """The effect is there or not, and nothing that the dead still try has any."""
    faults.next = fault

    with pytest.raises(Death):
        target.write(KEY, [b"x"])
    assert there == (store.current(KEY) is not None)
    with pytest.raises(Death):
        target.delete(KEY)
    assert there == (store.current(KEY) is not None)


def test_a_death_in_mid_stream(target: SimulatedTarget, store: Store, reach: Reach) -> None:
    """Its upload stays: nobody is left to abort it."""

    def dying() -> Iterator[bytes]:
        yield b"x"
        reach.die()

    with pytest.raises(Death):
        target.write(KEY, dying())
    assert [KEY] == [upload.key for upload in store.unfinished("")]


def test_a_heart_beats_while_time_passes(reach: Reach) -> None:
    """As often as asked, and no more once it is over."""
    beats: list[float] = []

    with reach.heart(30.0, lambda: beats.append(reach.timeline.seconds)):
        SimulatedClock(reach).wait(100.0, Event())
    SimulatedClock(reach).wait(100.0, Event())

    assert [30.0, 60.0, 90.0] == beats


def test_no_heart_beats_in_a_pause(reach: Reach) -> None:
    """A stopped process does nothing at all."""
    beats: list[float] = []

    with reach.heart(30.0, lambda: beats.append(reach.timeline.seconds)):
        reach.pause(100.0)

    assert [] == beats


def test_who_is_gone_is_seen_from_the_same_host_alone(host: Host, timeline: Timeline) -> None:
    """Elsewhere nothing is proven, and a number that comes round again is another process."""
    here = host.start()
    elsewhere = Host("other", timeline, boot="b", namespace="m", offset=0.0, drift=0.0).start()
    owner = here.begin()

    assert [False, None] == [here.is_gone(owner), elsewhere.is_gone(owner)]
    here.end_all()
    assert [True, None] == [host.start().is_gone(owner), elsewhere.is_gone(owner)]


def test_together_who_wakes_first_goes_on(timeline: Timeline) -> None:
    """One runs at a time, in the order of their waking."""
    seen: list[tuple[str, float]] = []

    def work(name: str, step: float) -> None:
        for _ in range(3):
            timeline.sleep(timeline.seconds + step)
            seen.append((name, timeline.seconds))

    timeline.together([lambda: work("slow", 10.0), lambda: work("quick", 4.0)])

    assert [("quick", 4.0), ("quick", 8.0), ("slow", 10.0), ("quick", 12.0), ("slow", 20.0), ("slow", 30.0)] == seen


def test_a_beat_that_sleeps_delays_the_call_that_it_beats_in(target: SimulatedTarget, reach: Reach, faults: Staged) -> None:
    """Though its own next call is quick: what that call was decided on is old by then."""

    def beat() -> None:
        faults.next = "pause"
        target.write("hotel/lease-keep.json", [b"1"])
        target.delete("hotel/old")

    with reach.heart(30.0, beat):
        reach.slept = False
        reach.pass_time(31.0)
        assert reach.slept
    target.delete("hotel/old")
    assert not reach.slept
