"""Neon's API, one project of it: paced, patient where that can't do harm, and in our own errors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from datetime import datetime, timedelta
from threading import Event, Lock
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.policy.secret import Revealed
from reconciler.providers.neon.answers import Operation, OperationAnswer, OperationsAnswer, read
from reconciler.providers.neon.pace import digest_of, gate_of, pace_of
from reconciler.world.persist import persist
from reconciler.world.ports import Clock
from reconciler.world.wire import Doing, Fault, Wire

T = TypeVar("T")
Json = Mapping[str, Any]
"""A body, on its way to the encoder."""

BUSY_SECONDS: Final = 300.0
"""The usual patience."""
OPERATION_SECONDS: Final = 600.0
"""How long an operation of ours is waited for."""
GIVEN_UP_SECONDS: Final = 20.0
"""An operation that failed, and of which Neon does not say when it is tried again, may finish all the same: for so long."""
FIRST_POLL_SECONDS: Final = 0.1
LONGEST_POLL_SECONDS: Final = 5.0
"""Which Neon recommends. Most operations take a second: the first looks come sooner."""
WITHOUT_A_WORD: Final = timedelta(seconds=1)
"""How long a key rests that asked too often, where Neon doesn't say."""
GATE_SECONDS: Final = 0.5
"""How often a thread that waits for its turn looks whether it is to stop."""
NEW_SECONDS: Final = 5.0
"""So long, what was just made need not be found yet."""
LOOK_SECONDS: Final = 30.0
"""A change goes out on no older look than that."""
RECENT: Final = 100
_BUSY: Final = {423, 503}
"""Statuses that say for certain that nothing was done."""
_LOST: Final = {408, 500, 502, 504, 524}
_DONE: Final = {"finished", "skipped"}
_UNDER_WAY: Final = {"scheduling", "running", "cancelling"}


class Busy(Unreachable):
    """Nothing was done: the project is at work on something else."""


class WrongKey(Refused):
    """Neon knows no such key."""


class TooOften(Busy):
    """Nothing was done, and nobody with this key should ask for a while."""


class OperationFailed(Unreachable):
    """Neon gave it up. Asking for the same again at once is no use; the next turn may."""

    def __init__(self, what: str, *, cure: str) -> None:
        super().__init__(what, cure=cure)
        self.was_persisted = True


class NotThrough(OperationFailed):
    """It takes longer than is waited for, and may finish yet."""


