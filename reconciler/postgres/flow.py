"""Bytes from and to a child, in blocks, with an eye on `stop` and on whether anything still moves."""

import os
import select
from collections.abc import Iterable, Iterator
from datetime import timedelta
from threading import Event
from typing import NamedTuple

from reconciler.errors import Stopped, Unreachable
from reconciler.policy.units import format_duration
from reconciler.postgres.child import Child
from reconciler.postgres.wide import width
from reconciler.world.ports import Clock

BLOCK_BYTES = 1 << 18
READ_BYTES = 1 << 20
LITTLE = 16
"""A read of less than this part of a pipe finds a program that writes more slowly than we read."""
GATHER_SECONDS = 0.001
"""In which a program that writes 1 GB a second fills no more than a pipe of 1 MiB: it is not kept waiting."""
LOOK_MILLISECONDS = 250
"""How often `stop` is looked at while nothing moves."""
PATIENCE = timedelta(minutes=10)
"""Without a byte. pg_dump writes none until it has read the whole catalog and has its locks."""


class Limit(NamedTuple):
    """How long all of it may take, and where that is said."""

    most: timedelta
    named: str


class Watch:
    """Says when to give up: asked to stop, nothing moved for too long, or all took too long (None: however long it takes)."""

    def __init__(self, clock: Clock, stop: Event, patience: timedelta | None, doing: str, *, limit: Limit | None = None) -> None:
        self._clock = clock
        self._stop = stop
        self._patience = patience
        self._doing = doing
        self._limit = limit
        self._began = self._moved = clock.monotonic()

    def moved(self) -> None:
        """A byte passed."""
        self._moved = self._clock.monotonic()

    def let_gather(self) -> None:
        """Leave a program alone for a moment: to be woken at each 4 KiB that it writes costs both more than the bytes do."""
        self._clock.wait(GATHER_SECONDS, self._stop)

    def check(self) -> None:
        """Raise Stopped or Unreachable if it is time to give up."""
        if self._stop.is_set():
            raise Stopped(f"stopped while {self._doing}")
        limit = self._limit
        if limit is not None and self._clock.monotonic() - self._began > limit.most.total_seconds():
            raise Unreachable(
                f"{self._doing} took longer than {limit.named} allows, and was ended after {format_duration(limit.most)}",
                cure="allow it more time, or find out what slowed it down; it will be tried again",
            )
        if self._patience is not None and self._clock.monotonic() - self._moved > self._patience.total_seconds():
            raise Unreachable(
                f"no byte moved for {self._patience} while {self._doing}",
                cure="look for locks and load on the server; it will be tried again",
            )


def read_blocks(descriptor: int, watch: Watch) -> Iterator[bytes]:
    """All bytes until the end, in blocks of a quarter of a MiB or more but for the last; small reads are gathered."""
    pending: list[bytes] = []
    size, little = 0, width(descriptor) // LITTLE
    while piece := _read(descriptor, watch):
        pending.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield b"".join(pending)
            watch.moved()  # however long the reader took: that is not the program's silence
            pending, size = [], 0
        elif len(piece) < little:
            watch.let_gather()
    if pending:
        yield b"".join(pending)


def write_block(descriptor: int, block: bytes, watch: Watch) -> None:
    """Write all of it to a non-blocking descriptor. Raises BrokenPipeError when the reader is gone."""
    watch.moved()  # however long the block was on its way to us: that is not the reader's silence
    rest = memoryview(block)
    while rest:
        watch.check()
        if is_ready(descriptor, select.POLLOUT):
            rest = rest[os.write(descriptor, rest) :]
            watch.moved()


def feed(child: Child, chunks: Iterable[bytes], watch: Watch) -> bool:
    """Write all chunks and close; False if the program ended, or closed its ears, before that."""
    os.set_blocking(child.stream, False)
    try:
        for chunk in chunks:
            write_block(child.stream, chunk, watch)
    except BrokenPipeError:
        return False
    child.close_input()
    return True


def _read(descriptor: int, watch: Watch) -> bytes:
    while True:
        watch.check()
        if is_ready(descriptor, select.POLLIN):
            watch.moved()
            return os.read(descriptor, READ_BYTES)


def is_ready(descriptor: int, event: int) -> bool:
    """Whether it is, soon."""
    poll = select.poll()  # not select(), which knows no descriptor above 1023
    poll.register(descriptor, event)
    return bool(poll.poll(LOOK_MILLISECONDS))
