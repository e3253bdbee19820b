"""A plan as text for people, and as the document that its JSON schema describes. No kind of action is known here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from reconciler.errors import Finding
from reconciler.planning.plan import Condition, Effect, Loss, Outcome, Plan, Step, blocked_digest
from reconciler.planning.text import counted, instant, plain, size
from reconciler.policy.units import format_duration

SIGNS: Mapping[Effect, str] = {"change": "~", "create": "+", "delete": "-"}
_NAMES = {"rpo": "rpo", "disaster_rpo": "disaster rpo", "copies": "copies", "pitr": "pitr", "verified": "verified"}

_SEVERITIES = ("error", "warning", "note")
ALIKE = 3
"""So many findings of one kind are told one by one; a bucket that lost its data has hundreds, and they would hide the rest."""

PLAN_FORMAT = 1

_SIGNS = {"done": "✓", "failed": "✗", "skipped": "·"}

Row = tuple[str, str, str, str]


APPLY = "reconcile apply"


def text(plans: Sequence[Plan], findings: Sequence[Finding] = (), *, again: str = APPLY) -> str:
    """The diff, one block a database, what is nobody's, and the sum of all. `again`: the command that would do it."""
    blocks = [_block(plan, again) for plan in plans] + (["\n".join(_findings(findings))] if findings else [])
    return "\n".join([*(block + "\n" for block in blocks), summary(plans)]) + "\n"


def _block(plan: Plan, again: str) -> str:
    lines = [f"{plan.database}  ({plain(plan.place)})"]
    lines += [f"  {told(condition)}" for condition in worth_telling(plan.conditions)]
    lines += [f"  if {plain(loss.of)} is lost: {plain(loss.says)}" for loss in plan.losses if plan.keeps_history]
    lines += _aligned(_rows(plan))
    digest = blocked_digest(plan)
    if digest is not None:
        lines.append(f"    if just these are meant to go: {again} --database {plan.database} --allow-destructive={digest}")
    if not plan.steps and not plan.blocked:
        lines.append(f"  {_why_no_step(plan)}")
    lines += _findings(plan.findings)
    return "\n".join(lines)


def _why_no_step(plan: Plan) -> str:
    if plan.blind:
        return "nothing can be planned: no target could be seen"
    return "a dump is due and can't be begun" if plan.stuck else _nothing([plan])


def _nothing(plans: Sequence[Plan]) -> str:
    """`nothing to do`; or, where that is so for now alone, what is due and until when it waits."""
    waits = [one for plan in plans for one in plan.waiting]
    if not waits:
        return "nothing to do"
    counts = Counter(one.what for one in waits)
    those = " and ".join(f"a {what}" if count == 1 else counted(count, what) for what, count in counts.items())
    wait, ends = "waits" if len(waits) == 1 else "wait", {one.until for one in waits}
    return f"nothing to do now: {those} {wait}{', the first' if len(ends) > 1 else ''} until {instant(min(ends))}"


def worth_telling(conditions: Sequence[Condition]) -> list[Condition]:
    """All, but for copies that are where they belong, or whose lack the RPO tells already."""
    kept = any(one.name == "rpo" and one.status in ("met", "at_risk") for one in conditions)
    return [one for one in conditions if one.name != "copies" or (kept and one.status != "met")]


def told(condition: Condition) -> str:
    """How one objective stands, in a line."""
    return f"{_NAMES[condition.name]} {format_duration(condition.objective)} {condition.status}: {plain(condition.says)}"


def _rows(plan: Plan) -> list[Row]:
    rows = [_row(SIGNS[group[0].action.effect], group, group[0].shown.why) for group in _groups(plan.steps)]
    said = {finding.cure for finding in plan.findings}
    for why, cure in dict.fromkeys((held.why, held.cure) for held in plan.blocked):
        steps = [held.step for held in plan.blocked if (held.why, held.cure) == (why, cure)]
        # What a finding below already advises is not said twice.
        text = f"blocked: {why}" + (f"; {cure}" if cure and cure not in said else "")
        rows += [_row("!", group, text) for group in _groups(steps)]
    return rows


def _groups(steps: Iterable[Step]) -> list[list[Step]]:
    """Steps that say the same, together; those that aren't counted stand alone."""
    groups: dict[object, list[Step]] = {}
    for step in steps:
        shown = step.shown
        key = (shown.does, shown.to, _why_of_group(step)) if shown.counted else step.action.id
        groups.setdefault(key, []).append(step)
    return list(groups.values())


