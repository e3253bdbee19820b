"""Nothing is left of a timeline that nobody needs: no branch, no snapshot, and no timeline that descends from it."""

from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.work import RestoreBranch, TakeSnapshot


def collect(engine: Engine) -> None:
    """Delete what is needed no more."""
    book = engine.book
    with book.changing() as state:
        wanted = {branch.timeline for branch in state.branches.values()} | set(state.snapshots) | set(engine.visits)
        for operation in state.operations.values():
            if operation.is_open and isinstance(operation.work, RestoreBranch):
                wanted |= {operation.work.timeline, operation.work.source}
            elif operation.is_open and isinstance(operation.work, TakeSnapshot):
                wanted |= {each.parent for each in state.snapshots.values() if each.id == operation.work.snapshot}
        # An ancestor with a base of its own needs what lies above it no less: a place before that base may be asked for.
        kept = wanted | {ancestor.id for name in wanted for ancestor in book.line(name)}
        for timeline in [timeline for timeline in state.timelines.values() if timeline.id not in kept]:
            book.drop(timeline)
        lone = [name for name in engine.clusters.all() if name not in kept]
    for name in lone:
        engine.clusters.drop(name)
