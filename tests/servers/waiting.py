"""Waiting for a server of a test to take connections."""

import socket
import subprocess
import time
from typing import Any

SECONDS = 60.0


def until(port: int, process: "subprocess.Popen[Any]") -> None:
    """Return when somebody listens there; raise when the process has ended or a minute has passed."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not listen within {SECONDS:.0f} s")