class Api:
    """One project. Safe to use from several threads; what changes the project goes through one gate."""

    def __init__(
        self, host: str, key: Revealed, project: str, *, clock: Clock, stop: Event, patience: float = BUSY_SECONDS
    ) -> None:
        """`patience`: how many seconds a project that is busy with something else is waited for."""
        self.fence: Callable[[], object] = lambda: None
        """Raises where a change may not go out any more."""
        self.project: Final = project
        self.clock: Final = clock
        self._stop = stop
        self._patience = patience
        self._pace = pace_of(key)
        self._gate = gate_of(host, project)
        self._wire = _wire_of(host, key)

    def fenced(self, check: Callable[[], object]) -> "Api":
        """The same, whose changes go out only where `check`, called just before each, raises nothing."""
        made = copy(self)
        made.fence = check
        return made

    def get(self, path: str, what: str, **query: str) -> httpx.Response:
        """Asked again as often as is worth it. `path`: below the project. `what`: for messages.

        Raises Absent, Refused, Unreachable, Stopped.
        """
        return self.persist(lambda: self._once("GET", f"/projects/{self.project}{path}", what, query=query))

    def read(self, path: str, kind: type[T], what: str, **query: str) -> T:
        """The same, as that kind of answer."""
        return read(self.get(path, what, **query), kind, f"neon {self.project}: cannot {what}")

    def read_at(self, path: str, kind: type[T], what: str, **query: str) -> T:
        """The same of a path from the API's root on: of the account, not of the project."""
        answer = self.persist(lambda: self._once("GET", path, what, query=query))
        return read(answer, kind, f"neon: cannot {what}")

    def change(
        self,
        method: str,
        path: str,
        what: str,
        *,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        still: Callable[[], object] = lambda: None,
    ) -> None:
        """Once, after whatever keeps the project busy; returns when all that Neon does for it has been done.

        `still`: looks again whether it is to be done, and raises if not. Called after each wait, for others change things then,
        also after one for the rate limit.
        Raises Unreachable where the answer was lost: it may have happened, and whoever asks again must look first.
        """
        with self._turn() as waited:
            if waited:
                still()
            full = f"/projects/{self.project}{path}"

            def ask() -> httpx.Response:
                self._wait_until_sent(still, what)
                return self._send(method, full, what, body=body, query=query or {})

            answer = self._when_free(ask, what, still)
            if answer.content:
                self._settle(read(answer, OperationsAnswer, f"neon {self.project}: cannot {what}").operations, what)

    def settle(self, branch: str, what: str) -> None:
        """Wait for what is being done with a branch by requests whose answers were lost."""
        found = self.read("/operations", OperationsAnswer, "look at operations", limit=str(RECENT)).operations
        # What failed long ago is nobody's concern now.
        under_way = [one for one in found if one.status in _UNDER_WAY or one.retry_at is not None]
        self._settle([one for one in under_way if one.branch_id == branch], what)

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """What it finds at last. Raises Unreachable where that takes too long."""
        for found in self._looks(look, self._patience):
            if found is not None:
                return found
        raise Unreachable(
            f"neon {self.project}: {what} is not through after {self._patience:.0f} s", cure="the next turn looks again"
        )

    def soon(self, look: Callable[[], T]) -> T:
        """What it finds of something that may just have been made. Raises Absent where it is not there a while later either."""

        def found() -> T | Absent:
            try:
                return look()
            except Absent as absent:
                return absent

        for at_last in self._looks(found, NEW_SECONDS):
            if not isinstance(at_last, Absent):
                return at_last
        return look()

    def wait(self, seconds: float) -> None:
        """Raises Stopped."""
        if self.clock.wait(seconds, self._stop):
            raise Stopped("asked to stop while waiting for Neon")

    def persist(self, work: Callable[[], T]) -> T:
        """Do it again where an answer was lost: it must look first whether it is done."""
        return persist(work, clock=self.clock, stop=self._stop)

    def time_of(self, response: httpx.Response) -> datetime:
        """Neon's own clock, in whole seconds."""
        return self._wire.time_of(response, "neon")

    def _wait_until_sent(self, still: Callable[[], object], what: str) -> None:
        """A request may be sent, and what it rests on was looked at just now."""
        ends = self.clock.monotonic() + self._patience + LOOK_SECONDS
        while self._pace.take(self.clock, self._stop) > LOOK_SECONDS:
            if self.clock.monotonic() > ends:
                cure = "wait: this key asks too often, here or elsewhere"
                raise Unreachable(f"neon {self.project}: cannot {what}: its rate limit leaves no room", cure=cure)
            still()
        self.fence()

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether it had to be waited for."""
        waited = not self._gate.acquire(blocking=False)
        while waited and not self._gate.acquire(timeout=GATE_SECONDS):
            if self._stop.is_set():
                raise Stopped("asked to stop while waiting for another change of the project at Neon")
        try:
            yield waited
        finally:
            self._gate.release()

    def _when_free(self, ask: Callable[[], httpx.Response], what: str, still: Callable[[], object]) -> httpx.Response:
        """Others use the project too: their operations are waited for, and what they did is looked at."""
        answer: httpx.Response | Busy | None = None

        def look() -> httpx.Response | Busy:
            if answer is not None:
                still()
            try:
                return ask()
            except Busy as busy:
                return busy

        for answer in self._looks(look, self._patience):
            if not isinstance(answer, Busy):
                return answer
            if answer.retry_after is not None:
                self.wait(min(answer.retry_after.total_seconds(), self._patience))
        raise answer if isinstance(answer, Busy) else Unreachable(f"neon {self.project}: cannot {what}")

    def _settle(self, operations: Iterable[Operation], what: str) -> None:
        """Every one, not just the last: an early connection would reach what was there before."""
        for operation in operations:
            if operation.status not in _DONE:
                self._settle_one(operation, what)

    def _settle_one(self, operation: Operation, what: str) -> None:
        ends, given_up = self.clock.monotonic() + OPERATION_SECONDS, None
        for now in self._looks(lambda: self._operation(operation), OPERATION_SECONDS):
            if now.status in _DONE:
                return
            # "failed" is not the end: Neon may try again, and finish.
            failed = now.status in ("failed", "error") and now.retry_at is None
            given_up = None if not failed else given_up or min(ends, self.clock.monotonic() + GIVEN_UP_SECONDS)
            if now.status == "cancelled" or (given_up is not None and self.clock.monotonic() >= given_up):
                said = f"{operation.action} {now.status}" + (f": {now.error[:200]}" if now.error else "")
                raise OperationFailed(
                    f"neon {self.project}: cannot {what}: {said}", cure="look at the project's operations at Neon"
                )
        cure = "look at the project's operations at Neon; the next turn looks again"
        raise NotThrough(
            f"neon {self.project}: cannot {what}: {operation.action} is not through after {OPERATION_SECONDS:.0f} s", cure=cure
        )

    def _operation(self, operation: Operation) -> Operation:
        """As it is now. Just after it was begun, it need not be found yet."""
        with suppress(Absent):
            return self.read(f"/operations/{operation.id}", OperationAnswer, "look at an operation").operation
        return operation

    def _looks(self, look: Callable[[], T], seconds: float) -> Iterator[T]:
        """What it finds, again and again, more and more seldom, until the time is over."""
        ends, pause = self.clock.monotonic() + seconds, FIRST_POLL_SECONDS
        while True:
            yield look()
            if self.clock.monotonic() + pause > ends:
                return
            self.wait(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)

    def _once(self, method: str, path: str, what: str, *, body: Json | None = None, query: Mapping[str, str]) -> httpx.Response:
        self._pace.take(self.clock, self._stop)
        return self._send(method, path, what, body=body, query=query)

    def _send(self, method: str, path: str, what: str, *, body: Json | None = None, query: Mapping[str, str]) -> httpx.Response:
        doing = Doing(target=f"neon {self.project}".rstrip(), what=what, right="the API key of a member of this project")
        url = f"{self._wire.endpoint}{path}" + (f"?{urlencode(query)}" if query else "")
        content = msgspec.json.encode(body) if body is not None else b""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with _in_neons_words():
                return self._wire.ask(doing, method, url, headers=headers, content=content)
        except TooOften as error:
            asked = error.retry_after or WITHOUT_A_WORD
            self._pace.close(self.clock, min(asked.total_seconds(), BUSY_SECONDS))
            raise


_WIRES: Final[dict[tuple[str, str], Wire]] = {}
"""A client takes long to make and holds its connections open: whoever uses one key shares one."""
_SHARED: Final = Lock()


def _wire_of(host: str, key: Revealed) -> Wire:
    def authorise(request: httpx.Request) -> None:
        request.headers["Authorization"] = f"Bearer {key.expose()}"

    with _SHARED:
        known = host.rstrip("/"), digest_of(key)
        if known not in _WIRES:
            _WIRES[known] = Wire(known[0], authorise=authorise, read_fault=_read_fault, explain=_explain)
        return _WIRES[known]


@contextmanager
def _in_neons_words() -> Iterator[None]:
    """No answer at all: the field is called otherwise here."""
    try:
        yield
    except Unreachable as error:
        error.cure = error.cure.replace("`endpoint`", "`api_host`").replace("the store", "Neon's status page")
        raise


def _read_fault(response: httpx.Response) -> Fault:
    """Some failures are a proxy's page, and no JSON."""
    try:
        body = response.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    return Fault(status=response.status_code, code=str(body.get("code") or ""), message=str(body.get("message") or ""))


def _explain(fault: Fault, doing: Doing) -> ReconcilerError | None:
    said = f"{doing}: {fault.status} {fault.code or fault.message[:200]}".rstrip()
    if fault.status == 429:
        return TooOften(said, cure="wait: this key asks too often, here or elsewhere", retry_after=fault.retry_after)
    if fault.status in _BUSY or (fault.status == 422 and "not ready yet" in fault.message):
        return Busy(said, cure="wait: the project is busy, or Neon is", retry_after=fault.retry_after)
    if fault.status in _LOST:
        return Unreachable(said, cure="wait: Neon has a fault of its own")
    if fault.status == 401:
        return WrongKey(said, cure="make a new API key in Neon's console, and put it where source.api_key refers to")
    if fault.status == 412:
        return Refused(said, cure="Neon stores no passwords of this project: name the role's as source.password")
    if fault.status == 409:
        return Conflict(said)
    if "LIMIT_EXCEEDED" in fault.code:
        return Refused(said, cure="the limit of Neon's plan is reached: delete what is not needed there, or choose a larger plan")
    return None
