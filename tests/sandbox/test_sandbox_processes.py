"""A process is itself and no later one of the same pid."""

import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox import process


def test_same_pid_other_start_is_another_process() -> None:
    """What was started at another instant under this pid is neither alive nor hit by a signal."""
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        (found,) = [each for each in process.find("sleep", "60") if each.pid == child.pid]
        earlier = msgspec.structs.replace(found, started="1")

        process.end([earlier], signals=[(signal.SIGKILL, 1.0)])

        assert not process.is_alive(earlier)
        assert process.is_alive(found)
        process.end([found], signals=[(signal.SIGTERM, 5.0)])
    assert child.returncode == -signal.SIGTERM


def test_deaf_process_gets_the_next_signal() -> None:
    """Who ignores the polite signal is killed after the bound."""
    with subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done", "deaf-one"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (found,) = process.find("sh", "deaf-one")

        process.end([found], signals=[(signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)])

        assert not process.is_alive(found)


def test_process_that_outlives_all_signals_is_told() -> None:
    """Nothing is called ended that is not."""
    with subprocess.Popen(["/bin/sleep", "61"]) as child:
        (found,) = process.find("sleep", "61")

        with pytest.raises(Unreachable, match=f"process {child.pid} does not end"):
            process.end([found], signals=[(signal.SIGCONT, 0.05)])
        child.kill()


def test_zombie_is_dead() -> None:
    """One that ended and was not collected yet is not alive."""
    with subprocess.Popen(["/bin/sleep", "62"]) as child:
        (found,) = process.find("sleep", "62")
        process.end([found], signals=[(signal.SIGKILL, 5.0)])

        assert not process.is_alive(found)
        assert child.poll() is not None


def test_program_that_is_not_there(tmp_path: Path) -> None:
    """A missing program is a sentence, not a traceback."""
    with pytest.raises(Refused, match="cannot start /nowhere/weed: No such file"):
        process.start(["/nowhere/weed", "x"], log=tmp_path / "log", environment={})
