"""The parts that an operation and a request work with."""

import threading
from datetime import datetime
from typing import Protocol

import msgspec

from reconciler.sandbox.neon.book import Book
from reconciler.sandbox.neon.clusters import Clusters
from reconciler.sandbox.neon.faults import Faults


class Doors(Protocol):
    """Where clients come in: an endpoint's port on loopback, whether its compute runs or not."""

    def open(self, endpoint: str, port: int) -> None:
        """Listen; whoever connects wakes the compute."""

    def close(self, endpoint: str) -> None:
        """Listen no more, and end who is inside. None there is fine."""

    def idle_seconds(self, endpoint: str) -> float:
        """How long ago the last byte went through, or the door was opened."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One project's Neon."""

    clusters: Clusters
    book: Book
    doors: Doors
    faults: Faults
    visits: dict[str, datetime] = msgspec.field(default_factory=dict)
    """Timelines of the past that somebody looks at, and when somebody was there last."""
    turn: threading.Lock = msgspec.field(default_factory=threading.Lock)
    """Held by who works on timelines: an operation, or the janitor."""
