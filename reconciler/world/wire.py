"""Requests to a store whose HTTP API is small enough to be spoken directly: one attempt each, and errors of our own kinds."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Unreachable
from reconciler.world.ranges import whole_size

CHUNK_BYTES: Final = 1 << 20

_BUSY: Final = {408, 425, 429, 500, 502, 503, 504}


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as a message about it needs to know."""

    target: str
    what: str
    """E.g. `read gs://bucket/hotel/x`."""
    right: str
    """What to give to whom, should the store forbid it."""

    def __str__(self) -> str:
        return f"{self.target}: cannot {self.what}"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What a store answered instead of what was asked: its status, its own word for it, and its sentence."""

    status: int
    code: str = ""
    message: str = ""
    retry_after: timedelta | None = None
    """How long the store asks to be left alone."""


Explain = Callable[[Fault, Doing], ReconcilerError | None]
"""A store's own faults; None for one that means what its status means anywhere."""


class Wire:
    """The way to one store. Safe to use from several threads."""

    def __init__(
        self,
        endpoint: str,
        *,
        authorise: Callable[[httpx.Request], None],
        read_fault: Callable[[httpx.Response], Fault],
        explain: Explain,
        connect_seconds: float = 10,
        read_seconds: float = 60,
    ) -> None:
        self.endpoint: Final = endpoint
        self._authorise = authorise
        self._read_fault = read_fault
        self._explain = explain
        self._client = open_client(httpx.Timeout(read_seconds, connect=connect_seconds))

    def ask(
        self,
        doing: Doing,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | bytearray = b"",
        fine: tuple[int, ...] = (),
    ) -> httpx.Response:
        """The answer, all of it. Raises Absent, Conflict, Refused, Unreachable unless its status is a success or `fine`."""
        request = self._client.build_request(method, url, headers=dict(headers or {}), content=bytes(content))
        return self._send(doing, request, fine, stream=False)

    def open(self, doing: Doing, url: str, *, start: int) -> tuple[httpx.Response, int | None] | None:
        """The same for a GET whose body is read later, by `chunks`, from byte `start` on; None where it has no such byte.

        Beside it the size of the whole, where the answer tells it apart. Close it when done early.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        response = self._send(doing, self._client.build_request("GET", url, headers=headers), (416,), stream=True)
        try:
            if response.status_code != 416:
                return response, whole_size(response.headers.get("content-range", ""), start, doing)
        except Refused:
            response.close()
            raise
        response.close()
        return None

    def chunks(self, doing: Doing, response: httpx.Response) -> Iterator[bytes]:
        """Its bytes. Raises Unreachable where it ends too soon."""
        body = response.iter_raw(CHUNK_BYTES)
        while True:
            with self._translated(doing):
                chunk = next(body, b"")
            if not chunk:
                return
            yield chunk

    def time_of(self, response: httpx.Response, target: str) -> datetime:
        """The store's own clock. Raises Refused where the answer does not tell it: nothing could be dated by it then."""
        try:
            return parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
        except ValueError as error:
            what = f"{target}: {self.endpoint} answers without a date"
            raise Refused(what, cure="use a store that sends Date headers") from error

    def _send(self, doing: Doing, request: httpx.Request, fine: tuple[int, ...], *, stream: bool) -> httpx.Response:
        self._authorise(request)
        with self._translated(doing):
            response = self._client.send(request, stream=stream)
            if response.is_success or response.status_code in fine:
                return response
            if stream:
                response.read()
                response.close()
        raise self._error(response, doing)

    def _error(self, response: httpx.Response, doing: Doing) -> ReconcilerError:
        fault = msgspec.structs.replace(self._read_fault(response), retry_after=_retry_after(response))
        return self._explain(fault, doing) or _usual(fault, doing)

    @contextmanager
    def _translated(self, doing: Doing) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                what = f"{doing}: the certificate of {self.endpoint} is not trusted"
                raise Refused(what, cure="name its authority in SSL_CERT_FILE") from error
            cure = "correct `endpoint`, or see to the network and the store"
            raise Unreachable(f"{doing}: {self.endpoint} {_reason(error)}", cure=cure) from error


def open_client(timeout: httpx.Timeout) -> httpx.Client:
    """A client that heeds the environment's proxies and authorities. Raises Refused where those can't be used.

    Nothing of them is shown: the URL of a proxy may hold a password.
    """
    try:
        # Redirects are not followed: they would carry the credentials to another host.
        return httpx.Client(timeout=timeout, follow_redirects=False)
    except OSError:
        what, cure = "SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read", "correct it, or remove it"
    except ImportError:
        what, cure = "ALL_PROXY or HTTPS_PROXY names a SOCKS proxy", "name an http proxy, or `pip install socksio`"
    except (ValueError, httpx.InvalidURL):
        what = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or NO_PROXY can't be understood"
        cure = "write http://HOST:PORT, and into NO_PROXY names and addresses alone, those of IPv6 without brackets"
    # Out of the handler, since that error quotes the URL and would be chained.
    raise Refused(what, cure=cure)


def _usual(fault: Fault, doing: Doing) -> ReconcilerError:
    """What a status means where the store's own word does not say more."""
    said = f"{doing}: {fault.status}" + (f" {fault.code}" if fault.code else "")
    if fault.status == 404:
        return Absent(f"{doing}: it is not there")
    if fault.status == 412:
        return Conflict(f"{doing}: it is there already, or has changed since it was looked at; nothing was written")
    if fault.status in _BUSY:
        cure = "wait: the store is busy or has a fault of its own"
        return Unreachable(said, cure=cure, retry_after=fault.retry_after)
    if fault.status == 401:
        return Refused(said, cure="correct or renew the credentials: the store does not take them")
    if fault.status == 403:
        return Refused(said, cure=f"give {doing.right}")
    return Refused(f"{said} ({fault.message[:200] or 'no reason given'})", cure="see what the store's documentation says of it")


def _retry_after(response: httpx.Response) -> timedelta | None:
    text = response.headers.get("retry-after", "")
    return timedelta(seconds=int(text)) if re.fullmatch(r"\d{1,6}", text) else None


def _reason(error: httpx.HTTPError) -> str:
    if not isinstance(error, httpx.ConnectError):
        return "broke off or did not answer in time"
    if re.search(r"Name or service|getaddrinfo|nodename nor servname|name resolution", str(error), re.IGNORECASE):
        return "is a name that nobody knows"
    return "refuses the connection" if "refused" in str(error).lower() else "cannot be connected to"


def json_of(response: httpx.Response, target: str) -> Mapping[str, Any]:
    """The answer, read as a JSON object. Raises Refused where it is none: a router's page has the status of a success, too."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Refused(f"{target}: {response.url.host} does not answer like such a store", cure="correct `endpoint`")
    return answer
