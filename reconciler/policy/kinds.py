"""The kinds of target, provider and scratch that a policy may name. What they are is told by whoever loads the policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of target, provider or scratch: its name in a policy, its settings, and what makes the real thing of them.

    The settings are a frozen struct with `tag_field="type"` (a source's: `"provider"`), `tag` equal to `type`, and
    `forbid_unknown_fields`. Every field carries a description and an example in `msgspec.Meta`, of which the
    schema and the reference are made. A field `domain`, where there is one, says what fails together with it; a class's
    `costly_home` says why such a target had better not be home. A source's `history_site`, where its provider keeps a history,
    is a text that says whose setting the history's window is: two databases with one text have one window.
    """

    settings: type[msgspec.Struct]
    connect: Callable[..., Any]
    site: Callable[[Any, Path], str] | None = None
    """Of a target: where it lies, as a path whose beginnings are what holds it; `base` is the folder of the policy file. Two
    targets with one site are one."""
    # Last, since in the fields after it the name would hide the builtin.
    type: str

    def __post_init__(self) -> None:
        config = self.settings.__struct_config__
        if config.tag != self.type or not config.forbid_unknown_fields:
            raise ValueError(f"{self.settings.__name__} must have tag={self.type!r} and forbid_unknown_fields=True")


class Kinds(msgspec.Struct, frozen=True, kw_only=True):
    """All kinds, in the order in which messages and the schema name them."""

    targets: tuple[Kind, ...]
    providers: tuple[Kind, ...]
    scratches: tuple[Kind, ...]

    def __post_init__(self) -> None:
        for kinds, field in ((self.targets, "type"), (self.providers, "provider"), (self.scratches, "type")):
            wrong = [kind.type for kind in kinds if kind.settings.__struct_config__.tag_field != field]
            if wrong:
                raise ValueError(f"the settings of {', '.join(wrong)} must have tag_field={field!r}")
