"""`reconcile doctor` as it is typed."""

import json
from pathlib import Path

import jsonschema
import pytest

from reconciler.cli import schema
from reconciler.cli.main import main
from tests.building import policy_file
from tests.servers.postgres import Server


@pytest.fixture
def file(tmp_path: Path, postgres18: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A policy whose source can be reached, by a role that may read nothing much."""
    role = postgres18.new_role("BYPASSRLS IN ROLE pg_read_all_data")
    monkeypatch.setenv("DOCTORS_URL", postgres18.url(postgres18.new_database(), user=role))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "backup-policy.yaml"
    path.write_text(policy_file("DOCTORS_URL"))
    return str(path)


def test_all_is_well(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, and a row for each check that passed."""
    assert 0 == main(["doctor", "-p", file])

    said = capsys.readouterr().out
    assert "  ok  disk    put\n" in said
    assert "0 errors" in said


def test_as_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is what the schema describes."""
    assert 0 == main(["doctor", "-p", file, "--format", "json"])

    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, json.loads(schema.text("doctor")))
    assert answer["healthy"] is True
    assert ["hotel"] == [each["database"] for each in answer["databases"]]


def test_an_error_and_its_cure(file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1; the error comes first, and its cure below it."""
    monkeypatch.delenv("DOCTORS_URL")

    assert 1 == main(["doctor", "-p", file])

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  error  source  ")
    assert "→ " in lines[2]
    assert "1 error" in lines[-1]


def test_one_target_only(file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither source nor tools are looked at, whatever is wrong with them."""
    monkeypatch.delenv("DOCTORS_URL")

    assert 0 == main(["doctor", "-p", file, "--target", "disk", "--format", "json"])

    (database,) = json.loads(capsys.readouterr().out)["databases"]
    assert {"disk"} == {passed["where"] for passed in database["passed"]}


def test_a_target_that_nobody_has(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen is told, with the names that there are."""
    assert 1 == main(["doctor", "-p", file, "--target", "dsk"])

    assert 'has a target "dsk"\n  they have disk' in capsys.readouterr().err
