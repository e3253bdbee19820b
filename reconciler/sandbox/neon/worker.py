"""Operations, done one after the other in the order in which they were put down: they are serialised by project."""

import threading
from datetime import timedelta

from reconciler.errors import ReconcilerError
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.performing import perform
from reconciler.sandbox.neon.records import Operation
from reconciler.sandbox.neon.refusals import Refusal

_TRIED_AGAIN_AFTER = timedelta(seconds=1)
_LOOK_EVERY_SECONDS = 0.5


class Worker:
    """A thread that does them, until it is stopped. One that was under way when the last server died is done again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operations", daemon=True)

    def start(self) -> None:
        """Begin with what was left open."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the one under way, and end."""
        self._stopped.set()
        with self._engine.book.changed:
            self._engine.book.changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if operation := self._next():
                self._do(operation)
            else:
                self._engine.book.wait(lambda: self._stopped.is_set() or self._next() is not None, seconds=_LOOK_EVERY_SECONDS)

    def _next(self) -> Operation | None:
        first = next((each for each in list(self._engine.book.state.operations.values()) if each.is_open), None)
        return None if first and first.retry_at and first.retry_at > now() else first

    def _do(self, operation: Operation) -> None:
        book, begun = self._engine.book, now()
        operation = book.edit(operation, status="running", retry_at=None, updated_at=begun)
        fault = self._engine.faults.of_operation(operation.action)
        if fault:
            error: str | None = "made to fail"
        else:
            error = self._try(operation)
        took = int((now() - begun).total_seconds() * 1000)
        if error is None:
            book.edit(operation, status="finished", error=None, updated_at=now(), milliseconds=took)
            return
        with book.changing() as state:
            retry_at = now() + _TRIED_AGAIN_AFTER if fault and fault.kind == "operation_fails" else None
            failures = operation.failures + 1
            book.edit(
                operation, status="failed", error=error, failures=failures, retry_at=retry_at, updated_at=now(), milliseconds=took
            )
            for other in [each for each in state.operations.values() if each.request == operation.request]:
                if retry_at is None and other.status == "scheduling":
                    book.edit(other, status="cancelled", updated_at=now())

    def _try(self, operation: Operation) -> str | None:
        try:
            with self._engine.turn:
                perform(self._engine, operation.work)
        except ReconcilerError as error:
            return error.what
        except Refusal as refusal:
            return refusal.message
        except Exception as error:  # noqa: BLE001  # one operation fails, and not all that come after it
            return f"{type(error).__name__}: {error}"
        return None
