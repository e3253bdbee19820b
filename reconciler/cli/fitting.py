"""Which options fit which verb, and which fit beside which others: what does not is refused, never passed over in silence."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Typed = argparse.Namespace
"""All options of a call, those with their defaults too that were not typed."""
ELSEWHERE = {"--from": "origin", "ID": "id", "PLANFILE": "plan_file", "NAME": "name", "KIND": "kind"}
"""What is kept under another name than its own."""


class Only(NamedTuple):
    """Options that mean something in one case alone."""

    options: tuple[str, ...]
    """As they are typed; what stands without an option, as the help calls it."""
    goes_with: str
    """The case, for people: follows "is for"."""
    fits: Callable[[Typed], bool]
    ever: bool = True
    """Whether there is such a case with this command; else its help is silent about it."""


def by_verb(command: str, takes: Mapping[str, Sequence[str]]) -> tuple[Only, ...]:
    """For a command of several verbs: which options each of them takes, beside those of all."""
    return tuple(
        _of_verbs(command, option, [verb for verb, taken in takes.items() if option in taken])
        for option in dict.fromkeys(option for taken in takes.values() for option in taken)
    )


def _of_verbs(command: str, option: str, verbs: Sequence[str]) -> Only:
    named = [f"`{command} {verbs[0]}`", *(f"`{verb}`" for verb in verbs[1:])]
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return Only((option,), listed, lambda typed: typed.verb in verbs)


def never(option: str, goes_with: str) -> Only:
    """One that all commands are offered, and this one has no use for."""
    return Only((option,), goes_with, lambda _: False, ever=False)


def misfit(rules: Sequence[Only], typed: Typed, given: frozenset[str]) -> str | None:
    """The first option that was given where it means nothing, in a sentence. `given`: the names that those have in `typed`."""
    for rule in rules:
        for option in rule.options:
            if kept_as(option) in given and not rule.fits(typed):
                return f"{option} is for {rule.goes_with}; leave it out"
    return None


def kept_as(option: str) -> str:
    """Its name among the typed."""
    return ELSEWHERE.get(option, option.lstrip("-").replace("-", "_"))


NO_POLICY = never("--policy", "commands that read a policy")
NO_DATABASE = never("--database", "commands that look at the policy's databases")
NAMED = never("--database", "commands that take them from the policy, and this one names its own")
ONE_FORMAT = never("--format", "commands that can answer either way")
