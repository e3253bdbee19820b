"""How many backups a database may lose in a day, and how fast what was given up goes for good."""

from bisect import bisect_right, insort
from collections.abc import Collection, Mapping, Sequence
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
    return have.once(_go_at)[backup]


def _go_at(have: Observation) -> Mapping[str, datetime]:
    """Of all that was given up, in one pass by when that came: asked one by one, each would look at all the others."""
    lost, left = given_up(have), _backups(have)
    stay = sorted(key[:_INSTANT] for key in left - lost.keys())
    sure = _GivenUp({key: came for key, came in lost.items() if key in left})
    made_up = _GivenUp({key: came for key, came in lost.items() if key not in left})
    found: dict[str, datetime] = {}
    for came, backup in sorted((came, backup) for backup, came in lost.items()):
        old, young, since = _as_in_ids(came - WINDOW), _as_in_ids(came + SKEW), came - WINDOW + JITTER
        real, doubtful = sure.at(old, young, since, (came, backup)), made_up.at(old, young, since, (came, backup))
        old_stay, all_stay = bisect_right(stay, old), bisect_right(stay, young)
        births = all_stay - old_stay + real.there - real.old
        before = real.before + doubtful.before - doubtful.before_there + doubtful.there
        too_many = before - _share(all_stay + real.there + doubtful.there, births + doubtful.there - doubtful.old)
        # Of births that nothing else tells of, none makes it faster either.
        pace = _share(all_stay + real.there + doubtful.old, births)
        found[backup] = came + WINDOW * max(0, -(-too_many // pace))
    return found


class _Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Of what was given up within a day before one of them, or later."""

    there: int
    """Born by then."""
    old: int
    """Born a day before."""
    before: int
    """Given up before it, and itself."""
    before_there: int
    """Both: those of them that were born by then."""


class _GivenUp:
    """Counts them, for instants that only ever get later."""

    def __init__(self, came: Mapping[str, datetime]) -> None:
        self._all = sorted((at, key) for key, at in came.items())
        self._old, self._young = _Born(self._all), _Born(self._all)

    def at(self, old: str, young: str, since: datetime, last: tuple[datetime, str]) -> _Counted:
        """Of those since then; `last`: the one that it is about."""
        first = (since, _AFTER_ALL)
        self._old.by(old)
        self._young.by(young)
        return _Counted(
            there=_between(self._young.there, first, None),
            old=_between(self._old.there, first, None),
            before=_between(self._all, first, last),
            before_there=_between(self._young.there, first, last),
        )


class _Born:
    """Those that were born by an instant, in the order in which they were given up."""

    def __init__(self, given_up: Sequence[tuple[datetime, str]]) -> None:
        self._coming = sorted(given_up, key=lambda one: one[1], reverse=True)
        self.there: list[tuple[datetime, str]] = []

    def by(self, instant: str) -> None:
        while self._coming and self._coming[-1][1][:_INSTANT] <= instant:
            insort(self.there, self._coming.pop())


def _between(there: Sequence[tuple[datetime, str]], first: tuple[datetime, str], last: tuple[datetime, str] | None) -> int:
    return (len(there) if last is None else bisect_right(there, last)) - bisect_right(there, first)


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
    return _share(len(there), sum(earliest < key[:_INSTANT] <= latest for key in there))


def _share(there: int, born: int) -> int:
    return born + max(1, PERCENT * (there - born) // 100)


def _as_in_ids(instant: datetime) -> str:
    """Ids begin with the instant of birth, to the second; of what was erased nothing else tells it."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


_INSTANT = len("20251025T020000Z")
_AFTER_ALL = "~"
"""Sorts after every id."""
