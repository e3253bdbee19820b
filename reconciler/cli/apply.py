"""Make it true: show the plan, ask, and do what is missing; then look again, and delete what is no longer kept.

Without a terminal it needs --yes, or a plan file: a saved plan approves the changes and deletions that it shows, and no others.

examples:
  reconcile --apply
  reconcile --apply --yes
  reconcile plan --out plan.json && reconcile apply plan.json
"""

import argparse
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import msgspec

from reconciler.apply import Applied
from reconciler.cli.fitting import Only
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, open_session
from reconciler.duties import DUTIES
from reconciler.errors import ReconcilerError, Refused
from reconciler.planning import render
from reconciler.planning.plan import Consent, Outcome, Plan
from reconciler.planning.text import plain
from reconciler.turn import survey, turn

HEED_SECONDS = 0.1
"""Who presses Ctrl-C at a question sees no delay."""


class Approval(msgspec.Struct):
    """All that is ever read of a plan file."""

    approves: list[str]
    format: int


class ApplyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply --format json` prints."""

    format: int
    outcomes: tuple[Outcome, ...]
    not_approved: tuple[render.StepView, ...]
    after: tuple[render.PlanView, ...]
    """The plans as they are now: what is left."""


FITS = (Only(("--yes",), "an apply without a plan file, which is an approval by itself", lambda typed: typed.plan_file is None),)


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("plan_file", metavar="PLANFILE", nargs="?", type=Path, help="a plan saved by `plan --out`: an approval")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--allow-destructive", metavar="DIGEST", help="let through what the guard holds back, as the plan printed it"
    )


def run(call: Call) -> int:
    """Show, ask, do."""
    session = open_session(call, commit=True)
    consent = _consent(call, session)
    if consent is None:
        call.say("nothing was done")
        return 1
    with progress(call) as tell:
        applied, failures = _turns(session.telling(tell), consent)
    for database, error in failures:
        call.say(plain(f"{database}: {error.what}") + (f"\n  {plain(error.cure)}" if error.cure else ""))
    show_applied(call, applied, hindered=bool(failures))
    say_unmatched(call, applied)
    return _exit_code(applied, failed=bool(failures))


def _consent(call: Call, session: Session) -> Consent | None:
    """None where a person said no."""
    arguments = call.arguments
    if arguments.plan_file is not None:
        return _from_file(arguments.plan_file, arguments.allow_destructive)
    if arguments.yes:
        return Consent(allow_destructive=arguments.allow_destructive)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        cure = "add --yes, or apply a plan that `plan --out` saved"
        raise Refused("apply changes things, and there is no terminal to ask on", cure=cure)
    plans = [survey(world, want, DUTIES).plan for want, world in session.worlds(writable=False)]
    # Where the question is asked: stdout may lead to a file, and then nobody would see what is approved.
    call.say(render.text(plans, again=call.another("apply")).rstrip("\n"))
    return _asked(call, plans)


def _from_file(path: Path, allow_destructive: str | None) -> Consent:
    """Actions are never decoded from a file: ids are all that is taken."""
    try:
        approval = msgspec.json.decode(path.read_bytes(), type=Approval)
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}", cure="name a file that `plan --out` saved") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is not a saved plan: {error}", cure="save one with `plan --out FILE`") from error
    if approval.format != render.PLAN_FORMAT:
        raise Refused(f"{path} has format {approval.format}, this program reads {render.PLAN_FORMAT}", cure="plan again")
    return Consent(approved=frozenset(approval.approves), allow_destructive=allow_destructive)


def _asked(call: Call, plans: Sequence[Plan]) -> Consent | None:
    """What was shown is what is approved."""
    allow = call.arguments.allow_destructive
    blocked = [held for plan in plans for held in plan.blocked] if allow else []
    if not any(plan.steps for plan in plans) and not blocked:
        return Consent(approved=frozenset())
    call.say('Do this? Only "yes" is taken for yes: ')
    if _line(call.stop) != "yes":
        return None
    shown = {key for plan in plans for key in plan.to_approve} | {held.step.action.id for held in blocked}
    return Consent(approved=frozenset(shown), allow_destructive=allow)


def _line(stop: Event) -> str:
    """What is typed; nothing once it is asked to stop, which would else wait for the end of the line."""
    while not stop.is_set():
        if select.select([sys.stdin], [], [], HEED_SECONDS)[0]:
            return sys.stdin.readline().strip()
    return ""


def _turns(session: Session, consent: Consent) -> tuple[list[Applied], list[tuple[str, ReconcilerError]]]:
    """One database after the other; one that can't be turned does not keep the others from it."""
    applied, failures = [], []
    for want, world in session.worlds(writable=True):
        try:
            applied.append(turn(world, want, DUTIES, consent))
        except ReconcilerError as error:
            failures.append((want.name, error))
    return applied, failures


def show_applied(call: Call, applied: Sequence[Applied], *, hindered: bool = False) -> None:
    """What was done and what is left, as text or JSON."""
    if call.json:
        call.answer_json(document(applied))
        return
    for one in applied:
        call.answer(render.applied(one.outcomes, one.not_approved, one.after, again=call.another("apply")))
    outcomes = [outcome for one in applied for outcome in one.outcomes]
    call.answer(render.outcome_summary(outcomes, [one.after for one in applied], hindered=hindered))


def say_unmatched(call: Call, applied: Sequence[Applied]) -> None:
    """A digest of another plan lets nothing through, and is no permission for this one."""
    digest = call.arguments.allow_destructive
    met = {met for one in applied for met in one.digests}
    if digest is not None and digest not in met:
        why = f"what the guard holds back has the digest {', '.join(sorted(met))}" if met else "the guard holds nothing back"
        call.say(f"--allow-destructive={digest} let nothing through: {why}")


def document(applied: Sequence[Applied]) -> ApplyDocument:
    """What came of turns, as JSON shows it."""
    return ApplyDocument(
        format=1,
        outcomes=tuple(outcome for one in applied for outcome in one.outcomes),
        not_approved=tuple(render.step_view(step) for one in applied for step in one.not_approved),
        after=tuple(render.view(one.after) for one in applied),
    )


def _exit_code(applied: Sequence[Applied], *, failed: bool) -> int:
    if failed or any(outcome.result != "done" for one in applied for outcome in one.outcomes):
        return 1
    if any(one.after.stuck or one.after.blind for one in applied):
        return 1
    return 3 if any(one.not_approved or one.after.blocked or one.after.foreign for one in applied) else 0
