"""Bars on a terminal: what passes, how fast, and how long it will take if it is as long as the last time."""

import os
import pty
import subprocess
import sys

from reconciler.duties.dumps import plan_dump
from tests.building import NOW, catalogue, copy, observation, policy

SHOW = """
import argparse, os
from reconciler.cli.frame import Call
from reconciler.cli.progress import progress
from reconciler.policy.redaction import Redactor
from reconciler.world.events import Began, Moved
call = Call(argparse.Namespace(format="text", log_format="text", policy="backup-policy.yaml"), os.environ, Redactor())
with progress(call) as tell:
    tell(Began(action="a", database="hotel", says="take dump", expected_bytes=400 << 20))
    for part in range(1, 12):
        tell(Moved(action="a", bytes=part << 23))
        for _ in range(200_000): pass
"""


def test_the_bar_on_a_terminal() -> None:
    """The size of the last run, the rate, and the time left."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    # Read while it runs: a terminal holds few KiB for whoever is late, and a slow machine draws more.
    running = subprocess.Popen([sys.executable, "-c", SHOW], stderr=theirs, env=environ)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # Linux: the other end is closed
    finally:
        os.close(ours)

    assert 0 == running.wait(60)
    text = shown.decode()
    assert "hotel: take dump" in text
    assert "400.0 MiB" in text
    assert "left" in text


def test_what_a_dump_is_expected_to_be() -> None:
    """As long as the newest whole backup was before compression; the plan shows no guess."""
    copies = [
        copy(NOW, "damaged", raw_bytes=9),
        copy(NOW.replace(hour=3), raw_bytes=700),
        copy(NOW.replace(hour=2), raw_bytes=300),
    ]
    step, _ = plan_dump(policy(), observation(primary=catalogue(copies)), slot=NOW)
    first, _ = plan_dump(policy(), observation(primary=catalogue()), slot=NOW)

    assert step is not None
    assert first is not None
    assert (700, None) == (step.shown.expected_bytes, step.shown.bytes)
    assert first.shown.expected_bytes is None
