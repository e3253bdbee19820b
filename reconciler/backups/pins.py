"""A reader's pin on a backup. A reader writes its pin, then looks for a tombstone; a deleter writes the tombstone, then looks for
pins: whoever sees the other gives way, so that nothing is deleted under a reader."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.backups import layout
from reconciler.backups.claim import Claim, ClaimRecord, beating, describe, read_claim
from reconciler.backups.erase import erase_object
from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Unreachable
from reconciler.world.events import Waiting
from reconciler.world.ports import ABSENT, Target, World


@contextmanager
def pinned(world: World, home: Target, origin: Target, *, database: str, backup: str, for_what: str) -> Iterator[None]:
    """Keeps the backup from being deleted while the body reads it from `origin`. Raises Conflict where a tombstone is there.

    A home target that can't be reached or written to keeps nobody from reading: then nobody can delete either, who needs the
    lease that lies there.
    """
    owner = world.process.begin()
    record = ClaimRecord(owner=owner, counter=0, since=world.clock.now(), for_what=for_what)
    claim = Claim(home, layout.pin_key(database, backup, owner.token), record, world.clock)
    try:
        try:
            claim.write(ABSENT)
        except (Unreachable, Refused) as error:
            world.tell(Waiting(database=database, says=f"reading {backup} without a pin: {error.what}"))
            yield
            return
        try:
            _refuse_buried(origin, database, backup)
            with beating(claim, heart=world.heart):
                yield
        finally:
            with suppress(ReconcilerError):
                erase_object(home, claim.key)
    finally:
        world.process.end(owner)


def _refuse_buried(origin: Target, database: str, backup: str) -> None:
    root = layout.backup_root(database, backup)
    if any(layout.is_tombstone(item.key) for item in origin.list(root).items):
        cure = f"bring it back first with `reconcile backups undelete {backup}`"
        raise Conflict(f"{origin.name}: {backup} is being deleted", cure=cure)


def give_way_to_readers(world: World, home: Target, *, database: str, backup: str) -> None:
    """For whoever deletes. Raises Conflict where somebody reads it, or can't be proven not to."""
    for item in home.list(f"{database}/pins/{backup}-").items:
        try:
            record, _ = read_claim(home, item.key)
        except Absent:
            continue
        if record is None or (record.owner is not None and world.process.is_gone(record.owner) is not True):
            raise Conflict(f"{backup} is being read: {record.for_what if record else 'read'} by {describe(record)}")
