"""How the objectives stand: RPO over all restore points, and over those that survive the loss of the source's failure domain."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from reconciler.planning.limits import threat
from reconciler.planning.past import SLACK, past, seen_history, unseen_records
from reconciler.planning.past import says as past_says
from reconciler.planning.plan import Condition, Status
from reconciler.planning.proof import last_result, last_verified, sound
from reconciler.planning.text import age, instant
from reconciler.planning.timing import usual_duration
from reconciler.policy.model import DatabasePolicy, Verify
from reconciler.policy.units import format_duration
from reconciler.world.facts import Copy, Observation, Unknown


def judge(want: DatabasePolicy, have: Observation, now: datetime) -> tuple[Condition, ...]:
    """One condition an objective of the policy, in the policy's order."""
    conditions = []
    if want.objectives.rpo is not None:
        by_dumps = _judge_rpo("rpo", want.objectives.rpo, want, have, now, within=set(have.catalogues))
        conditions.append(_or_history(by_dumps, want, have, now))
    if want.objectives.disaster is not None and have.source_domain is None:
        says = "the source is unknown, and so is what fails together with it"
        conditions.append(Condition(name="disaster_rpo", status="unproven", objective=want.objectives.disaster.rpo, says=says))
    elif want.objectives.disaster is not None:
        outside = {name for name in have.catalogues if have.domains[name] != have.source_domain}
        conditions.append(_judge_rpo("disaster_rpo", want.objectives.disaster.rpo, want, have, now, within=outside))
    if want.pitr is not None:
        conditions.append(_judge_window(want.pitr.window, want, have, now))
    behind = _furthest_behind(want, have)
    if behind is not None and len(want.dumps.targets) > 1:
        conditions.append(_judge_copies(behind, want, have, now))
    if want.dumps.verify is not None:
        conditions.append(_judge_verified(want.dumps.verify, want, have, now))
    return tuple(conditions)


def _or_history(by_dumps: Condition, want: DatabasePolicy, have: Observation, now: datetime) -> Condition:
    """Any instant that the provider keeps is a restore point too: the better of both holds."""
    rpo = by_dumps.objective
    if isinstance(have.history, Unknown):
        if by_dumps.status != "violated":
            return by_dumps
        # It was seen to reach that far, and what it holds does not go so soon. Silence pages after one RPO.
        last = have.history.last
        status: Status = "unproven" if last is not None and now - last <= rpo else "violated"
        return msgspec.structs.replace(by_dumps, status=status, says=f"{by_dumps.says}; the history is unknown")
    facts, reach = seen_history(have), past(want, have)
    if facts is None:
        return by_dumps
    if reach is None or reach.is_empty or now - reach.latest > rpo:
        why = facts.refuses or ("it keeps no instant" if reach is None or reach.is_empty else f"it ends {instant(reach.latest)}")
        return msgspec.structs.replace(by_dumps, says=f"{by_dumps.says}; the history does not help: {why}")
    risk = threat(facts)
    by_history = Condition(
        name="rpo",
        status="at_risk" if risk else "met",
        objective=rpo,
        says=f"{past_says(facts, reach)}; {risk}" if risk else past_says(facts, reach),
        restore_point=reach.latest,
    )
    if risk and by_dumps.status == "met":
        return by_dumps
    newest = by_dumps.restore_point
    return by_dumps if by_dumps.status == "met" and newest is not None and newest > reach.latest else by_history


