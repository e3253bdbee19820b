"""Verification as a user meets it: restored for real, written down, and heeded."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.patience import comes_true
from tests.end_to_end.conftest import Stand
from tests.servers.scratch import left_in, running_in, scratch_base

__all__ = ["scratch_base"]

RULE = "      retention: {keep_last: 3}\n"
CHECKS = """    checks:
      - {name: guests-exist, sql: "select count(*) from hotel.guests", expect: "> 0"}
      - {name: canary, sql: "select 'tok' || 'en'", expect_secret: "${CANARY}"}
"""


@pytest.fixture
def verified(stand: Stand, scratch_base: Path) -> Stand:
    """A policy with verification and checks, and one backup on both targets."""
    stand.rewrite("databases:\n", f"scratch: {{type: embedded, folder: {scratch_base}}}\ndatabases:\n")
    stand.rewrite(RULE, RULE + "      verify: {every: 7d}\n" + CHECKS)
    stand.run("backups", "take")
    return stand


def evidence(stand: Stand, *words: str, expect: int = 0, **more: str) -> list[dict[str, Any]]:
    """What `backups verify` found."""
    answer = stand.json("backups", "verify", *words, expect=expect, **({"CANARY": "token"} | more))
    found: list[dict[str, Any]] = answer["evidence"]
    return found


def damage(stand: Stand, name: str = "dump.zst") -> Path:
    """One byte of the copy on disk, in place: the size stays."""
    (path,) = (stand.folder / "disk").rglob(name)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def pins(stand: Stand) -> list[str]:
    """Who reads a backup."""
    found = stand.keys()
    return [key for key in found if "/pins/" in key]


def records(stand: Stand) -> list[str]:
    """Of what was verified."""
    found = stand.keys()
    return [key for key in found if "/evidence/" in key]


def test_a_restore_proves_it(verified: Stand, scratch_base: Path) -> None:
    """Each target's copy is restored, counted and asked; status says when; nothing of it is left."""
    found = evidence(verified)

    assert [(one["target"], one["level"], one["result"]) for one in found] == [
        ("primary", "restore", "passed"),
        ("disk", "restore", "passed"),
    ]
    assert [one["sequence"] for one in found] == [1, 2]
    assert "asked 2 checks: 2 as expected" in found[0]["did"]
    assert "token" not in json.dumps(found).replace("tok' || 'en", "")
    assert verified.json("status")["databases"][0]["verified"] is not None
    assert [one["verified"] is not None for one in verified.backups()] == [True]
    assert pins(verified) == []
    assert left_in(scratch_base) == []


def test_the_plan_asks_for_it(verified: Stand) -> None:
    """Once in the time that the policy says, on each target; the objective says how it stands."""
    assert "+ verify" in verified.run("plan").stdout
    verified.run("apply", "--yes", CANARY="token")
    plan = verified.run("plan").stdout

    assert "verify" not in plan.replace("verified", "")
    assert "verified 7d met: passed on primary" in plan


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
def test_a_damaged_copy(verified: Stand, level: str) -> None:
    """It fails at every level, stops deletions, counts as no backup there, and the other copy is not blamed."""
    damage(verified)

    found = evidence(verified, "--level", level, expect=1)

    assert [(one["target"], one["result"]) for one in found] == [("primary", "passed"), ("disk", "failed")]
    assert "dump.zst, part 1 of 1" in found[1]["faults"][0]["what"]
    (one,) = verified.backups()
    assert {"primary": False, "disk": True} == {copy["target"]: bool(copy["failed"]) for copy in one["copies"]}
    plan = verified.run("plan").stdout
    assert "freeze deletions" in plan
    assert "failed its verification" in plan
    verified.run("apply", "--yes", expect=None, CANARY="token")
    assert "deletions are frozen" in verified.run("plan").stdout
    verified.run("unfreeze", "hotel")
    assert "freeze" not in verified.run("plan").stdout


def test_a_check_that_fails(verified: Stand) -> None:
    """A backup that restores, and does not hold what it must, has failed; a secret is not told."""
    verified.rewrite("> 0", "> 1000000")

    found = evidence(verified, "--target", "disk", expect=1, CANARY="something else")

    faults = {fault["where"]: fault["what"] for fault in found[0]["faults"]}
    assert "expected > 1000000" in faults["check guests-exist"]
    assert faults["check canary"] == "the answer is not the secret that it must be"


