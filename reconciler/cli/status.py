"""How the objectives stand, one line a database, and what a person should know.

examples:
  reconcile status
  reconcile status --fail-on violated,unproven     for a monitor: exit 3 when an objective fails
"""

import argparse
from collections.abc import Sequence
from datetime import datetime

import msgspec

from reconciler.cli.frame import Call
from reconciler.cli.plan import add_fail_on, exit_code
from reconciler.cli.session import open_session
from reconciler.duties import DUTIES
from reconciler.duties.dumps import next_dump
from reconciler.errors import Finding
from reconciler.planning.plan import Condition, Plan
from reconciler.planning.proof import last_proof, proven, sound
from reconciler.planning.render import ConditionView, LossView, alike, condition_view, loss_view, told, worth_telling
from reconciler.planning.table import table
from reconciler.planning.text import instant, plain, size
from reconciler.planning.timing import rhythm, usual_duration
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.units import format_duration
from reconciler.turn import Survey, survey
from reconciler.world.facts import Unknown

HEAD = ("DATABASE", "RPO", "DISASTER RPO", "NEWEST BACKUP", "VERIFIED", "BACKUPS", "STORED")


class DatabaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One database."""

    database: str
    place: str
    conditions: tuple[ConditionView, ...]
    losses: tuple[LossView, ...]
    """What each loss would leave: of the source's side, of each target's, of the keys."""
    newest: datetime | None
    """The newest restore point on any known target."""
    newest_on: tuple[str, ...]
    verified: datetime | None
    """When a restore last proved a whole backup, if that still counts."""
    backups: int
    """Whole ones, partial ones among them."""
    partial: int
    """Those that whole tables were left out of: they are no restore points."""
    stored_bytes: int
    """Over all targets that are known."""
    unknown: tuple[str, ...]
    """Targets that could not be seen."""
    findings: tuple[Finding, ...]
    next_at: datetime | None
    dumps: str
    """When dumps are taken, for people: the schedule, or what `auto` comes to."""
    next_dump: datetime | None
    """When one is due next, windows counted; in the past where one is due now, None where they never open."""


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `status --format json` prints."""

    format: int
    databases: tuple[DatabaseStatus, ...]


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_fail_on(parser)


def run(call: Call) -> int:
    """Observe, judge, print."""
    session = open_session(call)
    surveys = [survey(world, want, DUTIES) for want, world in session.worlds(writable=False)]
    now = session.means.clock.now()
    states = [_status(one, want, now) for one, want in zip(surveys, session.databases, strict=True)]
    if call.json:
        call.answer_json(StatusDocument(format=1, databases=tuple(states)))
    else:
        call.answer(_text(surveys, states, now))
    code = exit_code([one.plan for one in surveys], call.arguments.fail_on)
    # Something blocked is the plan's matter; of the state of things, only the objectives fail.
    return code if code == 1 or call.arguments.fail_on else 0


def _status(one: Survey, want: DatabasePolicy, now: datetime) -> DatabaseStatus:
    proof = None if one.plan.foreign else last_proof(want, one.have, now)
    whole = [backup for backup in one.have.backups() if backup.whole_on and not one.plan.foreign]
    # What failed its verification is no restore point, however whole it lies there.
    points = [] if one.plan.foreign else [backup for backup in sound(one.have) if backup.whole_on and not backup.partial]
    return DatabaseStatus(
        database=one.plan.database,
        place=one.plan.place,
        conditions=tuple(condition_view(condition) for condition in one.plan.conditions),
        losses=tuple(map(loss_view, one.plan.losses)),
        newest=points[0].instant if points else None,
        newest_on=points[0].whole_on if points else (),
        verified=proof.finished if proof else None,
        backups=len(whole),
        partial=sum(backup.partial for backup in whole),
        stored_bytes=sum(backup.stored_bytes * len(backup.whole_on) for backup in whole),
        unknown=tuple(one.have.unknown()),
        findings=one.plan.findings,
        next_at=one.plan.next_at,
        dumps=rhythm(want, usual_duration(one.have)),
        next_dump=next_dump(want, one.have, now),
    )


def _text(surveys: Sequence[Survey], states: Sequence[DatabaseStatus], now: datetime) -> str:
    rows = [_row(one, state) for one, state in zip(surveys, states, strict=True)]
    lines = [table(HEAD, rows)]
    for one, state in zip(surveys, states, strict=True):
        # These have no column that would tell.
        lines += [f"{state.database}: {told(condition)}" for condition in _beyond_the_table(one.plan)]
        lines.append(f"{state.database}: dumps {state.dumps}, {_next_dump(state.next_dump, now)}")
        lines += [plain(f"{state.database}: if {loss.of} is lost: {loss.says}") for loss in state.losses]
        for found in alike(state.findings):
            cure = f"; {found.cure}" if found.cure else ""
            lines += [plain(f"{state.database}: {found.where}: {what}{cure}") for what in found.said]
    return "\n".join(lines)


def _next_dump(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "next never"
    return f"next {instant(at)}" if at > now else f"one is due since {instant(at)}"


def _row(one: Survey, state: DatabaseStatus) -> tuple[str, ...]:
    cells = {condition.name: _condition(condition) for condition in one.plan.conditions}
    newest = f"{instant(state.newest)} on {', '.join(state.newest_on)}" if state.newest else "none"
    if state.unknown:
        newest += f" ({', '.join(state.unknown)} unknown)"
    return (
        state.database,
        cells.get("rpo", "–"),
        cells.get("disaster_rpo", "–"),
        newest,
        _proven(one, state),
        f"{state.backups} ({state.partial} partial)" if state.partial else str(state.backups),
        size(state.stored_bytes),
    )


def _proven(one: Survey, state: DatabaseStatus) -> str:
    if state.verified:
        return instant(state.verified)
    if isinstance(one.have.evidence, Unknown):
        return "unknown"
    ever = [] if one.plan.foreign else [record.finished for record in proven(one.have).values()]
    return f"{instant(max(ever))}, expired" if ever else "never"


def _beyond_the_table(plan: Plan) -> list[Condition]:
    return [
        one
        for one in worth_telling(plan.conditions)
        if one.name == "pitr" or (one.name in ("copies", "verified") and one.status != "met")
    ]


def _condition(condition: Condition) -> str:
    return f"{condition.status} {format_duration(condition.objective)}"
