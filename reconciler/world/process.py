"""This process among others, by what the kernel says of it."""

import os
import socket
from functools import lru_cache
from pathlib import Path

from reconciler.world.clock import token
from reconciler.world.facts import Owner


class SystemProcess:
    """Owners of this very process."""

    def __init__(self) -> None:
        self._live: set[str] = set()

    def begin(self) -> Owner:
        """An owner with a token of its own, alive until `end`."""
        pid = os.getpid()
        ticks = _start_ticks(pid)
        owner = Owner(
            boot=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            start_ticks=-1 if ticks is None else ticks,
            token=token(8),
            host=socket.gethostname(),
        )
        self._live.add(owner.token)
        return owner

    def end(self, owner: Owner) -> None:
        """Its token no longer counts as alive."""
        self._live.discard(owner.token)

    def is_gone(self, owner: Owner) -> bool | None:
        """Proven only where boot and pid namespace are ours: elsewhere the same pid means another process."""
        if not (_boot_id() and _pid_namespace()) or (owner.boot, owner.pid_namespace) != (_boot_id(), _pid_namespace()):
            return None
        ticks = _start_ticks(owner.pid)
        if ticks is None and _is_hidden(owner.pid):
            return None
        if ticks is None or ticks != owner.start_ticks:
            return True
        return owner.pid == os.getpid() and owner.token not in self._live


@lru_cache(maxsize=1)
def _boot_id() -> str:
    """Empty where the system has none: then nothing can be proven, and heartbeats are watched instead."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_ticks(pid: int) -> int | None:
    """Field 22 of its stat; None when there is no such process, or it is dead and only not yet reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name may hold blanks and brackets; what follows the last bracket may not.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _is_hidden(pid: int) -> bool:
    """Whether it lives though /proc shows nothing of it: mounted with `hidepid`, it shows a user only their own processes."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    else:
        return False
