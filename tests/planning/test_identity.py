"""Whose backups lie there."""

import pytest

from reconciler.planning.identity import disagreement, repository_id
from reconciler.world.facts import Identity, Observation
from tests.building import (
    DAY,
    HOTEL,
    REPOSITORY,
    blocked_kinds,
    catalogue,
    copy,
    daily,
    observation,
    planned,
    policy,
    repository,
    retention,
    source,
    unknown,
    utc,
)
from tests.situations import CLONE

TODAY = utc("2025-10-25 02:00")
OTHER_DATABASE = Identity(provider="postgres", cluster=HOTEL.cluster, database="hotel_staging")
OURS = catalogue([copy(TODAY)])
MANIFESTS_ONLY = catalogue([copy(TODAY)], begun=False)
EMPTY = catalogue(begun=False)

AGREE = {
    "one target": observation(primary=OURS),
    "two targets": observation(primary=OURS, offsite=OURS),
    "nothing begun": observation(primary=EMPTY),
    "one begun, one new": observation(primary=OURS, offsite=EMPTY),
    "one lost its repository.json": observation(primary=OURS, offsite=MANIFESTS_ONLY),
    "all lost it": observation(primary=MANIFESTS_ONLY),
    "all lost it after an adoption": observation(
        primary=catalogue([copy(TODAY, identity=HOTEL), copy(TODAY - DAY, identity=CLONE)], begun=False)
    ),
    "the source is unknown": observation(unknown(), primary=OURS),
    "a foreign backup among ours": observation(primary=catalogue([copy(TODAY, "foreign", repository="00")], begun=False)),
}


@pytest.mark.parametrize("have", AGREE.values(), ids=AGREE)
def test_ours(have: Observation) -> None:
    """No quarrel."""
    assert disagreement(have) is None


QUARREL = {
    "a clone of the server": (observation(source(CLONE), primary=OURS), "7423905183641200099"),
    "another database of the server": (observation(source(OTHER_DATABASE), primary=OURS), "hotel_staging"),
    "two repositories": (observation(primary=OURS, offsite=catalogue(whose=repository(id="00ff"))), "00ff, 5f0c1d2e3a4b5968"),
    "two repositories, one without its repository.json": (
        observation(primary=OURS, offsite=catalogue([copy(TODAY, repository="00ff")], begun=False)),
        "00ff, 5f0c1d2e3a4b5968",
    ),
    "another's backups that lost their repository.json": (
        observation(source(CLONE), primary=catalogue([copy(TODAY, identity=HOTEL)], begun=False)),
        "the source is postgres 7423905183641200099",
    ),
    "one target is another's": (observation(primary=OURS, offsite=catalogue(whose=repository(CLONE))), "on offsite"),
    "targets that differ, the source unknown": (
        observation(unknown(), primary=OURS, offsite=catalogue(whose=repository(CLONE))),
        "different sources",
    ),
}


@pytest.mark.parametrize(("have", "says"), QUARREL.values(), ids=QUARREL)
def test_not_ours(have: Observation, says: str) -> None:
    """The quarrel is named with both sides, and a cure."""
    found = disagreement(have)

    assert found is not None
    assert says in found.what
    assert found.cure


@pytest.mark.parametrize("have", [have for have, _ in QUARREL.values()], ids=QUARREL)
def test_quarrel_stops_all(have: Observation) -> None:
    """Nothing is pruned, copied or written while the targets hold another's backups; each objective is violated."""
    plan = planned(policy("0 3 * * *", ("primary", "offsite"), retention(keep_last=1), rpo="26h"), have)

    assert () == plan.steps
    assert plan.foreign
    assert ["violated"] == [condition.status for condition in plan.conditions]


def test_staging_with_the_policy_of_production() -> None:
    """A copied policy with a smaller retention prunes nothing of production's, and dumps nothing among it."""
    have = observation(source(CLONE), primary=catalogue(daily(30, TODAY - DAY)))

    plan = planned(policy(keep=retention(keep_last=2)), have)

    assert () == plan.steps
    assert ["take_dump", *["prune_backup"] * 28] == blocked_kinds(plan)


@pytest.mark.parametrize(("have", "expected"), [(AGREE["nothing begun"], None), (AGREE["all lost it"], REPOSITORY)])
def test_repository_id(have: Observation, expected: str | None) -> None:
    """A catalogue that lost its repository.json goes on under its id; a new one has none yet."""
    assert expected == repository_id(have)
