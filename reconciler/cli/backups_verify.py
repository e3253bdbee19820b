"""`backups verify`: read backups back now, whatever the schedule says, and write down what came of it."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec

from reconciler.backups.fetch import places_of
from reconciler.cli.backups_read import find
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, named_targets, open_session
from reconciler.duties import DUTIES
from reconciler.duties.verification import newest_on, plan_verify, sentence
from reconciler.errors import Absent, Corrupt, ReconcilerError, Refused, Stopped
from reconciler.hooks import hooked
from reconciler.planning.identity import disagreement
from reconciler.planning.text import plain
from reconciler.policy.model import DatabasePolicy, Level
from reconciler.rehearsal.verify import verify as prove
from reconciler.turn import Survey, survey
from reconciler.world.events import Began, Ended, Moved
from reconciler.world.evidence import LEVELS, Evidence
from reconciler.world.facts import Backup, Observation


class Untried(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that could not be read, or may not be, so that nothing can be said of it."""

    database: str
    backup: str
    """Empty: the newest one, whichever that is."""
    target: str
    reason: str
    cure: str


class VerifyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `backups verify --format json` prints."""

    format: int
    evidence: tuple[Evidence, ...]
    untried: tuple[Untried, ...]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """One copy to verify."""

    want: DatabasePolicy
    have: Observation
    backup: Backup
    target: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to verify, and what can't be."""

    chosen: tuple[Chosen, ...] = ()
    untried: tuple[Untried, ...] = ()
    foreign: bool = False
    """Some of it is another's: evidence of ours would say there what may be deleted."""


TAKES = ("--target", "--level")


def register(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    group = parser.add_argument_group("verify")
    group.add_argument("--target", metavar="TARGET", help="the copy on this target (default: every target that has it)")
    group.add_argument("--level", choices=LEVELS, help="how thoroughly (default: as the policy says, else restore)")


def verify(call: Call) -> int:
    """Exit code 0 when all passed, 1 when one failed or could not be read, 3 when one could not be proven, or is another's."""
    session = open_session(call, commit=True)
    named_targets(session, [call.arguments.target] if call.arguments.target else [])
    choices = [_of_id(call, session)] if call.arguments.id else list(_newest(call, session))
    chosen = [one for choice in choices for one in choice.chosen]
    untried = [missed for choice in choices for missed in choice.untried]
    if not chosen and not untried:
        where = f" on {call.arguments.target}" if call.arguments.target else ""
        raise Absent(f"there is no whole backup{where} to verify", cure="`reconcile backups list` shows what there is")
    evidence: list[Evidence] = []
    hooks: list[ReconcilerError] = []
    for one in chosen:
        try:
            evidence.append(_verify(call, session, one, hooks))
        except Stopped:
            raise
        except ReconcilerError as error:
            untried.append(_untried(one, error))
    _answer(call, evidence, untried)
    for failed in hooks:
        call.say(plain(failed.what) + (f"\n  {plain(failed.cure)}" if failed.cure else ""))
    if any(choice.foreign for choice in choices):
        return 3
    if untried or hooks or any(one.result == "failed" for one in evidence):
        return 1
    return 3 if any(one.result == "unproven" for one in evidence) else 0


def _of_id(call: Call, session: Session) -> Choice:
    found = find(call, session)
    one = survey(found.world, found.want, DUTIES)
    missed = _unseen(call, found.want, one.have, found.backup.id)
    try:
        targets = places_of(found.backup, found.want.dumps.targets, call.arguments.target)
    except Refused:
        if not missed:
            raise
        targets = ()
    copies = [Chosen(want=found.want, have=one.have, backup=found.backup, target=target) for target in targets]
    return _choice(copies, missed, one)


def _newest(call: Call, session: Session) -> Iterator[Choice]:
    for want, world in session.worlds(writable=False):
        one = survey(world, want, DUTIES)
        copies = [
            Chosen(want=want, have=one.have, backup=backup, target=target)
            for target in want.dumps.targets
            if call.arguments.target in (None, target) and (backup := newest_on(want, one.have, target)) is not None
        ]
        yield _choice(copies, _unseen(call, want, one.have, ""), one)


def _unseen(call: Call, want: DatabasePolicy, have: Observation, backup: str) -> list[Untried]:
    """What can't be seen is not passed over: nobody knows whether a copy lies there."""
    wanted = (name for name in want.dumps.targets if call.arguments.target in (None, name))
    return [
        Untried(database=want.name, backup=backup, target=name, reason=seen.reason, cure=seen.cure)
        for name in wanted
        if (seen := have.unknown().get(name)) is not None
    ]


def _choice(copies: Sequence[Chosen], missed: Sequence[Untried], one: Survey) -> Choice:
    quarrel = disagreement(one.have)
    if quarrel is None:
        return Choice(chosen=tuple(copies), untried=tuple(missed))
    theirs = (
        Untried(database=copy.want.name, backup=copy.backup.id, target=copy.target, reason=quarrel.what, cure=quarrel.cure)
        for copy in copies
    )
    return Choice(untried=(*theirs, *missed), foreign=True)


def _verify(call: Call, session: Session, one: Chosen, hooks: list[ReconcilerError]) -> Evidence:
    rule = one.want.dumps.verify
    level: Level = call.arguments.level or (rule.level if rule else "restore")
    step = plan_verify(one.have, one.backup, one.target, level, why="by name")
    name, database = step.action.id, one.want.name
    with progress(call) as tell:
        # All that it writes is a pin and a record of evidence.
        world = session.telling(tell).world_of(one.want, writable=True)
        says = f"{step.shown.does} {step.shown.to}"
        tell(Began(action=name, database=database, says=says, expected_bytes=step.shown.bytes))
        evidence = _beside_hooks(
            lambda: prove(
                world,
                one.want,
                backup=one.backup.id,
                target=one.target,
                level=level,
                moved=lambda count: tell(Moved(action=name, bytes=count)),
            ),
            hooked(world, one.want, step.action, hooks),
        )
        tell(Ended(action=name, database=database, says=sentence(evidence), ok=evidence.result == "passed"))
    return evidence


def _beside_hooks(proving: Callable[[], Evidence], hooks: AbstractContextManager[None]) -> Evidence:
    """Hooks after it are told that it failed, where it did; for whoever asked that is an answer."""
    proven: list[Evidence] = []
    try:
        with hooks:
            proven.append(proving())
            if proven[0].result == "failed":
                raise Corrupt(sentence(proven[0]))
    except Corrupt:
        if not proven:
            raise
    return proven[0]


def _untried(one: Chosen, error: ReconcilerError) -> Untried:
    return Untried(database=one.want.name, backup=one.backup.id, target=one.target, reason=error.what, cure=error.cure)


def _answer(call: Call, evidence: list[Evidence], untried: list[Untried]) -> None:
    if call.json:
        call.answer_json(VerifyDocument(format=1, evidence=tuple(evidence), untried=tuple(untried)))
        return
    lines: list[str] = []
    for one in evidence:
        lines.append(f"{one.database}: {one.backup} on {one.target}: {one.level} {one.result}")
        lines += [f"  {step}" for step in one.did]
        lines += [f"  {fault.result}: {fault.where}: {fault.what}" for fault in one.faults]
        lines += [f"  left out: {what}" for what in one.left_out]
    for missed in untried:
        lines.append(f"{missed.database}: {missed.backup or 'the newest'} on {missed.target}: not verified: {missed.reason}")
        lines += [f"  {missed.cure}"] if missed.cure else []
    call.answer("\n".join(plain(line) for line in lines))
