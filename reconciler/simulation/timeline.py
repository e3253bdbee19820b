"""One time for all: whoever takes time waits on it, and who wakes first goes on. Only one runs at any moment.

Reconcilers that run together are threads that hand a baton on: code that knows of no scheduler is interleaved all the same, in an
order that follows from how long each was drawn to take.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from threading import Lock, Thread


class _Runner:
    """One of those that run together; its gate opens when it is its turn."""

    def __init__(self, number: int) -> None:
        self.number, self.wakes = number, 0.0
        self.gate = Lock()
        self.gate.acquire()


class Timeline:
    """Seconds since the world began, and what was put off until later."""

    def __init__(self, began: datetime) -> None:
        self.began, self.seconds = began, 0.0
        self._now = (0.0, began)
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._put_off = 0
        self._runners: list[_Runner] = []
        self._running: _Runner | None = None

    def now(self) -> datetime:
        """The true time."""
        if self.seconds != self._now[0]:
            self._now = self.seconds, self.began + timedelta(seconds=self.seconds)
        return self._now[1]

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do it once that much time has passed, whoever runs then."""
        self._put_off += 1
        heappush(self._later, (self.seconds + seconds, self._put_off, work))

    def sleep(self, until: float) -> None:
        """Returns at that time; others go on meanwhile."""
        me = self._running
        if me is None or len(self._runners) == 1:
            self._advance(until)
            return
        me.wakes = until
        first = self._first()
        if first is not me:
            self._running = first
            first.gate.release()
            me.gate.acquire()
        self._advance(until)

    def together(self, works: Sequence[Callable[[], None]]) -> None:
        """All of them, as if each ran on a machine of its own; returns when the last ended. The first failure goes through."""
        over = Lock()
        over.acquire()
        failures: list[BaseException] = []

        def run(work: Callable[[], None], runner: _Runner) -> None:
            runner.gate.acquire()
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - it is raised where the others are waited for
                failures.append(failure)
            self._runners.remove(runner)
            self._running = self._first() if self._runners else None
            (self._running.gate if self._running else over).release()

        self._runners = [_Runner(number) for number in range(len(works))]
        threads = [Thread(target=run, args=pair, daemon=True) for pair in zip(works, self._runners, strict=True)]
        for thread in threads:
            thread.start()
        self._running = self._first()
        self._running.gate.release()
        over.acquire()
        for failure in failures:
            raise failure

    def _first(self) -> _Runner:
        return min(self._runners, key=lambda runner: (runner.wakes, runner.number))

    def _advance(self, until: float) -> None:
        while self._later and self._later[0][0] <= until:
            at, _, work = heappop(self._later)
            self.seconds = max(self.seconds, at)
            work()
        self.seconds = max(self.seconds, until)
