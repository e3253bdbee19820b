"""`kill -9` at random instants of real runs, on real parts: no backup lost, nothing torn listed, nothing left behind.

    python -m tests.soak.kills [KILLS] [SEED]

Each run takes a manual backup that may go at once, copies it, prunes and removes older ones; it is killed after a drawn delay.
"""

import os
import random
import signal
import subprocess
import sys
from time import monotonic

from tests.soak.stage import Stage, leftovers, stage

LONGEST_SECONDS = 1.8
"""Of a run on an idle machine, start of the program included."""


def main(kills: int, seed: int) -> int:
    """Prints what it found; exit code 1 at the first thing that is not as promised."""
    chance = random.Random(seed)
    began, killed, runs = monotonic(), 0, 0
    with stage("0 2 * * *", "1s") as world:
        world.run("apply", "--yes")
        safe = {one["id"] for one in world.backups()}
        while killed < kills:
            killed, runs = killed + _one(world, chance), runs + 1
            if runs % 25 == 0:
                _check(world, safe, f"after {runs} runs of seed {seed}")
        for _ in range(4):
            world.run("apply", "--yes")
        _check(world, safe, "at the end")
        if leftovers(world) or "nothing to do" not in world.run("--plan"):
            print(f"FAILED: left behind: {leftovers(world)}\n{world.run('--plan')}")
            return 1
        if unread := _unread(world):
            print(f"FAILED: listed, and can't be read: {unread}")
            return 1
    took = monotonic() - began
    print(f"{killed} of {runs} runs killed in {took:.0f} s, seed {seed}: nothing lost, nothing torn, nothing left")
    return 0


def _one(world: Stage, chance: random.Random) -> bool:
    words = ("backups", "take", "--keep", "1s") if chance.random() < 0.5 else ("apply", "--yes")
    running = world.start(*words)
    try:
        running.wait(chance.uniform(0.2, LONGEST_SECONDS))
    except subprocess.TimeoutExpired:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        return True
    return False


def _unread(world: Stage) -> list[str]:
    """Copies of which not all comes back as it was written."""
    copies = [(one["id"], target) for one in world.backups() for target in one["targets"]]
    into = ("--output", "check.dump", "--force")
    return [f"{one} on {name}" for one, name in copies if one not in world.run("backups", "fetch", one, "--from", name, *into)]


def _check(world: Stage, safe: set[str], when: str) -> None:
    """What was whole before the first kill is whole, and nothing is listed that only looks like a backup."""
    found = {one["id"]: one["state"] for one in world.backups()}
    lost = [backup for backup in safe if found.get(backup) != "whole"]
    odd = {
        backup: state
        for backup, state in found.items()
        if state not in ("whole", "debris", "deleted", "being_deleted", "being_written")
    }
    if lost or odd:
        raise SystemExit(f"FAILED {when}: lost {lost}, odd {odd}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
