"""`backups take`: one now, of kind manual, and its copies."""

import argparse
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from reconciler.apply import apply
from reconciler.backups.claim import Watch
from reconciler.cli.apply import show_applied
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, open_session
from reconciler.duties import DUTIES, copies
from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump, plan_dump
from reconciler.errors import Refused
from reconciler.observe import observe
from reconciler.planning.plan import Consent, Due, Duty, Plan, Step
from reconciler.planning.planner import plan
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.units import Duration
from reconciler.world.facts import Observation
from reconciler.world.ports import World

TAKES = ("--label", "--keep")


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    group = parser.add_argument_group("take")
    group.add_argument(
        "--label", metavar="KEY=VALUE", action="append", default=[], type=_label, help="said by the manifest (may be repeated)"
    )
    group.add_argument(
        "--keep", metavar="SPAN", type=_span, help="let it go after this (default: it stays until deleted by name)"
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError("written as KEY=VALUE")
    return key, value


def _span(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def take(call: Call) -> int:
    """A dump on the first target that can be reached, then the copies that the policy asks for."""
    session = open_session(call, commit=True)
    want = one_database(session)
    with progress(call) as tell:
        world = session.telling(tell).world_of(want, writable=True)
        now = world.clock.now().replace(microsecond=0)
        keep_until = None if call.arguments.keep is None else now + call.arguments.keep
        watch = Watch(world.clock, world.process)
        taking = _Taking(world, want, watch, labels=dict(call.arguments.label), keep_until=keep_until)
        applied = apply(world, want, taking.look, Consent(approved=frozenset()), watch)
    if applied.outcomes:
        # What is left is what the policy asks for: the slot's own dump may be due still.
        applied = msgspec.structs.replace(applied, after=taking.left())
    show_applied(call, [applied])
    if not applied.outcomes:
        return 3 if applied.after.blocked else 1
    return 1 if any(outcome.result == "failed" for outcome in applied.outcomes) else 0


def one_database(session: Session) -> DatabasePolicy:
    """The one that is meant. Raises Refused where that is not said."""
    if len(session.databases) != 1:
        names = ", ".join(want.name for want in session.databases)
        raise Refused(f"which database? the policy has {names}", cure="name one with --database")
    return session.databases[0]


class _Taking:
    """Plans the dump until something new is there, and then nothing but the copies of what is new."""

    def __init__(
        self, world: World, want: DatabasePolicy, watch: Watch, *, labels: Mapping[str, str], keep_until: datetime | None
    ) -> None:
        self._world, self._want, self._watch = world, want, watch
        self._labels, self._keep_until = labels, keep_until
        self._before: set[str] | None = None
        self._duty = Duty(name="take", lane="keep", due=self._due, actions=(TakeDump, CopyBackup))

    def look(self) -> Plan:
        """Observes afresh each time."""
        self._have, self._now = observe(self._world, self._want, self._watch), self._world.clock.now()
        return self._plan((self._duty,))

    def left(self) -> Plan:
        """All that the policy asks for, by the last look."""
        return self._plan(DUTIES)

    def _plan(self, duties: Iterable[Duty]) -> Plan:
        return plan(duties, self._want, self._have, self._now, policy_digest=self._world.policy_digest)

    def _due(self, want: DatabasePolicy, have: Observation, now: datetime) -> Due:
        there = {backup.id for backup in have.backups() if backup.state == "whole"}
        if self._before is None:
            self._before = there
        if there - self._before:
            asked = copies.due(want, have, now)
            return Due(steps=tuple(step for step in asked.steps if _is_new(step, self._before)))
        step, finding = plan_dump(want, have, slot=None, kind="manual", labels=self._labels, keep_until=self._keep_until)
        return Due(steps=(step,) if step else (), findings=(finding,) if finding else (), stuck=step is None)


def _is_new(step: Step, before: set[str]) -> bool:
    return isinstance(step.action, CopyBackup) and step.action.backup not in before
