"""How the objectives stand: RPO over all restore points, and over those that survive the loss of the source's failure domain."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.planning.plan import Condition, Status
from reconciler.planning.text import age, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Copy, Observation


def judge(want: DatabasePolicy, have: Observation, now: datetime) -> tuple[Condition, ...]:
    """One condition an objective of the policy, in the policy's order."""
    conditions = []
    if want.objectives.rpo is not None:
        conditions.append(_judge_rpo("rpo", want.objectives.rpo, want, have, now, within=set(have.catalogues)))
    if want.objectives.disaster is not None and have.source_domain is None:
        says = "the source is unknown, and so is what fails together with it"
        conditions.append(Condition(name="disaster_rpo", status="unproven", objective=want.objectives.disaster.rpo, says=says))
    elif want.objectives.disaster is not None:
        outside = {name for name in have.catalogues if have.domains[name] != have.source_domain}
        conditions.append(_judge_rpo("disaster_rpo", want.objectives.disaster.rpo, want, have, now, within=outside))
    return tuple(conditions)


def _judge_rpo(
    name: str, rpo: timedelta, want: DatabasePolicy, have: Observation, now: datetime, *, within: set[str]
) -> Condition:
    """`met` rests on Known facts alone: a target that can't be seen may only take away, never give."""
    newest = newest_restore_point(have.backups(), within)
    unseen = sorted(within & set(have.unknown()))
    status: Status
    if newest is not None and now - newest.instant <= rpo:
        status = "at_risk" if _runs_out(newest, rpo, want, now) else "met"
        says = f"newest restore point {instant(newest.instant)}, {age(now - newest.instant)} old"
        if status == "at_risk":
            says += "; the next dump may come too late"
    elif newest is not None:
        status = "violated"
        says = f"newest {'copy outside the failure domain' if name != 'rpo' else 'restore point'} {age(now - newest.instant)} old"
        says += f"; {', '.join(unseen)} unknown" if unseen else ""
    elif unseen:
        status, says = "unproven", f"{', '.join(unseen)} unknown"
    else:
        status, says = "violated", _nothing(name, have, within)
    return Condition(
        name="rpo" if name == "rpo" else "disaster_rpo",
        status=status,
        objective=rpo,
        says=says,
        restore_point=newest.instant if newest else None,
    )


def _nothing(name: str, have: Observation, within: set[str]) -> str:
    if name != "rpo" and not within:
        return f"every target fails together with the source ({have.source_domain})"
    return "no restore point at all" if name == "rpo" else f"no copy outside {have.source_domain}"


def newest_restore_point(backups: Iterable[Backup], within: set[str]) -> Copy | None:
    """The newest whole copy on one of these targets. Damaged, foreign, impossible and deleted ones are no restore points."""
    copies = (copy for backup in backups for target, copy in backup.copies.items() if target in within and copy.state == "whole")
    return max(copies, key=lambda copy: copy.instant, default=None)


def _runs_out(newest: Copy, rpo: timedelta, want: DatabasePolicy, now: datetime) -> bool:
    """Whether the RPO ends before the next due dump could mend it, its usual duration and one retry counted."""
    started, finished = newest.started, newest.finished
    usual = finished - started if started is not None and finished is not None else timedelta(0)
    next_slot = want.dumps.schedule.next(now, want.timezone)
    return newest.instant + rpo < next_slot + 2 * usual
