"""The whole program with keys that have the least rights of docs/s3.md, as that page gives them out."""

import re
from secrets import token_hex

import msgspec
import pytest

from tests.end_to_end.conftest import Stand
from tests.servers.s3_rights import Keys, document, new_keys

PLAIN = ("Read", "Write", "WriteBucket", "Delete")
VERSIONED = (*PLAIN, "Versions", "DeleteVersions")
LOCKED = (*VERSIONED, "Locks")
COPY = """{{type: s3, bucket: {bucket}, prefix: "{prefix}/", append_only: true{more}, endpoint: {{file: {box}/s3_endpoint}},
         access_key_id: {{file: disk.id}}, secret_access_key: {{file: disk.secret}}}}"""
LOCK = ", object_lock: {mode: governance, retain: 1d}"


def make_bucket(stand: Stand, *, versioned: bool = False, locked: bool = False) -> str:
    """A bucket that nobody else uses."""
    name = f"rights-{token_hex(4)}"
    stand.s3().create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    if versioned:
        stand.s3().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def give(stand: Stand, bucket: str, *sids: str, to: str = "primary") -> None:
    """Keys with those statements of the page, in files of the target's name."""
    s3 = stand.status.s3
    assert s3.endpoint is not None
    assert s3.access_key_id is not None
    assert s3.secret_access_key is not None
    admin = Keys(s3.access_key_id, s3.secret_access_key)
    keys = new_keys(s3.endpoint, admin, document(bucket, stand.prefix, *sids))
    (stand.folder / f"{to}.id").write_text(keys.access_key_id)
    (stand.folder / f"{to}.secret").write_text(keys.secret_access_key)


def limit(stand: Stand, bucket: str, *sids: str, more: str = "") -> None:
    """Let the policy's first target be that bucket, by keys that have only those rights."""
    stand.rewrite("bucket: hotel-backups", f"bucket: {bucket}{more}")
    stand.rewrite(f"{stand.box}/s3_access_key_id", "primary.id")
    stand.rewrite(f"{stand.box}/s3_secret_access_key", "primary.secret")
    give(stand, bucket, *sids)


def take(stand: Stand, count: int) -> list[str]:
    """Backups that may go at once; newest first."""
    for _ in range(count):
        stand.run("backups", "take", "--keep", "1s")
    return [one["id"] for one in stand.backups()]


