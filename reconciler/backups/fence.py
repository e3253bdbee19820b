"""A target whose every effect first checks that our lease still covers us, and that what we go by is still fresh."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from reconciler.backups.claim import Claim
from reconciler.world.ports import Target
from reconciler.world.through import Through, Verb


class Fenced(Through):
    """The same target, for its lease's holder only. A holder who slept too long meets Conflict instead of another's work."""

    def __init__(self, target: Target, lease: Claim, fresh: Callable[[], None] = lambda: None) -> None:
        """`fresh` raises when too much time has passed since the look that the effects rest on."""
        super().__init__(target)
        self._lease, self._fresh = lease, fresh

    def around(self, verb: Verb, key: str) -> AbstractContextManager[None]:
        """Under the lease only."""
        self._lease.check()
        self._fresh()
        return nullcontext()
