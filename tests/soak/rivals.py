"""Three real reconcilers on one database, stopped and continued at random for longer than a lease covers them.

    python -m tests.soak.rivals [MINUTES] [SEED]

At the end: one scheduled dump a slot, nothing damaged, and no deletion of a backup that retention keeps.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from threading import Event
from time import monotonic

from reconciler.backups.claim import COVERED_SECONDS
from tests.soak.stage import Stage, stage

RIVALS = 3
KEPT = 3
"""As the stage's policy says."""


def main(minutes: float, seed: int) -> int:
    """Prints what it found; exit code 1 when a promise was broken."""
    chance, ends = random.Random(seed), monotonic() + minutes * 60
    asleep: dict[int, float] = {}
    with stage("* * * * *", "1h") as world:
        running: dict[int, subprocess.Popen[bytes]] = {}
        while monotonic() < ends:
            for rival in range(RIVALS):
                idle = rival not in running or running[rival].poll() is not None
                if idle and chance.random() < 0.1:
                    running[rival] = world.start("apply", "--yes")
            _stop_and_continue(running, asleep, chance)
            Event().wait(0.3)
        for process in running.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.wait(timeout=300)
        world.run("apply", "--yes")
        return _verdict(world, seed)


def _stop_and_continue(running: dict[int, "subprocess.Popen[bytes]"], asleep: dict[int, float], chance: random.Random) -> None:
    """At most one sleeps at a time; some for a moment, some for longer than its last renewal covers it."""
    for pid, until in list(asleep.items()):
        if monotonic() >= until:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            del asleep[pid]
    if not asleep and chance.random() < 0.2:
        process = running.get(chance.randrange(RIVALS))
        if process is not None and process.poll() is None:
            os.kill(process.pid, signal.SIGSTOP)
            asleep[process.pid] = monotonic() + chance.choice([0.2, 1.0, 5.0, COVERED_SECONDS + 45])


def _verdict(world: Stage, seed: int) -> int:
    found = world.backups()
    slots = Counter(one["slot"] for one in found if one["slot"] is not None)
    twice = [slot for slot, count in slots.items() if count > 1]
    whole = sorted((one for one in found if one["state"] == "whole"), key=lambda one: str(one["instant"]), reverse=True)
    gone = [one["instant"] for one in found if one["state"] in ("deleted", "being_deleted")]
    kept_but_gone = [instant for instant in gone if len(whole) >= KEPT and instant > whole[KEPT - 1]["instant"]]
    odd = [(one["id"], one["state"]) for one in found if one["state"] not in ("whole", "deleted", "being_deleted")]
    print(f"seed {seed}: {len(slots)} slots, {len(whole)} whole, {len(gone)} deleted")
    print(f"dumped twice: {twice}; kept by retention and gone: {kept_but_gone}; in odd states: {odd}")
    return 1 if twice or kept_but_gone or odd or len(whole) < KEPT else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
