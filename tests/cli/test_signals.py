"""Asked to stop: who heeds it ends in his own way, who hangs is left, and who is asked twice ends at once."""

import signal
import subprocess
import sys

import pytest

from reconciler.sandbox.patience import comes_true

SCRIPT = """
import os, sys
from types import SimpleNamespace
from reconciler.cli import frame

frame.LEAVE_SECONDS = float(sys.argv[1])

def run(call):
    print("begun", flush=True)
    if sys.argv[2] == "heeds":
        call.stop.wait()
    else:
        os.read(os.pipe()[0], 1)
    return 7

sys.exit(frame.run("x", SimpleNamespace(__doc__="", register=lambda parser: None, run=run), []))
"""

LOADING = """
import sys, time
from reconciler.cli import main

def loads(name):
    print("begun", flush=True)
    time.sleep(60)

main.import_module = loads
sys.argv = ["reconcile", "status"]
main.script()
"""

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
every = pytest.mark.parametrize("number", NUMBERS, ids=["SIGTERM", "SIGINT", "SIGHUP"])
both = pytest.mark.parametrize("number", NUMBERS[:2], ids=["SIGTERM", "SIGINT"])


def begun(leave_seconds: float, what: str, *under: str, script: str = SCRIPT) -> "subprocess.Popen[str]":
    running = subprocess.Popen(
        [*under, sys.executable, "-c", script, str(leave_seconds), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert "begun\n" == running.stdout.readline()
    return running


@every
def test_who_heeds(number: signal.Signals) -> None:
    """Its own exit code, and nobody cuts in."""
    running = begun(60, "heeds")
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)

    assert (7, "") == (running.returncode, stderr)


@every
def test_who_hangs(number: signal.Signals) -> None:
    """It is left after a while, with a word about it."""
    running = begun(0.2, "hangs")
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)

    assert 1 == running.returncode
    assert "was left as it was" in stderr


@both
def test_asked_twice(number: signal.Signals) -> None:
    """At once, as others end of that signal."""
    running = begun(60, "hangs")

    def ends() -> bool:
        running.send_signal(number)
        return running.poll() is not None

    assert comes_true(ends, seconds=60)
    running.communicate()
    assert -number == running.returncode


def test_a_lost_terminal_is_told_twice() -> None:
    """By the shell and by the kernel: the second telling cuts no cleaning up short."""
    running = begun(0.2, "hangs")

    def ends() -> bool:
        running.send_signal(signal.SIGHUP)
        return running.poll() is not None

    assert comes_true(ends, seconds=60)
    _, stderr = running.communicate()
    assert 1 == running.returncode
    assert "was left as it was" in stderr


def test_under_nohup_it_outlives_its_terminal() -> None:
    """Who ignores the loss of a terminal on our behalf is obeyed; a wish to stop is heeded all the same."""
    running = begun(60, "heeds", "nohup")
    running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=60)

    assert 7 == running.returncode
    assert "reconcile" not in stderr


def test_while_it_still_loads() -> None:
    """Ctrl-C in the first moments, before the program takes it for a wish to stop: a word, and no traceback."""
    running = begun(60, "", script=LOADING)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)

    assert (1, "reconcile: stopped\n") == (running.returncode, stderr)
