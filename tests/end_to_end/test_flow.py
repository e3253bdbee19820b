"""From a policy to backups that restore, as a user types it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.sandbox.binaries import postgres_binaries
from tests.end_to_end.conftest import Stand

SCHEMAS = Path(__file__).parents[2] / "schemas"


def _tool(name: str, *words: str) -> str:
    return subprocess.run([postgres_binaries() / name, *words], capture_output=True, text=True, check=True, timeout=120).stdout


def _valid(document: Any, name: str) -> None:
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.v1.schema.json").read_text())).validate(document)


def test_plan_apply_plan(stand: Stand) -> None:
    """The first plan shows a dump, apply takes it and its copy in one go, and the second plan is empty."""
    first = stand.json("plan")
    applied = stand.json("apply", "--yes")
    second = stand.run("--plan", "--detailed-exitcode")

    assert [step["kind"] for step in first["plans"][0]["steps"]] == ["take_dump"]
    assert [(outcome["does"], outcome["result"]) for outcome in applied["outcomes"]] == [
        ("take dump → primary", "done"),
        ("copy primary → disk", "done"),
    ]
    assert "nothing to do" in second.stdout
    assert [("whole", ["disk", "primary"], None)] == [(one["state"], one["targets"], one["verified"]) for one in stand.backups()]


def test_every_json_answer_has_a_schema(stand: Stand) -> None:
    """`--format json` is a contract: what is printed validates against what is committed."""
    _valid(stand.json("validate"), "validate")
    _valid(stand.json("plan"), "plan")
    _valid(stand.json("apply", "--yes"), "apply")
    _valid(stand.json("status"), "status")
    _valid(stand.json("backups", "list"), "backups")
    _valid(stand.json("backups", "show", stand.backups()[0]["id"]), "manifest")


def test_exit_codes_of_a_plan(stand: Stand) -> None:
    """2 when something is due and that was asked; 3 when an objective fails and that was asked; 3 wins."""
    stand.run("--plan", expect=0)
    stand.run("--plan", "--detailed-exitcode", expect=2)
    stand.run("--plan", "--detailed-exitcode", "--fail-on", "violated", expect=3)
    stand.run("status", expect=0)
    stand.run("status", "--fail-on", "violated", expect=3)


def test_planning_changes_nothing(stand: Stand) -> None:
    """Looking leaves no trace on a target, not even a folder."""
    stand.run("--plan")
    stand.run("status")
    stand.run("backups", "list")

    assert not (stand.folder / "disk").exists()


def test_apply_asks(stand: Stand) -> None:
    """Without a terminal and without a word of consent, nothing is done."""
    ran = stand.run("--apply", expect=1)

    assert "--yes" in ran.stderr
    assert stand.backups() == []


def test_a_saved_plan_approves_just_what_it_shows(stand: Stand) -> None:
    """Creations are done; a deletion that the file does not show is left, named, and exit 3."""
    stand.rewrite("keep_last: 3", "keep_last: 1")
    stand.run("plan", "--out", "plan.json")
    for _ in range(3):
        stand.run("backups", "take", "--keep", "1s")
    ran = stand.run("apply", "plan.json", expect=3)

    assert "not approved" in ran.stdout
    assert [one["state"] for one in stand.backups()] == ["whole"] * 4


@pytest.mark.parametrize("content", ["", "[]", '{"approves": ["x"]}', '{"format": 9, "approves": []}', "\0"])
def test_what_is_no_saved_plan_is_refused(stand: Stand, content: str) -> None:
    """A file from elsewhere approves nothing."""
    (stand.folder / "plan.json").write_text(content)

    ran = stand.run("apply", "plan.json", expect=1)

    assert "plan.json" in ran.stderr
    assert stand.backups() == []


def test_a_fetched_backup_restores_exactly_by_plain_pg_restore(stand: Stand, empty: str) -> None:
    """Nothing of ours is needed: pg_dump's text of both databases is equal."""
    stand.run("apply", "--yes")
    stand.run("backups", "fetch", stand.backups()[0]["id"], "--output", "hotel.dump")
    _tool("pg_restore", "--exit-on-error", f"--dbname={empty}", str(stand.folder / "hotel.dump"))

    assert _tool("pg_dump", "--restrict-key=x", stand.admin_url) == _tool("pg_dump", "--restrict-key=x", empty)


def test_restore_into_an_empty_database(stand: Stand, empty: str) -> None:
    """By id, roles first; the url may come from the environment, out of sight."""
    stand.run("apply", "--yes")
    backup = stand.backups()[0]["id"]
    stand.run("backups", "restore", backup, "--into", "${NEW_URL}", NEW_URL=empty)
    again = stand.run("backups", "restore", backup, "--into", empty, expect=1)
    source = stand.run("backups", "restore", backup, "--into", stand.admin_url, expect=1)

    assert _tool("pg_dump", "--restrict-key=x", stand.admin_url) == _tool("pg_dump", "--restrict-key=x", empty)
    assert "is not empty" in again.stderr
    assert "is a source of the policy" in source.stderr


