"""How many backups a database may lose in a day, and how fast what was given up goes for good."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from reconciler.world.facts import Observation

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
    """
    lost = given_up(have)
    came = lost[backup]
    before = sum((at, key) <= (came, backup) for key, at in lost.items() if at > came - WINDOW + JITTER)
    ids = _backups(have) | lost.keys()
    there = {key for key in ids if key[:_INSTANT] <= _as_in_ids(came + SKEW) and lost.get(key, came) > came - WINDOW}
    may_go = _may_go(there, came)
    return came + WINDOW * max(0, -((may_go - before) // may_go))


def given_up(have: Observation) -> Mapping[str, datetime]:
    """When the last copy of each was: of several tombstones the latest tells."""
    lost: dict[str, datetime] = {}
    for catalogue in have.known().values():
        for stone in catalogue.tombstones:
            if stone.counts:
                at = max(stone.at, catalogue.came.get(stone.id, stone.at))
                lost[stone.id] = max(at, lost.get(stone.id, at))
    return lost


def _backups(have: Observation) -> set[str]:
    return {backup.id for backup in have.backups() if backup.state in ("whole", "deleted", "being_deleted")}


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
