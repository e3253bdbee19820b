"""A process is itself and no later one of the same pid."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox import process
from reconciler.sandbox.process import Process

Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs a shell script until the test ends; its command line names the test's own folder."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(script: str) -> Process:
        child = subprocess.Popen(
            ["/bin/sh", "-c", f"{script} echo ready; while :; do sleep 1; done", str(tmp_path)], stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        # A fork of it bears its name too, until it has become `sleep`.
        return next(found for found in process.find("sh", str(tmp_path)) if found.pid == child.pid)

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def test_same_pid_other_start_is_another_process(start: Start) -> None:
    """What was started at another instant under this pid is neither alive nor hit by a signal."""
    found = start("")
    earlier = msgspec.structs.replace(found, started="1")

    process.end([earlier], signals=[(signal.SIGKILL, 1.0)])

    assert not process.is_alive(earlier)
    assert process.is_alive(found)


def test_deaf_process_gets_the_next_signal(start: Start) -> None:
    """Who ignores the polite signal is killed after the bound; a zombie, not yet collected, is dead."""
    found = start("trap '' TERM;")

    process.end([found], signals=[(signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)])

    assert not process.is_alive(found)


def test_process_that_outlives_all_signals_is_told(start: Start) -> None:
    """Nothing is called ended that is not."""
    found = start("trap '' TERM;")

    with pytest.raises(Unreachable, match=f"process {found.pid} does not end"):
        process.end([found], signals=[(signal.SIGTERM, 0.1)])

    assert process.is_alive(found)


def test_program_that_is_not_there(tmp_path: Path) -> None:
    """A missing program is a sentence, not a traceback."""
    with pytest.raises(Refused, match="cannot start /nowhere/weed: No such file"):
        process.start(["/nowhere/weed", "x"], log=tmp_path / "log", environment={})


def test_started_is_what_is_seen_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when another's command line with the same last word is: who looks for it then would find nothing."""
    real, hidden = process._command_lines, [3]
    seen: list[tuple[int, list[str]]] = []

    def late() -> Iterator[tuple[int, list[str]]]:
        hidden[0] -= 1
        seen[:] = [(pid, argv) for pid, argv in real() if hidden[0] < 0 or str(tmp_path / "second") not in argv]
        return iter(seen)

    def sleep(folder: str) -> list[str]:
        return ["/bin/sh", "-c", "while :; do sleep 1; done", str(tmp_path / folder), "-last"]

    process.start(sleep("first"), log=tmp_path / "log", environment={})
    monkeypatch.setattr(process, "_command_lines", late)
    try:
        process.start(sleep("second"), log=tmp_path / "log", environment={})
        assert any(str(tmp_path / "second") in argv for _, argv in seen)
    finally:
        monkeypatch.undo()
        for folder in ("first", "second"):
            process.end(process.find("sh", str(tmp_path / folder)), signals=[(signal.SIGKILL, 5.0)])
