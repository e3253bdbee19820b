"""A provider that could not be opened: there all the same, and saying why whenever it is asked."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NoReturn

from reconciler.errors import ReconcilerError
from reconciler.policy.firing import Firing
from reconciler.world.facts import Identity, SourceFacts
from reconciler.world.history import BranchFacts, HistoryFacts, SnapshotFacts
from reconciler.world.ports import AS_USUAL, Dump, DumpOptions, Source


def _again(error: ReconcilerError) -> NoReturn:
    raise type(error)(error.what, cure=error.cure)


class NoHistory:
    """One that can't be asked for anything."""

    def __init__(self, error: ReconcilerError) -> None:
        self._error = error

    def facts(self) -> HistoryFacts:
        """Raises."""
        _again(self._error)

    def fenced(self, check: Callable[[], None]) -> "NoHistory":
        """The same: nothing is ever sent."""
        return self

    def open(self, point: datetime, *, use: str, until: datetime) -> AbstractContextManager[Source]:
        """Raises."""
        _again(self._error)

    def set_window(self, window: timedelta, *, expect: timedelta) -> None:
        """Raises."""
        _again(self._error)

    def set_schedule(self, schedule: Sequence[Firing], *, expect: Sequence[Firing]) -> None:
        """Raises."""
        _again(self._error)

    def take_snapshot(self, name: str, *, until: datetime | None = None) -> SnapshotFacts:
        """Raises."""
        _again(self._error)

    def delete_snapshot(self, snapshot: SnapshotFacts) -> None:
        """Raises."""
        _again(self._error)

    def delete_branch(self, branch: BranchFacts) -> None:
        """Raises."""
        _again(self._error)

    def protect(self, branch: BranchFacts) -> None:
        """Raises."""
        _again(self._error)


class UnusableProvider:
    """Source and provider in one: both raise the error that opening met."""

    domain = None

    def __init__(self, error: ReconcilerError, *, keeps_history: bool = False) -> None:
        self.place = "source unknown"
        self._error = error
        self._keeps_history = keeps_history

    def source(self) -> "UnusableProvider":
        """Itself."""
        return self

    def history(self) -> NoHistory | None:
        """Unknown where such a provider keeps one, so that nobody takes it for empty."""
        return NoHistory(self._error) if self._keeps_history else None

    def facts(self) -> SourceFacts:
        """Raises."""
        self._fail()

    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> AbstractContextManager[Dump]:
        """Raises."""
        self._fail()

    def end_sessions(self, backup_id: str) -> int:
        """Raises."""
        self._fail()

    def _fail(self) -> NoReturn:
        _again(self._error)