def _judge_window(window: timedelta, want: DatabasePolicy, have: Observation, now: datetime) -> Condition:
    """The setting must be as large, and must have been for as long. A younger one only has to wait."""
    facts, reach, slack = seen_history(have), past(want, have), min(SLACK, window / 10)
    status: Status
    if facts is None:
        status = "unproven" if have.history is not None else "violated"
        said = "the history is unknown" if have.history is not None else "the provider keeps no history"
    elif reach is None or reach.is_empty:
        status, said = "violated", facts.refuses or "no instant can be returned to"
    elif facts.window < window:
        status, said = "violated", past_says(facts, reach)
    elif not reach.is_sure:
        unseen = ", ".join(unseen_records(want, have))
        status, said = "unproven", f"{unseen} unknown, where it is recorded when the window was widened"
    elif reach.begins > facts.clock - window + slack:
        status = "at_risk"
        said = f"{past_says(facts, reach)}; reaches back {format_duration(window)} from {instant(reach.begins + window)} on"
    elif reach.seen_since > facts.clock - window + slack:
        status = "at_risk"
        since, whole = instant(reach.seen_since), instant(reach.seen_since + window)
        said = f"{past_says(facts, reach)}; watched since {since}, so that it was not is known from {whole} on"
    else:
        status, said = "met", past_says(facts, reach)
    return Condition(name="pitr", status=status, objective=window, says=said)


def _judge_verified(rule: Verify, want: DatabasePolicy, have: Observation, now: datetime) -> Condition:
    """On each target the newest verification that told anything must have passed, and still count."""
    if isinstance(have.evidence, Unknown):
        says = f"{want.home} unknown, where evidence lies"
        return Condition(name="verified", status="unproven", objective=rule.every, says=says)
    found = [_verified_on(target, rule, want, have, now) for target in want.dumps.targets]
    worst = max((status for status, _ in found), key=("met", "at_risk", "unproven", "violated").index)
    return Condition(name="verified", status=worst, objective=rule.every, says="; ".join(said for _, said in found))


def _verified_on(target: str, rule: Verify, want: DatabasePolicy, have: Observation, now: datetime) -> tuple[Status, str]:
    """What was not done proves nothing. A last try that could tell nothing is neither good nor bad: it only puts at risk."""
    last, telling = (ask(want, have, target, rule.level, now) for ask in (last_verified, last_result))
    if last is None:
        return "unproven", f"never on {target}"
    counts = telling or last
    said = f"{counts.result} on {target} {age(now - counts.finished)} ago" + ("" if counts.is_fresh(now) else ", too long")
    said += "" if counts is last else f", and {last.result} since"
    if counts.result == "failed":
        return "violated", said
    if counts.result == "unproven" or not counts.is_fresh(now):
        return "unproven", said
    return "met" if counts is last else "at_risk", said


def _judge_rpo(
    name: str, rpo: timedelta, want: DatabasePolicy, have: Observation, now: datetime, *, within: set[str]
) -> Condition:
    """`met` rests on Known facts alone: a target that can't be seen may only take away, never give."""
    newest = newest_restore_point(have, within)
    unseen = ", ".join(sorted(within & set(have.unknown())))
    status: Status
    if newest is None and unseen:
        status, says = _blind(rpo, have, now, within=within)
    elif newest is None:
        status, says = "violated", _nothing(name, have, within)
    else:
        what = "restore point" if name == "rpo" else f"copy outside {have.source_domain}"
        says = f"newest {what} {instant(newest.instant)}, {age(now - newest.instant)} old"
        if now - newest.instant > rpo:
            status = "violated"
            says += f"; {unseen} unknown" if unseen else ""
        elif risk := _risk(newest, rpo, want, have, now):
            status = "at_risk"
            says += f"; {risk}"
        else:
            status = "met"
    return Condition(
        name="rpo" if name == "rpo" else "disaster_rpo",
        status=status,
        objective=rpo,
        says=says,
        restore_point=newest.instant if newest else None,
    )


def _furthest_behind(want: DatabasePolicy, have: Observation) -> timedelta | None:
    """What each target may lag: the RPO, unless a history keeps it, which no dump does; then what a disaster may cost."""
    disaster = want.objectives.disaster
    if have.history is None:
        return want.objectives.rpo
    return disaster.rpo if disaster is not None else None


