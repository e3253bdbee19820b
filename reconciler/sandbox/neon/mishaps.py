"""Faults of requests, as a client meets them: outside the application, which knows nothing of them."""

import asyncio
from typing import TYPE_CHECKING, Any

from reconciler.sandbox.neon.api import BASE, refused
from reconciler.sandbox.neon.faults import Fault, Faults
from reconciler.sandbox.neon.refusals import Refusal, busy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Mishaps:
    """The application, with the faults that were ordered."""

    def __init__(self, application: "ASGIApp", faults: Faults) -> None:
        self._application = application
        self._faults = faults
        self._lines: dict[object, asyncio.BaseTransport] = {}

    def protocol(self) -> type[asyncio.Protocol]:
        """uvicorn's, which tells us each client's connection: a lost answer is one that is cut off."""
        from uvicorn.protocols.http.h11_impl import H11Protocol

        lines = self._lines

        class Told(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                lines[transport.get_extra_info("peername")] = transport
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                lines.pop(self.client, None)
                super().connection_lost(exc)

        return Told

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        path = str(scope.get("path", ""))
        fault = self._faults.of_request(str(scope.get("method", "")), path.removeprefix(BASE)) if path.startswith(BASE) else None
        if fault is None:
            await self._application(scope, receive, send)
        elif fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            await self._application(scope, receive, send)
        elif fault.kind == "dropped":
            await self._application(scope, receive, _into_the_void)
            self._cut(scope)
        elif fault.kind == "timeout":
            await asyncio.sleep(fault.seconds)
            self._cut(scope)
        else:
            await refused(_refusal(fault))(scope, receive, send)

    def _cut(self, scope: "Scope") -> None:
        line: Any = self._lines.get(tuple(scope["client"]))
        if line is not None:
            line.abort()


async def _into_the_void(message: "Message") -> None:
    pass


def _refusal(fault: Fault) -> Refusal:
    if fault.kind == "locked":
        return busy()
    if fault.kind == "limited":
        return Refusal(429, "rate limit exceeded", retry_after=round(fault.seconds))
    return Refusal(fault.status, "made to fail")
