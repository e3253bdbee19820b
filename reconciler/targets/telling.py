"""A target that tells of each effect, before and after: the seam for progress, for logs, and for tests that die at effect n."""

from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.world.events import Effect, Tell
from reconciler.world.ports import Target
from reconciler.world.through import Through, Verb


class Telling(Through):
    """Everything goes through. An effect that failed is told of before only."""

    def __init__(self, target: Target, tell: Tell) -> None:
        super().__init__(target)
        self._tell = tell

    @contextmanager
    def around(self, verb: Verb, key: str) -> Iterator[None]:
        """Before and after."""
        self._tell(Effect(phase="before", verb=verb, target=self.name, key=key))
        yield
        self._tell(Effect(phase="after", verb=verb, target=self.name, key=key))
