"""Hold, release, delete, undelete, freeze, adopt and forget, as a user types them."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests.end_to_end.conftest import Stand


def _taken(stand: Stand, count: int) -> list[str]:
    """Newest first."""
    stand.rewrite("targets: [primary, disk]", "targets: [disk]")
    for _ in range(count):
        stand.run("backups", "take")
    return [one["id"] for one in stand.backups()]


def _states(stand: Stand) -> dict[str, str]:
    return {one["id"]: one["state"] for one in stand.backups()}


def test_hold_delete_release_undelete(stand: Stand) -> None:
    """A held one is not deleted; a deleted one comes back within its grace; the last two are never deleted."""
    newest, middle, oldest = _taken(stand, 3)
    stand.run("backups", "hold", newest, expect=1)
    stand.run("backups", "hold", newest, "--why", "legal 7")
    refused = stand.run("backups", "delete", newest, expect=1)
    stand.run("backups", "release", newest)
    stand.run("backups", "delete", newest)
    deleted = _states(stand)[newest]
    gone = [stand.run("backups", *words, expect=1) for words in (("show", newest), ("fetch", newest, "--output", "x"))]
    last = stand.run("backups", "delete", middle, expect=1)
    stand.run("backups", "undelete", newest)

    assert "legal 7" in refused.stderr
    assert deleted == "deleted"
    assert "one of the last 2" in last.stderr
    assert all(f"`reconcile backups undelete {newest}` brings it back" in ran.stderr for ran in gone)
    assert {"whole"} == set(_states(stand).values())
    assert oldest in _states(stand)


def test_undelete_of_what_nothing_keeps(stand: Stand) -> None:
    """It says that the next turn gives it up again, and what would keep it; of one that is held it says nothing."""
    stand.rewrite("targets: [primary, disk]", "targets: [disk]")
    stand.run("backups", "take", "--keep", "0s")
    (oldest,) = _states(stand)
    for _ in range(2):
        stand.run("backups", "take")
    stand.run("apply", "--yes")
    pruned = _states(stand)[oldest]
    back = stand.run("backups", "undelete", oldest)
    again = stand.run("apply", "--yes")
    stand.run("backups", "hold", oldest, "--why", "court")
    held = stand.run("backups", "undelete", oldest)

    assert pruned == "deleted"
    assert "is back" in back.stdout
    assert f"the next turn gives it up again: `reconcile backups hold {oldest} --why TEXT` keeps it" in back.stderr
    assert "prune" in again.stdout
    assert "gives it up" not in held.stderr
    assert "whole" == _states(stand)[oldest]


def test_freeze_and_unfreeze(stand: Stand) -> None:
    """Nothing is deleted meanwhile, by name or by retention, and the plan says why."""
    newest, *_ = _taken(stand, 3)
    stand.run("freeze", "hotel", "--why", "rows are missing")
    stand.run("backups", "delete", newest, expect=3)
    planned = stand.run("--plan")
    stand.run("unfreeze", "hotel")
    stand.run("backups", "delete", newest)

    assert "rows are missing" in planned.stdout
    assert _states(stand)[newest] == "deleted"


def test_what_is_left_after_one_thing_was_done(stand: Stand) -> None:
    """Nothing of what was just done, though it could be done again."""
    newest, *_ = _taken(stand, 1)
    for words in (
        ("backups", "hold", newest, "--why", "legal"),
        ("backups", "release", newest),
        ("freeze", "hotel", "--why", "audit"),
        ("unfreeze", "hotel"),
    ):
        document = stand.json(*words)

        assert ["done"] == [one["result"] for one in document["outcomes"]]
        assert [[]] == [plan["steps"] for plan in document["after"]]


def test_kept_for_no_time(stand: Stand) -> None:
    """That is a time, and not for ever."""
    stand.run("backups", "take", "--keep", "0d")

    assert all(one["keep_until"] for one in stand.backups())


def test_adopt_after_a_move(stand: Stand) -> None:
    """The same catalogue under another source counts for nothing until it is adopted; then all of it does."""
    _taken(stand, 1)
    stand.run("apply", "--yes")
    elsewhere = stand.admin_url.rpartition("/")[0] + "/postgres"
    foreign = stand.run("--plan", expect=3, SOURCE_URL=elsewhere)
    stand.run("adopt", "hotel", SOURCE_URL=elsewhere)
    ours = stand.run("--plan", expect=0, SOURCE_URL=elsewhere)

    assert "reconcile adopt" in foreign.stdout
    assert "met" in ours.stdout
    stand.run("--plan", expect=3)


def test_what_left_the_policy_is_reported_until_it_is_forgotten(stand: Stand) -> None:
    """Renaming a database deletes nothing; the old name is a note, and forgetting ends only the note."""
    _taken(stand, 1)
    stand.rewrite("\n  hotel:", "\n  motel:")
    before = stand.run("--plan")
    stand.run("forget", "hotel")
    after = stand.run("--plan")
    again = stand.run("forget", "hotel", expect=1)

    assert "left the policy" in before.stdout
    assert "left the policy" not in after.stdout
    assert "nothing called hotel" in again.stderr
    assert list((stand.folder / "disk" / "hotel").rglob("manifest.json"))


def test_a_target_that_a_database_has_no_more(stand: Stand) -> None:
    """The note's own cure ends it, also where the policy still declares the target; one that is in use is not forgotten."""
    stand.run("apply", "--yes")
    used = stand.run("forget", "disk", expect=1)
    stand.rewrite("targets: [primary, disk]", "targets: [primary]")
    before = stand.run("--plan")
    stand.run("forget", "disk")
    after = stand.run("--plan")

    assert "disk is a target of hotel" in used.stderr
    assert "`reconcile forget disk` ends this note" in before.stdout
    assert "disk" not in after.stdout
    assert list((stand.folder / "disk" / "hotel").rglob("manifest.json"))


