"""The question before something is done: asked where it is seen, with what it is about."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Stand


class Asked:
    """An apply whose stdin and stderr are a terminal, and whose stdout is a pipe."""

    def __init__(self, stand: Stand, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.running = subprocess.Popen(
            stand.command("apply", *words),
            cwd=stand.folder, env=stand.environment(TERM="dumb"), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True,
        )  # fmt: skip
        os.close(theirs)

    def shown(self, until: str = "") -> str:
        """What the terminal showed, up to that; all of it if nothing is said."""
        seen = b""
        try:
            while (not until or until.encode() not in seen) and (piece := os.read(self._ours, 65536)):
                seen += piece
        except OSError:
            pass  # Linux: the other end is closed
        return seen.decode()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> None:
        self.running.kill()
        self.running.communicate()
        os.close(self._ours)


@pytest.fixture
def asked(stand: Stand) -> Iterator[Asked]:
    one = Asked(stand, "--format", "json")
    yield one
    one.end()


def test_the_plan_is_seen_before_the_question(asked: Asked) -> None:
    """Though the answer goes to a file: nobody says yes to what was not shown; and the answer is the answer alone."""
    shown = asked.shown(until="yes:")
    asked.type("no\n")

    assert shown.index("take dump") < shown.index("Do this?")
    assert "nothing was done" in asked.shown()
    stdout, _ = asked.running.communicate(timeout=60)
    assert "" == stdout
    assert 1 == asked.running.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["SIGINT", "SIGTERM", "SIGHUP"])
def test_asked_to_stop_at_the_question(asked: Asked, number: signal.Signals) -> None:
    """That is a no, and waits for no end of a line."""
    asked.shown(until="yes:")
    asked.running.send_signal(number)

    shown = asked.shown()
    assert "nothing was done" in shown
    assert "was left as it was" not in shown
    asked.running.communicate(timeout=60)
    assert 1 == asked.running.returncode


def test_a_question_that_nobody_would_see(stand: Stand) -> None:
    """Is not asked: where stderr leads to a file, it is as without a terminal."""
    ours, theirs = pty.openpty()
    ran = subprocess.run(
        stand.command("apply"),
        cwd=stand.folder, env=stand.environment(), stdin=theirs, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)

    assert (1, "") == (ran.returncode, ran.stdout)
    assert "no terminal to ask on" in ran.stderr
