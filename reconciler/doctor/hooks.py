"""Whether the policy's hooks could run here: their programs and what they are given are looked at, and nothing is run."""

from collections.abc import Iterator

from reconciler.doctor.report import Notes, Verdict
from reconciler.policy.model import DatabasePolicy, Hook
from reconciler.world.ports import World


def places(want: DatabasePolicy) -> Iterator[str]:
    """`hooks.before[0]` and so on, as findings name them."""
    return (f"hooks.{place}" for place, _ in _hooks(want))


def examine_hooks(want: DatabasePolicy, world: World) -> list[Verdict]:
    """All that would keep each of them from running. Nothing where the policy has none."""
    return [verdict for place, hook in _hooks(want) for verdict in _examine(world, hook, place)]


def _examine(world: World, hook: Hook, place: str) -> list[Verdict]:
    notes, seen = Notes(f"hooks.{place}"), world.look_at_hook(hook, place)
    for fault in seen.faults:
        notes.finds("error", fault.what, fault.cure)
    if seen.program is not None and not seen.faults:
        given = ", and what it is given is at hand" if hook.env or hook.stdin is not None else ""
        notes.passes(f"{seen.program} may be executed{given}")
    return notes.verdicts


def _hooks(want: DatabasePolicy) -> Iterator[tuple[str, Hook]]:
    for phase, some in (("before", want.dumps.hooks.before), ("after", want.dumps.hooks.after)):
        for number, hook in enumerate(some):
            yield f"{phase}[{number}]", hook
