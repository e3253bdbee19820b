"""Google Cloud Storage through a network and a store that fail at the worst moments, before a server that keeps to its rules."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from reconciler.errors import Conflict, Locked, Refused, Stopped, Unreachable
from reconciler.targets.conditions import honours_conditions
from reconciler.targets.gcs_target import GcsTarget
from reconciler.targets.retrying import Retrying
from reconciler.world.clock import SystemClock
from reconciler.world.facts import LifecycleRule
from reconciler.world.ports import ABSENT
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, Cut, Drop, Fault, FaultProxy, FromThenOn, Instead, Stall
from tests.servers.gcs import StrictGcs

DUMP = "hotel/backups/x/dump.zst"
MIB = 1 << 20
DATED = "Date: Sat, 25 Oct 2025 12:00:00 GMT"


@pytest.fixture
def proxy(strict_gcs: StrictGcs) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", strict_gcs.port, http=True) as proxy:
        yield proxy


@pytest.fixture
def target(strict_gcs: StrictGcs, proxy: FaultProxy) -> GcsTarget:
    """Behind the proxy, with a clock that nobody waits for, and parts of 1 MiB."""
    return made(strict_gcs, endpoint=proxy.endpoint)


def made(server: StrictGcs, **bucket: object) -> GcsTarget:
    whole = server.bucket(**bucket)  # type: ignore[arg-type]  # settings of a bucket are anything
    return GcsTarget(whole, domain="gcs:test", clock=MovedClock(), stop=Event(), page_items=2, part_bytes=MIB)


def there(server: StrictGcs) -> dict[str, bytes]:
    (bucket,) = server.buckets.values()
    return {name: each.content for name, each in bucket.objects.items()}


def stream(megabytes: int) -> Iterator[bytes]:
    for number in range(megabytes):
        yield bytes([number]) * MIB


class TestWriting:
    @pytest.mark.parametrize(
        "fault",
        [Cut(after=300_000, side="up"), Drop(), Answer(status=503), Answer(status=429)],
        ids=["cut", "answer lost", "503", "429"],
    )
    @pytest.mark.parametrize("nth", [1, 2, 4], ids=["first part", "part in the middle", "last part"])
    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_a_part_meets_trouble(
        self, strict_gcs: StrictGcs, target: GcsTarget, proxy: FaultProxy, *, fault: Fault, nth: int, expect: str | None
    ) -> None:
        """The store is asked how far it came, the rest is sent again, and the whole arrives byte for byte."""
        proxy.on("PUT", "upload_id", fault, nth=nth)
        stored = target.write(DUMP, stream(4), expect=expect)

        assert {DUMP: b"".join(stream(4))} == there(strict_gcs)
        assert stored.etag == target.list("").items[0].etag

    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_a_small_write_is_lost(
        self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy, expect: str | None
    ) -> None:
        """The second attempt meets our own object: done, though the store says that somebody was first."""
        proxy.on("POST", "uploadType=multipart", Drop())
        stored = target.write("hotel/lease", [b"mine"], expect=expect)

        assert {"hotel/lease": b"mine"} == there(strict_gcs)
        assert stored.etag == target.list("").items[0].etag

    def test_something_on_the_way_asks_twice(self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """A proxy that repeats a write whose answer it lost hears that somebody was first, and so do we: that was ourselves."""
        proxy.on("POST", "uploadType=multipart", Instead(answer=Answer(status=412)))
        stored = target.write("hotel/lease", [b"mine"], expect=ABSENT)

        assert {"hotel/lease": b"mine"} == there(strict_gcs)
        assert stored.etag == target.list("").items[0].etag

    def test_another_was_first_while_the_answer_was_lost(
        self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy
    ) -> None:
        """The id in the metadata tells that it was not us."""
        target.write("hotel/lease", [b"yours"])
        proxy.on("POST", "uploadType=multipart", Answer(status=503))

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"mine"], expect=ABSENT)
        assert {"hotel/lease": b"yours"} == there(strict_gcs)

    def test_somebody_comes_first_during_the_upload(self, target: GcsTarget, strict_gcs: StrictGcs) -> None:
        """The condition holds when the upload is completed, not only when it was begun."""

        def slow() -> Iterator[bytes]:
            yield from stream(3)
            target.write(DUMP, [b"theirs"])
            yield from stream(3)

        with pytest.raises(Conflict):
            target.write(DUMP, slow(), expect=ABSENT)
        assert {DUMP: b"theirs"} == there(strict_gcs)
        assert {} == strict_gcs.sessions

    def test_an_upload_that_the_store_lost(self, target: GcsTarget, strict_gcs: StrictGcs) -> None:
        """It can't be gone on with: the write fails, nothing is stored."""

        def watched() -> Iterator[bytes]:
            yield from stream(3)
            strict_gcs.sessions.clear()
            yield from stream(3)

        with pytest.raises(Unreachable, match="the upload was lost by the store"):
            target.write(DUMP, watched(), expect=ABSENT)
        assert {} == there(strict_gcs)

    def test_lasting_trouble(self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """After a few attempts the write fails, and the upload is cancelled."""
        proxy.on("PUT", "upload_id", Answer(status=503), nth=2, times=-1)

        with pytest.raises(Unreachable, match="gcs: cannot write gs://"):
            target.write(DUMP, stream(4))
        assert {} == there(strict_gcs)
        assert {} == strict_gcs.sessions

    def test_asked_to_stop_while_a_part_hangs(self, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """It does not take until its time-out, and the upload is cancelled."""
        stop, clock = Event(), SystemClock()
        bucket = strict_gcs.bucket(endpoint=proxy.endpoint)
        target = GcsTarget(bucket, domain="gcs:test", clock=clock, stop=stop, part_bytes=MIB)
        proxy.on("PUT", "upload_id", Stall(after=300_000, side="up"), nth=2)

        def stopped() -> Iterator[bytes]:
            yield from stream(2)
            stop.set()
            yield from stream(2)

        began = clock.monotonic()
        with pytest.raises(Stopped):
            target.write(DUMP, stopped())
        assert clock.monotonic() - began < 30
        assert {} == strict_gcs.sessions
        assert {} == there(strict_gcs)

    def test_credentials_that_end_half_way(self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """At once, with what would help; no object comes of it."""
        proxy.on("PUT", "upload_id", FromThenOn(answer=Answer(status=401)), nth=2)

        with pytest.raises(Refused, match=r"gcs: cannot write gs://.*: 401") as caught:
            target.write(DUMP, stream(4))
        assert "renew" in caught.value.cure
        assert {} == there(strict_gcs)

    def test_what_arrives_damaged(self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """A store that says it has other bytes than were sent is not believed, and they are removed.

        It is no Corrupt, by which whoever copies tells that the original is bad.
        """
        told = {"name": DUMP, "size": str(4 * MIB), "generation": "1700000000000001", "updated": "2025-10-25T02:00:00Z"}
        lie = json.dumps(told | {"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}).encode()
        proxy.on("PUT", "upload_id", Instead(answer=Answer(status=200, body=lie)), nth=4)

        with pytest.raises(Unreachable, match="other bytes than were sent"):
            target.write(DUMP, stream(4))
        assert {} == there(strict_gcs)

    @pytest.mark.parametrize(
        "where", ["http://elsewhere.example/x", "https://127.0.0.1/x", "http://127.0.0.1:1/x", "http://[", "/upload/x", ""]
    )
    def test_an_upload_that_is_sent_elsewhere(self, target: GcsTarget, proxy: FaultProxy, where: str) -> None:
        """The credentials would go there too, be it by another scheme or to another port."""
        proxy.on("POST", "uploadType=resumable", Answer(status=200, headers=(f"Location: {where}",)))

        with pytest.raises(Refused, match="sends uploads to another host"):
            target.write(DUMP, stream(4))

    def test_conditions_are_kept(self, target: GcsTarget) -> None:
        """As whoever takes a lease proves it."""
        assert honours_conditions(target, "hotel/scratch")

    def test_a_shorter_one_without_a_checksum(self, target: GcsTarget, strict_gcs: StrictGcs, proxy: FaultProxy) -> None:
        """Of some objects Google has no MD5: then its size at least must be what was sent."""
        told = {"name": DUMP, "size": str(3 * MIB), "generation": "1700000000000001", "updated": "2025-10-25T02:00:00Z"}
        proxy.on("PUT", "upload_id", Instead(answer=Answer(status=200, body=json.dumps(told).encode())), nth=4)

        with pytest.raises(Unreachable, match="other bytes than were sent"):
            target.write(DUMP, stream(4))
        assert {} == there(strict_gcs)

    def test_an_etag_of_another_store(self, target: GcsTarget) -> None:
        """What never was a generation is of nothing that could be there."""
        with pytest.raises(Conflict):
            target.write("hotel/x", [b"x"], expect="0x8D1")
        with pytest.raises(Conflict):
            target.write("hotel/x", [b"x"], expect="0")


class TestReading:
    def test_a_store_that_begins_anew(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """It was asked for the rest, and sends the beginning: that is never taken for the rest."""
        target.write(DUMP, stream(4))
        proxy.on("GET", "alt=media", Answer(status=200, body=b"the beginning", headers=("x-goog-generation: 1",)))

        with pytest.raises(Refused, match="does not begin at byte 5"):
            target.read(DUMP, start=5)

    def test_a_stream_that_breaks(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """Ends as no end, and is gone on with where it broke."""
        target.write(DUMP, stream(4))
        proxy.on("GET", "alt=media", Cut(after=2_500_000, side="down"), times=2)

        with target.read(DUMP) as blob, pytest.raises(Unreachable, match="broke off"):
            b"".join(blob)
        with Retrying(target, clock=MovedClock(), stop=Event()).read(DUMP) as blob:
            assert b"".join(stream(4)) == b"".join(blob)

    @pytest.mark.parametrize(
        "fault",
        [Answer(status=200, body=b"<html>Welcome</html>"), Answer(status=200, body=b"{}"), Answer(status=302)],
        ids=["a page", "another JSON", "a redirect"],
    )
    def test_what_is_no_listing(self, target: GcsTarget, proxy: FaultProxy, fault: Fault) -> None:
        """Never passes for an empty one."""
        proxy.on("GET", r"/o\?", fault)

        with pytest.raises(Refused):
            target.list("")

    def test_a_page_that_fails(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """Makes the whole listing fail: it is never short."""
        for number in range(5):
            target.write(f"hotel/{number}", [b"x"])
        proxy.on("GET", "pageToken", Answer(status=503), nth=2)

        with pytest.raises(Unreachable):
            target.list("")
        assert 5 == len(target.list("").items)

    def test_a_listing_that_goes_round(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """The same page token again and again is refused."""
        page = json.dumps({"kind": "storage#objects", "nextPageToken": "a"}).encode()
        proxy.on("GET", r"/o\?", Answer(status=200, body=page, headers=("Date: Sat, 25 Oct 2025 12:00:00 GMT",)), times=-1)

        with pytest.raises(Refused, match="there is more, but not where"):
            target.list("")

    @pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
    def test_too_much_at_a_time(self, target: GcsTarget, proxy: FaultProxy, reason: str) -> None:
        """Google says so with 403, too: it is waited for as with 429, and no right is missing."""
        refusal = {"error": {"code": 403, "errors": [{"reason": reason, "domain": "usageLimits"}]}}
        proxy.on("GET", r"/o\?", Answer(status=403, body=json.dumps(refusal).encode(), headers=("Retry-After: 7",)))

        with pytest.raises(Unreachable, match=f"403 {reason}") as caught:
            target.list("")
        assert timedelta(seconds=7) == caught.value.retry_after

    def test_a_store_without_a_date(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """Nothing could be dated by it."""
        proxy.on("GET", r"/o\?", Answer(status=200, body=b'{"kind": "storage#objects"}'))

        with pytest.raises(Refused, match="answers without a date"):
            target.list("")

    def test_a_bucket_that_is_not_there(self, target: GcsTarget, strict_gcs: StrictGcs) -> None:
        """Is neither empty nor does it hold nothing of that name."""
        strict_gcs.buckets.clear()

        for use in (
            lambda: target.list(""),
            lambda: target.read("hotel/x"),
            lambda: target.write("hotel/x", [b"x"]),
            lambda: target.write("hotel/x", stream(3)),
            lambda: target.delete("hotel/x"),
            target.custody.lifecycle,
        ):
            with pytest.raises(Refused, match="there is no such bucket"):
                use()

    def test_nobody_there(self, target: GcsTarget, proxy: FaultProxy) -> None:
        """Unreachable, with the endpoint named."""
        proxy.refuse()

        with pytest.raises(Unreachable, match="refuses the connection"):
            target.list("")


class TestCustody:
    def test_what_a_retention_policy_keeps(self, strict_gcs: StrictGcs) -> None:
        """A deletion is put off until Google lets go, and says when that is."""
        target = made(strict_gcs, retentionPolicy={"retentionPeriod": "86400"})
        target.write("hotel/x", [b"x"])

        with pytest.raises(Locked, match="is locked until") as caught:
            target.delete("hotel/x")
        assert caught.value.until is not None
        assert timedelta(hours=23) < caught.value.until - datetime.now(UTC) <= timedelta(days=1)
        assert timedelta(days=1) == target.custody.default_retention()

    @pytest.mark.parametrize(
        ("kept", "says", "until"),
        [
            (
                {"retention": {"mode": "Locked", "retainUntilTime": "2025-11-01T12:00:00Z"}},
                "is locked until 2025-11-01 12:00Z",
                datetime(2025, 11, 1, 12, tzinfo=UTC),
            ),
            (
                {
                    "retention": {"mode": "Unlocked", "retainUntilTime": "2025-11-01T12:00:00Z"},
                    "retentionExpirationTime": "2025-12-01T12:00:00Z",
                },
                "is locked until 2025-12-01 12:00Z",
                datetime(2025, 12, 1, 12, tzinfo=UTC),
            ),
            ({"temporaryHold": True}, "is locked by a hold", None),
        ],
        ids=["its own retention", "and a longer one of the bucket", "a hold"],
    )
    def test_what_a_lock_of_its_own_keeps(
        self, target: GcsTarget, proxy: FaultProxy, *, kept: dict[str, object], says: str, until: datetime | None
    ) -> None:
        """Whoever set it: the deletion is put off to the latest of the dates. (No fake knows it: Google's answers are played.)"""
        target.write("hotel/x", [b"x"])
        proxy.on("DELETE", "hotel", Answer(status=403, body=b'{"error": {"code": 403, "message": "subject to retention"}}'))
        told = {"name": "hotel/x", "generation": "1", "size": "1", "updated": "2025-10-25T12:00:00Z"}
        proxy.on("GET", "hotel", Answer(status=200, body=json.dumps(told | kept).encode(), headers=(DATED,)))

        with pytest.raises(Locked, match=says) as caught:
            target.delete("hotel/x")
        assert until == caught.value.until

    def test_a_retention_that_is_over(self, strict_gcs: StrictGcs, target: GcsTarget, proxy: FaultProxy) -> None:
        """Keeps nothing, though Google goes on telling of it: what is missing is a right, and the message names it."""
        target.write("hotel/x", [b"x"])
        (bucket,) = strict_gcs.buckets.values()
        bucket.objects["hotel/x"].kept_until = datetime.now(UTC) - timedelta(days=1)
        proxy.on("DELETE", "hotel", Answer(status=403, body=b'{"error": {"errors": [{"reason": "forbidden"}]}}'))

        with pytest.raises(Refused, match="403 forbidden") as caught:
            target.delete("hotel/x")
        assert not isinstance(caught.value, Locked)
        assert "storage.objects.delete" in caught.value.cure

    def test_what_is_kept_is_not_written_over(self, strict_gcs: StrictGcs) -> None:
        """That is a lock, and no right that is missing."""
        target = made(strict_gcs, retentionPolicy={"retentionPeriod": "86400"})
        target.write("hotel/x", [b"x"])

        for content in ([b"y"], stream(3)):
            with pytest.raises(Locked, match="what is there is locked"):
                target.write("hotel/x", content)
        assert {"hotel/x": b"x"} == there(strict_gcs)

    def test_rules(self, strict_gcs: StrictGcs) -> None:
        """Those that delete living objects under our prefix are told of, by their place in the bucket's list."""
        rules = [
            {"action": {"type": "Delete"}, "condition": {"age": 30}},
            {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["pg/hotel/", "other/"]}},
            {"action": {"type": "Delete"}, "condition": {"age": 1, "isLive": False}},
            {"action": {"type": "Delete"}, "condition": {"numNewerVersions": 2}},
            {"action": {"type": "Delete"}, "condition": {"daysSinceCustomTime": 7}},
            {"action": {"type": "Delete"}, "condition": {"customTimeBefore": "2026-01-01", "age": 1}},
            {"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": {"age": 1}},
            {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
        ]
        target = made(strict_gcs, prefix="pg/", lifecycle={"rule": rules})

        assert (
            LifecycleRule(name="1", prefix="", does="expires", after=timedelta(days=30)),
            LifecycleRule(name="2", prefix="hotel/", does="expires", after=timedelta(days=3)),
        ) == target.custody.lifecycle()
        assert target.custody.default_retention() is None