def _why_of_group(step: Step) -> str:
    return "" if step.action.effect == "create" else step.shown.why


def _row(sign: str, group: Sequence[Step], why: str) -> Row:
    shown = group[0].shown
    does = shown.does
    if shown.counted:
        one, many = shown.counted.split("|")
        does += f" {counted(len(group), one, many)}"
    total = sum(step.shown.bytes or 0 for step in group)
    where = "  ".join(part for part in (shown.to, size(total) if total else "") if part)
    if len(group) > 1 and shown.why and not _why_of_group(group[0]) and not why.startswith("blocked"):
        why = f"{group[-1].shown.why} and older"
    return sign, does, where, why


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """Findings that have one cure in one place: the first few, and what is said of the others."""

    severity: str
    where: str
    cure: str
    said: tuple[str, ...]


def alike(findings: Sequence[Finding]) -> list[Alike]:
    """All, the worst first."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)):
        groups.setdefault((finding.severity, finding.where, finding.cure), []).append(finding.what)
    return [
        Alike(severity=severity, where=where, cure=cure, said=tuple(_first_few(whats)))
        for (severity, where, cure), whats in groups.items()
    ]


def _first_few(whats: Sequence[str]) -> list[str]:
    more = len(whats) - ALIKE
    rest = f"and {more} more like that (every backup: `reconcile backups list`; every finding: --format json)"
    return [*whats[:ALIKE], *([rest] if more > 0 else [])]


def _findings(findings: Sequence[Finding]) -> list[str]:
    """The first few of each kind, and their cure below them."""
    width = min(28, max((len(plain(finding.where)) for finding in findings), default=0))
    lines = []
    for one in alike(findings):
        sign, where, cure = ("·" if one.severity == "note" else "?"), plain(one.where), plain(one.cure)
        lines += [f"  {sign} {where:<{width}}  {plain(what)}" for what in one.said]
        lines += [f"    {'':<{width}}  {cure}"] if cure else []
    return lines


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as their widest cell, within reason; long texts stand last."""
    cells = [tuple(plain(cell) for cell in row) for row in rows]
    first = min(28, max((len(row[1]) for row in cells), default=0))
    second = min(32, max((len(row[2]) for row in cells), default=0))
    return [f"  {row[0]} {row[1]:<{first}}  {row[2]:<{second}}  {row[3]}".rstrip() for row in cells]


def summary(plans: Sequence[Plan]) -> str:
    """`Plan: 1 to create, 4 to delete, 2 blocked, 1 problem.`"""
    effects = [step.action.effect for plan in plans for step in plan.steps]
    blocked = sum(len(plan.blocked) for plan in plans)
    errors = sum(finding.severity == "error" for plan in plans for finding in plan.findings)
    parts = [f"{effects.count(effect)} to {effect}" for effect in SIGNS if effect in effects]
    parts += [f"{blocked} blocked"] if blocked else []
    parts = parts or [_no_parts(plans)]
    parts += [counted(errors, "problem")] if errors else []
    return f"Plan: {', '.join(parts)}."


def _no_parts(plans: Sequence[Plan]) -> str:
    if plans and all(plan.blind for plan in plans):
        return "nothing known"
    return "nothing can be done" if any(plan.stuck for plan in plans) else _nothing(plans)


def applied(outcomes: Sequence[Outcome], not_approved: Sequence[Step], after: Plan, *, again: str = APPLY) -> str:
    """What was done for one database, and what is left."""
    rows = [(_SIGNS[one.result], one.does, one.says + (f"; {one.cure}" if one.cure else "")) for one in outcomes]
    for group in _groups(not_approved):
        _, does, where, why = _row("", group, group[0].shown.why)
        rows.append(("·", f"{does} {where}".strip(), f"not approved: {why}"))
    cells = [tuple(plain(cell) for cell in row) for row in rows]
    width = max((len(row[1]) for row in cells), default=0)
    lines = [f"{after.database}  ({plain(after.place)})", *(f"  {row[0]} {row[1]:<{width}}  {row[2]}" for row in cells)]
    lines += _block(after, again).splitlines()[1:]
    if after.next_at is not None:
        lines.append(f"  next due {instant(after.next_at)}")
    return "\n".join(lines) + "\n"


