"""Policies and observations, built tersely. What a test does not mention is healthy: all Known, clocks agreeing, one source."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from reconciler.duties import DUTIES
from reconciler.planning.plan import Plan
from reconciler.planning.planner import plan
from reconciler.policy.model import Branches, DatabasePolicy, Disaster, Dumps, Encryption, Objectives, Pitr, Retention, Snapshots
from reconciler.policy.schedule import Schedule
from reconciler.policy.timing import Timing, Window
from reconciler.policy.units import Duration, Span, parse_span
from reconciler.world.evidence import Chain, Evidence
from reconciler.world.facts import (
    Catalogue,
    Copy,
    Identity,
    Known,
    Observation,
    Observed,
    Repository,
    SourceFacts,
    State,
    Tombstone,
    Unknown,
)
from reconciler.world.history import BranchFacts, Change, HistoryFacts, Limits

NOW = datetime(2025, 10, 25, 11, 12, tzinfo=UTC)
HOTEL = Identity(provider="postgres", cluster="7423905183641200011", database="hotel")
REPOSITORY = "5f0c1d2e3a4b5968"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


class NoSettings(msgspec.Struct, frozen=True):
    """Of a source that nobody connects to."""


class KeptSettings(msgspec.Struct, frozen=True):
    """Of one whose provider keeps a history."""

    history_site: str = "hosted/quiet-hotel"


def utc(text: str) -> datetime:
    """`2025-10-25 02:00` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def id_of(instant: datetime, salt: str = "") -> str:
    """As ids are: the instant, and six hex digits that follow from it and `salt`."""
    text = instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{text}-{sha256((text + salt).encode()).hexdigest()[:6]}"


def policy_file(variable: str) -> str:
    """The text of a small one, with one database. `variable`: holds the URL of its source."""
    return f"""version: 1
metadata: {{name: test, owner: nobody}}
targets:
  disk: {{type: local, path: ./disk}}
databases:
  hotel:
    source: {{provider: postgres, url: "${{{variable}}}"}}
    dumps: {{schedule: "0 2 * * *", targets: [disk]}}
"""


def duration(text: str) -> Duration:
    return Duration.parse(text)


def retention(*, grace: str = "7d", **rules: int | str) -> Retention:
    """Rules as the policy writes them."""
    read: dict[str, int | Span] = {rule: parse_span(value) if isinstance(value, str) else value for rule, value in rules.items()}
    return Retention(grace=duration(grace), **read)  # type: ignore[arg-type]  # rule names are checked by the struct


def policy(
    schedule: str = "0 2 * * *",
    targets: Sequence[str] = ("primary",),
    keep: Retention | None = None,
    *,
    rpo: str | None = None,
    disaster: str | None = None,
    timezone: str = "UTC",
    name: str = "hotel",
    never: Sequence[str] = (),
    encryption: Encryption | None = None,
    pitr: Pitr | None = None,
    snapshots: Snapshots | None = None,
    protect: bool = False,
) -> DatabasePolicy:
    """What is wanted of one database; with a window, snapshots or protection, of one whose provider keeps a history."""
    objectives = Objectives(rpo=duration(rpo) if rpo else None, disaster=Disaster(rpo=duration(disaster)) if disaster else None)
    dumps = Dumps(schedule=Timing.parse(schedule), targets=tuple(targets), retention=keep, never=tuple(map(Window.parse, never)))
    return DatabasePolicy(
        name=name,
        source=KeptSettings() if pitr or snapshots or protect else NoSettings(),
        home=targets[0],
        timezone=timezone,
        encryption=encryption,
        objectives=objectives,
        dumps=dumps,
        pitr=pitr,
        snapshots=snapshots,
        branches=Branches(protect=protect),
    )


def window(text: str, *, manage: bool = True) -> Pitr:
    """As the policy writes it."""
    return Pitr(window=duration(text), manage=manage)


def snapshots(schedule: str = "0 3 * * *", retain: str = "7d", via: Any = "neon", **fields: Any) -> Snapshots:
    """As the policy writes them."""
    return Snapshots(schedule=Schedule.parse(schedule), retain=duration(retain), via=via, **fields)


def history(at: datetime = NOW, **fields: Any) -> Known[HistoryFacts]:
    """A project of sixty days with a window of one, and one branch."""
    main = BranchFacts(id="br-main", name="main", parent=None, created=at - 60 * DAY, is_default=True)
    kept = fields.get("window", DAY)
    given: dict[str, Any] = {
        "project": "quiet-hotel", "branch": "br-main", "clock": at, "window": kept, "begins": at - kept, "latest": at,
        "branches": (main,), "snapshots": (), "schedule": (),
        "limits": Limits(plan="launch", window=7 * DAY, branches=20, roots=5, snapshots=100, protected=2, has_schedules=True),
    }  # fmt: skip
    return Known(HistoryFacts(**(given | fields)), at)


