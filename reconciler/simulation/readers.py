"""People who read backups for hours, as `backups fetch` does, each from a process of its own. Some die over it."""

from reconciler.backups import layout
from reconciler.backups.claim import ClaimRecord
from reconciler.backups.manifest import encode
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.stage import HOUR, Stage
from reconciler.simulation.store import Store

SOON_SECONDS = 12.0
"""A turn looks and acts within about so long."""


class Readers:
    """Those of one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._chance = stage, stage.reading
        self._open: dict[str, tuple[Store, SimulatedProcess]] = {}

    def come(self) -> None:
        """Perhaps one begins, now or soon: then most likely in the midst of a turn, between its look and what it does."""
        if self._chance.happens(self._stage.readers):
            self._stage.timeline.later(self._chance.uniform(0, SOON_SECONDS), self._begin)

    def _begin(self) -> None:
        """It pins a backup that no tombstone names, as far as it sees."""
        stage, chance = self._stage, self._chance
        if stage.mended:
            return
        origin, home = stage.stores[chance.choice(list(stage.want.dumps.targets))], stage.stores[stage.want.home]
        folders = stage.truth.folders(origin, stage.want.name).values()
        whole = sorted(folder.id for folder in folders if folder.manifest is not None and not folder.tombstones)
        if not whole:
            return
        # The oldest are those that are about to go.
        backup, process = chance.choice(whole[:3]), chance.choice(stage.hosts).start()
        owner = process.begin()
        record = ClaimRecord(owner=owner, counter=0, since=process.host.now(), for_what=f"fetch {backup}")
        key = layout.pin_key(stage.want.name, backup, owner.token)
        home.put(key, encode(record), expect=None, by=process)
        self._open[key] = home, process
        stage.faults.counted["a reader"] += 1
        stage.timeline.later(chance.uniform(0.1, 8) * HOUR, lambda: self._end(key, dies=chance.happens(0.3)))

    def leave(self) -> None:
        """All that still read are done."""
        for key in list(self._open):
            self._end(key, dies=False)

    def _end(self, key: str, *, dies: bool) -> None:
        """Whoever dies leaves its pin."""
        home, process = self._open.pop(key, (None, None))
        if home is None or process is None:
            return
        if process.alive and not dies:
            home.wipe(key)
            self._stage.ledger.pinned.pop(key, None)
        process.end_all()
