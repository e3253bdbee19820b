"""One database's surroundings, examined from end to end: its source, our tools, its hooks, and each of its targets."""

from collections.abc import Collection, Sequence
from functools import partial

from reconciler.backups import layout
from reconciler.doctor import history, hooks, keys, leftovers, room, staging, tools
from reconciler.doctor.report import Checkup, Notes, Passed, Verdict
from reconciler.doctor.source import Examinable, examine_source
from reconciler.doctor.targets import examine_target
from reconciler.duties import DUTIES
from reconciler.errors import Finding
from reconciler.policy.model import DatabasePolicy, Policy
from reconciler.turn import survey
from reconciler.world.facts import Observation
from reconciler.world.ports import Upload, World


def examine(policy: Policy, want: DatabasePolicy, world: World, *, only: Collection[str] = ()) -> Checkup:
    """Everything, or just the targets named by `only`. The world must be writable; what is written is removed again.

    Never raises for what does not work: that is a finding. Raises Stopped when asked to stop.
    """
    chosen = [name for name in sorted(world.targets) if not only or name in only]
    verdicts = [] if only else [*_source_and_tools(world, want), *history.examine_history(want, world)]
    trials = dict(zip(chosen, world.pool.map(partial(examine_target, world, want), chosen), strict=True))
    seen = survey(world, want, DUTIES)
    have = seen.have
    ill = [name for name, found in trials.items() if any(_is_error(verdict) for verdict in found)]
    if not only:
        verdicts += keys.examine_keys(want, world, have)
        verdicts += [*staging.examine_staging(world, want), *hooks.examine_hooks(want, world)]
    uploads = {name: _uploads(world, want, name) for name in chosen if name in have.known()}
    told = leftovers.judge(have, seen.plan, uploads=uploads, chosen=chosen)
    for name in chosen:
        verdicts += trials[name]
        verdicts += _room(policy, name, have) if name not in ill else []
    verdicts += [*leftovers.unseen(have, chosen, told=ill), *told]
    order = ["source", history.WHERE, tools.WHERE, keys.WHERE, staging.WHERE, *hooks.places(want), *chosen]
    return _checkup(want.name, world.provider.place, verdicts, order=order)


def _source_and_tools(world: World, want: DatabasePolicy) -> list[Verdict]:
    found, facts = examine_source(world, want)
    source = world.provider.source()
    if not isinstance(source, Examinable):
        return found
    return [*found, *tools.judge(tools.look(source.client_bin), facts.major if facts else None)]


def _uploads(world: World, want: DatabasePolicy, name: str) -> Sequence[Upload]:
    """None where they can't be listed: that is a finding of the trial."""
    return Notes(name).attempt(lambda: world.targets[name].unfinished(layout.root(want.name))) or ()


def _room(policy: Policy, name: str, have: Observation) -> list[Verdict]:
    notes, folder = Notes(name), room.folder(policy, name)
    free = notes.attempt(lambda: room.free_bytes(folder)) if folder is not None else None
    notes.add([room.judge(name, free, room.newest_bytes(have))] if free is not None else ())
    return notes.verdicts


def _is_error(verdict: Verdict) -> bool:
    return isinstance(verdict, Finding) and verdict.severity == "error"


def _checkup(database: str, place: str, verdicts: Sequence[Verdict], *, order: Sequence[str]) -> Checkup:
    """Place by place; what speaks of the database as a whole comes first."""
    unique = list(dict.fromkeys(verdicts))
    unique.sort(key=lambda verdict: order.index(verdict.where) if verdict.where in order else -1)
    return Checkup(
        database=database,
        place=place,
        passed=tuple(verdict for verdict in unique if isinstance(verdict, Passed)),
        findings=tuple(verdict for verdict in unique if isinstance(verdict, Finding)),
    )
