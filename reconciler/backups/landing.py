"""Who is to blame when a backup could not be written: a target that takes nothing must not cost the dump."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.errors import Refused, Unreachable
from reconciler.world.ports import Stored, Target
from reconciler.world.through import Through


class Blamed(Through):
    """Remembers whether it was this target that failed, and not whoever feeds it."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.is_to_blame = False

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

        # A list stays one: it may be written again, and fails by itself never.
        fodder = chunks if isinstance(chunks, Sequence) else fed()
        try:
            return super().write(key, fodder, expect=expect, keep_until=keep_until)
        except (Refused, Unreachable) as error:
            self.is_to_blame = not any(error is one for one in theirs)
            raise
