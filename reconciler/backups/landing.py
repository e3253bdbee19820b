"""Who is to blame when a backup could not be written: a target that takes nothing must not cost the dump."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.backups import layout
from reconciler.errors import Refused, Unreachable
from reconciler.world.ports import Listing, Stored, Target
from reconciler.world.through import Through


class Blamed(Through):
    """Remembers which failures were this target's own, and not of whoever feeds it."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._own: list[BaseException] = []

    def is_to_blame(self, error: Refused | Unreachable) -> bool:
        """Whether it failed, and surely holds nothing that could still become a backup."""
        return any(error is own for own in self._own)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Through."""
        try:
            return super().list(prefix, versions=versions)
        except (Refused, Unreachable) as error:
            self._own.append(error)
            raise

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """Through."""
        theirs: list[BaseException] = []

        def fed() -> Iterator[bytes]:
            try:
                yield from chunks
            except BaseException as error:
                theirs.append(error)
                raise

        # A list stays one: it may be written again, and never fails by itself.
        fodder = chunks if isinstance(chunks, Sequence) else fed()
        try:
            return super().write(key, fodder, expect=expect, keep_until=keep_until)
        except (Refused, Unreachable) as error:
            # A manifest whose answer was lost may be there: then this is a backup, and a second dump would be one too many.
            unclear = isinstance(error, Unreachable) and key.endswith(f"/{layout.MANIFEST}")
            if not unclear and not any(error is one for one in theirs):
                self._own.append(error)
            raise
