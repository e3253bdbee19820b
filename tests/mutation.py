"""Rules that are broken on purpose, to see that a test notices: the shape of such a breaking, whatever it breaks."""

from collections.abc import Callable, Mapping

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]
"""Replaces a little of the code: what it takes away, which its docstring tells, is the reason why the rule is there."""


def by_name(*mutations: Patch) -> Mapping[str, Patch]:
    """Each under what it is called, as tests list them."""
    return {mutation.__name__: mutation for mutation in mutations}
