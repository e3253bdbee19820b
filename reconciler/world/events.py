"""What the core tells while it works: typed, for listeners (bars, logs, tests). The core never prints and never logs."""

from collections.abc import Callable
from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all events."""


class Effect(Event, frozen=True, kw_only=True):
    """A target is about to be changed, or was. A death at any of these must lose nothing."""

    phase: Literal["before", "after"]
    verb: Literal["write", "delete", "abort"]
    target: str
    key: str


class Began(Event, frozen=True, kw_only=True):
    """Work on an action began. `expected_bytes` is a guess from the last run, or None."""

    action: str
    database: str
    says: str
    expected_bytes: int | None = None


class Moved(Event, frozen=True, kw_only=True):
    """That many bytes of the action's work have passed so far."""

    action: str
    bytes: int
    at_hand: str = ""
    """The table that is read just now, where that is known. Text from outside."""


class Ended(Event, frozen=True, kw_only=True):
    """Work on an action ended, one way or another."""

    action: str
    database: str
    says: str
    ok: bool


class Waiting(Event, frozen=True, kw_only=True):
    """Nothing moves until something else does."""

    database: str
    says: str


Tell = Callable[[Event], None]
