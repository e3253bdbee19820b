"""FIFOs that the guardian of the program that reads them opens for us: so our death closes no one's only end, at no instant."""

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from reconciler.postgres.flow import Watch, is_ready, write_block

ANSWER_BYTES: Final = 8
_GONE: Final = (BrokenPipeError, ConnectionResetError)


class Deserted(Exception):
    """The guardian has ended, and the program with it; processes of its own may wait for what nobody opens any more."""


class Opener:
    """One restore's. The guardian keeps what it opened last until it is told that we hold it in another way, or asked again."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        self.theirs = theirs
        """For `Child`, which gives it to the guardian."""

    def first_read(self, names: Sequence[str], watch: Watch) -> tuple[int, int] | None:
        """The first of them that somebody reads: its place among them, and a descriptor of it. None: nobody reads any.

        Raises Deserted.
        """
        try:
            write_block(self._ours.fileno(), " ".join(names).encode() + b"\n", watch)
            while not is_ready(self._ours.fileno(), select.POLLIN):
                watch.check()
            answer, descriptors, _, _ = socket.recv_fds(self._ours, ANSWER_BYTES, 1)
        except _GONE as gone:
            raise Deserted from gone
        if not answer:
            raise Deserted
        number = int(answer)
        if descriptors:
            return number, descriptors[0]
        if number:
            raise OSError(number, os.strerror(number))
        return None

    def hold_no_more(self, watch: Watch) -> None:
        """We hold what it opened last so that it outlives us: it need not."""
        with suppress(*_GONE):
            write_block(self._ours.fileno(), b"\n", watch)


@contextmanager
def opener(folder: Path) -> Iterator[Opener]:
    """For FIFOs in that folder."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            socket.send_fds(ours, [b"\n"], [descriptor])
        finally:
            os.close(descriptor)
        ours.setblocking(False)  # noqa: FBT003  it takes no keyword
        yield Opener(ours, theirs)
