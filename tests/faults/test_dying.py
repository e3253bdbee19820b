"""The killer itself."""

import gc
import signal

import zstandard

from tests.faults.dying import die, dies

SECONDS = 20


def test_who_dies_is_told_from_who_does_not() -> None:
    """However the work of who lives went."""
    assert dies(die)
    assert not dies(lambda: None)
    assert not dies(lambda: 1 // 0)


def test_the_child_leaves_what_is_not_its_own() -> None:
    """A compressor that only the collector finds waits for its threads when it goes: a child that did so would never end."""

    def collect() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        gc.collect()

    gc.disable()
    try:
        _leave_a_compressor()
        assert not dies(collect)
    finally:
        gc.enable()


def _leave_a_compressor() -> None:
    left: list[object] = [compressor := zstandard.ZstdCompressor(threads=2).compressobj()]
    compressor.compress(bytes(10_000_000))
    left.append(left)
