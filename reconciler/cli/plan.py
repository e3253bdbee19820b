"""Show what is missing and what is too much, as a diff. Changes nothing, and can't: its targets are opened read-only.

examples:
  reconcile --plan
  reconcile plan --out plan.json          save it; `reconcile apply plan.json` then does just that
  reconcile plan --detailed-exitcode      for CI: 2 when something is due
  reconcile plan --fail-on violated,unproven
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reconciler.cli.frame import Call
from reconciler.cli.session import open_session
from reconciler.duties import DUTIES
from reconciler.planning import render
from reconciler.planning.plan import Plan
from reconciler.turn import survey

STATUSES = ("violated", "unproven", "at_risk")


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--out", metavar="FILE", type=Path, help="save the plan: an approval of just these changes and deletions")
    parser.add_argument("--detailed-exitcode", action="store_true", help="exit with 2 when something is due")
    add_fail_on(parser)


def add_fail_on(parser: argparse.ArgumentParser) -> None:
    """Shared with other commands that judge."""
    parser.add_argument(
        "--fail-on",
        metavar="STATUS[,…]",
        type=_statuses,
        default=(),
        help=f"exit with 3 when an objective is {', '.join(STATUSES)}",
    )


def _statuses(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in STATUSES:
            raise argparse.ArgumentTypeError(f'"{name}" is none of {", ".join(STATUSES)}')
    return names


def run(call: Call) -> int:
    """Observe, plan, print."""
    session = open_session(call)
    plans = [survey(world, want, DUTIES).plan for want, world in session.worlds(writable=False)]
    findings = () if call.arguments.database else session.left_behind()
    if call.arguments.out is not None:
        save(call, call.arguments.out, plans)
    if call.json:
        call.answer_json(render.document(plans, findings))
    else:
        call.answer(render.text(plans, findings, again=call.another("apply")))
    return exit_code(plans, call.arguments.fail_on, detailed=call.arguments.detailed_exitcode)


def save(call: Call, path: Path, plans: Sequence[Plan]) -> None:
    """Whole or not at all, and redacted as an answer is."""
    import msgspec

    from reconciler.cli.files import write_whole

    text = msgspec.json.format(msgspec.json.encode(render.document(plans)), indent=2).decode()
    write_whole(path, f"{call.redactor.redact(text)}\n".encode())


def exit_code(plans: Sequence[Plan], fail_on: Sequence[str], *, detailed: bool = False) -> int:
    """1: of a database nothing could be seen. 3: something is blocked, or an objective fails. 2: something is due, if asked.

    What is known to be wrong of one database comes before what nobody knows of another.
    """
    if plans and all(plan.blind for plan in plans):
        return 1
    if any(plan.blocked or plan.foreign for plan in plans) or fails(plans, fail_on):
        return 3
    if any(plan.blind for plan in plans):
        return 1
    return 2 if detailed and any(plan.steps or plan.stuck for plan in plans) else 0


def fails(plans: Sequence[Plan], fail_on: Sequence[str]) -> bool:
    """Whether any objective has one of these statuses."""
    return any(condition.status in fail_on for plan in plans for condition in plan.conditions)