def watched(window: timedelta, ago: timedelta = 60 * DAY) -> Change:
    """The record of a window that was seen first."""
    said = str(window // timedelta(seconds=1))
    return Change(sequence=1, at=NOW - ago, what="window", where="quiet-hotel", done=True, was="", now=said, policy="0")


def change(was: timedelta, to: timedelta, ago: timedelta, *, done: bool = True, sequence: int = 1) -> Change:
    """The record of a window that was set."""
    said = (str(span // timedelta(seconds=1)) for span in (was, to))
    return Change(
        sequence=sequence, at=NOW - ago, what="window", where="quiet-hotel", done=done, was=next(said), now=next(said), policy="0"
    )


def copy(instant: datetime, state: State = "whole", *, salt: str = "", **fields: Any) -> Copy:
    """A scheduled backup of that instant, which is its slot too unless another is given."""
    given: dict[str, Any] = {"id": id_of(instant, salt), "instant": instant, "slot": instant, "stored_bytes": 300 << 20}
    if state in ("orphan", "hidden"):
        given |= {"slot": None, "kind": "unknown"}
    if state in ("deleted", "being_deleted"):
        given |= {"has_tombstone": True}
    if state == "being_written":
        given |= {"writer": "alive"}
    if state == "debris":
        given |= {"writer": "gone"}
    return Copy(state=state, **(given | {"repository": REPOSITORY} | fields))


def tombstone(
    of: Copy, at: datetime, *, grace: timedelta = 7 * DAY, counts: bool = True, slot: datetime | None = None
) -> Tombstone:
    """Of a deletion that was decided at that instant; one that counts names the slot that was done."""
    slot = slot or (of.slot if counts else None)
    return Tombstone(id=of.id, at=at, due=at + grace, slot=slot, reason="not kept by retention", counts=counts)


def repository(identity: Identity = HOTEL, id: str = REPOSITORY) -> Repository:  # noqa: A002 - as the field is called
    return Repository(id=id, identity=identity, targets={}, home="primary", created=utc("2025-01-01 00:00"))


def catalogue(
    copies: Iterable[Copy] = (),
    tombstones: Iterable[Tombstone] = (),
    *,
    at: datetime = NOW,
    skew: timedelta = timedelta(0),
    whose: Repository | None = None,
    begun: bool = True,
    frozen: str = "",
    strays: Sequence[str] = (),
    changes: Sequence[Change] = (),
    came: datetime | None = None,
) -> Known[Catalogue]:
    """What a target was seen to hold. `begun` False: it has no repository.json. `came`: when tombstones did; None: as said."""
    ordered = tuple(sorted(copies, key=lambda item: (item.instant, item.id), reverse=True))
    stones = tuple(tombstones)
    seen = Catalogue(
        repository=(whose or repository()) if begun else None,
        copies=ordered,
        tombstones=stones,
        came={stone.id: came or stone.at for stone in stones},
        store_time=at + skew,
        strays=tuple(strays),
        frozen=frozen,
        changes=tuple(changes),
    )
    return Known(seen, at)


def source(
    identity: Identity = HOTEL, at: datetime = NOW, *, clock: datetime | None = None, standby: bool = False
) -> Known[SourceFacts]:
    """As it answers; its clock agrees with ours unless it is told."""
    return Known(SourceFacts(identity=identity, server_version="18.1", major=18, clock=clock or at, standby=standby), at)


def unknown(reason: str = "403 AccessDenied on list", at: datetime = NOW, cure: str = "give the key s3:ListBucket") -> Unknown:
    return Unknown(reason=reason, at=at, cure=cure)


def observation(
    source_seen: Observed[SourceFacts] | None = None,
    *,
    domain: str | None = "host:db.internal",
    domains: Mapping[str, str] | None = None,
    database: str = "hotel",
    evidence: Sequence[Evidence] = (),
    kept: Observed[HistoryFacts] | None = None,
    noted: Sequence[Change] | None = None,
    **catalogues: Observed[Catalogue],
) -> Observation:
    """One database, target by target; each target fails on its own unless `domains` says otherwise. `kept`: its history.

    `noted`: what is recorded of its window; unless told, it is as it was for long.
    """
    seen = observation_of(catalogues, source_seen, database=database, evidence=evidence)
    usual = [watched(kept.value.window)] if isinstance(kept, Known) else []
    windows = {} if kept is None else {"primary": Known(tuple(usual if noted is None else noted), NOW)}
    domains = {**seen.domains, **(domains or {})}
    return msgspec.structs.replace(seen, source_domain=domain, domains=domains, history=kept, windows=windows)


def observation_of(
    catalogues: Mapping[str, Observed[Catalogue]],
    source_seen: Observed[SourceFacts] | None = None,
    *,
    database: str = "hotel",
    evidence: Sequence[Evidence] = (),
) -> Observation:
    """The same, for targets that are no arguments of a call."""
    return Observation(
        database=database,
        place=f"postgres db.internal/{database}",
        source=source_seen or source(),
        source_domain="host:db.internal",
        catalogues=catalogues,
        domains={name: f"place:{name}" for name in catalogues},
        evidence=Known(Chain(records=tuple(evidence)), NOW),
    )


def planned(want: DatabasePolicy, have: Observation, now: datetime = NOW) -> Plan:
    """By the duties that there are."""
    return plan(DUTIES, want, have, now, policy_digest="0" * 64)


def kinds(found: Plan) -> list[str]:
    """Of the steps that may be done, in their order."""
    return [step.action.kind for step in found.steps]


def blocked_kinds(found: Plan) -> list[str]:
    """Of the steps that a rule holds back."""
    return [held.step.action.kind for held in found.blocked]


def daily(count: int, newest: datetime, step: timedelta = DAY) -> list[Copy]:
    """So many whole backups, a step apart, newest first."""
    return [copy(newest - number * step) for number in range(count)]


def evidence(of: Copy, result: Any = "passed", *, ago: timedelta = DAY, target: str = "primary", **fields: Any) -> Evidence:
    """Of a verification of that copy, by a restore unless another level is given."""
    given = {
        "sequence": 1, "before": None, "kind": "verification", "database": "hotel", "repository": "r", "backup": of.id,
        "target": target, "content": of.content, "sha256": "0", "instant": of.instant, "level": "restore", "result": result,
        "started": NOW - ago - HOUR, "finished": NOW - ago, "expires": NOW - ago + 14 * DAY, "policy": "0",
    }  # fmt: skip
    return Evidence(**(given | fields))
