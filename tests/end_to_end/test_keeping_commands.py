"""Hold, release, delete, undelete, freeze, adopt and forget, as a user types them."""

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
    last = stand.run("backups", "delete", middle, expect=1)
    stand.run("backups", "undelete", newest)

    assert "legal 7" in refused.stderr
    assert deleted == "deleted"
    assert "one of the last 2" in last.stderr
    assert {"whole"} == set(_states(stand).values())
    assert oldest in _states(stand)


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


def test_an_orphan_becomes_a_backup_again(stand: Stand) -> None:
    """Its manifest was lost; all data is read, and it restores as before."""
    (backup,) = _taken(stand, 1)
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
    ):
        blocked = stand.run(*words, expect=3, SOURCE_URL=staging)
        assert "belongs to another source" in blocked.stdout

    after = {file: file.read_bytes() for file in (stand.folder / "disk").rglob("*.json") if "lease" not in file.name}
    assert after == {file: content for file, content in before.items() if "lease" not in file.name}
