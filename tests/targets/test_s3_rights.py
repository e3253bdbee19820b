"""The least rights of docs/s3.md, held against a store that judges every request by them."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Event

import msgspec
import pytest

from reconciler.backups.erase import erase, erase_object
from reconciler.backups.layout import DUMP, INTENT, MANIFEST, object_key
from reconciler.errors import Locked, LockUnseen, Refused
from reconciler.targets.s3_bucket import Bucket, make_client
from reconciler.targets.s3_custody import Lock, S3Custody
from reconciler.targets.s3_target import S3Target
from reconciler.world.ports import CopyWithin, Hashed
from tests.faults.clock import MovedClock
from tests.servers.s3 import S3Server
from tests.servers.s3_rights import PREFIX, Keys, actions, document, new_keys, page

ALL = tuple(statement.sid for statement in page().statement)
ABORT = "s3:AbortMultipartUpload"
"""SeaweedFS lets whoever may put abort, unless that is denied."""


def keys_for(server: S3Server, *texts: str) -> Keys:
    """Of an account with the rights of these policy documents."""
    return new_keys(server.endpoint, Keys(server.access_key_id, server.secret_access_key), *texts)


def reach(server: S3Server, bucket: str, keys: Keys, *, prefix: str = PREFIX) -> S3Target:
    """A target on that bucket by those keys, that locks for an hour."""
    access = msgspec.structs.replace(
        server.access(bucket), access_key_id=keys.access_key_id, secret_access_key=keys.secret_access_key
    )
    reached = Bucket("vault", access, make_client("vault", access), prefix=prefix, clock=MovedClock(), stop=Event())
    lock = Lock(mode="governance", retain=timedelta(hours=1))
    return S3Target(reached, domain="s3:test", custody=S3Custody(reached, lock=lock))


def limited(server: S3Server, bucket: str, text: str) -> S3Target:
    """A target on that bucket with the rights of the policy document."""
    return reach(server, bucket, keys_for(server, text))


def use(target: S3Target) -> None:
    """Every request that the program makes of a bucket with Object Lock."""
    target.list("")
    target.custody.lifecycle()
    target.custody.default_retention()
    first = target.write("hotel/lease", [b"1"])
    second = target.write("hotel/lease", [b"2"], expect=first.etag)
    for version in (None, first.version):
        with target.read("hotel/lease", version=version) as blob:
            list(blob)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    dump = target.write("hotel/dump", (bytes(1 << 20) for _ in range(9)), keep_until=until)
    target.custody.hold("hotel/dump", dump.version, held=True)
    assert dump.version is not None
    with pytest.raises(Locked, match="by a legal hold"):
        target.delete("hotel/dump", version=dump.version)
    target.custody.hold("hotel/dump", dump.version, held=False)
    with pytest.raises(Locked, match="is locked until"):
        target.delete("hotel/dump", version=dump.version)
    target.delete("hotel/lease")
    assert {first.version, second.version} < {item.version for item in target.list("", versions=True).items}
    target.delete("hotel/lease", version=second.version)
    target.bucket.client.create_multipart_upload(**target.bucket.at("hotel/cut"))
    for upload in target.unfinished(""):
        target.abort(upload)


def test_those_of_the_page_are_enough(s3_server: S3Server) -> None:
    """For all that the program does, and for nothing outside the prefix."""
    bucket = s3_server.new_bucket(locked=True)
    keys = keys_for(s3_server, document(bucket, PREFIX, *ALL))

    use(reach(s3_server, bucket, keys))
    beyond = reach(s3_server, bucket, keys, prefix="mysql/")
    stored = s3_server.client().put_object(Bucket=bucket, Key="mysql/hotel/dump", Body=b"1")
    with pytest.raises(Refused, match="cannot write"):
        beyond.write("hotel/x", [b"1"])
    with pytest.raises(Refused, match="cannot read"):
        beyond.read("hotel/dump")
    for version in (None, stored["VersionId"]):
        with pytest.raises(Refused, match="cannot delete"):
            beyond.delete("hotel/dump", version=version)


def test_a_copy_inside_the_store(s3_server: S3Server) -> None:
    """To read the one bucket and to write the other is enough."""
    one, other = s3_server.new_bucket(), s3_server.new_bucket(locked=True)
    reading = document(one, PREFIX, "Read")
    keys = keys_for(s3_server, reading, document(other, PREFIX, "Write", "Locks"))
    content = bytes(5 << 20)
    s3_server.client().put_object(Bucket=one, Key=f"{PREFIX}hotel/dump", Body=content * 2)
    part = Hashed(size=len(content), sha256=sha256(content).hexdigest())
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    wanted = CopyWithin(key="hotel/dump", parts=[part, part], about_to=lambda: None, keep_until=until)

    assert reach(s3_server, other, keys).copy_within(reach(s3_server, one, keys), wanted)
    without = keys_for(s3_server, reading, document(other, PREFIX, "Write"))
    with pytest.raises(Refused) as caught:
        reach(s3_server, other, without).copy_within(reach(s3_server, one, without), wanted)
    assert f"s3:PutObjectRetention on bucket {other}" in caught.value.cure


@pytest.mark.parametrize("missing", sorted({*actions(*ALL)} - {ABORT}))
def test_the_one_that_is_left_out_is_named(s3_server: S3Server, missing: str) -> None:
    """None of the page's can be spared, and the message says which to give on which bucket."""
    bucket = s3_server.new_bucket(locked=True)

    with pytest.raises(Refused, match="403 AccessDenied") as caught:
        use(limited(s3_server, bucket, document(bucket, PREFIX, *ALL, without={missing})))
    assert f"{missing} on bucket {bucket}" in caught.value.cure


@pytest.mark.parametrize("missing", ["s3:GetObjectLegalHold", "s3:GetObjectRetention"])
def test_a_backup_whose_lock_may_not_be_seen_is_not_hidden(s3_server: S3Server, missing: str) -> None:
    """Nothing of it is touched, and the right that would show the lock is named. What passes is put out of sight all the same."""
    bucket, backup = s3_server.new_bucket(locked=True), "20251025T020000Z-3f9c2a"
    target = limited(s3_server, bucket, document(bucket, PREFIX, *ALL, without={missing}))
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    for name in (MANIFEST, DUMP, INTENT):
        target.write(object_key("hotel", backup, name), [b"1"], keep_until=until)
    before = target.list("", versions=True).items

    with pytest.raises(LockUnseen) as caught:
        erase(target, "hotel", backup, now=datetime.now(UTC))
    assert f"give the key {missing} on bucket {bucket}" in caught.value.cure
    assert before == target.list("", versions=True).items
    erase_object(target, object_key("hotel", backup, INTENT))
    assert {MANIFEST, DUMP} == {item.key.rpartition("/")[2] for item in target.list("").items}


def test_aborting_that_is_denied_is_named(s3_server: S3Server) -> None:
    """By a statement of its own: leaving the action out denies nothing on this server."""
    bucket = s3_server.new_bucket(locked=True)
    text = document(bucket, PREFIX, *ALL)
    denied = text.replace('"Statement":[', f'"Statement":[{{"Effect":"Deny","Action":"{ABORT}","Resource":"*"}},')

    use(limited(s3_server, bucket, document(bucket, PREFIX, *ALL, without={ABORT})))
    with pytest.raises(Refused, match="403 AccessDenied") as caught:
        use(limited(s3_server, bucket, denied))
    assert f"give the key {ABORT} on bucket {bucket}" == caught.value.cure
