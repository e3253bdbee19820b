"""The standard streams, so that what can't be told never keeps from being done what was asked for."""

import codecs
import io
import os
import re
import sys
from typing import TYPE_CHECKING, Final, TextIO

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


def as_json_for(stream: TextIO, text: str) -> str:
    """JSON in the characters that a stream has: where they are few, others are escaped as JSON does."""
    if codecs.lookup(stream.encoding or "utf-8").name == "utf-8":
        return text
    import json

    return re.sub(r"[^\0-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


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
    sys.stdout = _written(io.FileIO(1, "w", closefd=False), sys.stdout)
    sys.stderr = _written(Forgiving(2, "w", closefd=False), sys.stderr)


def _written(raw: io.FileIO, before: TextIO | None) -> TextIO:
    # Where the locale's characters are few, an arrow is written out: no answer is lost for it.
    encoding = before.encoding if before is not None else None
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
