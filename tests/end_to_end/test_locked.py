"""The whole program with a bucket that locks and a folder that nothing is deleted from."""

from datetime import UTC, datetime, timedelta
from secrets import token_hex

from reconciler.backups.layout import tombstone_key
from reconciler.backups.manifest import encode
from reconciler.world.facts import Tombstone
from tests.end_to_end.conftest import Stand


def make_beyond_reach(stand: Stand) -> str:
    """A bucket with Object Lock and an append-only folder, named in the policy; the bucket's name."""
    bucket = f"vault-{token_hex(4)}"
    stand.s3().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    stand.rewrite("bucket: hotel-backups,", f"bucket: {bucket}, object_lock: {{mode: compliance, retain: 1d}},")
    stand.rewrite("path: ./disk", "path: ./disk, append_only: true")
    return bucket


def test_a_backup_that_nobody_can_delete(stand: Stand) -> None:
    """It is taken, copied, listed and fetched as ever; condemned before its lock ends, it is kept without any failure."""
    bucket = make_beyond_reach(stand)
    for words in (("apply", "--yes"), ("backups", "take", "--database", "hotel"), ("backups", "take", "--database", "hotel")):
        stand.run(*words)
    stand.run("apply", "--yes")
    oldest = min(each["id"] for each in stand.backups())
    key = f"{stand.prefix}hotel/backups/{oldest}/"
    now = datetime.now(UTC).replace(microsecond=0)
    head = stand.s3().head_object(Bucket=bucket, Key=f"{key}dump.zst")
    assert "COMPLIANCE" == head["ObjectLockMode"]
    assert timedelta(hours=23) < head["ObjectLockRetainUntilDate"] - now <= timedelta(days=1)

    stone = Tombstone(id=oldest, at=now - timedelta(days=2), due=now - timedelta(hours=1), reason="a test")
    place = stand.prefix + tombstone_key("hotel", oldest, stone.due)
    stand.s3().put_object(Bucket=bucket, Key=place, Body=encode(stone))
    applied = stand.run("apply", "--yes")
    assert f"{oldest} on primary: kept until" in applied.stdout
    stand.run("plan", "--detailed-exitcode")
    stand.run("backups", "fetch", oldest, "--output", "out.dump")
    assert (stand.folder / "out.dump").stat().st_size > 1000


def test_a_policy_beyond_reach_has_no_warning(stand: Stand) -> None:
    """And one within reach has."""
    assert "whoever takes over this machine" in stand.run("validate").stdout + stand.run("validate").stderr
    make_beyond_reach(stand)

    ran = stand.run("validate")
    assert "whoever takes over this machine" not in ran.stdout + ran.stderr
