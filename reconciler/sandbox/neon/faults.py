"""Faults on demand: what of the next requests and operations goes wrong, how, and how many times."""

import threading
from collections.abc import Callable
from typing import Literal, get_args

import msgspec

Kind = Literal[
    "locked",
    "limited",
    "broken",
    "timeout",
    "slow",
    "dropped",
    "operation_fails",
    "operation_errors",
    "lag",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""locked: 423. limited: 429, with Retry-After. broken: 5xx. timeout: no answer, and it did not happen. slow: an answer, late.
dropped: it happened, and the answer is lost. operation_fails: it fails, is tried again, and finishes. operation_errors: for good.
lag: the storage lacks the last seconds of the log, for who asks by time; who asks by LSN waits."""
OF_OPERATIONS = {"operation_fails", "operation_errors"}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One that was ordered."""

    kind: Kind
    times: int = 1
    seconds: float = 1.0
    """slow, timeout: how long. limited: what Retry-After says. lag: how much is missing."""
    status: int = 503
    """broken: which."""
    method: str = ""
    """Of requests with this method alone."""
    path: str = ""
    """Of requests whose path, or operations whose action, contains this alone."""

    def meets(self, method: str, path: str) -> bool:
        """Whether it was ordered for such a one."""
        return (not self.method or self.method == method) and self.path in path


class Faults:
    """Those still to come; each is used up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: list[Fault] = []

    def order(self, fault: Fault) -> None:
        """Add it."""
        with self._lock:
            self._ordered.append(fault)

    def clear(self) -> None:
        """None comes any more."""
        with self._lock:
            self._ordered.clear()

    def ordered(self) -> tuple[Fault, ...]:
        """Those still to come."""
        with self._lock:
            return tuple(self._ordered)

    def of_request(self, method: str, path: str) -> Fault | None:
        """What goes wrong with this request."""
        return self._take(lambda fault: fault.kind not in OF_OPERATIONS | {"lag"} and fault.meets(method, path))

    def of_operation(self, action: str) -> Fault | None:
        """What goes wrong with this operation."""
        return self._take(lambda fault: fault.kind in OF_OPERATIONS and fault.meets(fault.method, action))

    def lag(self) -> float:
        """By how many seconds the storage is behind this time."""
        found = self._take(lambda fault: fault.kind == "lag")
        return found.seconds if found else 0.0

    def _take(self, wanted: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._ordered):
                if wanted(fault):
                    left = fault.times - 1
                    self._ordered[index : index + 1] = [msgspec.structs.replace(fault, times=left)] if left else []
                    return fault
        return None
