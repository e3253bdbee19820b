"""Neon's API, one project of it: paced, patient where that can't do harm, and in our own errors."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Event, Lock
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec

from reconciler.errors import Conflict, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.policy.secret import Revealed
from reconciler.world.persist import persist
from reconciler.world.ports import Clock
from reconciler.world.wire import Doing, Fault, Wire, json_of

Json = Mapping[str, Any]

REQUESTS_A_MINUTE: Final = 600
"""Neon takes 700 of one key; the rest is for who else uses it."""
BUSY_SECONDS: Final = 300.0
"""How long a project that is busy with something else is waited for."""
POLL_SECONDS: Final = 0.5
PAGE: Final = 400
_BUSY: Final = {423, 429, 503}
"""Statuses that say for certain that nothing was done."""
_LOST: Final = {408, 500, 502, 504, 524}


class Busy(Unreachable):
    """Nothing was done: the project is at work on something else, or we ask too often."""


class Pace:
    """Requests of one key in this process, whatever project they are for."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque()
        self._lock = Lock()

    def take(self, clock: Clock, stop: Event) -> None:
        """Wait for a place in the last minute. Raises Stopped."""
        while True:
            with self._lock:
                now = clock.monotonic()
                while self._sent and self._sent[0] <= now - 60:
                    self._sent.popleft()
                if len(self._sent) < REQUESTS_A_MINUTE:
                    self._sent.append(now)
                    return
                seconds = self._sent[0] + 60 - now
            if clock.wait(seconds, stop):
                raise Stopped("asked to stop while waiting for Neon's rate limit")


_PACES: dict[str, Pace] = {}
_GATES: dict[tuple[str, str], Lock] = {}
_SHARED: Final = Lock()


class Api:
    """One project. Safe to use from several threads; what changes the project goes through one gate."""

    def __init__(self, host: str, key: Revealed, project: str, *, clock: Clock, stop: Event) -> None:
        self.project: Final = project
        self._clock = clock
        self._stop = stop
        digest = sha256(key.expose().encode()).hexdigest()
        with _SHARED:
            self._pace = _PACES.setdefault(digest, Pace())
            self._gate = _GATES.setdefault((host, project), Lock())

        def authorise(request: httpx.Request) -> None:
            request.headers["Authorization"] = f"Bearer {key.expose()}"

        self._wire = Wire(host.rstrip("/"), authorise=authorise, read_fault=_read_fault, explain=_explain)

    def get(self, path: str, what: str, **query: str) -> httpx.Response:
        """Asked again as often as is worth it. `what`: for messages. Raises Absent, Refused, Unreachable, Stopped."""
        return persist(lambda: self._once("GET", path, what, query=query), clock=self._clock, stop=self._stop)

    def read(self, path: str, what: str, **query: str) -> Json:
        """The same, as an object."""
        return json_of(self.get(path, what, **query), "neon")

    def change(self, method: str, path: str, what: str, *, body: Json | None = None, **query: str) -> None:
        """Once, after whatever keeps the project busy. Raises Unreachable where the answer was lost: it may have happened."""
        deadline = self._clock.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self._gate:
                    self._once(method, path, what, body=body, query=query)
            except Busy as busy:
                asked = busy.retry_after.total_seconds() if busy.retry_after else POLL_SECONDS
                if self._clock.monotonic() + asked > deadline:
                    raise
                self.wait(asked)
            else:
                return

    def branches(self, search: str) -> list[Json]:
        """All whose name or id holds that, every page of them."""
        found: list[Json] = []
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = self.read("/branches", "list branches", search=search, limit=str(PAGE), **more)
            found += answer["branches"]
            cursor = (answer.get("pagination") or {}).get("next") or ""
            if not cursor or not answer["branches"]:
                return found

    def named(self, name: str) -> Json | None:
        """The branch of exactly that name."""
        return next((branch for branch in self.branches(name) if branch["name"] == name), None)

    def until(self, look: Callable[[], Json | None], what: str) -> Json:
        """What it finds at last. Raises Unreachable where that takes too long."""
        deadline = self._clock.monotonic() + BUSY_SECONDS
        while (found := look()) is None:
            if self._clock.monotonic() > deadline:
                raise Unreachable(
                    f"neon {self.project}: {what} is not through after {BUSY_SECONDS:.0f} s", cure="it is tried again"
                )
            self.wait(POLL_SECONDS)
        return found

    def wait(self, seconds: float) -> None:
        """Raises Stopped."""
        if self._clock.wait(seconds, self._stop):
            raise Stopped("asked to stop while waiting for Neon")

    def persist(self, work: Callable[[], Json]) -> Json:
        """Do it again where an answer was lost: it must look first whether it is done."""
        return persist(work, clock=self._clock, stop=self._stop)

    def _once(self, method: str, path: str, what: str, *, body: Json | None = None, query: Mapping[str, str]) -> httpx.Response:
        self._pace.take(self._clock, self._stop)
        doing = Doing(target=f"neon {self.project}", what=what, right="the API key of a member of this project")
        url = f"{self._wire.endpoint}/projects/{self.project}{path}" + (f"?{urlencode(query)}" if query else "")
        content = msgspec.json.encode(body) if body is not None else b""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with _in_neons_words():
            return self._wire.ask(doing, method, url, headers=headers, content=content)

    def clock_of(self, response: httpx.Response) -> datetime:
        """Neon's own clock, in whole seconds."""
        return self._wire.time_of(response, "neon")


@contextmanager
def _in_neons_words() -> Iterator[None]:
    """No answer at all: the field is called otherwise here."""
    try:
        yield
    except Unreachable as error:
        error.cure = error.cure.replace("`endpoint`", "`api_host`").replace("the store", "Neon's status page")
        raise


def _read_fault(response: httpx.Response) -> Fault:
    try:
        body = response.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    after = response.headers.get("retry-after", "")
    said = Fault(status=response.status_code, code=str(body.get("code") or ""), message=str(body.get("message") or ""))
    return msgspec.structs.replace(said, message=f"{said.message}\n{after}") if response.status_code in _BUSY else said


def _explain(fault: Fault, doing: Doing) -> ReconcilerError | None:
    message, _, after = fault.message.partition("\n")
    said = f"{doing}: {fault.status} {fault.code or message[:200]}".rstrip()
    if fault.status in _BUSY or "not ready yet" in message:
        asked = timedelta(seconds=int(after)) if after.isascii() and after.isdigit() and len(after) < 7 else None
        return Busy(said, cure="wait: the project is busy, or Neon is", retry_after=asked)
    if fault.status in _LOST:
        return Unreachable(said, cure="wait: Neon has a fault of its own")
    if fault.status == 401:
        return Refused(said, cure="make a new API key in Neon's console, and put it where source.api_key refers to")
    if fault.status == 409:
        return Conflict(said)
    if fault.code.endswith("_LIMIT_EXCEEDED"):
        return Refused(said, cure="the limit of Neon's plan is reached: delete what is not needed there, or choose a larger plan")
    return None
