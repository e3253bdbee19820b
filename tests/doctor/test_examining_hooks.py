"""Hooks are looked at where they stand in the policy, and never run."""

from pathlib import Path

from tests.doctor.standing import said, stand

TOKEN = "gr8-s3cret-t0ken"
HOOKS = """, hooks: {
  before: [{argv: [./pause, hotel]}, {argv: [./pause], env: {T: "${TOKEN}"}, stdin: "${TOKEN}"}],
  after: [{argv: [./resume], env: {T: "${MISSING}"}}]}"""


def program(folder: Path, name: str) -> None:
    file = folder / name
    file.write_text("#!/bin/sh\ntouch begun\n")
    file.chmod(0o755)


def test_hooks_that_can_run(tmp_path: Path) -> None:
    """Each has a row with the program that it would start; none of them is started, and no secret is told."""
    program(tmp_path, "pause")
    program(tmp_path, "resume")

    checkup = stand(tmp_path, dumps=HOOKS, variables={"TOKEN": TOKEN, "MISSING": TOKEN}).examine()

    assert [f"{tmp_path}/pause may be executed"] == said(checkup, "hooks.before[0]")
    assert [f"{tmp_path}/pause may be executed, and what it is given is at hand"] == said(checkup, "hooks.before[1]")
    assert [f"{tmp_path}/resume may be executed, and what it is given is at hand"] == said(checkup, "hooks.after[0]")
    assert not (tmp_path / "begun").exists()
    assert TOKEN not in str(checkup)


def test_hooks_that_can_not(tmp_path: Path) -> None:
    """All that is wrong of each is an error, with its cure."""
    program(tmp_path, "pause")

    checkup = stand(tmp_path, dumps=HOOKS, variables={"TOKEN": TOKEN}).examine()

    found = [(one.severity, one.where, one.what) for one in checkup.findings if one.where.startswith("hooks.")]
    missing = "databases.hotel.dumps.hooks.after[0].env.T: the environment variable MISSING is not set or empty"
    assert [("error", "hooks.after[0]", missing), ("error", "hooks.after[0]", f"{tmp_path}/resume is not there")] == found
    assert all(one.cure for one in checkup.findings if one.where.startswith("hooks."))
    assert [] == said(checkup, "hooks.after[0]")


def test_one_target_alone(tmp_path: Path) -> None:
    """Who asks for a target hears nothing of hooks."""
    checkup = stand(tmp_path, dumps=HOOKS).examine("disk")

    assert "hooks." not in str(checkup)
