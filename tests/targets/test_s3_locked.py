"""Buckets that lock, expire and archive: on the real server; what that one can't do is answered by a proxy before it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from reconciler.errors import Locked, Refused
from reconciler.sandbox.patience import wait_for
from reconciler.targets.append_only import AppendOnly
from reconciler.targets.retrying import Retrying
from reconciler.targets.s3_bucket import Bucket, make_client
from reconciler.targets.s3_custody import ASK_AGAIN_SECONDS, Lock, S3Custody
from reconciler.targets.s3_target import S3Target
from reconciler.targets.telling import Telling
from reconciler.world.facts import LifecycleRule
from reconciler.world.ports import Stored, Target, custody_of
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, FaultProxy
from tests.servers.s3 import S3Server

DENIED = Answer(status=403, body=b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
DAY = timedelta(days=1)

Make = Callable[..., S3Target]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        yield proxy


@pytest.fixture
def make(s3_server: S3Server, proxy: FaultProxy, clock: MovedClock) -> Make:
    def make(name: str, *, prefix: str = "", mode: Any = "governance") -> S3Target:
        """A target on that bucket, behind the proxy, that locks for an hour."""
        access = s3_server.access(name, endpoint=proxy.endpoint)
        bucket = Bucket("vault", access, make_client("vault", access), prefix=prefix, clock=clock, stop=Event())
        return S3Target(bucket, domain="s3:test", custody=S3Custody(bucket, lock=Lock(mode=mode, retain=timedelta(hours=1))))

    return make


@pytest.fixture
def locked(s3_server: S3Server, make: Make) -> S3Target:
    """On a bucket that was made with Object Lock."""
    return make(s3_server.new_bucket(locked=True))


def soon() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


def content(target: Target, key: str) -> bytes:
    with target.read(key) as blob:
        return b"".join(blob)


class TestLocks:
    @pytest.mark.parametrize("mode", ["governance", "compliance"])
    @pytest.mark.parametrize("megabytes", [1, 9], ids=["at once", "in parts"])
    def test_a_locked_version_stays_until_its_date(self, s3_server: S3Server, make: Make, mode: str, megabytes: int) -> None:
        """Deleting it is refused with that date, however it was written."""
        target, until = make(s3_server.new_bucket(locked=True), mode=mode), soon()
        stored = target.write("hotel/dump", (bytes(1 << 20) for _ in range(megabytes)), keep_until=until)

        with pytest.raises(Locked, match=r"hotel/dump is locked until 20\d\d-") as caught:
            target.delete("hotel/dump", version=stored.version)
        assert until == caught.value.until
        assert stored.version in {item.version for item in target.list("", versions=True).items}

    def test_what_is_not_to_be_kept_is_not_locked(self, locked: S3Target) -> None:
        """Leases and their like are deleted on the same bucket."""
        stored = locked.write("hotel/lease", [b"1"])
        locked.delete("hotel/lease", version=stored.version)

        assert () == locked.list("", versions=True).items

    @pytest.mark.parametrize("versioned", [True, False])
    def test_a_bucket_without_object_lock(self, s3_server: S3Server, make: Make, versioned: bool) -> None:
        """Nothing is written that was to be locked and isn't; the message says what is wrong with the bucket."""
        target = make(s3_server.new_bucket(versioned=versioned))

        with pytest.raises(Refused, match="can lock nothing") as caught:
            target.write("hotel/dump", [b"1"], keep_until=soon())
        assert "made with Object Lock" in caught.value.cure
        assert () == target.list("").items

    def test_a_legal_hold(self, locked: S3Target, s3_server: S3Server) -> None:
        """It keeps as well, and has no end."""
        stored = locked.write("hotel/dump", [b"1"])
        name = locked.place.split("/")[2]
        s3_server.client().put_object_legal_hold(Bucket=name, Key="hotel/dump", LegalHold={"Status": "ON"})

        with pytest.raises(Locked, match="legal hold") as caught:
            locked.delete("hotel/dump", version=stored.version)
        assert caught.value.until is None

    def test_a_missing_right_is_no_lock(self, locked: S3Target, proxy: FaultProxy) -> None:
        """Where the version is free, what is missing is said."""
        stored = locked.write("hotel/x", [b"1"])
        proxy.on("DELETE", "versionId=", DENIED, times=-1)

        with pytest.raises(Refused) as caught:
            locked.delete("hotel/x", version=stored.version)
        assert not isinstance(caught.value, Locked)
        assert "s3:DeleteObjectVersion" in caught.value.cure

    def test_a_lock_that_is_over(self, locked: S3Target, s3_server: S3Server, proxy: FaultProxy) -> None:
        """It no longer explains a refusal: what is missing then is a right."""
        stored = locked.write("hotel/x", [b"1"], keep_until=soon())
        assert stored.version is not None
        s3_server.shorten_lock(locked.place.split("/")[2], "hotel/x", stored.version)
        proxy.on("DELETE", "versionId=", DENIED, times=-1)

        refusal = wait_for(lambda: refused_without_lock(locked, stored), seconds=60, what="the lock to end")
        assert "s3:DeleteObjectVersion" in refusal.cure

    @pytest.mark.parametrize(
        ("query", "right"), [(r"\?retention", "s3:GetObjectRetention"), (r"\?legal-hold", "s3:GetObjectLegalHold")]
    )
    def test_a_lock_that_may_not_be_seen(self, locked: S3Target, proxy: FaultProxy, query: str, right: str) -> None:
        """Refused all the same, with the right that would show it."""
        stored = locked.write("hotel/x", [b"1"], keep_until=soon())
        proxy.on("GET", query, DENIED, times=-1)

        with pytest.raises(Refused, match="403 AccessDenied") as caught:
            locked.delete("hotel/x", version=stored.version)
        assert not isinstance(caught.value, Locked)
        assert right in caught.value.cure

    def test_a_hold_that_may_not_be_seen(self, locked: S3Target, proxy: FaultProxy) -> None:
        """It is not taken for none: what describes an object leaves it out where the right is missing."""
        stored = locked.write("hotel/x", [b"1"])
        locked.custody.hold("hotel/x", stored.version, held=True)
        proxy.on("GET", "legal-hold", DENIED, times=-1)

        with pytest.raises(Refused, match="403 AccessDenied") as caught:
            locked.custody.hold("hotel/x", stored.version, held=False)
        assert "s3:GetObjectLegalHold" in caught.value.cure


