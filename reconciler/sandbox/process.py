"""Servers as processes: started to outlive us, found again by what only they carry, ended by their id.

No file remembers a pid. A server is found by its command line, which names a folder that belongs to it alone; the start
time then guards each signal against a pid that was given to somebody else meanwhile.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from reconciler.errors import Refused, Unreachable
from reconciler.sandbox.patience import comes_true
from reconciler.world.account import Account, dropping_to

_PROC = Path("/proc")
_PS_SECONDS = 10


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process, and no later one that was given the same pid."""

    pid: int
    started: str
    """Clock ticks since boot (Linux) or `ps -o lstart` (elsewhere): differs for a later process of the same pid."""


def start(argv: Sequence[str], *, log: Path, environment: Mapping[str, str], account: Account | None = None) -> None:
    """Start a server in a session of its own, so that neither our end nor Ctrl-C ends it; its output is added to `log`.

    Give no secret in `argv`: everybody may read it. When this returns, it can be found (or has ended again). Raises Refused when
    it can't be started.
    """
    with log.open("ab") as output:
        log.chmod(0o600)
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
                **dropping_to(account),
            )
        except OSError as error:
            raise Refused(f"cannot start {argv[0]}: {error.strerror}", cure="install the sandbox extra again") from error
    # Somebody has to collect its exit status for as long as we live (tests live long), else it stays a zombie.
    threading.Thread(target=child.wait, daemon=True, name=f"reap-{child.pid}").start()
    # The new program runs an instant before the system shows its command line; another server's may hold any of its words.
    comes_true(lambda: _look_at(child.pid) is None or _shows(child.pid, argv[-1]), seconds=5)


def find(program: str, argument: str) -> tuple[Process, ...]:
    """The living processes whose program has that name and whose command line holds exactly that argument."""
    own = os.getpid()
    return tuple(
        process
        for pid, argv in _command_lines()
        if pid != own and argv and Path(argv[0]).name == program and argument in argv[1:] and (process := _look_at(pid))
    )


def _shows(pid: int, argument: str) -> bool:
    return any(found == pid and argument in argv[1:] for found, argv in _command_lines())


def find_module(module: str, argument: str) -> tuple[Process, ...]:
    """The living Python processes that run that module on exactly that argument, whatever their interpreter is called."""
    return tuple(
        process
        for pid, argv in _command_lines()
        if argv[1:2] == ["-m"] and module in argv[2:3] and argument in argv[3:] and (process := _look_at(pid))
    )


def is_alive(process: Process) -> bool:
    """Whether that very process still runs; a zombie does not."""
    return _look_at(process.pid) == process


def end(processes: Sequence[Process], *, signals: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal in turn to those still alive, waiting up to that many seconds after each.

    Raises Unreachable if one outlives them all.
    """

    def alive() -> list[Process]:
        return [process for process in processes if is_alive(process)]

    for number, seconds in signals:
        if not (left := alive()):
            return
        for process in left:
            _send(process, number)
        comes_true(lambda: not alive(), seconds=seconds)
    if left := alive():
        raise Unreachable(f"process {left[0].pid} does not end", cure=f"look at it with `ps -fp {left[0].pid}`")


def working_in(folder: Path, program: str) -> tuple[Process, ...]:
    """Processes whose name begins so and whose working directory is `folder`; none where the system doesn't say (no /proc)."""
    found = []
    for pid, argv in _command_lines():
        with suppress(OSError):
            if (
                argv
                and Path(argv[0]).name.startswith(program)
                and (_PROC / str(pid) / "cwd").readlink() == folder
                and (process := _look_at(pid))
            ):
                found.append(process)
    return tuple(found)


def _send(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if sys.platform != "linux":
            if is_alive(process):
                os.kill(process.pid, number)
            return
        handle = os.pidfd_open(process.pid)
        try:
            # Looked at again while the handle pins the pid: from here on the signal can reach nobody else.
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _look_at(pid: int) -> Process | None:
    if not _PROC.is_dir():
        started = _ps("-o", "lstart=", "-p", str(pid)).strip()
        return Process(pid=pid, started=started) if started else None
    try:
        # The name in parentheses may hold spaces and parentheses: fields are counted behind the last one.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    state, threads, ticks = fields[0], int(fields[17]), fields[19]
    # A killed program's first thread is a zombie while others still hold its ports.
    return None if state in {"Z", "X"} and threads <= 1 else Process(pid=pid, started=ticks)


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    if not _PROC.is_dir():
        for line in _ps("-axo", "pid=,command=").splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command.split(" ")
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, timeout=_PS_SECONDS).stdout  # noqa: S607
