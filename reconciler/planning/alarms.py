"""What must stop every deletion until a person has looked: a dump that shrank, rows that are gone, a copy that failed. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from reconciler.planning.proof import refuted
from reconciler.planning.text import counted, instant, size
from reconciler.world.facts import Backup, Observation
from reconciler.world.fingerprint import Summary, lost_rows

SHRUNK = 0.5
"""A dump smaller than this share of the one before: data may be gone that the older backups still hold."""
LATELY = timedelta(days=7)
"""Longer ago, what was pruned in between makes neighbours of backups that never were."""
NOTEWORTHY_BYTES = 1 << 20
"""Below this, a database is small enough to halve in any afternoon."""


def alarming(have: Observation, now: datetime) -> Iterator[tuple[str, str]]:
    """What must stop every deletion until a person has looked, each under the name by which it is acknowledged."""
    for newer, why in suspicious(have, now):
        yield newer.id, why
    for (target, backup), record in sorted(refuted(have).items()):
        yield record.name_in_freeze, f"{backup} on {target} failed its verification of {instant(record.finished)}"


def alarm(have: Observation, now: datetime) -> str:
    """Whatever of it no person has looked at yet; empty where there is nothing."""
    return have.once(_alarm, now)


def _alarm(have: Observation, now: datetime) -> str:
    acknowledged = {name for catalogue in have.known().values() for name in catalogue.acknowledged}
    return "; ".join(dict.fromkeys(why for name, why in alarming(have, now) if name not in acknowledged))


def suspicious(have: Observation, now: datetime) -> tuple[tuple[Backup, str], ...]:
    """Backups of these days, and why older ones may hold what they lost: once for each kind of loss.

    Not the newest alone: a second small dump may have followed before anybody looked.
    """
    # Of a partial one it is known that it holds less.
    whole = [backup for backup in have.backups() if backup.whole_on and not backup.partial]
    marked = [(backup, marks) for backup in whole if (marks := _marks(backup)) is not None]
    pairs = (found for two in pairwise(whole) if two[0].instant > now - LATELY for found in _shrunk(two))
    losses = (found for two in pairwise(marked) if two[0][0].instant > now - LATELY for found in _emptied(two))
    return (*pairs, *losses)


def _shrunk(two: Sequence[Backup]) -> Iterator[tuple[Backup, str]]:
    if len(two) == 2 and two[1].stored_bytes >= NOTEWORTHY_BYTES and two[0].stored_bytes < SHRUNK * two[1].stored_bytes:
        newer, older = two
        yield (
            newer,
            f"the dump of {instant(newer.instant)} has {size(newer.stored_bytes)}, the one before it {size(older.stored_bytes)}",
        )


def _emptied(two: Sequence[tuple[Backup, Summary]]) -> Iterator[tuple[Backup, str]]:
    if len(two) < 2:
        return
    (newer, now), (_, before) = two
    losses = lost_rows(before, now)
    if losses:
        first, rest = losses[0], len(losses) - 1
        name = "a table" if now.hidden else f"table {first.table}"
        left = "is gone or nearly empty" if first.now is None else f"has {first.now} rows"
        more = f", and {counted(rest, 'table')} more lost rows" if rest else ""
        yield newer, f"{name} {left} in the dump of {instant(newer.instant)}, and had {first.before}{more}"


def _marks(backup: Backup) -> Summary | None:
    return next((backup.copies[name].marks for name in backup.whole_on if backup.copies[name].marks is not None), None)
