"""What is done again and again beside other work: the heartbeat of a claim."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Thread

Heart = Callable[[float, Callable[[], None]], AbstractContextManager[None]]
"""`heart(seconds, beat)`: while the body runs, `beat` is called that often. When it ends, no beat is under way any more."""


@contextmanager
def in_a_thread(seconds: float, beat: Callable[[], None]) -> Iterator[None]:
    """By a thread of its own, so that the body may take as long as it likes."""
    over = Event()

    def run() -> None:
        while not over.wait(seconds):
            beat()

    thread = Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A beat under way may meet a slow store; the claim's end must not overtake it.
        thread.join()