def versions(stand: Stand, bucket: str, below: str = "") -> list[tuple[str, str]]:
    """Keys and versions under the policy's prefix, markers left out."""
    listed = stand.s3().list_object_versions(Bucket=bucket, Prefix=f"{stand.prefix}{below}")
    return [(each["Key"], each["VersionId"]) for each in listed.get("Versions", [])]


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that leases and backups lie in, and the keys to it."""

    sids: tuple[str, ...]
    versioned: bool = False
    locked: bool = False
    goes: str = r"\d+ objects removed for good"
    """How a backup goes whose time has come."""
    stays: bool = False
    """Whether something of it does."""


HOMES = {
    "plain": Home(sids=PLAIN),
    "versioned": Home(sids=VERSIONED, versioned=True),
    "locked": Home(sids=LOCKED, locked=True, goes="kept until", stays=True),
    "versions that stay": Home(sids=(*PLAIN, "Versions"), versioned=True, goes=r"\d+ objects hidden", stays=True),
}


@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_a_home(small: Stand, empty: str, home: Home) -> None:
    """Examined without an error; backups come, are read in every way, and go when their time has come."""
    bucket = make_bucket(small, versioned=home.versioned, locked=home.locked)
    limit(small, bucket, *home.sids, more=LOCK if home.locked else "")
    small.rewrite("keep_last: 3", "keep_last: 2, grace: 0s")

    newest, middle, oldest = take(small, 3)
    held = small.run("backups", "hold", newest, "--why", "legal 7").stdout
    small.run("backups", "release", newest)
    small.run("backups", "verify", newest, "--level", "toc")
    small.run("backups", "fetch", newest, "--output", "out.dump", "--from", "primary")
    small.run("backups", "restore", newest, "--into", empty, "--from", "primary")
    small.run("apply", "--yes")
    applied = small.run("apply", "--yes").stdout

    assert "does not keep it by itself" not in held
    for gone in (middle, oldest):
        assert re.search(f"{gone} on primary: {home.goes}", applied)
        assert home.stays == bool(versions(small, bucket, f"hotel/backups/{gone}/manifest.json"))
    small.run("plan", "--detailed-exitcode")


@pytest.mark.parametrize("home", [HOMES["plain"], HOMES["versioned"], HOMES["locked"]], ids=["plain", "versioned", "locked"])
def test_doctor_has_nothing_to_say(stand: Stand, home: Home) -> None:
    """All that it tries goes through."""
    bucket = make_bucket(stand, versioned=home.versioned, locked=home.locked)
    limit(stand, bucket, *home.sids, more=LOCK if home.locked else "")

    assert "0 errors, 0 warnings, 0 notes" in stand.run("doctor", "--target", "primary").stdout


def test_doctor_names_a_right_that_is_withheld(stand: Stand) -> None:
    """Where versions are to stay, that is the one complaint, as the page says."""
    bucket = make_bucket(stand, versioned=True)
    limit(stand, bucket, *PLAIN, "Versions")

    told = stand.run("doctor", "--target", "primary", expect=1).stdout
    assert {f"s3:DeleteObjectVersion on bucket {bucket}"} == {*re.findall(r"s3:\w+ on bucket \S+\b", told)}


@pytest.mark.parametrize(
    ("locked", "sids"),
    [(False, ("Read", "Write", "WriteBucket")), (True, ("Read", "Write", "WriteBucket", "Versions", "Locks"))],
    ids=["plain", "locked"],
)
def test_a_copy_that_nothing_is_deleted_from(small: Stand, locked: bool, sids: tuple[str, ...]) -> None:
    """By keys that can't: what is pruned at home stays there."""
    bucket = make_bucket(small, locked=locked)
    give(small, bucket, *sids, to="disk")
    copy = COPY.format(bucket=bucket, prefix=small.prefix, box=small.box, more=LOCK if locked else "")
    small.rewrite("{type: local, path: ./disk}", copy)
    small.rewrite("keep_last: 3", "keep_last: 2, grace: 0s")

    doctor = small.run("doctor", "--target", "disk").stdout
    newest, middle, oldest = take(small, 3)
    for _ in range(2):
        small.run("apply", "--yes")

    assert "0 errors, 0 warnings" in doctor
    found = {one["id"]: one["targets"] for one in small.backups()}
    assert {newest: ["disk", "primary"], middle: ["disk"], oldest: ["disk"]} == {
        backup: found[backup] for backup in (newest, middle, oldest)
    }
    small.run("plan", "--detailed-exitcode")


@pytest.mark.parametrize("versioned", [False, True])
def test_a_reader(small: Stand, empty: str, versioned: bool) -> None:
    """Sees and reads everything, and is told which right whatever else it tries would take; nothing is written."""
    bucket = make_bucket(small, versioned=versioned)
    limit(small, bucket, *(VERSIONED if versioned else PLAIN))
    (backup,) = take(small, 1)
    give(small, bucket, *(("Read", "Versions") if versioned else ("Read",)))
    before = versions(small, bucket)

    small.run("plan")
    small.run("status")
    small.run("backups", "show", backup)
    fetched = small.run("backups", "fetch", backup, "--output", "out.dump", "--from", "primary")
    small.run("backups", "restore", backup, "--into", empty, "--from", "primary")
    refused = small.run("backups", "take", expect=1)

    assert "without a pin" in fetched.stderr
    assert f"give the key s3:PutObject on bucket {bucket}" in refused.stdout + refused.stderr
    assert before == versions(small, bucket)
