"""Observations drawn by hypothesis: every state, several targets, clocks and freezes."""

from datetime import timedelta
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.world.facts import Catalogue, Copy, Known, Observation, Observed, State
from tests.building import DAY, HOUR, NOW, catalogue, copy, observation_of, policy, retention, tombstone, unknown

TARGETS = ("primary", "offsite", "vault")
STATES: tuple[State, ...] = get_args(State)
KINDS = ("scheduled", "manual", "imported", "before_recovery")

RETENTIONS: tuple[Retention | None, ...] = (
    None,
    retention(),
    retention(keep_last=1),
    retention(keep_last=2, keep_daily=2),
    retention(keep_daily=3, keep_weekly=2),
    retention(keep_within="2d"),
    retention(keep_hourly=2, grace="0s"),
)

retentions = st.sampled_from(RETENTIONS)


@st.composite
def policies(draw: st.DrawFn) -> DatabasePolicy:
    schedule = draw(st.sampled_from(("0 2 * * *", "0 * * * *", "0 */6 * * *", "0 2 * * SUN")))
    return policy(
        schedule, TARGETS, draw(retentions), rpo="26h", disaster="30h", timezone=draw(st.sampled_from(("UTC", "Asia/Tokyo")))
    )


@st.composite
def _backups(draw: st.DrawFn) -> list[Copy]:
    """What is the same of a backup wherever its copies lie."""
    found = []
    for hours in draw(st.lists(st.integers(0, 24 * 20), max_size=9, unique=True)):
        instant = NOW - hours * HOUR
        kind = draw(st.sampled_from(KINDS)) if draw(st.booleans()) else "scheduled"
        keep_until = NOW + draw(st.integers(-3, 3)) * DAY if kind == "manual" and draw(st.booleans()) else None
        held = "legal 2024-118" if draw(st.integers(0, 9)) == 0 else ""
        partial = draw(st.integers(0, 4)) == 0
        found.append(copy(instant, kind=kind, keep_until=keep_until, held=held, partial=partial))
    return found


@st.composite
def observations(draw: st.DrawFn, states: tuple[State, ...] = STATES, *, healthy: bool = False) -> Observation:
    """`healthy`: all Known, clocks agree, nothing frozen."""
    backups = draw(_backups())
    seen: dict[str, Observed[Catalogue]] = {}
    for target in TARGETS:
        if not healthy and draw(st.integers(0, 5)) == 0:
            seen[target] = unknown()
            continue
        copies, stones = [], []
        for backup in backups:
            state = draw(st.sampled_from((None, "whole", "whole", *states)))
            if state is None:
                continue
            shown: dict[str, Any] = {"slot": None} if state in ("orphan", "hidden") else {}
            if state in ("deleted", "being_deleted"):
                at = NOW - draw(st.integers(0, 60)) * HOUR
                due = NOW + (DAY if state == "deleted" else -HOUR)
                stones.append(msgspec.structs.replace(tombstone(backup, at), due=due))
                shown |= {"due": due}
            copies.append(msgspec.structs.replace(backup, state=state, **shown))
        skew = timedelta(seconds=0 if healthy else draw(st.sampled_from((0, 0, 0, 59, 61))))
        frozen = "" if healthy else draw(st.sampled_from(("", "", "", "a drill failed")))
        seen[target] = catalogue(copies, stones, skew=skew, frozen=frozen)
    gone = not healthy and draw(st.integers(0, 7)) == 0
    have = observation_of(seen, unknown("no answer") if gone else None)
    return msgspec.structs.replace(have, domains={**have.domains, "primary": have.source_domain})


def without_partial(have: Observation) -> Observation:
    """The same world, had no partial backup ever been taken."""

    def whole(seen: Observed[Catalogue]) -> Observed[Catalogue]:
        if not isinstance(seen, Known):
            return seen
        copies = tuple(copy for copy in seen.value.copies if not copy.partial)
        return Known(msgspec.structs.replace(seen.value, copies=copies), seen.at)

    return msgspec.structs.replace(have, catalogues={name: whole(seen) for name, seen in have.catalogues.items()})


@st.composite
def shuffled(draw: st.DrawFn, have: Observation) -> Observation:
    """The same world, told in another order."""
    names = draw(st.permutations(list(have.catalogues)))
    seen: dict[str, Observed[Catalogue]] = {}
    for name in names:
        one = have.catalogues[name]
        if isinstance(one, Known):
            value = one.value
            copies, stones = draw(st.permutations(value.copies)), draw(st.permutations(value.tombstones))
            one = Known(msgspec.structs.replace(value, copies=tuple(copies), tombstones=tuple(stones)), one.at)
        seen[name] = one
    return msgspec.structs.replace(have, catalogues=seen)
