"""Signed backups, as a user makes them: a pair of keys, old backups vouched for, and a stranger's that counts for nothing."""

import shutil

import pytest

from tests.end_to_end.conftest import Stand


@pytest.fixture
def signed(stand: Stand) -> Stand:
    """One backup was taken before; from now on they are signed, and only signed ones count."""
    stand.run("apply", "--yes")
    public = stand.run("keys", "new", "--signing").stdout.strip()
    key = f"signatures: {{public_keys: ['{public}'], signing_key: {{file: signing-key.pem}}}}"
    stand.rewrite("encryption: none", f"encryption: none\n    {key}")
    return stand


def test_from_unsigned_to_signed(signed: Stand) -> None:
    """What is there counts again once it was signed by name; new ones are signed as they are taken, copies too."""
    (old,) = signed.backups()
    before = signed.run("plan")
    signed.run("backups", "fetch", old["id"], "--output", "old", expect=1)
    signed.run("backups", "sign", old["id"])
    again = signed.run("backups", "sign", old["id"], expect=1)
    signed.run("backups", "take")
    states = {one["id"]: (one["state"], one["targets"]) for one in signed.backups()}

    assert "foreign" == old["state"]
    assert "its manifest is not signed" in before.stdout
    assert "no copy that waits for a signature" in again.stderr
    assert 2 == len(states)
    assert {("whole", ("disk", "primary"))} == {(state, tuple(targets)) for state, targets in states.values()}
    assert 4 == len([key for key in signed.keys() if key.endswith("manifest.sig")])  # noqa: SIM118
    assert "PRIVATE" not in before.stdout + before.stderr


def test_a_stranger_with_rights_on_the_bucket(signed: Stand) -> None:
    """A backup that he put there, under the right repository, is not restored and does not count."""
    (old,) = signed.backups()
    signed.run("backups", "sign", old["id"])
    folder = next((signed.folder / "disk").rglob("manifest.json")).parent
    newer = "20991231T235959Z-abcdef".replace("2099", str(int(old["id"][:4])))
    shutil.copytree(folder, folder.parent / newer)
    manifest = folder.parent / newer / "manifest.json"
    manifest.write_text(manifest.read_text().replace(old["id"], newer))

    (stranger,) = [one for one in signed.backups() if one["id"] == newer]
    ran = signed.run("backups", "fetch", newer, "--output", "hotel.dump", expect=1)

    assert ("foreign", []) == (stranger["state"], stranger["targets"])
    assert "its manifest is not what was signed" in stranger["copies"][0]["why"]
    assert "no whole copy" in ran.stderr


def test_without_the_key_nothing_is_taken(signed: Stand) -> None:
    """And what would help is said."""
    (signed.folder / "signing-key.pem").unlink()
    ran = signed.run("backups", "take", expect=1)

    assert "signing-key.pem" in ran.stdout + ran.stderr
    assert 1 == len(signed.backups())