def refused_without_lock(target: Target, stored: Stored) -> Refused | None:
    """Deleting that version once more; None while a lock refuses it."""
    with pytest.raises(Refused) as caught:
        target.delete(stored.key, version=stored.version)
    return None if isinstance(caught.value, Locked) else caught.value


class TestDefaultRetention:
    def test_a_bucket_without(self, s3_server: S3Server, make: Make) -> None:
        """Made with Object Lock or not."""
        for locked in (True, False):
            assert make(s3_server.new_bucket(locked=locked)).custody.default_retention() is None

    def test_a_bucket_with_one(self, s3_server: S3Server, make: Make) -> None:
        """It is told, through wrappers too."""
        name = s3_server.new_bucket(locked=True)
        lock_by_default(s3_server, name, days=3)
        target = Telling(Retrying(make(name), clock=MovedClock(), stop=Event()), lambda _: None)

        assert timedelta(days=3) == custody_of(target).default_retention()

    def test_who_may_not_ask(self, locked: S3Target, proxy: FaultProxy) -> None:
        """The right is named."""
        proxy.on("GET", r"\?object-lock", DENIED)

        with pytest.raises(Refused) as caught:
            locked.custody.default_retention()
        assert "s3:GetBucketObjectLockConfiguration" in caught.value.cure


def lock_by_default(server: S3Server, bucket: str, *, days: int) -> None:
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": days}}}
    server.client().put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)


def with_rules(server: S3Server, bucket: str, *rules: dict[str, Any]) -> None:
    each: Any = [{"ID": f"rule-{number}", "Status": "Enabled"} | rule for number, rule in enumerate(rules)]
    server.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": each})