def test_a_target_that_nobody_has(stand: Stand) -> None:
    """A misspelt name is told from a target that has no copy, whoever asks."""
    (backup,) = _taken(stand, 1)
    for words in (("verify",), ("verify", backup, "--level", "hash"), ("show", backup), ("fetch", backup, "--output", "x")):
        option = "--target" if words[0] == "verify" else "--from"
        refused = stand.run("backups", *words, option, "dsk", expect=1)

        assert 'none of these databases has a target "dsk"' in refused.stderr


def test_what_is_not_known_to_be_proven(stand: Stand) -> None:
    """Where evidence can't be read it is unknown, and of what was deleted there is nothing to prove: neither is never."""
    stand.run("apply", "--yes")
    stand.run("backups", "take")
    deleted = stand.run("backups", "take").stdout.split(" on primary")[0].split()[-1]
    stand.run("backups", "delete", deleted)
    seen = stand.run("backups", "list").stdout.splitlines()[1:4]
    stand.rewrite(f"{{file: {stand.box}/s3_endpoint}}", "http://127.0.0.1:9")
    unseen = stand.run("backups", "list").stdout.splitlines()[1:4]

    assert ["–", "never", "never"] == [line.split()[-1] for line in seen]
    assert ["–", "unknown", "unknown"] == [line.split()[-1] for line in unseen]
    assert "unknown" == re.split(r"\s{2,}", stand.run("status").stdout.splitlines()[1])[4]


def test_an_orphan_becomes_a_backup_again(stand: Stand) -> None:
    """Its manifest was lost; all data is read, and it restores as before."""
    (backup,) = _taken(stand, 1)
    before = stand.json("backups", "show", backup)["source"]
    manifest: Path = next((stand.folder / "disk").rglob("manifest.json"))
    manifest.unlink()
    orphan = _states(stand)
    stand.run("backups", "adopt", backup)
    (found,) = stand.backups()
    shown = stand.json("backups", "show", backup)
    stand.run("backups", "fetch", backup, "--output", "again.dump")

    assert orphan == {backup: "orphan"}
    assert (found["state"], found["kind"]) == ("whole", "imported")
    assert 0 < shown["fingerprint"]["rows"]
    assert (before["encoding"], before["collate"]) == (shown["source"]["encoding"], shown["source"]["collate"])
    assert (stand.folder / "again.dump").read_bytes()[:5] == b"PGDMP"


def test_an_orphan_that_was_cut_off_stays_one(stand: Stand) -> None:
    """The end of its bytes is not the end of the dump."""
    (backup,) = _taken(stand, 1)
    folder = next((stand.folder / "disk").rglob("manifest.json")).parent
    (folder / "manifest.json").unlink()
    dump = folder / "dump.zst"
    dump.write_bytes(dump.read_bytes()[:-1])
    refused = stand.run("backups", "adopt", backup, expect=1)

    assert "ends in the middle" in refused.stdout + refused.stderr
    assert {backup: "orphan"} == _states(stand)


