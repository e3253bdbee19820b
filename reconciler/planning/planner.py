"""Duties, want, have, now → a plan. Pure: no clock, no network, no chance, no logging."""

from collections.abc import Iterable
from datetime import datetime

from reconciler.errors import Finding
from reconciler.planning.guard import findings as holding_back
from reconciler.planning.guard import hold_back
from reconciler.planning.identity import disagreement, emptied
from reconciler.planning.losses import losses
from reconciler.planning.objectives import judge
from reconciler.planning.plan import Blocked, Condition, Due, Duty, Plan, Step, in_order
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Observation, Unknown

FOREIGN = "what lies on the targets belongs to another source"


def plan(duties: Iterable[Duty], want: DatabasePolicy, have: Observation, now: datetime, *, policy_digest: str) -> Plan:
    """What is missing, what is too much, and how the objectives stand."""
    dues = [duty.due(want, have, now) for duty in duties]
    steps = in_order(step for due in dues for step in due.steps)
    conditions = judge(want, have, now)
    findings = [*_unseen(have), *emptied(have), *holding_back(have, now), *(finding for due in dues for finding in due.findings)]
    quarrel = disagreement(have)
    if quarrel is not None:
        findings = [quarrel, *findings]
        conditions = tuple(_violated(condition) for condition in conditions)
    steps, blocked = sift(steps, have, now)
    return Plan(
        database=have.database,
        place=have.place,
        policy_digest=policy_digest,
        steps=steps,
        blocked=blocked,
        conditions=conditions,
        findings=tuple(findings),
        next_at=_soonest(dues),
        blind=not have.known(),
        stuck=any(due.stuck for due in dues),
        # Where the backups are another's, none of it will be done then either.
        waiting=tuple(one for due in dues for one in due.waiting) if quarrel is None else (),
        losses=losses(want, have, now),
        keeps_history=have.history is not None,
        foreign=quarrel is not None,
    )


def sift(steps: Iterable[Step], have: Observation, now: datetime) -> tuple[tuple[Step, ...], tuple[Blocked, ...]]:
    """What may be done, and what a rule blocks: nothing may where the backups are another's."""
    quarrel = disagreement(have)
    if quarrel is None:
        return hold_back(steps, have, now)
    return (), tuple(Blocked(step=step, by="identity", why=FOREIGN, cure=quarrel.cure) for step in steps)


def _violated(condition: Condition) -> Condition:
    """What lies there belongs to somebody else: nothing of it is a restore point of ours, and that must page."""
    return Condition(name=condition.name, status="violated", objective=condition.objective, says=FOREIGN)


def _unseen(have: Observation) -> list[Finding]:
    kept = [] if have.history is None else [("history", have.history)]
    parts = [("source", have.source), *kept, *sorted(have.catalogues.items())]
    return [
        Finding(severity="error", where=name, what=seen.reason, cure=seen.cure)
        for name, seen in parts
        if isinstance(seen, Unknown)
    ]


def _soonest(dues: Iterable[Due]) -> datetime | None:
    return min((due.next_at for due in dues if due.next_at is not None), default=None)
