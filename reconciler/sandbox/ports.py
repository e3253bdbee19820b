"""Free ports on loopback."""

import hashlib
import socket
from collections.abc import Iterable
from pathlib import Path

from reconciler.errors import Refused

_LOOPBACK = "127.0.0.1"
TWIN = 10000
"""How far above its port SeaweedFS puts the same service's gRPC; parts of it rely on that distance."""
_FIRST, _LAST = 20000, 32000
"""Below 32768, where Linux begins to take ports for outgoing connections: one chosen here isn't lost before it is bound."""


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
        return True


def are_free(ports: Iterable[int], *, with_twin: bool = False) -> bool:
    """Whether nobody listens on any of them, nor on their twins."""
    return all(is_free(port) and (not with_twin or is_free(port + TWIN)) for port in ports)


def answers(port: int) -> bool:
    """Whether somebody accepts connections on that port of 127.0.0.1."""
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def choose(count: int, folder: Path, *, purpose: str, with_twin: bool = False) -> tuple[int, ...]:
    """`count` free ports for that folder; `with_twin` asks that the port TWIN higher is free as well.

    Folders begin looking at different places, so that two that start at the same time don't choose the same.
    """
    first = _FIRST - TWIN if with_twin else _FIRST
    span = _LAST - _FIRST
    begin = int.from_bytes(hashlib.sha256(f"{folder}:{purpose}".encode()).digest()[:4]) % span
    chosen: list[int] = []
    for step in range(span):
        port = first + (begin + step) % span
        if are_free((port,), with_twin=with_twin):
            chosen.append(port)
        if len(chosen) == count:
            return tuple(chosen)
    raise Refused(f"fewer than {count} free ports from {first} on, on 127.0.0.1", cure="end some servers")
