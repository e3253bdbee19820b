"""Hosts with clocks of their own, and the processes on them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from threading import Event

from reconciler.simulation.timeline import Timeline
from reconciler.world.facts import Owner


class Death(BaseException):
    """`kill -9`: raised at everything that a dead process still tries, so that no clean-up of its own takes effect."""


class SimulatedCache:
    """What a host's disk remembers; who empties it puts another in its place."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """None for what is not there."""
        return self._texts.get(key)

    def put(self, key: str, value: bytes) -> None:
        """From now on."""
        self._texts[key] = value


class Host:
    """A machine or a container. Two containers of one machine share `boot`, and see only their own processes."""

    def __init__(self, name: str, timeline: Timeline, *, boot: str, namespace: str, offset: float, drift: float) -> None:
        self.name, self.boot, self.namespace = name, boot, namespace
        self.offset, self.drift = offset, drift
        self.timeline = timeline
        self.processes: dict[int, SimulatedProcess] = {}
        self.cache = SimulatedCache()
        self._started = 0
        self._now = (0.0, timeline.began)

    def now(self) -> datetime:
        """Its wall clock, which may be wrong."""
        seconds = self.timeline.seconds * (1.0 + self.drift) + self.offset
        if seconds != self._now[0]:
            self._now = seconds, self.timeline.began + timedelta(seconds=seconds)
        return self._now[1]

    def start(self) -> "SimulatedProcess":
        """A new process. Their numbers come round again, as they do: those of the living are passed over."""
        self._started += 1
        pid = next(number for number in count(2 + self._started % 7) if number not in self.processes)
        process = SimulatedProcess(self, pid=pid, ticks=self._started)
        self.processes[process.pid] = process
        return process


class SimulatedProcess:
    """One process: makes owners, and knows of those on its host."""

    def __init__(self, host: Host, *, pid: int, ticks: int) -> None:
        self.host, self.pid, self.ticks = host, pid, ticks
        self.alive = True
        self.stop = Event()
        self.tokens: set[str] = set()
        """Of all claims that it ever made."""
        self.arriving: object = None
        """The hands that asked for the effect that arrives late just now."""
        self._live: set[str] = set()

    def begin(self) -> Owner:
        """An owner, alive until `end` or until the process is."""
        token = f"{self.host.name}-{self.pid}-{self.ticks}-{len(self.tokens)}"
        self.tokens.add(token)
        self._live.add(token)
        return Owner(
            boot=self.host.boot,
            pid_namespace=self.host.namespace,
            pid=self.pid,
            start_ticks=self.ticks,
            token=token,
            host=self.host.name,
        )

    def end(self, owner: Owner) -> None:
        """Its claim is over."""
        self._live.discard(owner.token)

    def is_gone(self, owner: Owner) -> bool | None:
        """Proven only for processes of this very host."""
        if (owner.boot, owner.pid_namespace) != (self.host.boot, self.host.namespace):
            return None
        there = self.host.processes.get(owner.pid)
        if there is None or not there.alive or there.ticks != owner.start_ticks:
            return True
        return owner.token not in self._live if there is self else False

    def holds(self, token: str) -> bool:
        """Whether a claim of that token is really alive: what only the simulation knows."""
        return self.alive and token in self._live

    def end_all(self) -> None:
        """It is over, by death or by having done its work."""
        self.alive = False
        self._live.clear()
        if self.host.processes.get(self.pid) is self:
            del self.host.processes[self.pid]


def processes(hosts: "list[Host]") -> Iterator[SimulatedProcess]:
    """All that are alive."""
    for host in hosts:
        yield from host.processes.values()
