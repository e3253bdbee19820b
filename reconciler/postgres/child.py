"""Client programs that end with us, however we end: started, heard, ended. What their bytes mean is others' business."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from reconciler.errors import Unreachable
from reconciler.postgres.wide import widen
from reconciler.world.account import Account

GUARD = Path(__file__).with_name("guard.py")
END_SECONDS = 5.0
"""More than the guardian's own grace: it does the killing, we only see to it."""
LOOK_SECONDS = 0.1
COMPLAINT_LINES = 200
LINE_BYTES = 4096
PENDING_BYTES = 1 << 16
LAST_WORDS_SECONDS = 0.5
"""For reading what a program has said before it ended, where somebody else holds its output still."""


class Child:
    """A running program. Its stdout (or its stdin, when we feed it) is `stream`; end it in any case with `finish` or `end`.

    `heard`: it is anybody's program, and is fed. What it writes to stdout is kept with its complaints, of both the end; and it is
    over once it has ended itself: what it started may go on, and hold its output. `folder`: where it runs; ours if not said.
    `output`: where a fed program's stdout goes. `server`: it is one, run as that account (None: as ourselves). `hear` gets each
    line of stderr, however many there are; by default the first ones are kept. `keeps`: descriptors that it holds
    open too. `opener`: what its guardian opens FIFOs by; closed here, so that it ends with the guardian.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        fed: bool = False,
        heard: bool = False,
        folder: Path | None = None,
        output: int = subprocess.DEVNULL,
        server: Account | Literal[False] | None = False,
        hear: Callable[[str], None] | None = None,
        keeps: Collection[int] = (),
        opener: socket.socket | None = None,
    ) -> None:
        self._listener, self._is_heard = hear or self._keep, heard
        lifeline, self._lifeline = os.pipe()
        self._dropping = threading.Lock()
        guardians = [lifeline] if opener is None else [lifeline, opener.fileno()]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), ",".join(map(str, guardians)), *_account(server), "--", *argv],
                stdin=subprocess.PIPE if fed or heard else subprocess.DEVNULL,
                stdout=subprocess.PIPE if heard or not fed else output,
                stderr=subprocess.STDOUT if heard else subprocess.PIPE,
                cwd=folder,
                env=dict(environment),
                pass_fds=(*guardians, *keeps),
                start_new_session=True,  # Ctrl-C is ours to hear; and the group's number is the guardian's
                bufsize=0,
            )
        except OSError as error:
            os.close(self._lifeline)
            raise Unreachable(f"cannot start {argv[0]}: {error.strerror}") from error
        finally:
            os.close(lifeline)
            if opener is not None:
                opener.close()
        self.stream = self._fileno(fed=fed or heard)
        widen(self.stream)
        # The first lines name the cause, so those are kept, and of anybody's program the last; the rest is read too, or it would
        # block on a full pipe.
        self._complaints: deque[str] = deque(maxlen=COMPLAINT_LINES if heard else None)
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    @property
    def complaints(self) -> str:
        """What it wrote to stderr, raw: it may hold secrets, and is for translation only."""
        return "\n".join(self._complaints)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more; `end` says how."""
        return not self._hearing.is_alive()

    @property
    def group(self) -> int:
        """Of its processes; the guardian, who starts them, leads it."""
        return self._process.pid

    def close_input(self) -> None:
        """Tell a fed program that this was all."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def finish(self, check: Callable[[], None], *, look_seconds: float = LOOK_SECONDS) -> int:
        """Wait for a program that has all it needs, and say how it ended: its exit code, or minus the signal.

        `check` is called that often meanwhile, and ends the waiting by raising.
        """
        while self._hearing.is_alive() and not self._is_left:
            self._hearing.join(look_seconds)
            check()
        return self.end()

    def hang_up(self) -> None:
        """Have it ended, and all that it started, without waiting: `finish` says how it ended. For any thread."""
        with self._dropping:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def end(self) -> int:
        """End the program and all that it started, if it still runs. Safe to call twice; never feeds it an end of file first."""
        if self._process.returncode is not None:
            return self._process.returncode
        is_left = self._is_left
        self.hang_up()
        if is_left:
            self._hearing.join(LAST_WORDS_SECONDS)
        else:
            # Every process of the group holds the write end of stderr: once that is closed, all are gone.
            self._hearing.join(END_SECONDS)
            with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
                os.killpg(self._process.pid, signal.SIGKILL)
            self._hearing.join(END_SECONDS)
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            # What is still listened to is closed by who listens: its number would be another file's by then.
            if stream is not None and not (stream is self._words and self._hearing.is_alive()):
                stream.close()
        return code

    @property
    def _is_left(self) -> bool:
        """Whether it ended by itself: what it started is not our concern. It is not reaped: its number stays its own."""
        if not self._is_heard:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _fileno(self, *, fed: bool) -> int:
        stream = self._process.stdin if fed else self._process.stdout
        assert stream is not None  # noqa: S101  we asked Popen for this very pipe
        return stream.fileno()

    @property
    def _words(self) -> IO[bytes]:
        words = self._process.stderr or self._process.stdout
        assert words is not None  # noqa: S101  as above
        return words

    def _hear(self) -> None:
        pending = b""
        with self._words as words:
            while piece := os.read(words.fileno(), 1 << 16):
                *lines, pending = (pending + piece).split(b"\n")
                pending = self._cut(pending, PENDING_BYTES)
                for line in lines:
                    self._note(line)
        self._note(pending)

    def _note(self, line: bytes) -> None:
        if line:
            self._listener(self._cut(line, LINE_BYTES).decode("utf-8", "replace"))

    def _cut(self, line: bytes, most: int) -> bytes:
        return line[-most:] if self._is_heard else line[:most]

    def _keep(self, line: str) -> None:
        if self._is_heard or len(self._complaints) < COMPLAINT_LINES:
            self._complaints.append(line)


def _account(server: Account | Literal[False] | None) -> tuple[str, ...]:
    if server is False:
        return ()
    return (f"{server.uid}:{server.gid}" if server else ":",)
