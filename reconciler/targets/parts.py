"""A stream cut into parts, and a write that is made once however often it is asked for."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Event

from reconciler.errors import Absent, Conflict, ReconcilerError, Unreachable
from reconciler.world.persist import persist
from reconciler.world.ports import Clock, Stored


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


def take_effect(request: Callable[[], Stored], find: Callable[[], Stored | None], *, clock: Clock, stop: Event) -> Stored:
    """The request by which an object comes to be, repeated where needed, and looked for where its answer is not clear.

    `find` gives the object if it is there by this very write. Raises Conflict where another's is.
    """
    unanswered: list[Unreachable] = []

    def attempt() -> Stored:
        try:
            return request()
        except Unreachable as error:
            unanswered.append(error)
            raise
        except (Absent, Conflict) as error:
            own = find() if unanswered else None
            if own is None:
                raise Conflict(error.what) from error
            return own

    try:
        return persist(attempt, clock=clock, stop=stop)
    except Unreachable:
        with suppress(ReconcilerError):
            if own := find():
                return own
        raise
