"""Where work may overlap: threads, or none at all for tests and for a world without time."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class ThreadPool:
    """At most `size` pieces of work at a time. Its threads are daemons: one that hangs never keeps the program from ending."""

    def __init__(self, size: int) -> None:
        self._free = BoundedSemaphore(size)

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Begin it as soon as a thread is free."""
        future: Future[T] = Future()

        def run() -> None:
            with self._free:
                _settle(work, future)

        Thread(target=run, name="reconciler", daemon=True).start()
        return future

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
        """All of them, in order. What finds no free thread is done in the caller's: work of the pool may map over the pool."""
        return [future.result() for future in [self._soon(work, item) for item in items]]

    def _soon(self, work: Callable[[T], R], item: T) -> "Future[R]":
        future: Future[R] = Future()
        if not self._free.acquire(blocking=False):
            _settle(lambda: work(item), future)
            return future

        def run() -> None:
            try:
                _settle(lambda: work(item), future)
            finally:
                self._free.release()

        Thread(target=run, name="reconciler", daemon=True).start()
        return future


class InlinePool:
    """Does everything at once, in the caller's thread."""

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Done when it returns."""
        future: Future[T] = Future()
        _settle(work, future)
        return future

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
        """One after the other."""
        return [work(item) for item in items]


def _settle(work: Callable[[], T], future: "Future[T]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - a future carries whatever was raised to whoever asks
        future.set_exception(error)
