"""Where work may overlap: threads, or none at all for tests and for a world without time."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import BoundedSemaphore, Thread
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class ThreadPool:
    """At most `size` pieces of work at a time. Its threads are daemons: one that hangs never keeps the program from ending."""

    def __init__(self, size: int) -> None:
        self._size = size
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
        """All of them, in order. The caller's thread works too: work of the pool may map over the pool."""
        futures: list[tuple[T, Future[R]]] = [(item, Future()) for item in items]
        left = iter([partial(_settle, partial(work, item), future) for item, future in futures])

        def go_on() -> bool:
            task = next(left, None)
            if task is not None:
                task()
            return task is not None

        def help_out() -> None:
            more = True
            while more:
                # A free thread first, then work: else others could wait for work that waits for a thread.
                with self._free:
                    more = go_on()

        for _ in futures[1 : self._size + 1]:
            Thread(target=help_out, name="reconciler", daemon=True).start()
        while go_on():
            pass
        return [future.result() for _, future in futures]


class InlinePool:
    """Does everything at once, in the caller's thread."""

    def submit(self, work: Callable[[], T]) -> "_Given[T]":
        """Done when it returns."""
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is asked for
            return _Given(partial(_raise, error))
        return _Given(lambda: value)

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Sequence[R]:
        """One after the other."""
        return [work(item) for item in items]


class _Given(Generic[T]):
    """An answer that is there: nobody waits for it, so that it needs no lock."""

    def __init__(self, value: Callable[[], T]) -> None:
        self._value = value

    def result(self, timeout: float | None = None) -> T:
        """At once."""
        return self._value()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _settle(work: Callable[[], T], future: "Future[T]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - a future carries whatever was raised to whoever asks
        future.set_exception(error)