def test_another_source_does_nothing_by_name(stand: Stand) -> None:
    """A staging policy made by copying production's: not even what a person asks for is done to production's backups."""
    newest, middle, _ = _taken(stand, 3)
    stand.run("freeze", "hotel", "--why", "incident")
    stand.run("backups", "hold", newest, "--why", "legal")
    staging = stand.admin_url.rpartition("/")[0] + "/postgres"
    before = {file: file.read_bytes() for file in (stand.folder / "disk").rglob("*.json")}
    for words in (
        ("unfreeze", "hotel"),
        ("freeze", "hotel", "--why", "mine"),
        ("backups", "release", newest),
        ("backups", "hold", newest, "--why", "mine"),
        ("backups", "delete", middle, "--grace", "0"),
        ("backups", "take"),
    ):
        blocked = stand.run(*words, expect=3, SOURCE_URL=staging)
        assert "belongs to another source" in blocked.stdout

    after = {file: file.read_bytes() for file in (stand.folder / "disk").rglob("*.json") if "lease" not in file.name}
    assert after == {file: content for file, content in before.items() if "lease" not in file.name}


def test_a_hold_is_seen(stand: Stand) -> None:
    """In the list, as text and JSON, beside one backup, in the state of things and in the plan."""
    newest, *_ = _taken(stand, 2)
    stand.run("backups", "hold", newest, "--why", "legal 7", "--until", "2099-12-31")
    seen = [stand.run(*words) for words in (("backups", "list"), ("status",), ("--plan",), ("backups", "show", newest))]
    (held,) = [one for one in stand.backups() if one["id"] == newest]

    assert [True] * 4 == ['"legal 7"' in one.stdout + one.stderr and "2099-12-31" in one.stdout + one.stderr for one in seen]
    assert "legal 7" in held["copies"][0]["held"]


def test_another_source_counts_nothing(stand: Stand) -> None:
    """Neither the list nor the state of things takes its backups for ours."""
    _taken(stand, 1)
    elsewhere = stand.admin_url.rpartition("/")[0] + "/postgres"
    (listed,) = stand.json("backups", "list", SOURCE_URL=elsewhere)["backups"]
    (state,) = stand.json("status", SOURCE_URL=elsewhere)["databases"]

    assert ("foreign", []) == (listed["state"], listed["targets"])
    assert (0, None) == (state["backups"], state["newest"])


def test_what_is_unknown_is_not_undone(stand: Stand) -> None:
    """Undelete says that a target it could not see may still have it deleted, hold that it is not held there: no success."""
    stand.run("apply", "--yes")
    for _ in range(2):
        stand.run("backups", "take")
    newest = stand.backups()[0]["id"]
    stand.run("backups", "delete", newest)
    stand.rewrite("targets: [primary, disk]", "targets: [disk, primary]")
    with _without_the_bucket(stand):
        half = stand.run("backups", "undelete", newest, expect=1)
        held = stand.run("backups", "hold", newest, "--why", "court", expect=1)
    stand.run("backups", "undelete", newest)

    assert "is back" in half.stdout
    assert "primary unknown" in half.stderr
    assert "primary unknown: what lies there is held by the first `reconcile apply` that sees it" in held.stderr
    assert {"whole"} == {copy["state"] for one in stand.backups() for copy in one["copies"]}


@contextmanager
def _without_the_bucket(stand: Stand) -> Iterator[None]:
    """Its key is wrong meanwhile."""
    whole = stand.policy.read_text()
    stand.rewrite(f"{{file: {stand.box}/s3_secret_access_key}}", "{file: ./wrong}")
    (stand.folder / "wrong").write_text("0" * 40)
    yield
    stand.policy.write_text(whole)


def _held(stand: Stand, backup: str) -> dict[str, bool]:
    """Whether it is, by target."""
    (found,) = [one for one in stand.backups() if one["id"] == backup]
    return {copy["target"]: "legal 7" in copy["held"] for copy in found["copies"]}