class TestLifecycle:
    def test_no_rules(self, s3_server: S3Server, make: Make) -> None:
        """None set is none."""
        assert () == make(s3_server.new_bucket()).custody.lifecycle()

    def test_rules_that_reach_us(self, s3_server: S3Server, make: Make) -> None:
        """What expires, what expires behind the newest version, each as seen from our own prefix; others' are left out."""
        name = s3_server.new_bucket(versioned=True)
        with_rules(
            s3_server,
            name,
            {"Filter": {"Prefix": "backups/hotel/"}, "Expiration": {"Days": 10}},
            {"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 2}},
            {"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
            {"Filter": {"Prefix": "backups/"}, "Expiration": {"Days": 1}, "Status": "Disabled"},
        )

        assert (
            LifecycleRule(name="rule-0", prefix="hotel/", does="expires", after=10 * DAY),
            LifecycleRule(name="rule-1", prefix="", does="expires old versions of", after=2 * DAY),
        ) == make(name, prefix="backups/").custody.lifecycle()

    def test_rules_that_archive(self, s3_server: S3Server, make: Make, proxy: FaultProxy) -> None:
        """Only into classes that can't be read at once; and what goes by a tag reaches none of our objects."""
        proxy.on("GET", r"\?lifecycle", Answer(status=200, body=ARCHIVING, headers=("Content-Type: application/xml",)))

        assert (
            LifecycleRule(name="cold", prefix="", does="archives", after=30 * DAY),
            LifecycleRule(name="dated", prefix="", does="expires", after=0 * DAY),
        ) == make(s3_server.new_bucket()).custody.lifecycle()

    def test_asked_once_an_hour(self, s3_server: S3Server, make: Make, proxy: FaultProxy, clock: MovedClock) -> None:
        """A plan looks several times; a rule made meanwhile is seen later."""
        target = make(s3_server.new_bucket())
        for _ in range(3):
            target.custody.lifecycle()
        assert 1 == sum("lifecycle" in path for _, path in proxy.seen)

        clock.wait(ASK_AGAIN_SECONDS, Event())
        target.custody.lifecycle()
        assert 2 == sum("lifecycle" in path for _, path in proxy.seen)

    def test_who_may_not_ask(self, locked: S3Target, proxy: FaultProxy) -> None:
        """The right is named."""
        proxy.on("GET", r"\?lifecycle", DENIED)

        with pytest.raises(Refused) as caught:
            locked.custody.lifecycle()
        assert "s3:GetLifecycleConfiguration" in caught.value.cure

    def test_a_store_that_knows_none(self, locked: S3Target, proxy: FaultProxy) -> None:
        """Has none."""
        proxy.on("GET", r"\?lifecycle", Answer(status=501, body=b"<Error><Code>NotImplemented</Code></Error>"))

        assert () == locked.custody.lifecycle()


ARCHIVING = b"""<LifecycleConfiguration>
<Rule><ID>cold</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>
<Transition><Days>30</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>
<Transition><Days>7</Days><StorageClass>STANDARD_IA</StorageClass></Transition></Rule>
<Rule><ID>tagged</ID><Status>Enabled</Status><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>
<Expiration><Days>1</Days></Expiration></Rule>
<Rule><ID>dated</ID><Status>Enabled</Status><Prefix></Prefix><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>
</LifecycleConfiguration>"""


class TestArchives:
    @pytest.mark.parametrize(("kept_as", "shown"), [("GLACIER", "GLACIER"), ("DEEP_ARCHIVE", "DEEP_ARCHIVE"), ("STANDARD", "")])
    def test_a_listing_shows_what_is_archived(self, s3_server: S3Server, make: Make, kept_as: Any, shown: str) -> None:
        """Of versions too."""
        name = s3_server.new_bucket(versioned=True)
        s3_server.client().put_object(Bucket=name, Key="hotel/dump", Body=b"x", StorageClass=kept_as)
        target = make(name)

        assert [shown] == [item.archive for item in target.list("").items]
        assert [shown] == [item.archive for item in target.list("", versions=True).items]

    def test_reading_what_is_archived(self, locked: S3Target, proxy: FaultProxy) -> None:
        """Refused, with what to do first."""
        locked.write("hotel/dump", [b"x"])
        proxy.on("GET", "hotel/dump", Answer(status=403, body=b"<Error><Code>InvalidObjectState</Code></Error>"))

        with pytest.raises(Refused) as caught:
            content(locked, "hotel/dump")
        assert "bring the object back from the archive class first" == caught.value.cure


class TestAppendOnly:
    def test_nothing_is_deleted(self, s3_server: S3Server, make: Make) -> None:
        """Neither keys nor versions; everything else goes through."""
        target = AppendOnly(make(s3_server.new_bucket(versioned=True)))
        stored = target.write("hotel/x", [b"x"])

        for version in (None, stored.version):
            with pytest.raises(Refused, match="the target is append-only"):
                target.delete("hotel/x", version=version)
        assert b"x" == content(target, "hotel/x")
        assert ["hotel/x"] == [item.key for item in target.list("").items]
        assert custody_of(target).append_only
        assert timedelta(hours=1) == custody_of(target).retain
