"""How long the program takes to start, as ratios against a bare `python -c pass` run side by side.

    python benchmarks/startup.py [RUNS]

Prints the median of each command and its ratio to the baseline of the same round. `plan` needs a running sandbox
(`reconcile sandbox up`) and is left out where there is none.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

HERE = Path(__file__).resolve().parent.parent
RECONCILE = [sys.executable, "-m", "reconciler.cli.main"]
BASELINE = "python -c pass"


def main(runs: int) -> int:
    """Rounds in which every command runs once, so that a slow moment of the machine is everybody's."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode, and does not compile at each start
    commands = {BASELINE: [sys.executable, "-c", "pass"], "reconcile --help": [*RECONCILE, "--help"]}
    commands["reconcile validate"] = [*RECONCILE, "validate"]
    if (HERE / ".sandbox" / "postgres_url").exists():
        commands["reconcile --plan (sandbox)"] = [*RECONCILE, "--plan"]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            began = perf_counter()
            subprocess.run(command, cwd=HERE, stdout=subprocess.DEVNULL, check=True)
            times[name].append(perf_counter() - began)
    for name, taken in times.items():
        ratio = median(one / base for one, base in zip(taken, times[BASELINE], strict=True))
        print(f"{name:<28} {median(taken) * 1000:7.0f} ms  {ratio:5.1f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
