"""Programs that end with us."""

import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Stopped, Unreachable
from reconciler.postgres.child import Child
from reconciler.postgres.environment import child_environment
from reconciler.postgres.flow import Watch, feed
from tests.faults.clock import MovedClock
from tests.postgres.processes import children, comes_true, is_running, programs


def start(script: str, *, fed: bool = False) -> Child:
    return Child(["/bin/sh", "-c", script], environment=child_environment(None), fed=fed)


def nothing() -> None:
    """Never ends the waiting."""


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_an_exit_code(code: int) -> None:
    """It is reported as it was."""
    assert code == start(f"exit {code}").finish(nothing)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE])
def test_a_deadly_signal(number: signal.Signals) -> None:
    """It is reported as minus the signal."""
    assert -number == start(f"kill -{int(number)} $$").finish(nothing)


def test_a_program_that_is_not_there() -> None:
    """The guardian says so on stderr, and the code is the shell's for it."""
    child = Child(["/no/such/program"], environment={})

    assert 127 == child.finish(nothing)
    assert "cannot run /no/such/program: No such file or directory" == child.complaints


def test_output_comes_straight_from_the_program() -> None:
    """The guardian holds no end of the pipe: its end is seen as soon as the program closes it."""
    child = start("echo hello; exec >&-; cat /dev/zero | head -c 1 > /dev/null; exit 4")

    assert b"hello\n" == os.read(child.stream, 100)
    assert b"" == os.read(child.stream, 100)
    assert 4 == child.finish(nothing)


def test_more_complaints_than_a_pipe_holds() -> None:
    """They are read on, so that the program does not block, and the first ones are kept."""
    child = start("echo first >&2; head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; seq 3000 >&2")

    assert 0 == child.finish(nothing)
    assert child.complaints.startswith("first\n")
    assert len(child.complaints) < 1_000_000


def test_ending_a_program_that_runs() -> None:
    """All that it started goes too, even what ignores a polite request."""
    child = start("trap '' TERM; sleep 1000 & sleep 1000")
    assert comes_true(lambda: len(family(child)) == 5)
    pids = family(child)

    code = child.end()

    assert code < 0
    assert comes_true(lambda: not any(map(is_running, pids)))


@pytest.mark.parametrize("stopped", [False, True], ids=["that runs", "that is stopped"])
def test_a_guardian_that_is_killed(stopped: bool) -> None:
    """What the program started goes too, whatever it does or waits for, though nobody of us sees to it."""
    child = start("trap '' TERM; sleep 1000 & sleep 1000")
    assert comes_true(lambda: len(family(child)) == 5)
    pids = family(child)
    if stopped:
        os.killpg(child.group, signal.SIGSTOP)
    os.kill(child.group, signal.SIGKILL)

    assert comes_true(lambda: not any(map(is_running, pids)))
    assert -signal.SIGKILL == child.end()


def test_a_second_that_is_killed() -> None:
    """The program goes on, and its end is told as ever."""
    child = start("sleep 1000 & read line; kill $!; exit 3", fed=True)
    assert comes_true(lambda: len(family(child)) == 4)
    (second,) = children(child.group) - programs(child.group)
    os.kill(second, signal.SIGKILL)
    child.close_input()

    assert 3 == child.finish(nothing)


def test_ending_is_not_an_end_of_file() -> None:
    """A program that is fed is ended without being told that this was all."""
    child = start("trap '' TERM; cat > /dev/null; echo committed >&2", fed=True)
    os.write(child.stream, b"half")

    child.end()

    assert "committed" not in child.complaints


def test_ending_twice() -> None:
    """The second time changes nothing, whatever process has its number by then."""
    child = start("exit 5")

    assert 5 == child.finish(nothing)
    assert 5 == child.end()


def test_the_waiting_is_ended_by_its_check() -> None:
    """What the check raises goes through, and the program can still be ended."""
    child = start("sleep 1000")

    def stopped() -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        child.finish(stopped)
    assert child.end() < 0


def test_the_environment_is_the_given_one() -> None:
    """Nothing of ours is added on the way through the guardian."""
    child = Child([sys.executable, "-c", "import os; print(sorted(os.environ))"], environment={"LC_ALL": "C", "ONLY": "this"})

    assert b"['LC_ALL', 'ONLY']\n" == os.read(child.stream, 1000)
    child.finish(nothing)


def test_no_descriptor_is_left_open() -> None:
    """A hundred dumps in one process use no more than one."""
    start("exit 0").finish(nothing)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        start("exit 0").finish(nothing)

    # What other tests left behind may close meanwhile.
    assert before >= len(list(Path("/proc/self/fd").iterdir()))


def family(child: Child) -> set[int]:
    """The guardian, its second, and all below it."""
    found = {child._process.pid}
    while (more := found.union(*(children(pid) for pid in found if is_running(pid)))) != found:
        found = more
    return found


PATIENCE = timedelta(minutes=10)


class TestFeeding:
    """A program's silence is waited for so long; a source's is not its silence."""

    def test_a_source_that_is_slow(self) -> None:
        """Each part takes longer to arrive than the program may be silent: all of it is fed."""
        clock = MovedClock()

        def chunks() -> Iterator[bytes]:
            for _ in range(3):
                clock.wait(2 * PATIENCE.total_seconds(), Event())
                yield b"x" * 1000

        child = start("cat >/dev/null", fed=True)

        assert feed(child, chunks(), Watch(clock, Event(), PATIENCE, "restoring"))
        assert 0 == child.finish(nothing)

    def test_a_program_that_is_silent(self) -> None:
        """One that reads nothing is given up."""
        clock = MovedClock()

        class Hurried(Watch):
            def check(self) -> None:
                clock.wait(PATIENCE.total_seconds() / 2, Event())
                super().check()

        child = start("exec sleep 600", fed=True)
        try:
            with pytest.raises(Unreachable, match="no byte moved"):
                feed(child, [bytes(10_000_000)], Hurried(clock, Event(), PATIENCE, "restoring"))
        finally:
            child.end()
