"""The standard streams, so that what can't be told never keeps from being done what was asked for."""

import io
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD: Final = (0, 1, 2)


class Forgiving(io.FileIO):
    """Loses what it can't write: to a full disk under a log, to a reader or a terminal that has left."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """How much it was given, whatever became of it."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def ready() -> None:
    """For the start of the program: what its caller closed leads nowhere, and stderr is forgiving.

    A descriptor that stays closed would be that of the next file or socket, which then got what is meant for people. What stdout
    loses is a failure, for it was asked for; what stderr loses is progress and remarks, and no backup is given up for those.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free is given: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - lives until the end
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    encoding = sys.stderr.encoding if sys.stderr else None
    raw = Forgiving(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
