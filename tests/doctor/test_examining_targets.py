"""Targets are tried for real: what is refused is named with the right to give, and nothing of the trial stays."""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event as StopEvent
from typing import Any

import msgspec
import pytest

from reconciler.doctor.report import Checkup
from reconciler.doctor.targets import STEPS
from reconciler.errors import Refused, Stopped
from reconciler.targets.append_only import AppendOnly
from reconciler.targets.azure_target import AzureTarget
from reconciler.world.events import Effect, Event
from reconciler.world.ports import Custody, Listing, Stored, Target, World
from tests.doctor.standing import HastyClock, errors, said, stand
from tests.faults.proxy import Answer, FaultProxy
from tests.servers.azure import AzureServer, azure_server
from tests.servers.s3 import S3Server
from tests.targets.test_azure_settings import limited

__all__ = ["azure_server"]

DENIED = Answer(status=403, body=b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>")
VERSIONS = "list versions, delete one by one"


def left_in(s3: S3Server, bucket: str) -> list[str]:
    """Objects, versions, markers and unfinished uploads, seen without the code under test."""
    client = s3.client()
    versions = client.list_object_versions(Bucket=bucket)
    found = [each["Key"] for each in (*versions.get("Versions", ()), *versions.get("DeleteMarkers", ()))]
    return found + [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def examined_without(denied: tuple[str, str], folder: Path, s3: S3Server, bucket: str) -> Checkup:
    """The bucket as a key sees it that is denied all requests of that method whose path holds that pattern."""
    with FaultProxy("127.0.0.1", s3.port, http=True) as proxy:
        proxy.on(*denied, DENIED, times=1000)
        return stand(folder, targets="offsite", s3=s3, bucket=bucket, endpoint=proxy.endpoint).examine("offsite")


class Other:
    """A target that behaves like the one inside, but for what a subclass changes."""

    def __init__(self, inside: Target) -> None:
        self._inside: Any = inside

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class Careless(Other):
    """Takes conditional writes, and writes in any case."""

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        written: Stored = self._inside.write(key, chunks)
        return written


class Ahead(Other):
    """Its clock is two minutes ahead."""

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        listing: Listing = self._inside.list(prefix, versions=versions)
        return msgspec.structs.replace(listing, store_time=listing.store_time + timedelta(minutes=2))


class Keeping(Other):
    """Nothing that is written there could be removed by us."""

    def __init__(self, inside: Target, custody: Custody) -> None:
        super().__init__(inside)
        self.custody = custody


class Locking(Custody):
    def default_retention(self) -> timedelta | None:
        return timedelta(days=30)


class Growing(Custody):
    append_only = True


def with_target(world: World, name: str, kind: Any, *more: Any) -> World:
    return msgspec.structs.replace(world, targets={**world.targets, name: kind(world.targets[name], *more)})


def test_a_folder_that_does_all(tmp_path: Path) -> None:
    """Every step passes, and the folder is as empty as before."""
    checkup = stand(tmp_path).examine("disk")

    assert () == checkup.findings
    assert {step.says for step in STEPS} - {VERSIONS} <= set(said(checkup, "disk"))
    assert [] == [path for path in (tmp_path / "disk").rglob("*") if path.is_file() and path.name != "lock"]


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
def test_a_bucket_that_does_all(tmp_path: Path, s3_server: S3Server, versioned: bool) -> None:
    """Every step passes, those over versions where there are any; no object, version, marker or upload is left."""
    bucket = s3_server.new_bucket(versioned=versioned)

    checkup = stand(tmp_path, targets="offsite", s3=s3_server, bucket=bucket).examine("offsite")

    assert () == checkup.findings
    assert {step.says for step in STEPS if versioned or step.says != VERSIONS} <= set(said(checkup, "offsite"))
    assert [] == left_in(s3_server, bucket)


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """Of what could not be written nobody says that it was deleted."""

    class Full(Other):
        def write(self, key: str, *_: Any, **__: Any) -> Stored:
            raise Refused(f"cannot write {key}", cure="")

    standing = stand(tmp_path)
    checkup = standing.examine("disk", world=with_target(standing.world, "disk", Full))

    assert 1 == len(errors(checkup))
    assert not {"put", "delete"} & set(said(checkup, "disk"))


def test_whether_a_bucket_locks_may_not_be_asked(tmp_path: Path, s3_server: S3Server) -> None:
    """A warning names the right, and no row says that nothing is locked."""
    checkup = examined_without(("GET", r"object-lock"), tmp_path, s3_server, s3_server.new_bucket())

    assert ["warning"] == [found.severity for found in checkup.findings]
    assert "nothing locks what is written" not in said(checkup, "offsite")


def test_it_writes_in_its_own_corner_only(tmp_path: Path) -> None:
    """Each effect is below `{database}/scratch/doctor-`."""
    effects: list[Event] = []

    stand(tmp_path, tell=effects.append).examine()

    keys = [effect.key for effect in effects if isinstance(effect, Effect)]
    assert len(keys) > 10
    assert not [key for key in keys if not key.startswith("hotel/scratch/doctor-")]


@pytest.mark.parametrize(
    ("denied", "right", "stays", "told"),
    [
        (("GET", r"list-type=2"), "s3:ListBucket", 0, False),
        (("GET", r"\?versioning"), "s3:GetBucketVersioning", 0, False),
        (("PUT", r"/put(\?|$)"), "s3:PutObject", 0, False),
        (("POST", r"\?uploads"), "s3:PutObject", 0, False),
        (("GET", r"/put(\?|$)"), "s3:GetObject", 0, False),
        (("GET", r"[?&]uploads"), "s3:ListBucketMultipartUploads", 0, True),
        (("DELETE", r"/aborted\?uploadId"), "s3:AbortMultipartUpload", 1, True),
        (("DELETE", r"/put(\?|$)"), "s3:DeleteObject", 1, True),
    ],
)
def test_a_right_that_is_missing(
    s3_server: S3Server, tmp_path: Path, *, denied: tuple[str, str], right: str, stays: int, told: bool
) -> None:
    """It is named with the bucket to give it on; all that may be removed is, and what may be left is told."""
    bucket = s3_server.new_bucket()

    checkup = examined_without(denied, tmp_path, s3_server, bucket)

    assert f"give the key {right} on bucket {bucket}" in [finding.cure for finding in errors(checkup)]
    assert stays == len(left_in(s3_server, bucket))
    assert told == any("may still lie in" in finding.what for finding in checkup.findings)


@pytest.mark.parametrize(
    ("denied", "right"),
    [(("GET", r"\?versions"), "s3:ListBucketVersions"), (("DELETE", r"versionId="), "s3:DeleteObjectVersion")],
)
def test_a_right_over_versions_that_is_missing(tmp_path: Path, s3_server: S3Server, denied: tuple[str, str], right: str) -> None:
    """On a versioned bucket, deleting and listing are rights of their own."""
    bucket = s3_server.new_bucket(versioned=True)

    checkup = examined_without(denied, tmp_path, s3_server, bucket)

    assert f"give the key {right} on bucket {bucket}" in [finding.cure for finding in errors(checkup)]


@pytest.mark.parametrize(
    ("denied", "right"),
    [
        (("GET", r"\?lifecycle"), "s3:GetLifecycleConfiguration"),
        (("GET", r"\?object-lock"), "s3:GetBucketObjectLockConfiguration"),
    ],
)
def test_what_a_store_does_not_tell(tmp_path: Path, s3_server: S3Server, denied: tuple[str, str], right: str) -> None:
    """No backup needs it, so that it is a warning, with the right to give."""
    bucket = s3_server.new_bucket()

    checkup = examined_without(denied, tmp_path, s3_server, bucket)

    found = [(finding.severity, finding.cure) for finding in checkup.findings]
    assert [("warning", f"give the key {right} on bucket {bucket}")] == found


@pytest.mark.parametrize("default", [False, True], ids=["locks on request", "locks by itself"])
def test_a_bucket_with_object_lock(tmp_path: Path, s3_server: S3Server, default: bool) -> None:
    """What could not be removed is not written; such a bucket can't be home if it locks leases, too."""
    bucket, client = s3_server.new_bucket() + "-lock", s3_server.client()
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    retention = {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}} if default else {}
    configuration: Any = {"ObjectLockEnabled": "Enabled", **retention}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    standing = stand(
        tmp_path, targets="offsite", s3=s3_server, bucket=bucket, lock="object_lock: {mode: governance, retain: 1d},"
    )

    checkup = standing.examine("offsite")

    assert default == any("each renewal of the lease would stay" in finding.what for finding in errors(checkup))
    assert default == ("put" not in said(checkup, "offsite"))
    assert "find an unfinished write, and abort it" in said(checkup, "offsite")
    assert [] == left_in(s3_server, bucket)


def test_a_store_that_does_not_answer(tmp_path: Path) -> None:
    """One finding, not one for each thing that could not be tried."""
    checkup = stand(tmp_path, targets="offsite", keys=("any", "any"), endpoint="http://127.0.0.1:1").examine("offsite")

    assert 1 == len(checkup.findings)
    assert "refuses the connection" in checkup.findings[0].what
    assert "correct `endpoint`" in checkup.findings[0].cure


def test_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    """The cure is the target's own, and said once for all that failed by it."""
    standing = stand(tmp_path / "gone")

    checkup = standing.examine("disk")

    assert ["mount the disk, correct `path`, or make that folder"] == list({finding.cure for finding in errors(checkup)})


@pytest.mark.parametrize("custody", [Custody(), Growing()], ids=["plain", "append-only"])
def test_a_folder_that_is_none(tmp_path: Path, custody: Custody) -> None:
    """Where no write can have happened, nothing of the trial is said to be left."""
    standing = stand(tmp_path)
    standing.folder.write_text("a file")

    checkup = standing.examine("disk", world=with_target(standing.world, "disk", Keeping, custody))

    assert ["let `path` name a folder, or one that can be made"] == [finding.cure for finding in errors(checkup)]
    assert [] == [finding for finding in checkup.findings if finding.severity == "warning"]


def test_a_key_without_any_right(tmp_path: Path, s3_server: S3Server) -> None:
    """So it is where the store refuses all: it may not look whether something is left, and has written nothing."""
    bucket = s3_server.new_bucket()
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            proxy.on(method, "", DENIED, times=1000)
        checkup = stand(tmp_path, targets="offsite", s3=s3_server, bucket=bucket, endpoint=proxy.endpoint).examine("offsite")

    assert f"give the key s3:PutObject on bucket {bucket}" in [finding.cure for finding in errors(checkup)]
    assert not any("may still lie in" in finding.what for finding in checkup.findings)


def test_what_a_killed_doctor_left(tmp_path: Path) -> None:
    """It goes once it is older than an hour; what is younger may be in use, and stays."""
    standing = stand(tmp_path)
    for name, hours in (("old", 2), ("young", 0.5)):
        path = standing.folder / "hotel" / "scratch" / f"doctor-{name}" / "put"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        then = path.stat().st_mtime - hours * 3600
        os.utime(path, (then, then))

    checkup = standing.examine("disk")

    assert ["1 leftover of a doctor that was killed removed"] == [finding.what for finding in checkup.findings]
    assert ["doctor-young"] == [path.name for path in (standing.folder / "hotel" / "scratch").iterdir()]


def test_asked_to_stop_in_the_middle(tmp_path: Path, s3_server: S3Server) -> None:
    """It stops, and clears up before it does."""
    bucket, stop = s3_server.new_bucket(versioned=True), StopEvent()

    def ask(event: Event) -> None:
        if isinstance(event, Effect) and event.key.endswith("/parts"):
            stop.set()

    with pytest.raises(Stopped):
        stand(tmp_path, targets="offsite", s3=s3_server, bucket=bucket, tell=ask, stop=stop).examine("offsite")

    assert [] == left_in(s3_server, bucket)


def test_a_bug_in_the_middle(tmp_path: Path) -> None:
    """Whatever is raised, nothing of the trial is left."""
    told: list[str] = []

    def fail_once(event: Event) -> None:
        if isinstance(event, Effect) and event.key.endswith("/etag") and not told:
            told.append(event.key)
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        stand(tmp_path, tell=fail_once).examine("disk")

    assert [] == [path for path in (tmp_path / "disk" / "hotel").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("targets", "severity"), [("disk,offsite", "error"), ("offsite,disk", "warning")])
def test_a_store_that_ignores_conditions(tmp_path: Path, s3_server: S3Server, targets: str, severity: str) -> None:
    """At home it makes the lease worthless; elsewhere it is a pity."""
    standing = stand(tmp_path, targets=targets, s3=s3_server, bucket=s3_server.new_bucket())

    checkup = standing.examine("disk", world=with_target(standing.world, "disk", Careless))

    assert [severity] == [finding.severity for finding in checkup.findings if "ignores the condition" in finding.what]


def test_a_store_whose_clock_is_wrong(tmp_path: Path) -> None:
    """Two minutes ahead is an error: nothing is deleted meanwhile."""
    standing = stand(tmp_path)

    checkup = standing.examine("disk", world=with_target(standing.world, "disk", Ahead))

    assert any(finding.what.startswith("its clock is 120 s ahead of ours") for finding in errors(checkup))


@pytest.mark.parametrize(("custody", "expected"), [(Locking(), 1), (Growing(), 0)], ids=["locked", "append-only"])
def test_where_nothing_could_be_removed(tmp_path: Path, custody: Custody, expected: int) -> None:
    """Only what leaves nothing is tried; a bucket that locks each renewal of a lease can't be home."""
    standing = stand(tmp_path)

    checkup = standing.examine("disk", world=with_target(standing.world, "disk", Keeping, custody))

    assert expected == len(errors(checkup))
    assert "find an unfinished write, and abort it" in said(checkup, "disk")
    assert "put" not in said(checkup, "disk")
    assert [] == [path for path in (standing.folder / "hotel").rglob("*") if path.is_file()]


def test_a_secret_that_is_missing(tmp_path: Path) -> None:
    """A target that can't be opened is said so once, and the others are examined."""
    standing = stand(tmp_path, targets="disk,offsite")

    checkup = standing.examine()

    assert "put" in said(checkup, "disk")
    assert ["offsite", "source"] == sorted(finding.where for finding in errors(checkup) if finding.where != "hotel")


def test_a_container_at_azure_that_only_grows(tmp_path: Path, azure_server: AzureServer) -> None:
    """The signature that docs/azure.md gives an append-only copy, without `d`, is enough: no error, and nothing is left."""
    target = limited(azure_server, "rcwl")
    standing = stand(tmp_path)
    checkup = standing.examine("disk", world=with_target(standing.world, "disk", lambda _: AppendOnly(target)))

    assert {"note"} == {found.severity for found in checkup.findings}
    assert () == target.unfinished("")
    assert () == target.list("").items


@pytest.mark.parametrize(("home", "severity"), [(False, "note"), (True, "error")])
def test_a_container_at_azure_that_locks(tmp_path: Path, azure_server: AzureServer, *, home: bool, severity: str) -> None:
    """Its policy can't be asked for: what it keeps of the trial is no fault of another target than `home`, and told."""
    with FaultProxy("127.0.0.1", azure_server.port, http=True) as proxy:
        proxy.on("DELETE", "scratch", Answer(status=409, headers=("x-ms-error-code: BlobImmutableDueToPolicy",)), times=1000)
        container = azure_server.container(endpoint=f"{proxy.endpoint}/devstoreaccount1")
        target = AzureTarget(container, domain="x", clock=HastyClock(), stop=StopEvent())
        standing = stand(tmp_path, targets="disk, offsite" if home else "offsite, disk")
        checkup = standing.examine("disk", world=with_target(standing.world, "disk", lambda _: target))

    found = [each for each in checkup.findings if each.where == "disk"]
    assert severity in {each.severity for each in found}
    assert not home or "let `home` be another target" in {each.cure for each in found}
    assert home or {"note"} == {each.severity for each in found}
    assert "BlobImmutableDueToPolicy" in found[0].what
