"""The log for machines: one object a line, progress only now and then, and no secret however it is quoted."""

import argparse
import json
from threading import Event as StopEvent
from typing import Any

import jsonschema
import pytest

from reconciler.cli import schema
from reconciler.cli.frame import Call
from reconciler.cli.log import EVERY_SECONDS, Log
from reconciler.cli.main import main
from reconciler.policy.redaction import Redactor
from reconciler.world.events import Began, Effect, Ended, Event, Moved, Waiting
from tests.faults.clock import MovedClock

BEGAN = Began(action="a1", database="hotel", says="take dump → primary", expected_bytes=1000)


class Told:
    """A log, and the lines of it."""

    def __init__(self, *secrets: str) -> None:
        self._pieces: list[str] = []
        self._redactor = Redactor()
        for secret in secrets:
            self._redactor.learn(secret)
        self.clock = MovedClock()
        self.log = Log(self._pieces.append, self._redactor.redact, self.clock)

    def hear(self, *events: Event) -> None:
        for event in events:
            self.log.hear(event)

    def passes(self, seconds: float) -> None:
        self.clock.wait(seconds, StopEvent())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each is one piece with its end, and what the schema says."""
        assert all(piece.endswith("}\n") and piece.count("\n") == 1 for piece in self._pieces)
        found = [json.loads(piece) for piece in self._pieces]
        for line in found:
            jsonschema.validate(line, json.loads(schema.text("log")))
        return found


def test_a_dump_from_beginning_to_end() -> None:
    """Bytes, rate, the table at hand, and how long it will take if it is as large as the last one."""
    told = Told()
    told.hear(BEGAN)
    told.passes(10)
    told.hear(Moved(action="a1", bytes=200, at_hand="public.guests"))
    told.passes(10)
    told.hear(Moved(action="a1", bytes=600, at_hand="public.rooms"))
    told.passes(5)
    told.hear(Ended(action="a1", database="hotel", says="taken", ok=True))

    began, first, second, ended = told.lines
    assert ("began", "hotel", "a1", 1000) == (began["event"], began["database"], began["action"], began["expected_bytes"])
    assert {"bytes": 200, "bytes_per_second": 20, "seconds_left": 40, "at_hand": "public.guests"}.items() <= first.items()
    assert {"bytes": 600, "bytes_per_second": 40, "seconds_left": 13, "seconds": 20.0}.items() <= second.items()
    assert {"event": "ended", "ok": True, "says": "taken", "bytes": 600, "seconds": 25.0}.items() <= ended.items()


def test_progress_comes_only_now_and_then() -> None:
    """However often it is told, and of each action apart."""
    told = Told()
    told.hear(BEGAN, Began(action="a2", database="hotel", says="copy"))
    for _ in range(100):
        told.passes(EVERY_SECONDS / 10)
        told.hear(Moved(action="a1", bytes=1), Moved(action="a2", bytes=1), Moved(action="nobody's", bytes=1))

    progress = [line["action"] for line in told.lines if line["event"] == "progress"]
    assert {"a1": 10, "a2": 10} == {action: progress.count(action) for action in set(progress)}


def test_more_than_expected() -> None:
    """A guess that turned out too small says nothing more."""
    told = Told()
    told.hear(BEGAN)
    told.passes(10)
    told.hear(Moved(action="a1", bytes=2000))

    assert "seconds_left" not in told.lines[-1]


def test_what_is_said_beside() -> None:
    """Waiting, remarks and the reason of an end; single writes to targets are no matter of a log."""
    told = Told()
    told.hear(Waiting(database="hotel", says="waits for the lease"), Effect(phase="before", verb="write", target="a", key="b"))
    told.log.said("two\nlines")
    told.log.failed("no target can be reached", "look at the network")

    assert [("waiting", "waits for the lease", None), ("said", "two\nlines", None)] == [
        (line["event"], line["says"], line.get("cure")) for line in told.lines[:2]
    ]
    assert ("failed", "no target can be reached", "look at the network") == tuple(
        told.lines[2][name] for name in ("event", "says", "cure")
    )


def test_secrets_and_names_from_outside() -> None:
    """A secret that JSON would write otherwise is found all the same; what would move a terminal's cursor is written out."""
    secret = 'pass"word\\with\nall'
    told = Told(secret)
    told.hear(BEGAN)
    told.passes(10)
    told.hear(Moved(action="a1", bytes=1, at_hand="public.\x1b[2J"))
    told.log.failed(f"cannot log in with {secret}", "")

    progress, failed = told.lines[1:]
    assert "public.\\x1b[2J" == progress["at_hand"]
    assert "word" not in failed["says"]


def test_an_error_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """It may repeat what a stranger wrote, a hold's reason or a name: nothing of that moves a terminal's cursor."""
    call = Call(argparse.Namespace(log_format="text", policy="backup-policy.yaml"), {}, Redactor())

    call.fail('it is held: "\x1b[2Jall is well"', "release\x07 it")
    call.say("two\nlines of \x1b]0;us\x07")

    expected = 'reconcile: it is held: "\\x1b[2Jall is well"\n  release\\x07 it\ntwo\nlines of \\x1b]0;us\\x07\n'
    assert expected == capsys.readouterr().err


def test_an_error_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is: all of stderr is lines of the log."""
    assert 1 == main(["plan", "-p", "/nowhere/at/all.yaml", "--log-format", "json"])

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines
    for line in lines:
        jsonschema.validate(line, json.loads(schema.text("log")))
    assert "does not exist" in json.dumps([line for line in lines if line["event"] == "failed"])
