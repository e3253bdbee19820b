"""One change to a store, as the rules see it: who does it, what was there before, and what they believe meanwhile."""

from datetime import datetime
from hashlib import sha256
from typing import Literal

from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.ledger import Ledger, Turn
from reconciler.simulation.store import Held, Store
from reconciler.simulation.truth import ClaimBrief, Folder, Stone, Truth, read
from reconciler.world.lazily import lazily


class Change:
    """About to happen. Everything that it tells is of the instant before."""

    def __init__(
        self,
        verb: Literal["write", "remove"],
        store: Store,
        key: str,
        content: bytes,
        *,
        version: str | None,
        until: datetime | None,
        turn: Turn,
        truth: Truth,
        ledger: Ledger,
    ) -> None:
        self.verb, self.store, self.key, self.content = verb, store, key, content
        self.version, self.until = version, until
        self.turn, self.truth, self.ledger = turn, truth, ledger
        self.database = turn.want.name
        folder, _, rest = key.removeprefix(f"{self.database}/").partition("/")
        self.backup, _, self.name = rest.partition("/") if folder == "backups" else ("", "", key.rpartition("/")[2])

    @property
    def by(self) -> SimulatedProcess:
        return self.turn.process

    @lazily
    def now(self) -> datetime:
        """By the clock of who does it."""
        return self.by.host.now()

    @lazily
    def is_calm(self) -> bool:
        """What they saw is still so, as far as people are concerned."""
        return self.ledger.is_calm(self.turn)

    @lazily
    def in_time(self) -> bool:
        """They did not sleep between deciding and doing."""
        return not self.turn.reach.slept

    @lazily
    def before(self) -> Held | None:
        """What a plain read of the key finds now."""
        return self.store.current(self.key)

    @lazily
    def is_written_elsewhere(self) -> bool:
        """Another store has, or had, these very bytes under the same key."""
        others = (store for store in self.truth.stores.values() if store is not self.store)
        return any(held.content == self.content for store in others for held in store.objects.get(self.key, ()))

    def follows(self, link: str) -> bool:
        """Whether what lies there under the number before has this hash."""
        head, _, number = self.key.rpartition("/")
        before = self.store.current(f"{head}/{int(number.removesuffix('.json')) - 1:08d}.json")
        return before is not None and sha256(before.content).hexdigest() == link

    @lazily
    def folder(self) -> Folder:
        """All that lies under the backup's id there."""
        return self.truth.folder(self.store, self.database, self.backup)

    @lazily
    def is_marker(self) -> bool:
        """Only a delete marker, or a version below one, goes."""
        versions = self.store.objects.get(self.key, ())
        return any(held.stored.version == self.version and held.stored.marker for held in versions)

    @lazily
    def is_claim(self) -> bool:
        """An intent, a lease or a pin: what is renewed."""
        return self.name in ("intent.json", "lease-keep.json", "lease-prove.json") or "/pins/" in self.key

    @lazily
    def is_history(self) -> bool:
        """Only a version that is not the latest goes."""
        versions = self.store.objects.get(self.key, ())
        return self.version is not None and bool(versions) and versions[-1].stored.version != self.version

    @lazily
    def stone(self) -> Stone | None:
        """If a tombstone is being written."""
        is_one = self.verb == "write" and self.name.startswith("tombstone-")
        return read(self.content, Stone) if is_one else None

    @lazily
    def sentence(self) -> Stone | None:
        """If a tombstone is being written that says more than another one there already does: a lock only puts that one off."""
        stone = self.stone
        known = stone is not None and any(other is not None and other.at == stone.at for other in self.folder.tombstones)
        return None if known else stone

    @lazily
    def is_own_draft(self) -> bool:
        """Something that they wrote themselves and that never was a backup."""
        never = "manifest.json" not in self.folder.visible and "manifest.json" not in self.folder.hidden
        intent = f"{self.database}/backups/{self.backup}/intent.json"
        return never and self.ledger.drafts.get((self.store.name, intent)) is self.by

    @lazily
    def is_of_failed_copy(self) -> bool:
        """Of what never was a backup there, and is one on another target."""
        key = f"{self.database}/backups/{self.backup}/manifest.json"
        others = (self.truth.stores[name] for name in self.turn.want.dumps.targets if name != self.store.name)
        return not self.store.objects.get(key) and any(other.current(key) for other in others)

    @lazily
    def destroys(self) -> bool:
        """Whether something of a backup goes, or is condemned."""
        if not self.backup or self.is_marker:
            return False
        if self.verb == "write":
            return self.stone is not None
        return self.name not in ("intent.json",) and not self.name.startswith("tombstone-")

    def is_mine(self, claim: ClaimBrief | None) -> bool:
        return claim is not None and claim.owner is not None and claim.owner.token in self.by.tokens

    def __str__(self) -> str:
        slept = "" if self.in_time else "  (slept)"
        version = f" {self.version}" if self.version else ""
        return f"{self.by.host.name}/{self.by.pid} {self.verb} {self.store.name}:{self.key}{version}{slept}"
