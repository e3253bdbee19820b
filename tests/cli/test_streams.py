"""What can't be told: remarks are lost, an answer is a failure, and neither keeps anything from being done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

POLICY = """version: 1
metadata: {name: few, owner: me}
targets: {disk: {type: local, path: ./disk}}
databases: {hotel: {source: {provider: postgres, url: "${X}"}, dumps: {schedule: "0 2 * * *", targets: [disk]}}}
"""
PROGRAM = f"{sys.executable} -m reconciler.cli.main"


def _shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["/bin/bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exit)"], ids=["full", "closed", "left"])
@pytest.mark.parametrize("log", ["text", "json"])
def test_remarks_that_nobody_takes(stderr: str, log: str, tmp_path: Path) -> None:
    """A log on a full disk, or whose reader is gone, is no reason to do less."""
    ran = _shell(f"{PROGRAM} keys new --age --log-format {log} {stderr}", tmp_path)

    assert 0 == ran.returncode
    assert ran.stdout.startswith("age1")


@pytest.mark.parametrize("words", ["keys new --age", "--help", "--version", "schema policy"])
def test_an_answer_that_nobody_takes(words: str, tmp_path: Path) -> None:
    """A failure, said in a sentence."""
    ran = _shell(f"{PROGRAM} {words} >/dev/full", tmp_path)

    assert 1 == ran.returncode
    assert "reconcile: cannot write the answer: No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "bug" not in ran.stderr


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """They lead nowhere, and no file that is opened later takes their place."""
    ran = _shell(f"{PROGRAM} keys new --age --out key {closed}", tmp_path)

    assert (0, "") == (ran.returncode, ran.stderr if "2>&-" in closed else "")
    assert "AGE-SECRET-KEY-1" in (tmp_path / "key").read_text().splitlines()[-1]
    assert 2 == len((tmp_path / "key").read_text().splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_few_characters(encoding: str, tmp_path: Path) -> None:
    """A locale without arrows and dashes costs no answer: they are written out, and JSON stays JSON."""
    (tmp_path / "p→ü.yaml").write_text(POLICY)
    environ = f"PYTHONIOENCODING={encoding}"

    helped = _shell(f"{environ} {PROGRAM} plan --help", tmp_path)
    schema = _shell(f"{environ} {PROGRAM} schema policy", tmp_path)
    listed = _shell(f"{environ} X=1 {PROGRAM} status -p p→ü.yaml", tmp_path)
    valid = _shell(f"{environ} {PROGRAM} validate -p p→ü.yaml --format json", tmp_path)
    logged = _shell(f"{environ} {PROGRAM} validate -p p→ü.yaml --database ü→ --log-format json", tmp_path)

    assert "--fail-on STATUS[,\\u2026]" in helped.stdout
    assert json.loads(schema.stdout) == json.loads(_shell(f"{PROGRAM} schema policy", tmp_path).stdout)
    assert "\\u2013" in listed.stdout
    assert "p→ü.yaml" == json.loads(valid.stdout)["policy"]
    assert [1, "ü→" in json.loads(logged.stderr)["says"]] == [logged.returncode, True]
    assert "bug" not in "".join(ran.stderr for ran in (helped, schema, listed, valid))
