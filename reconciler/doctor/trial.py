"""One target being tried: what is known of it so far, and what a step is. The steps themselves lie elsewhere."""

from collections.abc import Callable

import msgspec

from reconciler.doctor.report import Notes
from reconciler.doctor.scratch import Scratch
from reconciler.policy.model import DatabasePolicy
from reconciler.world.ports import Target, World, custody_of


class Trial:
    """One target being tried."""

    def __init__(self, world: World, want: DatabasePolicy, name: str) -> None:
        self.world = world
        self.database = want.name
        self.is_home = name == want.home
        self.target: Target = world.targets[name]
        self.custody = custody_of(self.target)
        self.scratch = Scratch(self.target, want.name, now=world.clock.now(), token=world.token)
        self.notes = Notes(name)
        self.content = world.token(32).encode()
        self.begun = False
        """Whether anything may have been written: a write without an answer may have happened."""
        self.keeps = ""
        """Why nothing could be removed again, or empty: then only what leaves nothing is tried."""
        self.put = False
        """Whether an object is there to be read, listed and deleted."""
        self.versioned = False

    def read(self, key: str) -> bytes:
        with self.target.read(key) as blob:
            return b"".join(blob)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to try. `work` says whether it passed; if it did not, it noted why, or raises."""

    says: str
    work: Callable[[Trial], bool]
    applies: Callable[[Trial], bool] = lambda _: True
