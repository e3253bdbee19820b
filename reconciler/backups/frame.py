"""Where a zstd frame ends: libraries wait silently for the rest of one that was cut off, and call that the end."""

from collections.abc import Generator, Iterable, Iterator

_BLOCK_HEAD = 3
_CHECKSUM = 4
_REPEATED = 1
"""The type of a block that is one byte, repeated."""


class Frame:
    """Follows one frame's blocks (RFC 8878, 3.1.1) while its bytes pass. What is wrong in them is the decompressor's to say."""

    def __init__(self) -> None:
        self.ended = False
        self._grammar = _grammar()
        self._skip, self._need = next(self._grammar)
        self._taken = bytearray()

    def follow(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Passes the chunks on."""
        for chunk in chunks:
            self._see(memoryview(chunk))
            yield chunk

    def _see(self, view: memoryview) -> None:
        while view and not self.ended:
            skipped = min(self._skip, len(view))
            self._skip, view = self._skip - skipped, view[skipped:]
            if self._skip:
                return
            missing = self._need - len(self._taken)
            self._taken += view[:missing]
            view = view[missing:]
            if len(self._taken) == self._need:
                self._go_on()

    def _go_on(self) -> None:
        try:
            self._skip, self._need = self._grammar.send(bytes(self._taken))
        except StopIteration:
            self.ended = True
        self._taken.clear()


def _grammar() -> Generator[tuple[int, int], bytes, None]:
    """Asks for (bytes to skip, bytes to be shown after them), until the frame is over."""
    descriptor = (yield 4, 1)[0]
    single = bool(descriptor >> 5 & 1)
    content_size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    skip = (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size
    while True:
        head = int.from_bytes((yield skip, _BLOCK_HEAD), "little")
        skip = 1 if head >> 1 & 3 == _REPEATED else head >> 3
        if head & 1:
            break
    # The last byte is shown, whatever it is: only then all of it was there.
    checksum = _CHECKSUM if descriptor >> 2 & 1 else 0
    if skip + checksum:
        yield skip + checksum - 1, 1
