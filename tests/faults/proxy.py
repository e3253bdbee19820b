"""A proxy that breaks things on demand, for any TCP protocol, and by request for HTTP.

with FaultProxy("127.0.0.1", 5432) as proxy:                 # bytes, whatever they mean
    proxy.next_connection(Cut(after=10_000, side="down"))    # the server's 10,001st byte never arrives
    ...                                                      # connect to 127.0.0.1:proxy.port
with FaultProxy("127.0.0.1", 8333, http=True) as proxy:
    proxy.on("PUT", r"partNumber=2", Answer(status=503))     # the next such request only
    proxy.on("POST", r"uploadId=", Drop(), times=2)          # it arrives, its answer does not
"""

import re
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from threading import Event, Lock, Thread
from types import TracebackType
from typing import BinaryIO, Literal

import msgspec

Side = Literal["up", "down"]
"""Up: what the client sends. Down: what the server answers. (For HTTP: bytes of the body.)"""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Both ends are reset once that many bytes have passed."""

    after: int
    side: Side


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing passes any more once that many bytes have, and nothing is closed."""

    after: int
    side: Side


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """The request reaches the server and takes effect there; instead of the answer, the connection is reset. HTTP only."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The request does not reach the server; this is the answer. HTTP only."""

    status: int
    body: bytes = b""
    headers: tuple[str, ...] = ()


class Instead(msgspec.Struct, frozen=True, kw_only=True):
    """The request reaches the server and takes effect there, but this is the answer. HTTP only."""

    answer: Answer


class Redate(msgspec.Struct, frozen=True, kw_only=True):
    """The request reaches the server, whose clock seems moved by that much: its answer bears another date. HTTP only."""

    by: timedelta


class FromThenOn(msgspec.Struct, frozen=True, kw_only=True):
    """This is the answer to the request, and to whatever is asked after it. HTTP only."""

    answer: Answer


Fault = Cut | Stall | Drop | Answer | Instead | Redate | FromThenOn


class _Rule:
    def __init__(self, method: str, path: str, fault: Fault, *, nth: int, times: int) -> None:
        self._method = method
        self._path = re.compile(path)
        self.fault = fault
        self._to_skip = nth - 1
        self._left = times

    def takes(self, method: str, path: str) -> bool:
        if method != self._method or not self._path.search(path) or self._left == 0:
            return False
        if self._to_skip:
            self._to_skip -= 1
            return False
        self._left -= 1
        return True


class _StruckError(Exception):
    """A fault has ended this connection."""


