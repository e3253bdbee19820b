"""A stream cut into parts, parts on their way, and a write that is made once however often it is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from math import inf
from threading import Condition, Event
from typing import Final, TypeVar

from reconciler.errors import Absent, Conflict, ReconcilerError, Stopped, Unreachable
from reconciler.world.persist import persist
from reconciler.world.ports import Clock, Stored

T = TypeVar("T")

SETTLE_SECONDS: Final = 5.0
"""How long parts on their way are waited for before an upload is given up: one that arrives later could stay behind."""


def cut(chunks: Iterable[bytes], size: Callable[[int], int]) -> Iterator[tuple[bytearray, bool]]:
    """Parts of `size(number)` bytes, the last one shorter, each with whether it is the last. Of no bytes: one empty part."""
    part, number = bytearray(), 1
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            # A full part waits for the next byte: only then is it known not to be the last.
            if len(part) == size(number):
                yield part, False
                part, number = bytearray(), number + 1
            taken = rest[: size(number) - len(part)]
            part += taken
            rest = rest[len(taken) :]
    yield part, True


def arrived(running: set[Future[T]], stop: Event) -> tuple[set[Future[T]], set[Future[T]]]:
    """Once one at least of these parts has arrived or failed: those that have, and the rest.

    Raises Stopped where none does for a while though we are asked to stop: to wait for its time-out could take minutes.
    """
    while True:
        done, rest = wait(running, timeout=SETTLE_SECONDS, return_when=FIRST_COMPLETED)
        if done:
            return done, rest
        if stop.is_set():
            raise Stopped("asked to stop while parts of a write were on their way")


class Air:
    """Parts on their way to stores, of all that is written at a time together: so many bytes at most, but one part always."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._changed = Condition()
        self._bytes = 0
        self.waiting: deque[object] = deque()
        """In the order in which they came: a part larger than most would else wait as long as others send."""

    def enter(self, part: bytearray, stop: Event | None = None) -> None:
        """Returns once there is room for it. Whoever entered sends it by `sent`, whose end makes room again.

        Raises Stopped where there is none for a while though we are asked to stop.
        """
        turn = object()
        with self._changed:
            self.waiting.append(turn)
            try:
                while not self._changed.wait_for(
                    lambda: self.waiting[0] is turn and self._has_room(len(part)), timeout=SETTLE_SECONDS
                ):
                    if stop is not None and stop.is_set():
                        raise Stopped("asked to stop while a part waited for others to arrive")
                self._bytes += len(part)
            finally:
                self.waiting.remove(turn)
                self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._bytes == 0 or self._bytes + size <= self._most

    def sent(self, part: bytearray, send: Callable[[], T]) -> T:
        """What `send` gives or raises."""
        try:
            return send()
        finally:
            with self._changed:
                self._bytes -= len(part)
                self._changed.notify_all()


AIR: Final = Air(48 << 20)
"""Of this process: six parts of 8 MiB, which is what two uploads use that know nothing of each other."""


def take_effect(
    request: Callable[[], Stored], find: Callable[[], Stored | None], *, clock: Clock, stop: Event, within: float = inf
) -> Stored:
    """The request by which an object comes to be, repeated where needed, and looked for where its answer is not clear.

    `find` gives the object if it is there by this very write. After `within` seconds it is not repeated: a record that came to be
    long after its writer looked whether it may write it would be worse than none. Raises Conflict where another's is.
    """
    unanswered: list[Unreachable] = []

    def look() -> Stored | None:
        """Where all was answered, a proxy on the way may have asked twice; a look that fails makes no doubt of that."""
        with suppress(ReconcilerError):
            return find()
        return None

    def attempt() -> Stored:
        try:
            return request()
        except Unreachable as error:
            unanswered.append(error)
            raise
        except (Absent, Conflict) as error:
            own = find() if unanswered else look()
            if own is None:
                raise Conflict(error.what) from error
            return own

    try:
        return persist(attempt, clock=clock, stop=stop, within=within)
    except Unreachable:
        if own := look():
            return own
        raise
