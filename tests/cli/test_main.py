"""The words of a command line, before any command runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.main import COMMANDS, split


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--plan"], ("plan", [])),
        (["plan", "--out", "x"], ("plan", ["--out", "x"])),
        (["-p", "plan", "--plan"], ("plan", ["-p", "plan"])),
        (["--policy", "x.yaml", "apply", "--yes"], ("apply", ["--policy", "x.yaml", "--yes"])),
        (["--apply", "plan.json"], ("apply", ["plan.json"])),
        (["backups", "list", "--format", "json"], ("backups", ["list", "--format", "json"])),
        (["--format", "json", "status"], ("status", ["--format", "json"])),
        (["nonsense"], (None, ["nonsense"])),
        ([], (None, [])),
    ],
)
def test_the_command_is_found_wherever_it_stands(words: list[str], expected: tuple[str | None, list[str]]) -> None:
    """Options may stand before the command, and --plan and --apply are commands."""
    assert expected == split(words)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_alone_it_prints_help() -> None:
    """Whoever types only the name sees what there is."""
    ran = _run()

    assert ran.returncode == 0
    assert all(name in ran.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_examples(command: str) -> None:
    """`--help` is where a user looks first."""
    ran = _run(command, "--help")

    assert ran.returncode == 0
    assert "examples:" in ran.stdout
    assert f"reconcile {command}" in ran.stdout or f"reconcile --{command}" in ran.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["aply"], 'unknown command "aply"; did you mean "apply"?'),
        (["--aply"], 'unknown option "--aply"'),
        (["plan", "--nope"], "unrecognized arguments: --nope"),
        (["plan", "--fail-on", "bad"], '"bad" is none of'),
        (["backups"], "the following arguments are required"),
        (["backups", "restore", "2025", "--into", "x", "--jobs", "0"], "argument --jobs: a whole number from 1 to 64"),
        (["backups", "restore", "2025", "--into", "x", "--jobs", "two"], "argument --jobs: a whole number from 1 to 64"),
        (["sandbox", "fault", "locked", "--times", "0"], "argument --times: a whole number from 1 to 1000"),
        (["sandbox", "fault", "broken", "--http-status", "200"], "argument --http-status: a whole number from 400 to 599"),
        (["sandbox", "fault", "slow", "--seconds", "nan"], "argument --seconds: a number from 0 to 3600"),
        (["sandbox", "fault", "slow", "--seconds", "-1"], "argument --seconds: a number from 0 to 3600"),
        (["freeze", "hotel", "--why", " "], "a freeze needs a reason"),
        (["backups", "hold", "2025", "--why", "\t"], "a hold needs a reason"),
        (["validate", "-p", "/nowhere/at/all.yaml"], "does not exist"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_1(words: list[str], says: str) -> None:
    """Never a traceback, and nothing on stdout, which carries answers only."""
    ran = _run(*words)

    assert ran.returncode == 1
    assert says in ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr


def test_a_database_that_is_not_in_the_policy_is_no_valid_policy_of_nothing(tmp_path: Path) -> None:
    """`validate` of a misspelt name says so, as all others do."""
    policy = Path(__file__).parents[2] / "backup-policy.yaml"

    ran = _run("validate", "-p", str(policy), "--database", "nonsense")

    assert (1, "") == (ran.returncode, ran.stdout)
    assert 'the policy has no database "nonsense"' in ran.stderr


def test_help_imports_the_standard_library_only() -> None:
    """Start-up time is a feature: what `--help` needs is not worth a library."""
    script = (
        "import sys; from reconciler.cli.main import main; before = main(['--help']); "
        "print([name for name in sys.modules if name.partition('.')[0] in "
        "('msgspec', 'yaml', 'botocore', 'psycopg', 'rich', 'jsonschema', 'cronsim', 'argparse')], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ran.stderr.strip() == "[]"
