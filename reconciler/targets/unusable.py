"""A target that could not be opened: there all the same, and saying why whenever it is asked."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NoReturn

from reconciler.errors import ReconcilerError
from reconciler.world.ports import Blob, Listing, Stored, Upload


class UnusableTarget:
    """Raises the error that opening it met, at every use; so it becomes unknown, and the others go on being used."""

    versioned = False

    def __init__(self, name: str, error: ReconcilerError) -> None:
        self.name, self._error = name, error

    @property
    def place(self) -> str:
        return self.name

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Raises."""
        self._fail()

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """Raises."""
        self._fail()

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Raises."""
        self._fail()

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Raises."""
        self._fail()

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """Raises."""
        self._fail()

    def abort(self, upload: Upload) -> None:
        """Raises."""
        self._fail()

    def _fail(self) -> NoReturn:
        raise type(self._error)(self._error.what, cure=self._error.cure)
