"""When what was given up goes for good: reckoned for all at once, told as if each were looked at alone."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.planning.allowance import JITTER, PERCENT, SKEW, WINDOW, given_up, goes_at
from reconciler.world.facts import Copy, Observation
from tests.building import HOUR, MINUTE, NOW, catalogue, copy, observation, tombstone
from tests.drawn import observations


def by_the_definition(have: Observation, backup: str) -> datetime:
    """The same of one backup, set by set."""
    lost = given_up(have)
    left = {one.id for one in have.backups() if any(map(is_backup, one.copies.values()))}
    came = lost[backup]
    recent = {key for key, at in lost.items() if at > came - WINDOW + JITTER}
    there = {key for key in recent | (left - lost.keys()) if born(key) <= in_ids(came + SKEW)}
    before = {key for key in recent if (lost[key], key) <= (came, backup)} | (there - left)
    sure = {key for key in there if key in left or born(key) <= in_ids(came - WINDOW)}
    too_many = len(before) - may_go(there, came)
    return came + WINDOW * max(0, -(-too_many // may_go(sure, came)))


def is_backup(one: Copy) -> bool:
    return one.state in ("whole", "deleted", "being_deleted") and one.repository is not None


def may_go(there: set[str], now: datetime) -> int:
    births = sum(in_ids(now - WINDOW) < born(key) <= in_ids(now + SKEW) for key in there)
    return births + max(1, PERCENT * (len(there) - births) // 100)


def born(backup: str) -> str:
    return backup.partition("-")[0]


def in_ids(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


@st.composite
def given_up_in_bursts(draw: st.DrawFn) -> Observation:
    """Backups, some of which nothing is left of, given up at few instants: before they were born, too."""
    spans = st.sampled_from([0 * HOUR, MINUTE, 23 * HOUR - MINUTE, 23 * HOUR, 24 * HOUR, 24 * HOUR + MINUTE, 72 * HOUR])
    copies, stones = [], []
    for number in range(draw(st.integers(1, 16))):
        one = copy(NOW - draw(spans) - draw(st.integers(0, 1)) * timedelta(seconds=1), "deleted", salt=str(number))
        given_up = draw(st.booleans()) or draw(st.booleans())
        if given_up:
            stones.append(tombstone(one, NOW - draw(spans)))
        if draw(st.booleans()):
            copies.append(one)
    return observation(primary=catalogue(copies, stones))


@given(st.one_of(given_up_in_bursts(), observations()))
@settings(max_examples=400, deadline=None)
def test_reckoned_at_once_as_one_by_one(have: Observation) -> None:
    """Whatever came when, and whatever is left of it."""
    for backup in given_up(have):
        assert by_the_definition(have, backup) == goes_at(have, backup)
