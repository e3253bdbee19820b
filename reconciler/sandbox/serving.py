"""A PostgreSQL server on a folder of data that is there: seen, awaited, ended, and what a killed one left cleared away."""

import signal
from pathlib import Path

from reconciler.errors import Unreachable
from reconciler.sandbox import process
from reconciler.sandbox.patience import comes_true, wait_for
from reconciler.sandbox.process import Process

_READY_SECONDS = 60.0
_END = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Fast shutdown, then immediate, then no question."""
_STATUS_LINE = 7
_PORT_LINE = 3
"""Lines of postmaster.pid, counted from 0 (PostgreSQL: src/include/utils/pidfile.h)."""


def ready(data: Path) -> tuple[Process, int] | None:
    """The server of that data, if it accepts connections, and its port."""
    servers = process.find("postgres", str(data))
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) <= _STATUS_LINE or lines[_STATUS_LINE].strip() != "ready":
        return None
    return next(((server, int(lines[_PORT_LINE])) for server in servers if str(server.pid) == lines[0]), None)


def wait_until_ready(data: Path, log: Path) -> tuple[Process, int]:
    """The server that was just started on that data, and its port. Raises Unreachable, with its last words, if it ended."""

    def look() -> tuple[Process, int] | None:
        found = ready(data)
        if not found and not process.find("postgres", str(data)):
            raise Unreachable(f"PostgreSQL ended while starting: {_last_words(log)}", cure=f"read {log}")
        return found

    return wait_for(look, seconds=_READY_SECONDS, what="PostgreSQL to accept connections", cure=f"read {log}")


def end_server(data: Path) -> bool:
    """End the server of that data and all its sessions; says whether one ran. Gone when it returns."""
    servers = process.find("postgres", str(data))
    process.end(servers, signals=_END)
    _end_stragglers(data)
    return bool(servers)


def clear_remains(data: Path) -> None:
    """No server of ours runs: what is left of a killed one goes, else the next refuses to start."""
    _end_stragglers(data)
    # Its pid may be somebody else's by now, and PostgreSQL would take that process for the server.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _end_stragglers(data: Path) -> None:
    # Sessions end by themselves once their server is gone, unless one is deep in a computation.
    comes_true(lambda: not process.working_in(data, "postgres"), seconds=2)
    process.end(process.working_in(data, "postgres"), signals=((signal.SIGQUIT, 1.0), (signal.SIGKILL, 5.0)))


def environment() -> dict[str, str]:
    """Nothing of the caller's: a PGDATA or PGPORT of theirs would change what is started."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line for line in reversed(lines) if "FATAL" in line), lines[-1] if lines else "it said nothing")
