"""changes/ and .windows/: what we changed or destroyed at a provider. Written before and after, on the home target."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec

from reconciler.backups import layout
from reconciler.backups.manifest import decode_again
from reconciler.backups.sequence import append_record, read_once
from reconciler.errors import Absent, Corrupt
from reconciler.policy.model import DatabasePolicy
from reconciler.world.history import Change, What
from reconciler.world.ports import Cache, Stored, Target, World

NEWEST = 1000
"""So many of a folder are read: more than is deleted in a day. Windows, which matter for longer, have a folder of their own."""


def read_changes(target: Target, items: Iterable[Stored], cache: Cache) -> tuple[Change, ...]:
    """The newest, by sequence. One that is torn or went away tells nothing, and takes nothing else away."""
    found: list[Change] = []
    for item in sorted(items, key=lambda item: item.key)[-NEWEST:]:
        try:
            record = decode_again(read_once(target, item, cache)[0], Change, f"{target.name}: {item.key}")
        except (Absent, Corrupt):
            continue
        if record.sequence == layout.sequence_of(item.key):
            found.append(record)
    return tuple(found)


def read_windows(target: Target, site: str, cache: Cache) -> tuple[Change, ...]:
    """What the databases of a project, whose home that is, know of its window. Raises what the target raises."""
    listed = target.list(layout.windows_root(site)).items
    return read_changes(target, (item for item in listed if layout.sequence_of(item.key) is not None), cache)


@contextmanager
def recorded(
    world: World, want: DatabasePolicy, *, what: What, where: str, was: str, now: str, behind: timedelta = timedelta(0)
) -> Iterator[None]:
    """Around a change: no change without a record of it, whatever dies or is lost; what failed stays recorded as begun.

    `behind`: how far our clock is behind that by which the change will be judged.
    """
    with begun(world, want, what=what, where=where, was=was, now=now, behind=behind) as change:
        yield
    _append(world, want, msgspec.structs.replace(change, done=True, at=world.clock.now() + behind))


@contextmanager
def begun(
    world: World, want: DatabasePolicy, *, what: What, where: str, was: str, now: str, behind: timedelta = timedelta(0)
) -> Iterator[Change]:
    """The same of what needs no second record: whether it is gone, anybody can see."""
    at = world.clock.now() + behind
    change = Change(sequence=0, at=at, what=what, where=where, done=False, was=was, now=now, policy=world.policy_digest)
    _append(world, want, change)
    yield change


def noted(world: World, want: DatabasePolicy, *, where: str, was: str, now: str, at: datetime) -> None:
    """A window that was seen, and that we did not set. `was`: as it was seen before, or empty."""
    change = Change(sequence=0, at=at, what="window", where=where, done=True, was=was, now=now, policy=world.policy_digest)
    _append(world, want, change)


def _append(world: World, want: DatabasePolicy, change: Change) -> None:
    site = want.history_site if change.what == "window" else None
    append_record(
        world.targets[want.home],
        layout.changes_root(want.name) if site is None else layout.windows_root(site),
        lambda sequence, _: msgspec.structs.replace(change, sequence=sequence),
        lambda _: None,
    )