class FaultProxy:
    """Listens on a free port of 127.0.0.1 while it is entered. Without rules all passes unchanged."""

    def __init__(self, upstream_host: str, upstream_port: int, *, http: bool = False) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._serve = self._serve_http if http else self._serve_tcp
        self._lock = Lock()
        self._rules: list[_Rule] = []
        self._for_all: Answer | None = None
        self._for_connections: deque[Cut | Stall] = deque()
        self._sockets: set[socket.socket] = set()
        self._doomed: set[socket.socket] = set()
        self._over = Event()
        self.seen: list[tuple[str, str]] = []
        """HTTP only: method and path of each request, in the order of arrival."""
        self.heads: list[str] = []
        """HTTP only: first line and fields of each request."""
        # Kept while nobody is let in as well: the system would give the port to anybody's connection, and `accept_again` fail.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port: int = self._kept.getsockname()[1]
        self._listener = self._listen()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, fault: Fault, *, nth: int = 1, times: int = 1) -> None:
        """Strike the `nth` request of that method whose path (query included) holds that pattern, and `times` - 1 more."""
        with self._lock:
            self._rules.append(_Rule(method, path, fault, nth=nth, times=times))

    def forget(self) -> None:
        """Strike no more: all rules are gone."""
        with self._lock:
            self._rules.clear()
            self._for_all = None
            self._for_connections.clear()

    def next_connection(self, fault: Cut | Stall, *, times: int = 1) -> None:
        """Strike the next connection made, and `times` - 1 more. TCP only."""
        with self._lock:
            self._for_connections.extend([fault] * times)

    def cut_all(self) -> None:
        """Reset all connections that there are now."""
        with self._lock:
            here = list(self._sockets)
        self._reset(*here)

    def refuse(self) -> None:
        """From now on nobody can connect; what is connected is reset."""
        # Closing alone doesn't wake a thread that waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def accept_again(self) -> None:
        """After `refuse`: on the same port."""
        self._listener = self._listen()
        self._begin(self._accept)

    def __enter__(self) -> "FaultProxy":
        self._begin(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self.refuse()
        self._kept.close()

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self.port), backlog=64, reuse_port=True)

    def _begin(self, work: Callable[[], None]) -> Thread:
        thread = Thread(target=work, daemon=True, name="fault-proxy")
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._begin(lambda client=client: self._connection(client))  # type: ignore[misc]  # mypy can't infer a default

    def _connection(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        try:
            server = socket.create_connection(self._upstream, timeout=10)
            server.settimeout(None)
            for end in (client, server):
                # A body does not wait until the other side has said that it got the head: that takes 40 ms each time.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            self._serve(client, server)
        except (OSError, _StruckError):
            pass
        finally:
            ends = [end for end in (client, server) if end is not None]
            self._reset(*ends)
            with self._lock:
                self._sockets -= set(ends)
                self._doomed -= set(ends)

    def _serve_tcp(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            fault = self._for_connections.popleft() if self._for_connections else None
        up = self._begin(lambda: self._pump(client, server, fault if fault and fault.side == "up" else None))
        self._pump(server, client, fault if fault and fault.side == "down" else None)
        up.join(timeout=60)

    def _pump(self, source: socket.socket, sink: socket.socket, fault: Cut | Stall | None) -> None:
        passed = 0
        try:
            while chunk := source.recv(65536):
                self._pass(chunk, sink, fault, passed)
                passed += len(chunk)
            # What looks like an orderly end may be our own cut, which must not reach the other side as an orderly end.
            if source not in self._doomed:
                sink.shutdown(socket.SHUT_WR)
        except (OSError, _StruckError):
            self._reset(source, sink)

    def _pass(self, chunk: bytes, sink: socket.socket, fault: Fault | None, passed: int) -> None:
        """On to the sink, as far as the fault lets it."""
        if not isinstance(fault, Cut | Stall) or passed + len(chunk) <= fault.after:
            sink.sendall(chunk)
            return
        sink.sendall(chunk[: max(0, fault.after - passed)])
        if isinstance(fault, Stall):
            self._over.wait()
        raise _StruckError

    def _serve_http(self, client: socket.socket, server: socket.socket) -> None:
        with client.makefile("rb") as from_client, server.makefile("rb") as from_server:
            while head := _head(from_client):
                method, path, _ = head[0].split(" ", 2)
                self.heads.append("\n".join(head))
                fault = self._fault_for(method, path)
                if _field(head, "expect"):
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                if isinstance(fault, Answer):
                    from_client.read(int(_field(head, "content-length") or 0))
                    client.sendall(_rendered(fault, with_body=method != "HEAD"))
                    continue
                kept = [line for line in head if not line.lower().startswith("expect:")]
                server.sendall("\r\n".join([*kept, "", ""]).encode("latin-1"))
                self._pass_body(
                    head, from_client, server, fault if isinstance(fault, Cut | Stall) and fault.side == "up" else None
                )
                self._answer(method, from_server, client, fault)

    def _reset(self, *ends: socket.socket) -> None:
        """Close them at once, the other sides getting an error and no orderly end."""
        with self._lock:
            self._doomed |= set(ends)
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Closing alone doesn't wake a thread that waits in recv on it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            fault = self._for_all or next((rule.fault for rule in self._rules if rule.takes(method, path)), None)
            if isinstance(fault, FromThenOn):
                self._for_all = fault = fault.answer
            return fault

    def _answer(self, method: str, from_server: BinaryIO, client: socket.socket, fault: Fault | None) -> None:
        head = _head(from_server)
        if not head or isinstance(fault, Drop):
            raise _StruckError
        without_body = method == "HEAD" or head[0].split(" ")[1] in ("204", "304")
        if isinstance(fault, Instead):
            client.sendall(_rendered(fault.answer, with_body=method != "HEAD"))
            raise _StruckError
        if isinstance(fault, Redate):
            head = [_redated(line, fault.by) for line in head]
        client.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        if not without_body:
            self._pass_body(head, from_server, client, fault if isinstance(fault, Cut | Stall) and fault.side == "down" else None)

    def _pass_body(self, head: list[str], source: BinaryIO, sink: socket.socket, fault: Fault | None) -> None:
        if _field(head, "transfer-encoding").lower() == "chunked":
            self._pass_chunked(source, sink, fault)
            return
        left, passed = int(_field(head, "content-length") or 0), 0
        while left > passed and (chunk := source.read(min(65536, left - passed))):
            self._pass(chunk, sink, fault, passed)
            passed += len(chunk)

    def _pass_chunked(self, source: BinaryIO, sink: socket.socket, fault: Fault | None) -> None:
        passed = 0
        while size := source.readline():
            chunk = size + source.read(int(size.split(b";")[0], 16)) + source.readline()
            self._pass(chunk, sink, fault, passed)
            passed += len(chunk)
            if int(size.split(b";")[0], 16) == 0:
                return


def _head(source: BinaryIO) -> list[str]:
    """First line and fields; empty at the end of the connection."""
    lines: list[str] = []
    while (line := source.readline()) not in (b"", b"\r\n"):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    return lines


def _field(head: list[str], name: str) -> str:
    return next((line.partition(":")[2].strip() for line in head[1:] if line.lower().startswith(f"{name}:")), "")


def _redated(line: str, by: timedelta) -> str:
    name, colon, value = line.partition(":")
    return (
        f"{name}: {format_datetime(parsedate_to_datetime(value) + by, usegmt=True)}"
        if name.lower() == "date"
        else name + colon + value
    )


def _rendered(answer: Answer, *, with_body: bool) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Fault", f"Content-Length: {len(answer.body)}", *answer.headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + (answer.body if with_body else b"")
