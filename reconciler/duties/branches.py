"""Branches: those that we made go once their purpose is over, others are never touched, and the database's own is protected."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec

from reconciler.backups import layout
from reconciler.backups.changes import begun, recorded
from reconciler.backups.claim import describe, read_claim
from reconciler.duties.pitr import history_of
from reconciler.errors import Absent, Conflict, Finding
from reconciler.planning.limits import near
from reconciler.planning.past import seen_history
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.text import instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Observation
from reconciler.world.history import BranchFacts, HistoryFacts, use_of
from reconciler.world.ports import World


class SweepBranch(Action, frozen=True, kw_only=True, tag="sweep_branch"):
    """Delete a branch that we made, and whose purpose is over."""

    effect = "delete"
    frees = True

    below: int
    """How many branches of ours hang below it: those with none go first."""
    branch: str
    """Its id."""
    name: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Seen afresh, and by its name and annotation still ours. Who still writes by it keeps it."""
        history = history_of(world)
        facts = history.facts()
        found = next((branch for branch in facts.branches if branch.id == self.branch), None)
        if found is None:
            return f"{self.name} is gone already"
        use = use_of(self.database, found)
        if use is None or found.name != self.name:
            raise Conflict(f"{facts.project}: branch {found.name} is not {self.name}, or not ours")
        self._refuse_used(world, use)
        with begun(world, want, what="branch", where=facts.project, was=found.name, now=""):
            history.delete_branch(found)
        return f"branch {found.name} deleted"

    def _refuse_used(self, world: World, use: str) -> None:
        key = layout.object_key(self.database, use, layout.INTENT)
        for name, target in sorted(world.targets.items()):
            with suppress(Absent):
                record, _ = read_claim(target, key)
                if record is not None and record.owner is not None and world.process.is_gone(record.owner) is False:
                    raise Conflict(f"{name}: {use} is being written by {describe(record)}")


class ProtectBranch(Action, frozen=True, kw_only=True, tag="protect_branch"):
    """Let nobody delete the database's own branch by accident."""

    effect = "change"

    branch: str
    name: str

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Only while it is the branch that it was."""
        history = history_of(world)
        facts = history.facts()
        if (facts.protected.id, facts.protected.name) != (self.branch, self.name):
            raise Conflict(f"{facts.project}: the database's branch is {facts.protected.name} ({facts.branch}) by now")
        with recorded(world, want, what="protection", where=facts.project, was=self.name, now=f"{self.name}, protected"):
            history.protect(facts.protected)
        return f"branch {self.name} is protected"


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Nothing rests on an Unknown history."""
    facts = seen_history(have)
    if facts is None:
        return Due()
    uses = {branch.id: use for branch in facts.branches if (use := use_of(have.database, branch)) is not None}
    return Due(
        steps=(*_sweeps(have, facts, uses), *_protection(want, have, facts)),
        findings=(*near(want, facts, now), *_findings(want, have, facts, uses)),
        next_at=min(
            (end for branch in facts.branches if branch.id in uses and (end := branch.expires) and end > now), default=None
        ),
    )


def _sweeps(have: Observation, facts: HistoryFacts, uses: Mapping[str, str]) -> Iterator[Step]:
    for branch in facts.branches:
        below = _below(facts, branch)
        why = _over(have, facts, branch, uses[branch.id]) if branch.id in uses else ""
        # One that somebody else hangs on can't go, and what hangs on it of ours goes first.
        if why and all(other.id in uses for other in below):
            action = SweepBranch(database=have.database, below=len(below), branch=branch.id, name=branch.name)
            yield Step(action=action, shown=Shown(does="delete branch", to=branch.name, why=why))


def _over(have: Observation, facts: HistoryFacts, branch: BranchFacts, use: str) -> str:
    """Why its purpose is over, or empty. An id is drawn at random: one that our targets know was ours."""
    copies = [copy for catalogue in have.known().values() for copy in catalogue.copies if copy.id == use]
    if any(copy.writer in ("alive", "undecided") for copy in copies):
        return ""
    buried = any(stone.id == use for catalogue in have.known().values() for stone in catalogue.tombstones)
    if (copies or buried) and not have.unknown():
        return f"left behind by the dump {use}"
    # Without any trace it may be another reconciler's, whose targets we don't see: until its end.
    expired = branch.expires is not None and branch.expires <= facts.clock
    return f"it ended {instant(branch.expires)}" if expired and branch.expires is not None else ""


def _below(facts: HistoryFacts, branch: BranchFacts) -> list[BranchFacts]:
    children = [child for child in facts.branches if child.parent == branch.id]
    return [*children, *(further for child in children for further in _below(facts, child))]


def _protection(want: DatabasePolicy, have: Observation, facts: HistoryFacts) -> Iterator[Step]:
    branch = facts.protected
    if want.branches.protect and not branch.is_protected and not _no_protection(facts):
        action = ProtectBranch(database=have.database, branch=branch.id, name=branch.name)
        yield Step(action=action, shown=Shown(does="protect branch", to=branch.name, why="nobody deletes it by accident then"))


def _no_protection(facts: HistoryFacts) -> str:
    there, limit = sum(branch.is_protected for branch in facts.branches), facts.limits.protected
    return f"{there} of {limit} protected branches are there" if limit is not None and there >= limit else ""


def _findings(want: DatabasePolicy, have: Observation, facts: HistoryFacts, uses: Mapping[str, str]) -> Iterator[Finding]:
    full = _no_protection(facts)
    if want.branches.protect and not facts.protected.is_protected and full:
        what = f"branch {facts.protected.name} can't be protected: {full}"
        yield Finding(severity="error", where=facts.project, what=what, cure="unprotect another, or change the plan")
    for branch in facts.branches:
        if branch.id not in uses:
            yield from _kept(have, facts, branch)
            continue
        strange = [other.name for other in _below(facts, branch) if other.id not in uses]
        if strange and _over(have, facts, branch, uses[branch.id]):
            what = f"branch {branch.name} of ours can't go: {', '.join(strange)} hangs below it"
            yield Finding(severity="warning", where=facts.project, what=what, cure="delete that, or reset it onto another")
        elif branch.expires is None and not _over(have, facts, branch, uses[branch.id]):
            what = f"branch {branch.name} has no end, and none of our targets knows what it is for"
            yield Finding(
                severity="warning", where=facts.project, what=what, cure="delete it, unless another reconciler works by it"
            )


def _kept(have: Observation, facts: HistoryFacts, branch: BranchFacts) -> Iterator[Finding]:
    """One that we made, and that somebody made the default one or protected since: it is never deleted, and has no end."""
    scratch = msgspec.structs.replace(branch, is_default=False, is_protected=False)
    if branch.id != facts.branch and use_of(have.database, scratch) is not None:
        what = f"branch {branch.name} of ours can't go: it is {'the default one' if branch.is_default else 'protected'}"
        cure = f"{'make another the default one' if branch.is_default else 'unprotect it'}, or delete it by hand"
        yield Finding(severity="warning", where=facts.project, what=what, cure=cure)


DUTY = Duty(name="branches", lane="keep", due=due, actions=(SweepBranch, ProtectBranch))
