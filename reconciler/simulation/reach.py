"""How a process reaches the world: each call takes time, lets others run, and may fail. Its clock and heart are here too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from threading import Event
from typing import TypeVar

from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.simulation.faults import Fault, Faults
from reconciler.simulation.host import Death, SimulatedProcess

T = TypeVar("T")

CLAIMS = ("intent.json", "lease-keep.json", "lease-prove.json")
"""What heartbeats renew. (Pins too, by keys of their own.)"""
LATEST_SECONDS = 20.0
"""How long a change may be under way. What a store does later than that after it was asked is beyond what a lease can fence."""


class _Beat:
    def __init__(self, seconds: float, work: Callable[[], None], at: float) -> None:
        self.seconds, self.work, self.at = seconds, work, at


class Reach:
    """One process's hands. Everything that it does outside of its own memory goes through `call`."""

    def __init__(self, process: SimulatedProcess, faults: Faults) -> None:
        self.process, self.faults = process, faults
        self.timeline = process.host.timeline
        self.slept = False
        """Whether it slept between deciding on the call under way and doing it: no rule can see that."""
        self.listed: dict[str, int | None] = {}
        """At the last listing of a database: how often the store had been changed; None where it gave no answer."""
        self.asked: dict[str, float] = {}
        """When that listing was made, by the true time."""
        self._beats: list[_Beat] = []
        self._beating = False
        self._within = False
        """Whether a beat is under way: its calls come in the midst of another one."""

    def call(self, verb: str, place: str, key: str, work: Callable[[], T], *, changes: bool = False) -> T:
        """Do it, unless something happens."""
        if self._beating or not (key.endswith(CLAIMS) or "/pins/" in key):
            return self._call(verb, place, key, work, changes=changes)
        # A claim that is being written is locked: its beat would wait.
        self._beating = True
        try:
            return self._call(verb, place, key, work, changes=changes)
        finally:
            self._beating = False

    def _call(self, verb: str, place: str, key: str, work: Callable[[], T], *, changes: bool) -> T:
        self._take_time()
        if place in self.faults.spells:
            refused = self.faults.refusal(place, f"{verb} {key}", self.timeline.seconds, changes=changes)
            if refused is not None:
                raise refused
        fault = self.faults.draw(changes=changes)
        if fault == "late effect" and verb == "begin":
            fault = "lost answer"  # An upload that begins once all is cleaned away is beyond any program's reach.
        if fault == "none":
            return work()
        return self._meet(fault, place, f"{verb} {key}", work)

    def _meet(self, fault: Fault, place: str, what: str, work: Callable[[], T]) -> T:
        match fault:
            case "death before":
                self.die()
            case "no answer":
                raise Unreachable(f"{place}: no answer to {what}")
            case "refused":
                raise Refused(f"{place}: 403 on {what}", cure="give the key its rights")
            case "late effect":
                self.timeline.later(self.faults.chance.uniform(0.5, LATEST_SECONDS), lambda: self._arrive(work))
                raise Unreachable(f"{place}: no answer to {what}")
            case "stop":
                self.process.stop.set()
            case "pause":
                self.pause(self.faults.chance.choice((10, 40, 100, 300, 2000)))
            case "slow":
                self.slept = True
                self.pass_time(self.faults.chance.uniform(1, 100))
        done = work()
        if fault == "death after":
            self.die()
        if fault == "lost answer":
            raise Unreachable(f"{place}: no answer to {what}")
        return done

    def _arrive(self, work: Callable[[], object]) -> None:
        """Nobody waits for the answer any more, and much may have changed since it was asked for."""
        was, self.slept, self.process.arriving = self.slept, True, self
        with suppress(ReconcilerError):
            work()
        self.slept, self.process.arriving = was, None

    def die(self) -> None:
        """Nothing that this process does from here on has any effect."""
        self.process.end_all()
        raise Death

    def pause(self, seconds: float) -> None:
        """SIGSTOP: no heartbeat either."""
        self.slept = True
        self.timeline.sleep(self.timeline.seconds + seconds)
        self._still_here()

    def _take_time(self) -> None:
        if not self.process.alive:
            raise Death
        # What beats in the midst of another call delays that one, too, whichever of its own calls slept.
        self.slept = self.slept and self._within
        # Most calls are so quick that nobody comes between; the others are where things interleave.
        if self.faults.chance.random() < 0.3:
            self.pass_time(self.faults.chance.uniform(0.01, 2.0))

    def pass_time(self, seconds: float) -> None:
        """So long, beating where a beat is due."""
        ends = self.timeline.seconds + seconds
        while True:
            beat = min(self._beats, key=lambda beat: beat.at) if self._beats and not self._beating else None
            self.timeline.sleep(max(self.timeline.seconds, min(ends, beat.at if beat else ends)))
            self._still_here()
            if beat is not None and beat.at <= self.timeline.seconds:
                beat.at = self.timeline.seconds + beat.seconds
                self._do(beat)
            elif self.timeline.seconds >= ends:
                return

    def _do(self, beat: _Beat) -> None:
        self._beating = self._within = True
        try:
            beat.work()
        finally:
            self._beating = self._within = False

    @contextmanager
    def heart(self, seconds: float, work: Callable[[], None]) -> Iterator[None]:
        """A heartbeat without a thread: it beats while the process takes time."""
        beat = _Beat(seconds, work, self.timeline.seconds + seconds)
        self._beats.append(beat)
        try:
            yield
        finally:
            self._beats.remove(beat)

    def _still_here(self) -> None:
        if not self.process.alive:
            raise Death


class SimulatedClock:
    """The clock of the process's host."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def now(self) -> datetime:
        """As that host has it."""
        return self._reach.process.host.now()

    def monotonic(self) -> float:
        """Unmoved by whoever sets the wall clock."""
        host = self._reach.process.host
        return host.timeline.seconds * (1.0 + host.drift)

    def elapsed(self) -> float:
        """No host is suspended here."""
        return self.monotonic()

    def wait(self, seconds: float, stop: Event) -> bool:
        """Others go on meanwhile."""
        if stop.is_set():
            return True
        self._reach.pass_time(seconds)
        return stop.is_set()
