"""How a program's bytes are read: all of them, in few reads, and without keeping it waiting."""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from threading import Event, Thread

import pytest

from reconciler.errors import Stopped
from reconciler.postgres.flow import BLOCK_BYTES, GATHER_SECONDS, Watch, read_blocks
from reconciler.postgres.wide import DEFAULT_BYTES, WIDE_BYTES, widen, width
from reconciler.world.clock import SystemClock
from tests.faults.clock import MovedClock

LITTLE = b"x" * 4096


class Writer(MovedClock):
    """Writes whenever it is left alone, and closes its end with the last."""

    def __init__(self, *writes: bytes) -> None:
        super().__init__()
        self.reader, self.writer = os.pipe()
        self._writes = list(writes)
        self.go_on()

    def go_on(self) -> None:
        if self._writes:
            os.write(self.writer, self._writes.pop(0))
            if not self._writes:
                os.close(self.writer)

    def wait(self, seconds: float, stop: Event) -> bool:
        self.go_on()
        return super().wait(seconds, stop)


@pytest.fixture
def stop() -> Event:
    return Event()


def blocks(writer: Writer, stop: Event) -> Iterator[bytes]:
    return read_blocks(writer.reader, Watch(writer, stop, timedelta(minutes=1), "reading"))


@pytest.mark.skipif(sys.platform != "linux", reason="pipes can't be widened")
class TestWide:
    def test_a_program_that_writes_little_is_left_alone(self, stop: Event) -> None:
        """What it writes meanwhile comes in one read with the next."""
        writer = Writer(LITTLE, LITTLE, LITTLE * 20)
        widen(writer.reader)

        assert b"".join(blocks(writer, stop)) == LITTLE * 22
        assert writer.waits == [GATHER_SECONDS] * 2, "not after twenty: who writes so much would soon be kept waiting"

    def test_one_that_is_told_to_stop(self, stop: Event) -> None:
        writer = Writer(LITTLE, LITTLE)
        widen(writer.reader)
        reading = blocks(writer, stop)
        stop.set()

        with pytest.raises(Stopped):
            next(reading)

    def test_width(self, stop: Event) -> None:
        writer = Writer(LITTLE)
        assert width(writer.reader) == DEFAULT_BYTES

        widen(writer.reader)

        assert width(writer.reader) == WIDE_BYTES


def test_one_whose_pipe_is_narrow_is_kept_waiting_by_nothing(stop: Event) -> None:
    """It would be full before we looked again."""
    writer = Writer(LITTLE * 2)

    assert b"".join(blocks(writer, stop)) == LITTLE * 2
    assert writer.waits == []


def test_blocks_are_large(stop: Event) -> None:
    reader, writer = os.pipe()
    widen(reader)

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for _ in range(2000):
                pipe.write(LITTLE)

    writing = Thread(target=write)
    writing.start()
    *some, last = read_blocks(reader, Watch(SystemClock(), stop, timedelta(minutes=1), "reading"))
    writing.join()

    assert all(len(block) >= BLOCK_BYTES for block in some)
    assert b"".join([*some, last]) == LITTLE * 2000
