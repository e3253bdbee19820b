"""Looking at processes and sessions, and waiting for what must come."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event

from reconciler.world.clock import SystemClock
from tests.servers.postgres import Server


def comes_true(look: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until it is so; False if it never is. As long as a busy machine may take: nobody waits once it is so."""
    clock = SystemClock()
    deadline, pause = clock.monotonic() + seconds, 0.005
    while not (found := look()) and clock.monotonic() < deadline:
        clock.wait(pause, Event())
        pause = min(2 * pause, 0.05)
    return found


def children(parent: int | None = None) -> set[int]:
    """The pids of that process's children; of ours. None, if it has ended."""
    found: set[int] = set()
    with suppress(FileNotFoundError):
        for thread in Path(f"/proc/{parent or os.getpid()}/task").iterdir():
            # That thread may have ended meanwhile; where its file was open already, reading it says ESRCH.
            with suppress(FileNotFoundError, ProcessLookupError):
                found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


def programs(guardian: int) -> set[int]:
    """What it started: its children but for its second, which is what it is itself."""
    return {pid for pid in children(guardian) if command(pid) not in (b"", command(guardian))}


def command(pid: int) -> bytes:
    """Its command line; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_running(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_all(*pids: int) -> None:
    """`kill -9`, one after the other: who ended meanwhile because of another's death is dead as well."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_stopped(pid: int) -> bool:
    """What the kernel says of it, which does what it is signalled a moment later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def command_lines() -> dict[int, str]:
    """Of every process that we may look at, by its pid."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return {pid: line.replace(b"\0", b" ").decode(errors="replace") for pid in pids if (line := command(pid))}


def sessions_end(server: Server, name: str) -> bool:
    """Wait until no session of that name is left."""
    return comes_true(lambda: server.sessions(name) == 0)


def is_blocked(server: Server, name: str) -> bool:
    """Whether a session of that name waits for a lock."""
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event_type = 'Lock'"
    return bool(server.execute(waiting) == [(1,)])
