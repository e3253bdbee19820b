"""Where clients come in: one port on loopback for each endpoint, which wakes the compute and passes every byte on.

All of it runs in a thread of its own. A client speaks PostgreSQL; its first message is read here, the rest passes unseen.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from reconciler.errors import ReconcilerError
from reconciler.sandbox.neon.greeting import ENCRYPTION_REQUESTS, Greeting, complaint, read_greeting
from reconciler.sandbox.neon.refusals import Refusal
from reconciler.world.clock import SystemClock

_HOST = "127.0.0.1"
_BLOCK = 256 * 1024
_FIRST_SECONDS = 30


class Way(NamedTuple):
    """To a compute."""

    port: int
    settings: Mapping[str, str] = {}
    """What its server says of itself: which project, branch and endpoint it is of."""


Wake = Callable[[str, Greeting], Way]
"""See that the endpoint's compute runs, for one who says this first. Raises ReconcilerError, Refusal."""


class OpenDoors:
    """All endpoints' doors. `wake` is called in a thread that may wait."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._loop = asyncio.new_event_loop()
        self._servers: dict[str, asyncio.Server] = {}
        self._guests: dict[str, set[asyncio.Task[None]]] = {}
        self._last: dict[str, float] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="doors", daemon=True)
        self._thread.start()

    def open(self, endpoint: str, port: int) -> None:
        """Listen; whoever connects wakes the compute."""
        self._last[endpoint] = SystemClock().monotonic()
        self._run(self._open(endpoint, port))

    def close(self, endpoint: str) -> None:
        """Listen no more, and end who is inside. None there is fine."""
        self._run(self._close(endpoint))

    def stop(self) -> None:
        """Close all."""
        for endpoint in list(self._servers):
            self.close(endpoint)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def idle_seconds(self, endpoint: str) -> float:
        """How long ago the last byte went through, or the door was opened."""
        return SystemClock().monotonic() - self._last.get(endpoint, SystemClock().monotonic())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, endpoint: str, port: int) -> None:
        if endpoint in self._servers:
            return

        async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            guests = self._guests.setdefault(endpoint, set())
            if task:
                guests.add(task)
            try:
                await self._serve(endpoint, reader, writer)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()
                if task:
                    guests.discard(task)

        self._servers[endpoint] = await asyncio.start_server(enter, _HOST, port, limit=_BLOCK)

    async def _close(self, endpoint: str) -> None:
        if server := self._servers.pop(endpoint, None):
            server.close()
        for guest in self._guests.pop(endpoint, set()):
            guest.cancel()

    async def _serve(self, endpoint: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await asyncio.wait_for(self._greeted(reader, writer), _FIRST_SECONDS)
        try:
            way = await asyncio.to_thread(self._wake, endpoint, greeting)
        except (ReconcilerError, Refusal) as error:
            writer.write(complaint(str(error)))
            await writer.drain()
            writer.write_eof()
            return
        inside, outside = await asyncio.open_connection(_HOST, way.port, limit=_BLOCK)
        outside.write(greeting.told(way.settings))
        ways = {
            asyncio.ensure_future(self._pass_on(endpoint, reader, outside)),
            asyncio.ensure_future(self._pass_on(endpoint, inside, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            with suppress(OSError):
                await writer.drain()
                writer.write_eof()
        finally:
            for each in ways:
                each.cancel()
            outside.transport.abort()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Greeting:
        while True:
            greeting = await read_greeting(reader)
            if greeting.code not in ENCRYPTION_REQUESTS:
                return greeting
            # It stays on this machine.
            writer.write(b"N")

    async def _pass_on(self, endpoint: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(_BLOCK):
                self._last[endpoint] = SystemClock().monotonic()
                writer.write(block)
                await writer.drain()
