"""`python -m reconciler.simulation`: run seed after seed for a while, or one again with its trace."""

import argparse
import gc
import sys
import time
from collections import Counter
from typing import Any

from reconciler.planning.text import instant
from reconciler.simulation.play import TURNS, Report, play
from reconciler.world.clock import SystemClock

COLLECT_EVERY = 10
"""Worlds: so many leave 20 MiB of cycles."""


def main() -> int:
    """1 where a rule is broken, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m reconciler.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="run this one alone, and show what happened in it")
    parser.add_argument("--seconds", type=float, default=600, help="how long to run seed after seed (default 600)")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with (default 0)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"turns of each world before it heals (default {TURNS})")
    parser.add_argument("--kept", action="store_true", help="worlds whose provider keeps a history")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _again(asked.seed, asked.turns, kept=asked.kept)
    return _soak(asked.first, asked.turns, asked.seconds, kept=asked.kept)


def _again(seed: int, turns: int, *, kept: bool) -> int:
    report = play(seed, turns=turns, kept=kept)
    _say(*report.trace, _verdict(report))
    return 1 if report.broken else 0


def _soak(first: int, turns: int, seconds: float, *, kept: bool) -> int:
    memories = _memories()
    _spare_the_collector()
    clock, done, faults = SystemClock(), 0, Counter[str]()
    began = clock.monotonic()
    seed = first
    while (passed := clock.monotonic() - began) < seconds:
        report = play(seed, turns=turns, kept=kept)
        for memory in memories:
            memory.cache_clear()
        if seed % COLLECT_EVERY == 0:
            gc.collect()
        if report.broken:
            _say(*report.trace[-40:], _verdict(report), f"again: {command(report.seed, turns, kept=kept)}")
            return 1
        done, seed = done + report.turns, seed + 1
        faults += report.faults
        if seed % 500 == 0:
            _say(f"{seed - first} worlds, {done} turns, {done / max(passed, 0.001):.0f} a second: no rule broken")
    passed = clock.monotonic() - began
    worked = time.process_time()
    pace = f"{done} turns in {passed:.0f} s, of which {worked:.0f} s of a core: {done / worked:.0f} turns a second of it"
    _say(f"{seed - first} worlds (seeds {first} to {seed - 1}), {pace}: no rule broken")
    _say(*(f"{count:8d}  {kind.replace('_', ' ')}" for kind, count in faults.most_common()))
    return 0


def _memories() -> list[Any]:
    """What functions remember. Of one world it is of no use to the next: full of it, they took a fifteenth of the time."""
    kind = type(instant)
    ours = [one for one in gc.get_objects() if isinstance(one, kind) and one.__module__.startswith("reconciler.")]
    return [one for one in ours if one.cache_parameters()["maxsize"] is not None]


def _spare_the_collector() -> None:
    """What was imported stays, and worlds make few cycles: they are looked for between worlds alone."""
    gc.collect()
    gc.freeze()
    gc.disable()


def command(seed: int, turns: int, *, kept: bool = False) -> str:
    """What shows that world again."""
    chosen = (f" --turns {turns}" if turns != TURNS else "") + (" --kept" if kept else "")
    return f"python -m reconciler.simulation {seed}{chosen}"


def _verdict(report: Report) -> str:
    rules = "\n".join(f"BROKEN {what}" for what in report.broken)
    return rules or f"seed {report.seed}: {report.turns} turns, no rule broken"


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