def _judge_copies(behind: timedelta, want: DatabasePolicy, have: Observation, now: datetime) -> Condition:
    """Each target of the policy by itself: one that stopped a month ago is missed by no objective that any of them may meet."""
    told: dict[Status, list[str]] = {"met": [], "unproven": [], "violated": []}
    points: list[datetime] = []
    disaster, looked_at = want.objectives.disaster, [name for name in want.dumps.targets if name in have.catalogues]
    for name in looked_at:
        outside = have.source_domain is not None and have.domains[name] != have.source_domain
        limit = max(behind, disaster.rpo) if disaster is not None and outside else behind
        newest = newest_restore_point(have, {name})
        if newest is not None:
            points.append(newest.instant)
            ago = now - newest.instant
            told["met" if ago <= limit else "violated"].append(f"newest on {name} is {age(ago)} old")
        elif name in have.unknown():
            status, says = _blind(limit, have, now, within={name})
            told[status].append(says)
        else:
            told["violated"].append(f"none on {name}")
    worst: Status = "violated" if told["violated"] else "unproven" if told["unproven"] else "met"
    says = "; ".join(told["violated"] + told["unproven"] or told["met"])
    everywhere = min(points) if len(points) == len(looked_at) else None
    return Condition(name="copies", status=worst, objective=behind, says=says, restore_point=everywhere)


def _blind(rpo: timedelta, have: Observation, now: datetime, *, within: set[str]) -> tuple[Status, str]:
    """Nothing can be seen: unproven at once, and violated once what was last seen is too old. Silence must page somebody."""
    unseen = {name: seen for name, seen in have.unknown().items() if name in within}
    last = max((seen.last for seen in unseen.values() if seen.last is not None), default=None)
    if last is None or now - last <= rpo:
        return "unproven", f"{', '.join(unseen)} unknown"
    return "violated", f"{', '.join(unseen)} unknown, and nothing newer than {instant(last)} was ever seen there"


def _nothing(name: str, have: Observation, within: set[str]) -> str:
    if name != "rpo" and not within:
        return f"every target fails together with the source ({have.source_domain})"
    return "no restore point at all" if name == "rpo" else f"no copy outside {have.source_domain}"


def newest_restore_point(have: Observation, within: set[str]) -> Copy | None:
    """The newest whole copy on one of these targets. Damaged, partial, refuted, foreign and deleted ones are none."""
    found = (copy for target, copy in have.once(_restore_points).items() if target in within)
    return max(found, key=lambda copy: (copy.instant, copy.id), default=None)


def _restore_points(have: Observation) -> Mapping[str, Copy]:
    """The newest on each target."""
    newest: dict[str, Copy] = {}
    for backup in sound(have):
        for target, copy in backup.copies.items():
            if copy.state == "whole" and not copy.partial and (target not in newest or copy.instant > newest[target].instant):
                newest[target] = copy
    return newest


def _risk(newest: Copy, rpo: timedelta, want: DatabasePolicy, have: Observation, now: datetime) -> str:
    """Why an objective that is met may soon be missed, or empty.

    It ends before the next due dump could mend it, its usual duration and one retry counted; or the last try is seen to have
    died. While the newest slot has no restore point here, its dump (or its copy) is what is due, and that is now.
    """
    usual = usual_duration(have)
    slots = want.slots(usual)
    slot = slots.latest(now, want.timezone)
    overdue = slot is not None and (newest.slot or newest.instant) < slot
    chance = want.opening(now if overdue else slots.next(now, want.timezone))
    if chance is None or newest.instant + rpo < chance + 2 * (usual or timedelta(0)):
        return f"the objective ends {instant(newest.instant + rpo)}, before the next dump can be there"
    if overdue and any(copy.state == "debris" and copy.slot == slot for held in have.known().values() for copy in held.copies):
        return f"the last try, for slot {instant(slot)}, died" if slot else ""
    return ""
