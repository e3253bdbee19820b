"""A target that nothing is ever deleted from: for any kind of store, whether or not its keys would allow it."""

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from reconciler.errors import Refused
from reconciler.world.facts import LifecycleRule
from reconciler.world.ports import Custody, custody_of
from reconciler.world.through import Through, Verb


class _NothingGoes(Custody):
    """What the target inside says, and that nothing is deleted."""

    append_only = True

    def __init__(self, inside: Custody) -> None:
        self._inside = inside
        self.single_writer = inside.single_writer
        self.retain = inside.retain
        self.shows_unfinished = inside.shows_unfinished
        self.drops_unfinished = inside.drops_unfinished
        self.holds = inside.holds

    def hold(self, key: str, version: str | None, *, held: bool) -> None:
        self._inside.hold(key, version, held=held)

    def default_retention(self) -> timedelta | None:
        return self._inside.default_retention()

    def lifecycle(self) -> tuple[LifecycleRule, ...]:
        return self._inside.lifecycle()


class AppendOnly(Through):
    """Everything goes through but deletions. What was never finished is no object, and may be freed."""

    @property
    def custody(self) -> Custody:
        return _NothingGoes(custody_of(self._target))

    def around(self, verb: Verb, key: str) -> AbstractContextManager[None]:
        """No deletion is ever entered."""
        if verb == "delete":
            what = f"{self.name}: {key} is not deleted: the target is append-only"
            raise Refused(what, cure="remove `append_only` if it may go")
        return nullcontext()