def test_a_hold_travels_with_copies(stand: Stand) -> None:
    """It is there with the copy, and outlives the target on which it was put; once it is released, retention has its way."""
    *_, oldest = _taken(stand, 4)
    for manifest in (stand.folder / "disk").rglob("manifest.json"):
        # As a schedule makes them.
        manifest.write_text(manifest.read_text().replace('"manual"', '"scheduled"'))
    stand.run("backups", "hold", oldest, "--why", "legal 7")
    stand.rewrite("disk: {type: local, path: ./disk}", "disk: {type: local, path: ./disk}\n  nas: {type: local, path: ./nas}")
    stand.rewrite("targets: [disk]", "targets: [disk, nas]")
    stand.run("apply", "--yes")
    held = _held(stand, oldest)
    settled = stand.run("plan", "--detailed-exitcode")
    stand.rewrite("targets: [disk, nas]", "targets: [nas]")
    kept = stand.run("plan")
    stand.run("backups", "release", oldest)
    released = stand.run("plan")

    assert held == {"disk": True, "nas": True}
    assert "nothing to do" in settled.stdout
    assert "prune" not in kept.stdout
    assert "prune 1 backup" in released.stdout


def test_a_hold_and_a_target_that_was_out_of_sight(stand: Stand) -> None:
    """What was held meanwhile is held there too, and what was released comes back from there: both are said, and shown."""
    stand.rewrite("targets: [primary, disk]", "targets: [disk, primary]")
    stand.run("apply", "--yes")
    (backup,) = (one["id"] for one in stand.backups())
    with _without_the_bucket(stand):
        stand.run("backups", "hold", backup, "--why", "legal 7", expect=1)
    planned = stand.run("plan")
    stand.run("apply", "--yes")
    held = _held(stand, backup)
    with _without_the_bucket(stand):
        half = stand.run("backups", "release", backup, expect=1)
    stand.run("apply", "--yes")
    again = _held(stand, backup)
    stand.run("backups", "release", backup)
    stand.run("apply", "--yes")

    assert "+ hold 1 backup  disk → primary" in planned.stdout
    assert held == again == {"disk": True, "primary": True}
    assert "a hold that lies there comes back to every copy once it can be seen; say this again then" in half.stderr
    assert _held(stand, backup) == {"disk": False, "primary": False}


def test_without_a_lease_it_is_said_what_was_not_done(stand: Stand) -> None:
    """Releasing needs the home target."""
    stand.run("apply", "--yes")
    newest = stand.backups()[0]["id"]
    stand.run("backups", "hold", newest, "--why", "legal 7")
    stand.rewrite(f"{{file: {stand.box}/s3_secret_access_key}}", "{file: ./wrong}")
    (stand.folder / "wrong").write_text("0" * 40)
    ran = stand.run("backups", "release", newest, expect=1)

    assert "no lease: primary" in ran.stdout


def test_a_digest_of_another_plan_is_told(stand: Stand) -> None:
    """It lets nothing through, and silence would look as if it had."""
    stand.run("apply", "--yes")
    ran = stand.run("apply", "--yes", "--allow-destructive", "0123456789ab")

    assert "--allow-destructive=0123456789ab let nothing through: the guard holds nothing back" in ran.stderr


def test_a_deletion_without_grace_says_that_it_is_for_good(stand: Stand) -> None:
    """And the next apply removes its bytes."""
    newest, *_ = _taken(stand, 3)
    ran = stand.run("backups", "delete", newest, "--grace", "0")
    stand.run("apply", "--yes")

    assert "deleted for good" in ran.stdout
    assert "come back" not in ran.stdout
    assert newest not in _states(stand)


def test_a_backup_goes_through_a_pipe(stand: Stand) -> None:
    """To pg_restore, say, or to /dev/null to see that it can be read."""
    newest, *_ = _taken(stand, 1)
    stand.run("backups", "fetch", newest, "--output", "x")
    command = shlex.join(stand.command("backups", "fetch", newest, "--output", "-"))
    piped = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | sha256sum"],  # noqa: S607 - wherever the system has it
        cwd=stand.folder, env=stand.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    stand.run("backups", "fetch", newest, "--output", "/dev/null")

    assert sha256((stand.folder / "x").read_bytes()).hexdigest() == piped.stdout.split()[0]
    assert Path("/dev/null").is_char_device()
    assert not (stand.folder / "-").exists()


def test_what_is_left_once_a_backup_was_taken(stand: Stand) -> None:
    """One by hand is none of the schedule: the slot's own dump is due still, and that is said."""
    first = stand.run("backups", "take").stdout

    assert "+ take dump  → primary  slot " in first
    assert "nothing to do" not in first
    stand.run("apply", "--yes")
    assert "nothing to do" in stand.run("backups", "take").stdout
