"""Databases as one meets them: for golden plans, and for whatever must hold in each."""

from collections.abc import Callable, Mapping

import msgspec

from reconciler.planning.plan import Plan
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Identity, Observation
from tests.building import (
    DAY,
    HOUR,
    NOW,
    catalogue,
    copy,
    daily,
    observation,
    planned,
    policy,
    retention,
    source,
    tombstone,
    unknown,
    utc,
)

Situation = tuple[tuple[DatabasePolicy, Observation], ...]
"""What is wanted and what is there, a pair a database."""

TODAY = utc("2025-10-25 02:00")
BOTH = ("primary", "offsite")
CLONE = Identity(provider="postgres", cluster="7423905183641200099", database="hotel")


def nothing_to_do() -> Situation:
    kept = daily(3, TODAY)
    want = policy(targets=BOTH, keep=retention(keep_daily=7), rpo="26h", disaster="26h")
    return ((want, observation(primary=catalogue(kept), offsite=catalogue(kept))),)


def first_dump() -> Situation:
    want = policy(targets=BOTH, rpo="26h", disaster="26h")
    return ((want, observation(primary=catalogue(begun=False), offsite=catalogue(begun=False))),)


def late_dump_whose_copies_follow() -> Situation:
    kept = daily(3, TODAY - DAY)
    want = policy(targets=(*BOTH, "vault"), rpo="26h", disaster="26h")
    return ((want, observation(primary=catalogue(kept), offsite=catalogue(kept), vault=catalogue(kept))),)


def dump_that_waits() -> Situation:
    kept = daily(3, TODAY - DAY)
    want = policy(targets=BOTH, keep=retention(keep_daily=7), rpo="48h", disaster="48h", never=("* 2-13 * * *",))
    return ((want, observation(primary=catalogue(kept), offsite=catalogue(kept))),)


def copies() -> Situation:
    kept = daily(5, TODAY)
    want = policy(targets=BOTH, keep=retention(keep_daily=7), rpo="26h", disaster="26h")
    have = observation(domains={"primary": "host:db.internal"}, primary=catalogue(kept), offsite=catalogue(kept[2:]))
    return ((want, have),)


def holds_that_travel() -> Situation:
    by_ana = 'held by ana: "legal 2024-118"'
    kept = daily(5, TODAY)
    held = [msgspec.structs.replace(one, held=by_ana) if one in (kept[2], kept[4]) else one for one in kept]
    until = msgspec.structs.replace(
        kept[3], held=f"held until 2026-01-31 23:59Z {by_ana[5:]}", held_until=utc("2026-01-31 23:59")
    )
    vault = [*held[:3], until, held[4]]
    want = policy(targets=(*BOTH, "vault"), keep=retention(keep_daily=7), rpo="26h", disaster="26h")
    return ((want, observation(primary=catalogue(held), offsite=catalogue(kept), vault=catalogue(vault))),)


def prunes_grouped() -> Situation:
    kept = daily(13, TODAY)
    want = policy(targets=BOTH, keep=retention(keep_daily=9), rpo="26h")
    return ((want, observation(primary=catalogue(kept), offsite=catalogue(kept))),)


def blocked_by_unknown() -> Situation:
    want = policy(targets=("disk", "offsite"), keep=retention(keep_daily=7), rpo="24h", disaster="26h")
    have = observation(domains={"disk": "host:db.internal"}, disk=catalogue(daily(9, TODAY)), offsite=unknown())
    return ((want, have),)


def blocked_by_the_guard() -> Situation:
    want = policy(keep=retention(keep_last=3), rpo="26h")
    return ((want, observation(primary=catalogue(daily(40, TODAY)))),)


def identity_quarrel() -> Situation:
    want = policy(keep=retention(keep_last=3), rpo="26h")
    return ((want, observation(source(CLONE), primary=catalogue(daily(5, TODAY - DAY)))),)


def all_that_can_be_found() -> Situation:
    lost = copy(TODAY - 9 * DAY, "being_deleted", why="not kept by retention", due=TODAY - 2 * DAY)
    seen = [
        *daily(2, TODAY),
        copy(NOW - HOUR, "being_written", why="by pid 4711 on worker-2", slot=None),
        copy(TODAY - 2 * DAY, "damaged", why="dump.zst is missing"),
        copy(TODAY - 3 * DAY, "orphan", why="data without a manifest and without a writer"),
        copy(TODAY - 4 * DAY, "foreign", why="it belongs to repository 0011223344556677"),
        copy(TODAY - 5 * DAY, "hidden", why="a delete marker that no tombstone explains hides its manifest"),
        copy(TODAY - 6 * DAY, "debris", why="its writer died before the manifest"),
        copy(TODAY - 7 * DAY, "deleted", why="not kept by retention; can come back until 2025-10-28 02:00Z", due=TODAY + 3 * DAY),
        lost,
        copy(TODAY - 8 * DAY, writer="gone"),
    ]
    stones = [tombstone(lost, TODAY - 9 * DAY)]
    have = observation(primary=catalogue(seen, stones, strays=("hotel/backups/readme.txt",)))
    return ((policy(rpo="26h"), have),)


def impossible_date() -> Situation:
    ahead = copy(NOW + 400 * DAY, "impossible", why="its instant 2026-11-29 11:12Z lies in the future")
    return ((policy(keep=retention(keep_last=3), rpo="26h"), observation(primary=catalogue([ahead, *daily(4, TODAY)]))),)


def clocks_apart() -> Situation:
    have = observation(primary=catalogue(daily(4, TODAY), skew=7 * HOUR))
    return ((policy(keep=retention(keep_last=3), rpo="26h"), have),)


def nothing_can_be_seen() -> Situation:
    why = "s3.eu-west-1.amazonaws.com does not answer"
    have = observation(unknown("connection to db.internal:5432 refused", cure=""), domain=None, primary=unknown(why, cure=""))
    return ((policy(rpo="26h", disaster="26h"), have),)


def several_databases() -> Situation:
    rooms = policy(name="reservas", targets=("disk", "offsite"), keep=retention(keep_last=3), rpo="24h", disaster="26h")
    have = observation(database="reservas", disk=catalogue(daily(6, TODAY)), offsite=unknown())
    return (*late_dump_whose_copies_follow(), *prunes_grouped(), (rooms, have))


SITUATIONS: Mapping[str, Callable[[], Situation]] = {
    situation.__name__: situation
    for situation in (
        nothing_to_do,
        first_dump,
        late_dump_whose_copies_follow,
        dump_that_waits,
        copies,
        holds_that_travel,
        prunes_grouped,
        blocked_by_unknown,
        blocked_by_the_guard,
        identity_quarrel,
        all_that_can_be_found,
        impossible_date,
        clocks_apart,
        nothing_can_be_seen,
        several_databases,
    )
}


def plans(name: str) -> list[Plan]:
    """Of every database of the situation."""
    return [planned(want, have) for want, have in SITUATIONS[name]()]
