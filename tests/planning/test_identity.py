"""Whose backups lie there."""

import msgspec
import pytest

from reconciler.planning.identity import disagreement, elsewhere, repository_id
from reconciler.world.facts import Catalogue, Identity, Observation, Observed
from tests.building import (
    DAY,
    HOTEL,
    NOW,
    REPOSITORY,
    blocked_kinds,
    catalogue,
    copy,
    daily,
    history,
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
    assert {"violated"} == {condition.status for condition in plan.conditions}


@pytest.mark.parametrize(
    ("offsite", "told"),
    [(catalogue(begun=False), True), (catalogue(), False), (catalogue([copy(TODAY)], begun=False), False), (unknown(), False)],
    ids=["empty", "begun", "with backups", "unknown"],
)
def test_a_target_that_lost_all(offsite: Observed[Catalogue], told: bool) -> None:
    """An unmounted disk looks empty: that another's record names it is told, with what to do, before it is filled with copies."""
    named = msgspec.structs.replace(repository(), targets={"primary": "", "offsite": ""})
    plan = planned(
        policy(targets=("primary", "offsite")), observation(primary=catalogue([copy(TODAY)], whose=named), offsite=offsite)
    )

    assert told == any("offsite holds nothing of hotel, though" in finding.what for finding in plan.findings)


def two_places(newest_from: str, *, days_ago: int = 0, vouched: tuple[str, ...] = ()) -> Observation:
    """Backups of ours, the newest from somewhere; the source is at `observation().place`."""
    copies = [copy(TODAY - days_ago * DAY, place=newest_from), *daily(9, TODAY - 10 * DAY)]
    whose = msgspec.structs.replace(repository(), places=vouched)
    return observation(primary=catalogue(copies, whose=whose))


def test_a_physical_clone() -> None:
    """It has the identity of production. What it dumps shows where from, and then nothing is deleted until a person looked."""
    plan = planned(policy(keep=retention(keep_last=1)), two_places("postgres staging/hotel"))

    assert {"identity"} == {held.by for held in plan.blocked}
    assert any("dumped from postgres staging/hotel" in finding.what for finding in plan.findings)


@pytest.mark.parametrize(
    "have",
    [
        two_places(observation().place),
        two_places("postgres old/hotel", days_ago=8),
        two_places("postgres b/hotel", vouched=("postgres b/hotel",)),
    ],
    ids=["the same place", "it moved a week ago", "a person vouched"],
)
def test_no_clone(have: Observation) -> None:
    """Retention goes on."""
    assert not elsewhere(have, NOW)


def test_a_source_that_can_not_be_seen_is_no_clone() -> None:
    """Where it is, nobody knows."""
    have = msgspec.structs.replace(two_places("postgres staging/hotel"), source=unknown(), place="source unknown")

    assert not elsewhere(have, NOW)


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


@pytest.mark.parametrize(("replaced", "told"), [("br-old", True), ("br-another", False), (None, False)])
def test_a_branch_that_took_anothers_place(replaced: str | None, told: bool) -> None:
    """Where the provider tells that a snapshot was restored, the very command is named, and nothing is touched until then."""
    old, new = (Identity(provider="neon", cluster=f"quiet-hotel/{branch}", database="hotel") for branch in ("br-old", "br-main"))
    main = msgspec.structs.replace(history().value.branches[0], replaced=replaced)
    have = observation(source(new), kept=history(branches=(main,)), primary=catalogue([copy(TODAY)], whose=repository(old)))

    found = disagreement(have)

    assert found is not None
    assert told == ("took its place when a snapshot was restored" in found.what)
    assert told == found.cure.startswith("`reconcile adopt hotel`")
