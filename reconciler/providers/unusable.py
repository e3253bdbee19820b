"""A provider that could not be opened: there all the same, and saying why whenever it is asked."""

from contextlib import AbstractContextManager
from typing import NoReturn

from reconciler.errors import ReconcilerError
from reconciler.world.facts import Identity, SourceFacts
from reconciler.world.ports import AS_USUAL, Dump, DumpOptions


class UnusableProvider:
    """Source and provider in one: both raise the error that opening met."""

    domain = None

    def __init__(self, error: ReconcilerError) -> None:
        self.place = "source unknown"
        self._error = error

    def source(self) -> "UnusableProvider":
        """Itself."""
        return self

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
        raise type(self._error)(self._error.what, cure=self._error.cure)
