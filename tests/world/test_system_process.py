"""What can be proven of an owner's process from here, and what can't."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from reconciler.world import process as module
from reconciler.world.facts import Owner
from reconciler.world.process import SystemProcess


@pytest.fixture
def process() -> SystemProcess:
    return SystemProcess()


def but(owner: Owner, **fields: object) -> Owner:
    """The same owner, with something else about it."""
    change: Callable[..., Owner] = msgspec.structs.replace
    return change(owner, **fields)


def owner_of(pid: int) -> Owner:
    """The owner that process would say it is."""
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    return but(SystemProcess().begin(), pid=pid, start_ticks=int(ticks))


def test_an_owner_lives_until_its_end(process: SystemProcess) -> None:
    """Though the process lives on."""
    owner = process.begin()

    assert process.is_gone(owner) is False
    process.end(owner)
    assert process.is_gone(owner) is True


def test_each_claim_is_an_owner_of_its_own(process: SystemProcess) -> None:
    """One that ends says nothing of another."""
    first, second = process.begin(), process.begin()
    process.end(first)

    assert process.is_gone(first) is True
    assert process.is_gone(second) is False


def test_a_token_of_this_process_that_nobody_began(process: SystemProcess) -> None:
    """Is gone: we would know of it."""
    assert process.is_gone(but(process.begin(), token="0" * 16)) is True


def test_another_process_lives_dies_and_is_reaped(process: SystemProcess) -> None:
    """Alive; dead and not yet reaped; gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    assert process.is_gone(owner) is False

    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.is_gone(owner) is True
    child.communicate()
    assert process.is_gone(owner) is True


def test_a_pid_that_came_again(process: SystemProcess) -> None:
    """The same number, begun at another time: another process."""
    parent = owner_of(os.getppid())
    assert process.is_gone(parent) is False

    assert process.is_gone(but(parent, start_ticks=parent.start_ticks - 1)) is True


@pytest.mark.parametrize(
    "elsewhere", [{"boot": "another"}, {"pid_namespace": "pid:[1]"}, {"boot": "", "pid_namespace": ""}, {"pid_namespace": ""}]
)
def test_of_another_boot_or_namespace_nothing_is_proven(process: SystemProcess, elsewhere: dict[str, str]) -> None:
    """Neither life nor death, whatever its pid is here."""
    assert process.is_gone(but(process.begin(), **elsewhere)) is None
    assert process.is_gone(but(process.begin(), pid=2**22 + 1, **elsewhere)) is None


@pytest.mark.parametrize("unreadable", ["_boot_id", "_pid_namespace"])
def test_where_the_system_says_nothing_of_itself(
    process: SystemProcess, monkeypatch: pytest.MonkeyPatch, unreadable: str
) -> None:
    """Without /proc nothing is proven, not even of an owner whose record is as empty."""
    monkeypatch.setattr(module, unreadable, lambda: "")
    owner = process.begin()
    process.end(owner)

    assert process.is_gone(owner) is None


@pytest.mark.parametrize("pid", [-1, 0, 2**22 + 1, 2**63])
def test_a_pid_that_no_process_can_have(process: SystemProcess, pid: int) -> None:
    """Is nobody's, and nobody is signalled."""
    assert process.is_gone(but(process.begin(), pid=pid)) is True


def test_a_process_that_proc_hides(process: SystemProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted with `hidepid`, /proc shows nothing of another user's process: that is no proof of its death."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "_start_ticks", lambda _: None)
    monkeypatch.setattr(os, "kill", refuse)

    assert process.is_gone(but(process.begin(), pid=1)) is None


def test_odd_names_of_commands(process: SystemProcess, tmp_path: Path) -> None:
    """Blanks and brackets in a command's name shift no field."""
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([odd, "60"])
    try:
        while b"a) S 1" not in Path(f"/proc/{child.pid}/stat").read_bytes():
            assert child.poll() is None

        assert process.is_gone(owner_of(child.pid)) is False
    finally:
        child.kill()
        child.wait()
