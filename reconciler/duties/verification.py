"""Verification: on each target the newest whole backup is read back, and proven by a restore, once in the time that is asked."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from reconciler.errors import Corrupt, Finding
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.proof import last_verified, refuted
from reconciler.planning.text import age, instant
from reconciler.planning.timing import waits
from reconciler.policy.model import DatabasePolicy, Level, Verify
from reconciler.policy.units import format_duration
from reconciler.rehearsal.verify import verify
from reconciler.world.events import Moved
from reconciler.world.evidence import Evidence, Fault
from reconciler.world.facts import Backup, Known, Observation
from reconciler.world.ports import World

AGAIN = timedelta(days=1)
"""What did not pass is tried again after so long, or after `every` if that is shorter: a missing tool may be there by then."""
SHOWN_FAULTS = 3
_CLOCK = "find out whose clock was wrong; it counts for no verification until then"


class VerifyBackup(Action, frozen=True, kw_only=True, tag="verify_backup"):
    """Read one copy of a backup back, to that level."""

    effect = "create"
    hooked = "verify"

    backup: str
    target: str
    level: Level

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """What it creates is evidence. Raises Corrupt for a copy that failed, once that is written down."""
        evidence = verify(
            world,
            want,
            backup=self.backup,
            target=self.target,
            level=self.level,
            moved=lambda count: world.tell(Moved(action=self.id, bytes=count)),
        )
        if evidence.result == "failed":
            cure = f"this copy counts for nothing; deletions are frozen until `reconcile unfreeze {self.database}`"
            raise Corrupt(sentence(evidence), cure=cure)
        return sentence(evidence)


def sentence(evidence: Evidence) -> str:
    """What came of it, and why."""
    took = age(evidence.finished - evidence.started)
    head = f"{evidence.backup} on {evidence.target}: {evidence.level} {evidence.result} in {took}"
    return head + (f": {_faults(evidence.faults)}" if evidence.faults else "")


def told_failed(record: Evidence) -> str:
    """What speaks against a copy, behind its name."""
    return f"failed its verification of {instant(record.finished)}: {_faults(record.faults)}"


def _faults(faults: Sequence[Fault]) -> str:
    worst = sorted(faults, key=lambda fault: fault.result)
    more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    return "; ".join(f"{fault.where} {fault.what}" for fault in worst[:SHOWN_FAULTS]) + more


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """What a policy without the rule gets is what has been found out by hand."""
    rule = want.dumps.verify
    found = _findings(have, now)
    if rule is None or not isinstance(have.evidence, Known):
        return Due(findings=found)
    steps: list[Step] = []
    later: list[datetime] = []
    for target in want.dumps.targets:
        backup = newest_on(want, have, target)
        if backup is None:
            continue
        last = last_verified(want, have, target, rule.level, now)
        at = last.finished + _wait(rule, last, backup) if last is not None else now
        if at > now:
            later.append(at)
        else:
            steps.append(plan_verify(have, backup, target, rule.level, why=_why(last, rule, now)))
    waiting = waits(want, have, "verification", now) if steps else None
    if waiting is not None:
        soonest = min([*later, *([waiting.next_at] if waiting.next_at else [])], default=None)
        return Due(findings=(*found, *waiting.findings), next_at=soonest, stuck=waiting.stuck, waiting=waiting.waiting)
    return Due(steps=tuple(steps), findings=found, next_at=min(later, default=None))


def newest_on(want: DatabasePolicy, have: Observation, target: str) -> Backup | None:
    """The one to verify there: whole, of what the policy asks for, and readable at once."""
    return next(
        (
            backup
            for backup in have.backups()
            if target in backup.whole_on
            and (not backup.partial or want.asks_for_a_part)
            and not backup.copies[target].archived
            and not backup.has_tombstone
        ),
        None,
    )


def _wait(rule: Verify, last: Evidence, newest: Backup) -> timedelta:
    # After one that failed, whether the next is good is not a question for next week.
    if last.result == "failed" and last.backup != newest.id:
        return timedelta(0)
    # All of it was read: a key that is nowhere is no reason to read it every day.
    is_read = last.result == "passed" or (last.result, last.level) == ("unproven", "hash")
    return rule.every if is_read else min(rule.every, AGAIN)


def _why(last: Evidence | None, rule: Verify, now: datetime) -> str:
    every = f"every {format_duration(rule.every)}"
    if last is None:
        return f"{every}, and never done"
    return f"{every}; last {last.result} {age(now - last.finished)} ago"


def plan_verify(have: Observation, backup: Backup, target: str, level: Level, *, why: str) -> Step:
    """The step. Also what `backups verify` asks."""
    action = VerifyBackup(database=have.database, backup=backup.id, target=target, level=level)
    shown = Shown(
        does="verify",
        to=f"{instant(backup.instant)} on {target} ({level})",
        why=why,
        bytes=backup.copies[target].stored_bytes,
    )
    return Step(action=action, shown=shown)


def _findings(have: Observation, now: datetime) -> tuple[Finding, ...]:
    bad = tuple(
        Finding(
            severity="error",
            where=target,
            what=f"{backup} {told_failed(record)}",
            cure=f"it counts as no backup; look into it, `reconcile backups take --database {have.database}`, then "
            f"`reconcile backups verify --database {have.database}` again",
        )
        for (target, backup), record in sorted(refuted(have).items())
    )
    if not isinstance(have.evidence, Known):
        return bad
    cure = "find out who changed the records; what was verified may have to be verified again"
    torn = (Finding(severity="error", where="evidence", what=what, cure=cure) for what in have.evidence.value.faults)
    dated = ((one, instant(one.finished)) for one in have.evidence.value.records if one.is_ahead(now))
    ahead = (
        Finding(severity="error", where="evidence", what=f"record {one.sequence} is dated ahead, {at}", cure=_CLOCK)
        for one, at in dated
    )
    return (*bad, *torn, *ahead)


DUTY = Duty(name="verification", lane="prove", due=due, actions=(VerifyBackup,))