def plain_outcomes(outcomes: Sequence[Outcome]) -> str:
    """One line each; empty where there are none."""
    return "\n".join(plain(f"{_SIGNS[one.result]} {one.says}" + (f"; {one.cure}" if one.cure else "")) for one in outcomes)


def outcome_summary(outcomes: Sequence[Outcome], after: Sequence[Plan] = (), *, hindered: bool = False) -> str:
    """`Applied: 3 done, 1 failed.` `after`: what is left, which says why nothing was done. `hindered`: a database had no turn."""
    results = [outcome.result for outcome in outcomes]
    parts = [f"{results.count(result)} {result}" for result in ("done", "failed", "skipped") if result in results]
    return "Applied: " + (", ".join(parts) or _why_nothing(after, hindered=hindered)) + "."


def _why_nothing(after: Sequence[Plan], *, hindered: bool) -> str:
    if after and all(plan.blind for plan in after):
        return "nothing known"
    is_left = any(plan.steps or plan.blocked or plan.stuck or plan.foreign for plan in after)
    return "nothing" if is_left or hindered else _nothing(after)


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `parameters` and `kind` are what `id` is the digest of; the rest is for the reader."""

    id: str
    kind: str
    effect: Effect
    parameters: Mapping[str, Any]
    does: str
    to: str
    why: str
    bytes: int | None


class BlockedView(msgspec.Struct, frozen=True, kw_only=True):
    step: StepView
    by: str
    why: str
    cure: str


class ConditionView(msgspec.Struct, frozen=True, kw_only=True):
    """How an objective stands; durations in seconds."""

    name: str
    status: str
    objective_seconds: int
    restore_point: datetime | None
    says: str


class LossView(msgspec.Struct, frozen=True, kw_only=True):
    """What the loss of something, with all that fails together with it, would leave."""

    of: str
    leaves: datetime | None
    says: str


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one database."""

    database: str
    place: str
    policy_digest: str
    steps: tuple[StepView, ...]
    blocked: tuple[BlockedView, ...]
    allow_destructive: str | None
    conditions: tuple[ConditionView, ...]
    losses: tuple[LossView, ...]
    findings: tuple[Finding, ...]
    next_at: datetime | None


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan --format json` prints and `plan --out` saves. A saved one is an approval: of it, only the ids are ever read."""

    format: int
    plans: tuple[PlanView, ...]
    approves: tuple[str, ...]
    """Ids of the steps that change or delete something."""
    findings: tuple[Finding, ...] = ()
    """What is no database's of the policy."""


def document(plans: Sequence[Plan], findings: Sequence[Finding] = ()) -> PlanDocument:
    """All of it; nothing in it is secret."""
    ids = sorted(key for plan in plans for key in plan.to_approve)
    return PlanDocument(
        format=PLAN_FORMAT, plans=tuple(view(plan) for plan in plans), approves=tuple(ids), findings=tuple(findings)
    )


def view(plan: Plan) -> PlanView:
    """One database's."""
    return PlanView(
        database=plan.database,
        place=plan.place,
        policy_digest=plan.policy_digest,
        steps=tuple(step_view(step) for step in plan.steps),
        blocked=tuple(BlockedView(step=step_view(held.step), by=held.by, why=held.why, cure=held.cure) for held in plan.blocked),
        allow_destructive=blocked_digest(plan),
        conditions=tuple(condition_view(condition) for condition in plan.conditions),
        losses=tuple(map(loss_view, plan.losses)),
        findings=plan.findings,
        next_at=plan.next_at,
    )


def condition_view(condition: Condition) -> ConditionView:
    """As JSON shows it."""
    return ConditionView(
        name=condition.name,
        status=condition.status,
        objective_seconds=seconds(condition.objective),
        restore_point=condition.restore_point,
        says=condition.says,
    )


def loss_view(loss: Loss) -> LossView:
    """As JSON shows it."""
    return LossView(of=loss.of, leaves=loss.leaves, says=loss.says)


def seconds(span: timedelta) -> int:
    """Whole ones."""
    return int(span.total_seconds())


def step_view(step: Step) -> StepView:
    """As JSON shows it."""
    parameters = dict(step.action.parameters)
    return StepView(
        id=step.action.id,
        kind=parameters.pop("kind"),
        effect=step.action.effect,
        parameters=parameters,
        does=step.shown.does,
        to=step.shown.to,
        why=step.shown.why,
        bytes=step.shown.bytes,
    )
