"""Progress on stderr: bars on a terminal, a line when something begins and ends elsewhere, or events in a log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.frame import Call
from reconciler.planning.text import plain
from reconciler.world.events import Began, Ended, Event, Moved, Tell, Waiting

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def progress(call: Call) -> Iterator[Tell]:
    """A listener for as long as the work lasts."""
    if call.log is not None:
        yield call.log.hear
        return
    if not sys.stderr.isatty() or call.environ.get("TERM") == "dumb":
        yield lambda event: _line(call, event)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),  # from the size of the last run: no promise
        TextColumn("{task.fields[at_hand]}", markup=False),
    )
    console = Console(stderr=True, no_color="NO_COLOR" in call.environ)
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(call, bars).hear


class _Bars:
    """One bar an action, gone when it ends."""

    def __init__(self, call: Call, bars: "Progress") -> None:
        self._call, self._bars = call, bars
        self._tasks: dict[str, TaskID] = {}

    def hear(self, event: Event) -> None:
        """Any thread may tell."""
        match event:
            case Began():
                says = self._call.redactor.redact(plain(f"{event.database}: {event.says}"))
                self._tasks[event.action] = self._bars.add_task(says, total=event.expected_bytes, at_hand="")
            case Moved() if event.action in self._tasks:
                at_hand = self._call.redactor.redact(plain(event.at_hand))
                self._bars.update(self._tasks[event.action], completed=event.bytes, at_hand=at_hand)
            case Ended() if event.action in self._tasks:
                self._bars.remove_task(self._tasks.pop(event.action))
            case Waiting():
                said = self._call.for_people(plain(f"{event.database}: {event.says}"))
                self._bars.console.print(said, highlight=False, markup=False)
            case _:
                pass


def waited(call: Call, event: Event) -> None:
    """For who only looks: a line where nothing moves."""
    if not isinstance(event, Waiting):
        return
    if call.log is not None:
        call.log.hear(event)
    else:
        call.say(plain(f"{event.database}: {event.says}"))


def _line(call: Call, event: Event) -> None:
    match event:
        case Began():
            call.say(plain(f"{event.database}: {event.says} …"))
        case Ended() if not event.ok and event.says:
            call.say(plain(f"{event.database}: failed: {event.says}"))
        case _:
            waited(call, event)