def test_who_chooses_a_backup_sees_what_failed(verified: Stand, tmp_path: Path) -> None:
    """In the list and when it is read; another copy is taken before it, and status names it as no restore point."""
    verified.rewrite("> 0", "> 1000000")
    (backup,) = verified.backups()
    evidence(verified, "--target", "primary", expect=1)

    listed = verified.run("backups", "list").stdout.splitlines()
    fetched = verified.run("backups", "fetch", backup["id"], "--output", str(tmp_path / "a"))
    chosen = verified.run("backups", "fetch", backup["id"], "--output", str(tmp_path / "b"), "--from", "primary")

    assert listed[1].endswith("failed on primary")
    assert f"{backup['id']} on primary failed its verification of " in listed[2]
    assert f"{backup['id']} from disk" in fetched.stdout
    assert "failed its verification" not in fetched.stderr
    assert f"{backup['id']} on primary failed its verification of " in chosen.stderr
    assert ["disk"] == verified.json("status")["databases"][0]["newest_on"]
    evidence(verified, "--target", "disk", expect=1)
    assert verified.run("backups", "list").stdout.splitlines()[1].endswith("  failed")
    (state,) = verified.json("status")["databases"]
    assert (None, 1, 0) == (state["newest"], state["backups"], state["partial"])


def test_a_canary_that_is_not_set(verified: Stand) -> None:
    """What can't be asked is neither good nor bad."""
    (found,) = verified.json("backups", "verify", "--target", "disk", expect=3)["evidence"]

    assert found["result"] == "unproven"
    assert "CANARY is not set" in found["faults"][0]["what"]


def test_killed_in_the_middle(verified: Stand, scratch_base: Path) -> None:
    """`kill -9` leaves no server; the next one sweeps its folder and its pin, and proves the backup."""
    verified.rewrite("select count(*) from hotel.guests", "select count(*) from hotel.guests, pg_sleep(60)")
    running = verified.begin("backups", "verify", "--target", "disk", CANARY="token")
    assert comes_true(lambda: any("SELECT" in one for one in running_in(scratch_base)), seconds=60)
    assert len(pins(verified)) == 1
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert comes_true(lambda: not running_in(scratch_base), seconds=60)
    verified.rewrite("select count(*) from hotel.guests, pg_sleep(60)", "select count(*) from hotel.guests")

    verified.run("apply", "--yes", CANARY="token")

    assert left_in(scratch_base) == []
    assert pins(verified) == []
    assert "verified 7d met" in verified.run("plan").stdout


def test_another_source_proves_nothing(verified: Stand) -> None:
    """A staging policy made by copying production's writes no evidence there: it would say what may be deleted."""
    evidence(verified, "--level", "hash")
    before = records(verified)
    staging = verified.admin_url.rpartition("/")[0] + "/postgres"
    answer = verified.json("backups", "verify", "--level", "hash", expect=3, CANARY="token", SOURCE_URL=staging)
    listed = verified.json("backups", "list", expect=None, SOURCE_URL=staging)["backups"]
    status = verified.json("status", expect=None, SOURCE_URL=staging)["databases"][0]

    assert answer["evidence"] == []
    assert {"primary", "disk"} == {one["target"] for one in answer["untried"]}
    assert before == records(verified)
    assert [None] == [one["verified"] for one in listed]
    assert status["verified"] is None


def test_a_target_that_can_not_be_seen_is_not_passed_over(verified: Stand) -> None:
    """What nobody looked at is not verified, and the exit code says so."""
    (verified.folder / "disk").rename(verified.folder / "away")
    (verified.folder / "disk").write_text("no folder")
    answer = verified.json("backups", "verify", "--level", "hash", expect=1, CANARY="token")
    alone = verified.json("backups", "verify", "--level", "hash", "--target", "disk", expect=1, CANARY="token")

    assert [("primary", "passed")] == [(one["target"], one["result"]) for one in answer["evidence"]]
    assert ["disk"] == [one["target"] for one in answer["untried"]] == [one["target"] for one in alone["untried"]]
    assert "no folder" in answer["untried"][0]["reason"]
