"""The few ways to fail. A kind exists only where somebody acts differently on it.

ReconcilerError
├── BadPolicy      the file is wrong: its author acts (exit 1)
├── Absent         looked, and it is not there: a fact, not a fault
├── Unreachable    no answer: may be tried again, and is "unknown" meanwhile
├── Refused        rights, quota, a rule of ours: trying again is no use, the cure is
│   ├── Full       no room: what frees some is the cure
│   ├── NoKey      nobody here can decrypt it: unproven, not bad
│   ├── Locked     the store keeps it until a date: waiting is the cure
│   └── LockUnseen whether the store keeps it may not be looked at: it stays as it is
├── Conflict       somebody was first: this turn ends, the next one looks again
├── Corrupt        bytes differ from what they must be
└── Stopped        we were asked to stop
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something observed that a person should know: what, where, and what to do about it."""

    severity: Severity
    where: str
    """`file:line:column  path` for a policy, else the name of a target, database or backup."""
    what: str
    cure: str = ""


class ReconcilerError(Exception):
    """Base of all that we raise on purpose. `str()` is one sentence; `cure` says what to do, without secrets."""

    def __init__(self, what: str, *, cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure
        self.left_a_part = False
        """Something was done by half: who comes next would stumble over it."""


class BadPolicy(ReconcilerError):
    """The policy can't be used. Carries every fault at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(f"{len(findings)} fault{'s' if len(findings) != 1 else ''} in the policy")
        self.findings = tuple(findings)


class Absent(ReconcilerError):
    """Looked, and it is not there."""


class Unreachable(ReconcilerError):
    """No usable answer: refused connection, time-out, 5xx, 429. What was asked may or may not have happened."""

    def __init__(self, what: str, *, cure: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(what, cure=cure)
        self.retry_after = retry_after
        self.was_persisted = False
        """It was asked often enough already: whoever is further out doesn't begin again."""


class Refused(ReconcilerError):
    """A clear no: rights, quota, lock, missing tool, a safety rule. The cure says what would change it."""


class Full(Refused):
    """No room is left there, or no more of it is ours. What is small may find some that was kept for it."""


class NoKey(Refused):
    """It is encrypted, and none of the keys at hand opens it. Whoever has the key may find it whole."""


class Locked(Refused):
    """The store keeps it for now: Object Lock. `until` None: for as long as somebody holds it there, whose end nobody knows."""

    def __init__(self, what: str, *, cure: str = "", until: datetime | None = None) -> None:
        super().__init__(what, cure=cure)
        self.until = until


class LockUnseen(Refused):
    """It may be locked, and whether it is can't be seen: nothing is hidden that the store was to keep in sight."""


class Conflict(ReconcilerError):
    """Somebody was first: a conditional write lost, or another holds the lease."""


class Corrupt(ReconcilerError):
    """Bytes differ from the hash, size or form that they must have."""


class Stopped(ReconcilerError):
    """We were asked to stop (SIGTERM, Ctrl-C), and did so between two chunks."""
