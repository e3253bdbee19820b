"""How many backups a database may lose in a day, and how fast what was given up goes for good."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from reconciler.world.facts import Copy, Observation

WINDOW = timedelta(hours=24)
PERCENT = 30
"""Of the backups that were there before the window, so many may go within it. Ordinary policies need less; a slip takes more."""
SKEW = timedelta(seconds=60)
"""Beyond this, an age computed here is not to be trusted with a deletion."""
JITTER = timedelta(hours=1)
"""What goes at the same hour each day never counts twice."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """How many backups may be lost in the 24 hours until now, and which were."""

    may_go: int
    gone: frozenset[str]


def allow(have: Observation, now: datetime) -> Allowance:
    """As many as were born in the window, and a share of those that were there before: distinct ids, over all known targets."""
    backups, lost = _backups(have), given_up(have)
    gone = frozenset(key for key, at in lost.items() if at > now - WINDOW)
    there = {key for key in backups if key not in lost} | gone
    return Allowance(may_go=_may_go(there, now), gone=gone)


def goes_at(have: Observation, backup: str) -> datetime:
    """When it may go for good: at once; or where more came to be given up in a day than may go, so many days later.

    A tombstone alone does not tell who wrote it, and a thief dates his as he likes: counted is from when it came to the store.
    Nor does it tell that there ever was a backup: what nothing else is left of frees nothing for others, as gone before them.
    """
    lost, left = given_up(have), _backups(have)
    came = lost[backup]
    since, until = came - WINDOW + JITTER, _as_in_ids(came + SKEW)
    recent = {key for key, at in lost.items() if at > since}
    there = {key for key in recent | (left - lost.keys()) if key[:_INSTANT] <= until}
    before = {key for key in recent if (lost[key], key) <= (came, backup)} | (there - left)
    too_many = len(before) - _may_go(there, came)
    # Of births that nothing else tells of, none makes it faster either.
    sure = {key for key in there if key in left or key[:_INSTANT] <= _as_in_ids(came - WINDOW)}
    return came + WINDOW * max(0, -(-too_many // _may_go(sure, came)))


def given_up(have: Observation) -> Mapping[str, datetime]:
    """When the last copy of each was: of several tombstones the latest tells; of one that is dated ahead, its coming."""
    return have.once(_given_up)


def _given_up(have: Observation) -> Mapping[str, datetime]:
    lost: dict[str, datetime] = {}
    for catalogue in have.known().values():
        for stone in catalogue.tombstones:
            if stone.counts:
                came = catalogue.came.get(stone.id, stone.at)
                at = came if stone.at > catalogue.store_time + SKEW else max(stone.at, came)
                lost[stone.id] = max(at, lost.get(stone.id, at))
    return lost


def _backups(have: Observation) -> frozenset[str]:
    """Those with a manifest: anybody can lay some data beside a tombstone."""
    return have.once(_with_manifest)


def _with_manifest(have: Observation) -> frozenset[str]:
    return frozenset(backup.id for backup in have.backups() if any(map(_is_backup, backup.copies.values())))


def _is_backup(copy: Copy) -> bool:
    return copy.state in ("whole", "deleted", "being_deleted") and copy.repository is not None


def _may_go(there: Collection[str], now: datetime) -> int:
    """Of those that are there, or went in the 24 hours until now."""
    earliest, latest = _as_in_ids(now - WINDOW), _as_in_ids(now + SKEW)
    # What is dated ahead was begun under a wrong clock: nobody knows when, so it is not counted as a birth of today.
    born = sum(earliest < key[:_INSTANT] <= latest for key in there)
    return born + max(1, PERCENT * (len(there) - born) // 100)


def _as_in_ids(instant: datetime) -> str:
    """Ids begin with the instant of birth, to the second; of what was erased nothing else tells it."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


_INSTANT = len("20251025T020000Z")
