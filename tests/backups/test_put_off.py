"""A deletion that a lock puts off, on a store whose listings lag behind."""

from datetime import timedelta

from reconciler.backups import layout
from reconciler.backups.erase import put_off
from reconciler.backups.manifest import encode
from reconciler.backups.tombstones import read_tombstone
from reconciler.errors import Locked
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Host
from reconciler.simulation.reach import Reach
from reconciler.simulation.store import Store
from reconciler.simulation.target import SimulatedTarget
from reconciler.simulation.timeline import Timeline
from reconciler.world.facts import Tombstone
from reconciler.world.ports import Signatures
from tests.building import HOUR, NOW

BACKUP = "20251025T020000Z-3f9c2a"


def test_a_tombstone_that_no_listing_shows_yet() -> None:
    """It was written a moment ago: the deletion is put off by it all the same."""
    timeline = Timeline(NOW)
    process = Host("host", timeline, boot="boot", namespace="pid:[1]", offset=0.0, drift=0.0).start()
    store = Store("vault", timeline, versioned=True, locks=True, lag_seconds=10)
    target = SimulatedTarget(store, Reach(process, Faults(Chance(0), share=0.0)))
    stone = Tombstone(id=BACKUP, at=NOW, due=NOW, reason="its writer died before the manifest", counts=False)
    target.write(layout.tombstone_key("hotel", BACKUP, NOW), [encode(stone)])
    assert () == target.list("hotel/").items

    until = put_off(target, "hotel", stone, Locked("locked", until=NOW + HOUR), now=NOW, signatures=Signatures())

    assert timedelta(seconds=1) == until - (NOW + HOUR)
    assert (
        until == read_tombstone(target, layout.tombstone_key("hotel", BACKUP, until), backup=BACKUP, signatures=Signatures()).due
    )
