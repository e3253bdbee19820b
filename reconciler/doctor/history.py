"""Whether the provider's own history can be returned to, and what of it runs out. What was seen is judged apart from looking."""

from collections.abc import Iterator
from typing import Final

import msgspec

from reconciler.doctor.report import Notes, Passed, Verdict
from reconciler.errors import Finding
from reconciler.planning.limits import near
from reconciler.planning.text import counted, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.units import format_duration
from reconciler.world.history import HistoryFacts
from reconciler.world.ports import World

WHERE: Final = "history"


def examine_history(want: DatabasePolicy, world: World) -> list[Verdict]:
    """Nothing where the provider keeps none."""
    history = world.provider.history()
    if history is None:
        return []
    notes = Notes(WHERE)
    facts = notes.attempt(history.facts)
    notes.add(judge(want, facts) if facts is not None else ())
    return notes.verdicts


def judge(want: DatabasePolicy, facts: HistoryFacts) -> Iterator[Verdict]:
    """What keeps from returning to an instant, and what soon keeps a dump from having its branch."""
    if facts.refuses:
        cure = "wait until the provider is through with it, or ask it: until then dumps alone can be restored"
        what = f"no instant of {facts.project} can be returned to: {facts.refuses}"
        yield Finding(severity="error", where=WHERE, what=what, cure=cure)
    else:
        window = f"a window of {format_duration(facts.window)}" if facts.window else "no window"
        yield Passed(where=WHERE, what=f"{facts.project}: {window}, back to {instant(facts.begins)}")
    yield from _plan(facts)
    limits = [msgspec.structs.replace(finding, where=WHERE) for finding in near(want, facts, facts.clock)]
    yield from limits
    if facts.limits.branches is not None and not limits:
        manual = sum(snapshot.is_manual for snapshot in facts.snapshots)
        said = f"{counted(len(facts.branches), 'branch', 'branches')}, {counted(manual, 'snapshot')} by hand"
        yield Passed(where=WHERE, what=f"{said}: no limit of the plan {facts.limits.plan} is near")


def _plan(facts: HistoryFacts) -> Iterator[Finding]:
    limits = facts.limits
    if not limits.plan:
        cure = "nothing need be done; a key of the whole account may ask"
        yield Finding(severity="note", where=WHERE, what="the key may not ask for the plan: its limits are not known", cure=cure)
    elif limits.branches is None:
        yield Finding(severity="note", where=WHERE, what=f"the plan {limits.plan} is not known here: nor are its limits")
