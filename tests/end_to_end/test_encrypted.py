"""Encrypted backups, as a user makes them: a pair of keys, a dump, and back again with nothing but age, zstd and pg_restore."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from reconciler.sandbox.binaries import postgres_binaries
from tests.end_to_end.conftest import Stand

REAL = [name for name in ("age", "zstd") if shutil.which(name) is None]


@pytest.fixture
def sealed(stand: Stand) -> Stand:
    """Every backup is encrypted to a fresh key, whose identity the policy names by a variable."""
    recipient = stand.run("keys", "new", "--age", "--out", "key.txt").stdout.strip()
    stand.rewrite("encryption: none", f"encryption: {{age_recipients: [{recipient}], age_identity: '${{AGE_KEY}}'}}")
    return stand


def key(stand: Stand) -> str:
    return (stand.folder / "key.txt").read_text()


def test_taken_and_copied_without_the_key_read_back_with_it(sealed: Stand) -> None:
    """Whoever takes backups needs no secret of theirs; who reads needs it, and is told so."""
    sealed.run("apply", "--yes")
    (backup,) = sealed.backups()
    without = sealed.run("backups", "fetch", backup["id"], "--output", "hotel.dump", expect=1)
    sealed.run("backups", "fetch", backup["id"], "--output", "hotel.dump", AGE_KEY=key(sealed))
    keys = sealed.keys()

    assert ["disk", "primary"] == backup["targets"]
    assert "AGE_KEY is not set" in without.stderr
    assert (sealed.folder / "hotel.dump").read_bytes().startswith(b"PGDMP")
    assert {name.rpartition("/")[2] for name in keys if "/backups/" in name} == {
        "manifest.json",
        "dump.zst.age",
        "fingerprint.json.zst.age",
        "globals.json.zst.age",
    }


def test_the_wrong_key(sealed: Stand) -> None:
    """It is told apart from damage, and no key is shown."""
    sealed.run("apply", "--yes")
    sealed.run("keys", "new", "--age", "--out", "other.txt")
    other = (sealed.folder / "other.txt").read_text()

    ran = sealed.run("backups", "fetch", sealed.backups()[0]["id"], "--output", "hotel.dump", expect=1, AGE_KEY=other)

    assert "is encrypted to none of the keys at hand" in ran.stderr
    assert "SECRET-KEY" not in ran.stderr
    assert not (sealed.folder / "hotel.dump").exists()


@pytest.mark.parametrize("level", ["hash", "toc"])
def test_verified_without_the_key(sealed: Stand, level: str) -> None:
    """Unproven, by the exit code too; it freezes nothing."""
    sealed.run("apply", "--yes")
    without = sealed.json("backups", "verify", "--level", level, expect=3)["evidence"]
    plan = sealed.run("plan").stdout
    sealed.run("backups", "verify", "--level", level, AGE_KEY=key(sealed))

    assert ["unproven", "unproven"] == [one["result"] for one in without]
    assert "AGE_KEY is not set" in without[0]["faults"][0]["what"]
    assert "freeze" not in plan


@pytest.mark.skipif(bool(REAL), reason=f"{' and '.join(REAL)} not on this machine; `apt install age zstd`")
def test_restored_by_hand(sealed: Stand) -> None:
    """The very line that the manifest prints, with the real programs, on the file as it lies on the disk."""
    sealed.run("apply", "--yes")
    manifest = sealed.json("backups", "show", sealed.backups()[0]["id"])
    folder = next((sealed.folder / "disk").rglob("dump.zst.age")).parent
    name = f"byhand_{sealed.folder.name}"[:60]
    url = sealed.admin_url.rpartition("/")[0] + f"/{name}"
    line = manifest["restore_by_hand"].replace("KEY_FILE", str(sealed.folder / "key.txt")).replace("DATABASE", f"'{url}'")
    with sealed.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        path = f"{postgres_binaries()}:{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],  # noqa: S607
            cwd=folder,
            check=True,
            env={**os.environ, "PATH": path},
            timeout=120,
        )
        with psycopg.connect(url) as again, sealed.connect() as source:
            count = "SELECT count(*) FROM hotel.guests"
            assert source.execute(count).fetchone() == again.execute(count).fetchone()
    finally:
        with sealed.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_restored_by_the_program(sealed: Stand) -> None:
    """From the policy's identity, roles too."""
    sealed.run("apply", "--yes")
    name = f"again_{sealed.folder.name}"[:60]
    url = sealed.admin_url.rpartition("/")[0] + f"/{name}"
    with sealed.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        sealed.run("backups", "restore", sealed.backups()[0]["id"], "--into", "${INTO}", INTO=url, AGE_KEY=key(sealed))
        with psycopg.connect(url) as again, sealed.connect() as source:
            count = "SELECT count(*) FROM hotel.guests"
            assert source.execute(count).fetchone() == again.execute(count).fetchone()
    finally:
        with sealed.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_new_key_does_not_open_old_backups(sealed: Stand) -> None:
    """Rotation: the new recipient is for new backups, and the key file holds the old identity as long as old ones are kept."""
    sealed.run("apply", "--yes")
    (old,) = sealed.backups()
    recipient = sealed.run("keys", "new", "--age", "--out", "new.txt").stdout.strip()
    new = (sealed.folder / "new.txt").read_text()
    sealed.rewrite(sealed.policy.read_text().split("age_recipients: [")[1].split("]")[0], recipient)
    sealed.run("backups", "take")
    (fresh,) = [one for one in sealed.backups() if one["id"] != old["id"]]

    sealed.run("backups", "fetch", fresh["id"], "--output", "fresh", AGE_KEY=new)
    sealed.run("backups", "fetch", old["id"], "--output", "old", expect=1, AGE_KEY=new)
    sealed.run("backups", "fetch", old["id"], "--output", "old", AGE_KEY=new + key(sealed))


