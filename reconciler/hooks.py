"""Hooks beside an action: what runs before it, and what runs after it whatever came of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from reconciler.errors import ReconcilerError
from reconciler.planning.plan import Action
from reconciler.policy.model import DatabasePolicy
from reconciler.world.ports import Occasion, World


@contextmanager
def hooked(world: World, want: DatabasePolicy, action: Action, failures: list[ReconcilerError]) -> Iterator[None]:
    """The action is the body; hooks after it that fail are added to `failures`.

    A hook before it that fails raises, and the body is not entered. Hooks after it run in any case, those too whose counterpart
    before it failed half-way: what was paused must be resumed.
    """
    hooks = want.dumps.hooks
    before, after = ([hook for hook in some if action.hooked in hook.on] for some in (hooks.before, hooks.after))
    result: Literal["done", "failed"] = "failed"
    try:
        for hook in before:
            world.run_hook(hook, _occasion(action, "before", {}))
        yield
        result = "done"
    finally:
        for hook in after:
            try:
                world.run_hook(hook, _occasion(action, "after", {"RESULT": result}))
            except ReconcilerError as error:
                failures.append(error)


def _occasion(action: Action, phase: Literal["before", "after"], more: Mapping[str, str]) -> Occasion:
    parameters = action.parameters
    facts = {name.upper(): str(parameters[name]) for name in ("database", "backup", "target", "origin") if parameters.get(name)}
    if "targets" in parameters:
        facts["TARGET"] = ",".join(parameters["targets"])
    return Occasion(phase=phase, of=action.hooked or "", facts={**facts, **more})
