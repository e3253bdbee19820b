"""Planning asks the world nothing: not the disk, not the network, not the clock's zone, and starts nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A hook can't be taken away again, so each run has a process of its own.
PROGRAM = """
import sys
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from reconciler.connect import KINDS
from reconciler.planning import render
from reconciler.policy.loading import load
from tests.building import NOW, catalogue, daily, observation_of, planned
from tests.situations import SITUATIONS

FORBIDDEN = ("open", "socket.", "subprocess.", "os.", "import", "shutil.", "tempfile.", "ctypes.", "urllib.", "exec", "compile")
told = []


def hook(event, arguments):
    if armed and event.startswith(FORBIDDEN):
        told.append(f"{event} {arguments!r:.200}")


armed = False
sys.addaudithook(hook)
worlds = [pair for situation in SITUATIONS.values() for pair in situation()]
for file in map(Path, sys.argv[2:]):
    for want in load(file.read_bytes(), KINDS, path=file).databases.values():
        for newest in (NOW, NOW - timedelta(days=3)):
            seen = {name: catalogue(daily(40, newest)) for name in want.dumps.targets}
            worlds.append((want, observation_of(seen, database=want.name)))
        new = dict.fromkeys(want.dumps.targets, catalogue(begun=False))
        worlds.append((want, observation_of(new, database=want.name)))
for want, _ in worlds:
    ZoneInfo(want.timezone)  # a zone is read from disk once, and stays

armed = True
if sys.argv[1] == "sin":
    open("/dev/null").close()
plans = [planned(want, have) for want, have in worlds]
render.text(plans)
armed = False

print(len(plans), "plans")
sys.exit("\\n".join(told) if told else 0)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


POLICIES = [
    str(file.relative_to(ROOT))
    for file in sorted({*ROOT.glob("examples/*.yaml"), *ROOT.glob("examples/*/*.yaml"), *ROOT.glob("*.yaml")})
]


@pytest.mark.parametrize("policies", [[], POLICIES], ids=["golden situations", "policies of this repository"])
def test_planning_under_an_audit_hook(policies: list[str]) -> None:
    """No file, socket, process or import while every situation, and every example, is planned and rendered."""
    done = run("pure", *policies)

    assert (0, "") == (done.returncode, done.stderr)
    assert "plans" in done.stdout


def test_hook_that_sees_a_sin() -> None:
    """The hook would tell."""
    assert "/dev/null" in run("sin").stderr
