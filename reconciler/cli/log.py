"""What is told while it works, as one JSON object a line: for what collects logs. `--log-format json`."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import msgspec

from reconciler.planning.text import plain
from reconciler.world.events import Began, Ended, Event, Moved, Waiting
from reconciler.world.ports import Clock

EVERY_SECONDS: Final = 5.0
"""Between two lines of progress of one action: who looks at a log wants to know that it moves, not how."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line on stderr."""

    at: datetime
    event: Literal["began", "progress", "ended", "waiting", "said", "failed"]
    """`said`: a remark for people. `failed`: why the program ends with exit code 1."""
    database: str = ""
    action: str = ""
    """The same from `began` to `ended`."""
    says: str = ""
    cure: str = ""
    ok: bool | None = None
    """Of `ended`."""
    bytes: int | None = None
    """What has passed so far: of a dump before compression, of all else as it is stored."""
    expected_bytes: int | None = None
    """How much it will be, of a dump as much as the last one was."""
    bytes_per_second: int | None = None
    """Since the last line of this action."""
    seconds: float | None = None
    """Since it began."""
    seconds_left: int | None = None
    """If it goes on like that and comes to what is expected."""
    at_hand: str = ""
    """The table that is read just now, where that is known."""


class _Running(msgspec.Struct, kw_only=True):
    """One action, from its beginning on."""

    began: Began
    started: float
    told: float
    told_bytes: int = 0
    bytes: int = 0


class Log:
    """A listener that writes lines; `write` gets each with its end, as one piece."""

    def __init__(self, write: Callable[[str], object], redact: Callable[[str], str], clock: Clock) -> None:
        self._write, self._redact, self._clock = write, redact, clock
        self._running: dict[str, _Running] = {}

    def said(self, text: str) -> None:
        """A remark."""
        self._line(Line(at=self._clock.now(), event="said", says=text))

    def failed(self, what: str, cure: str) -> None:
        """Why it ends."""
        self._line(Line(at=self._clock.now(), event="failed", says=what, cure=cure))

    def hear(self, event: Event) -> None:
        """Any thread may tell."""
        at = self._clock.now()
        match event:
            case Began():
                now = self._clock.monotonic()
                self._running[event.action] = _Running(began=event, started=now, told=now)
                began = Line(
                    at=at,
                    event="began",
                    database=event.database,
                    action=event.action,
                    says=event.says,
                    expected_bytes=event.expected_bytes,
                )
                self._line(began)
            case Moved() if event.action in self._running:
                self._moved(event, self._running[event.action], at)
            case Ended():
                self._ended(event, self._running.pop(event.action, None), at)
            case Waiting():
                self._line(Line(at=at, event="waiting", database=event.database, says=event.says))
            case _:
                pass

    def _moved(self, event: Moved, running: _Running, at: datetime) -> None:
        running.bytes = event.bytes
        now = self._clock.monotonic()
        if now - running.told < EVERY_SECONDS:
            return
        took, expected = now - running.started, running.began.expected_bytes
        left = (expected - event.bytes) * took / event.bytes if expected and event.bytes else None
        self._line(
            Line(
                at=at,
                event="progress",
                database=running.began.database,
                action=event.action,
                bytes=event.bytes,
                expected_bytes=expected,
                bytes_per_second=int(max(0, event.bytes - running.told_bytes) / (now - running.told)),
                seconds=round(took, 1),
                seconds_left=int(left) if left is not None and left >= 0 else None,
                at_hand=event.at_hand,
            )
        )
        running.told, running.told_bytes = now, event.bytes

    def _ended(self, event: Ended, running: _Running | None, at: datetime) -> None:
        self._line(
            Line(
                at=at,
                event="ended",
                database=event.database,
                action=event.action,
                says=event.says,
                ok=event.ok,
                bytes=running.bytes or None if running else None,
                seconds=round(self._clock.monotonic() - running.started, 1) if running else None,
            )
        )

    def _line(self, line: Line) -> None:
        # Before it is encoded: a secret with a quote in it would not be found after that.
        clean = {
            name: self._redact("\n".join(map(plain, text.split("\n"))))
            for name in ("database", "says", "cure", "at_hand")
            if (text := getattr(line, name))
        }
        self._write(msgspec.json.encode(msgspec.structs.replace(line, **clean)).decode() + "\n")