def test_restore_by_several_jobs(stand: Stand, empty: str) -> None:
    """The same database comes of it; nothing stays in the folder where the archive lay meanwhile."""
    stand.run("apply", "--yes")
    backup = stand.backups()[0]["id"]
    (stand.folder / "spool").mkdir()
    stand.run("backups", "restore", backup, "--into", empty, "--jobs", "2", "--spool", "spool")
    none = stand.run("backups", "restore", backup, "--into", empty, "--jobs", "0", expect=1)

    assert _tool("pg_dump", "--restrict-key=x", stand.admin_url) == _tool("pg_dump", "--restrict-key=x", empty)
    assert not list((stand.folder / "spool").iterdir())
    assert "--jobs" in none.stderr


def test_fetch_as_it_is_stored(stand: Stand) -> None:
    """Byte for byte the object, which whoever has the tools opens by hand."""
    stand.run("apply", "--yes")
    ran = stand.run("backups", "fetch", stand.backups()[0]["id"], "--output", "stored", "--raw")

    assert next((stand.folder / "disk").rglob("dump.zst")).read_bytes() == (stand.folder / "stored").read_bytes()
    assert "pg_restore" not in ran.stdout


def test_fetch_does_not_write_over_a_file(stand: Stand) -> None:
    """Unless told to; and a failed fetch leaves nothing."""
    stand.run("apply", "--yes")
    backup = stand.backups()[0]["id"]
    (stand.folder / "mine").write_text("precious")
    stand.run("backups", "fetch", backup, "--output", "mine", expect=1)
    stand.run("backups", "fetch", "20200101T000000Z-000000", "--output", "other", expect=1)
    named = stand.run("backups", "fetch", backup, "--output", "not mine; ls")

    assert (stand.folder / "mine").read_text() == "precious"
    assert "  pg_restore --dbname=DATABASE 'not mine; ls'\n" in named.stdout
    assert not (stand.folder / "other").exists()


def test_a_damaged_copy_is_passed_over_for_a_good_one(stand: Stand) -> None:
    """A flipped byte is noticed before any byte of its part is used; the other copy is read instead."""
    stand.run("apply", "--yes")
    backup = stand.backups()[0]["id"]
    file = next((stand.folder / "disk").rglob("dump.zst"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    only = stand.run("backups", "fetch", backup, "--output", "one", "--from", "disk", expect=1)
    stand.rewrite("targets: [primary, disk]", "targets: [disk, primary]")
    either = stand.run("backups", "fetch", backup, "--output", "two")

    assert "the bytes are not those that were written" in only.stderr
    assert not (stand.folder / "one").exists()
    assert "from primary" in either.stdout


def test_take_before_a_migration(stand: Stand) -> None:
    """Of kind manual, labelled, with an end of its own, on every target at once."""
    stand.run("backups", "take", "--label", "release=1.2", "--keep", "30d")
    (one,) = stand.backups()

    assert one["kind"] == "manual"
    assert one["labels"] == {"release": "1.2"}
    assert one["keep_until"] is not None
    assert one["targets"] == ["disk", "primary"]


def test_one_target_down_costs_neither_the_dump_nor_the_backups(stand: Stand) -> None:
    """It lands on the other, the first is unknown and not empty, nothing is deleted, and the copy follows once it is back."""
    address = stand.status.s3.endpoint
    assert address is not None
    good = f"{{file: {stand.box}/s3_endpoint}}"
    stand.run("apply", "--yes")
    stand.rewrite(good, "http://127.0.0.1:9")
    plan = stand.json("plan")
    stand.run("backups", "take", expect=0)
    stand.rewrite("http://127.0.0.1:9", good)
    stand.run("apply", "--yes")

    assert any("primary" in finding["where"] for finding in plan["plans"][0]["findings"])
    assert [["disk", "primary"], ["disk", "primary"]] == [one["targets"] for one in stand.backups()]


def test_everything_down_is_exit_1_and_unknown(stand: Stand) -> None:
    """Nothing observable: that is said, and never taken for nothing there."""
    stand.rewrite(f"{{file: {stand.box}/s3_endpoint}}", "http://127.0.0.1:9")
    stand.rewrite("./disk", "./no/such/parent/disk")

    plan = stand.run("--plan", expect=1)
    listed = stand.run("backups", "list", expect=1)

    assert "unproven" in plan.stdout
    assert "unknown" in listed.stdout


def test_a_policy_copied_to_another_database_touches_nothing(stand: Stand, empty: str) -> None:
    """Staging made by copying production's policy: the plan says whose it is, exits 3, and applies nothing."""
    stand.run("apply", "--yes")
    before = stand.backups()
    plan = stand.run("--plan", expect=3, SOURCE_URL=empty)
    stand.run("apply", "--yes", expect=3, SOURCE_URL=empty)

    assert "holds the backups of" in plan.stdout
    assert "violated" in plan.stdout
    assert before == stand.backups()