def test_an_orphan_is_adopted(sealed: Stand) -> None:
    """Data that lost its manifest is found encrypted, and read with the key."""
    sealed.run("apply", "--yes")
    shutil.rmtree(sealed.folder / "disk")
    (backup,) = sealed.backups()
    sealed.rewrite("targets: [primary, disk]", "targets: [disk, primary]")
    sealed.run("apply", "--yes")
    next((sealed.folder / "disk").rglob("manifest.json")).unlink()
    sealed.rewrite("targets: [disk, primary]", "targets: [disk]")
    sealed.run("backups", "adopt", backup["id"], expect=1)
    sealed.run("backups", "adopt", backup["id"], AGE_KEY=key(sealed))
    sealed.run("backups", "fetch", backup["id"], "--output", "hotel.dump", AGE_KEY=key(sealed))

    assert ["imported"] == [one["kind"] for one in sealed.backups()]
    assert (sealed.folder / "hotel.dump").read_bytes().startswith(b"PGDMP")


class TestKeys:
    def test_the_private_part_is_for_its_owner_only(self, stand: Stand) -> None:
        """The public one is the answer; where to keep the other is said loudly."""
        ran = stand.run("keys", "new", "--age")
        file: Path = stand.folder / "age-identity.txt"

        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
        assert ran.stdout.startswith("age1")
        assert f"# public key: {ran.stdout}" in file.read_text()
        assert "whoever loses it has lost them" in ran.stderr
        assert "SECRET-KEY" not in ran.stdout + ran.stderr

    def test_a_key_is_never_written_over(self, stand: Stand) -> None:
        """It may be the only one that opens what is there."""
        (stand.folder / "age-identity.txt").write_text("precious")
        ran = stand.run("keys", "new", "--age", expect=1)

        assert "exists, and a key is never written over" in ran.stderr
        assert "precious" == (stand.folder / "age-identity.txt").read_text()

    def test_as_data(self, stand: Stand) -> None:
        """For scripts."""
        made = stand.json("keys", "new", "--age", "--out", "k")

        assert {"format": 1, "kind": "age", "file": "k"} == {name: made[name] for name in ("format", "kind", "file")}
        assert made["public"].startswith("age1")


def test_the_doctor_tries_the_keys(sealed: Stand) -> None:
    """That the identity opens new backups, and that old ones need an identity that is not at hand any more."""
    sealed.run("apply", "--yes")
    well = sealed.run("doctor", AGE_KEY=key(sealed))
    recipient = sealed.run("keys", "new", "--age", "--out", "second.txt").stdout.strip()
    old = next(line for line in key(sealed).splitlines() if "public key" in line).rpartition(" ")[2]
    sealed.rewrite(old, recipient)

    ill = sealed.run("doctor", expect=1, AGE_KEY=(sealed.folder / "second.txt").read_text())

    assert "open what 1 of 1 recipient lock" in well.stdout
    assert f"1 backup, the newest {sealed.backups()[0]['id']}, can't be read back: encrypted to {old}" in ill.stdout
    assert "SECRET-KEY" not in well.stdout + ill.stdout
