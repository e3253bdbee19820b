"""The fault proxy in front of a server that echoes: what it breaks, and that it leaves the rest alone."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

from tests.faults.proxy import Cut, FaultProxy, Stall


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, and says goodbye."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while chunk := client.recv(4096):
                client.sendall(chunk)
            client.sendall(b"bye")

    def serve() -> None:
        with suppress(OSError):
            while True:
                Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo) as proxy:
        yield proxy


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def conversation(proxy: FaultProxy, says: bytes) -> bytes:
    with dial(proxy) as connection:
        connection.sendall(says)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_without_rules_all_passes(proxy: FaultProxy) -> None:
    """Bytes both ways, half-closing included."""
    assert b"x" * 100_000 + b"bye" == conversation(proxy, b"x" * 100_000)


def test_the_next_connection_is_cut(proxy: FaultProxy) -> None:
    """After so many bytes; the one after that is whole again."""
    proxy.next_connection(Cut(after=3, side="down"))
    with dial(proxy) as connection:
        connection.sendall(b"12345")
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: connection.recv(4096), b""))

    assert b"12345bye" == conversation(proxy, b"12345")


def test_the_next_connection_stalls(proxy: FaultProxy) -> None:
    """What was let through arrives, then nothing, and no end."""
    proxy.next_connection(Stall(after=3, side="up"))
    with dial(proxy) as connection:
        connection.sendall(b"12345")
        assert b"123" == connection.recv(3, socket.MSG_WAITALL)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_all_are_cut_now(proxy: FaultProxy) -> None:
    """A connection in use is reset, and new ones are taken."""
    with dial(proxy) as connection:
        connection.sendall(b"1")
        assert b"1" == connection.recv(1)
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    assert b"2bye" == conversation(proxy, b"2")


def test_nobody_can_connect_for_a_while(proxy: FaultProxy) -> None:
    """Refused at once; later, on the same port, accepted."""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.accept_again()

    assert b"1bye" == conversation(proxy, b"1")
