"""S3 through a network and a store that fail at the worst moments, on a real server behind a proxy that breaks things."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Absent, Conflict, Corrupt, Refused, Stopped, Unreachable
from reconciler.sandbox.patience import wait_for
from reconciler.targets.conditions import honours_conditions
from reconciler.targets.retrying import Retrying
from reconciler.targets.s3_bucket import Bucket, make_client
from reconciler.targets.s3_target import S3Target
from reconciler.targets.s3_upload import MOST_PARTS, part_bytes
from reconciler.world.clock import SystemClock
from reconciler.world.persist import ATTEMPTS
from reconciler.world.ports import ABSENT
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, Cut, Drop, Fault, FaultProxy, Instead, Stall
from tests.servers.s3 import S3Server

DUMP = "hotel/backups/x/dump.zst"
MIB = 1 << 20

Through = Callable[..., S3Target]


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        yield proxy


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name: str = s3_server.new_bucket()
    return name


@pytest.fixture
def target(s3_server: S3Server, proxy: FaultProxy, bucket: str) -> S3Target:
    """Behind the proxy, with a clock that nobody waits for, and little patience for silence."""
    access = s3_server.access(bucket, endpoint=proxy.endpoint)
    client = make_client("offsite", access, connect_seconds=3, read_seconds=3)
    return S3Target(Bucket("offsite", access, client, prefix="", clock=MovedClock(), stop=Event()), domain="s3:test")


@pytest.fixture
def behind(s3_server: S3Server, bucket: str) -> S3Target:
    """The same bucket, without the proxy: to see what is there."""
    access = s3_server.access(bucket)
    return S3Target(
        Bucket("behind", access, s3_server.careful_client, prefix="", clock=SystemClock(), stop=Event()), domain="s3:test"
    )


def content(target: S3Target, key: str) -> bytes:
    with target.read(key) as blob:
        return b"".join(blob)


def stream(megabytes: int) -> Iterator[bytes]:
    for number in range(megabytes):
        yield bytes([number]) * MIB


class TestWriting:
    @pytest.mark.parametrize(
        "fault",
        [
            Cut(after=3_000_000, side="up"),
            Drop(),
            Answer(status=503),
            Answer(status=500),
            Answer(status=429),
            Stall(after=MIB, side="up"),
        ],
        ids=["cut", "answer lost", "503", "500", "429", "stalled"],
    )
    def test_a_part_meets_trouble(self, target: S3Target, behind: S3Target, proxy: FaultProxy, fault: Fault) -> None:
        """It is sent again from memory, on its own, and the whole arrives byte for byte."""
        proxy.on("PUT", r"partNumber=2\b", fault)
        stored = target.write(DUMP, stream(20))

        assert b"".join(stream(20)) == content(behind, DUMP)
        assert stored.etag == behind.list("").items[0].etag
        assert 2 <= sum("partNumber=2" in path for _, path in proxy.seen)

    def test_a_part_meets_lasting_trouble(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """After a few attempts the write fails, and what had arrived is freed."""
        proxy.on("PUT", r"partNumber=2\b", Answer(status=503), times=-1)

        with pytest.raises(Unreachable, match="cannot write"):
            target.write(DUMP, stream(30))
        assert () == behind.list("").items
        assert () == behind.unfinished("")
        assert ATTEMPTS == sum("partNumber=2" in path for _, path in proxy.seen)

    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_a_small_write_is_lost(
        self, target: S3Target, behind: S3Target, proxy: FaultProxy, expect: str | None
    ) -> None:
        """The second attempt meets our own object: done, though the store says that somebody was first."""
        proxy.on("PUT", "lease", Drop())
        stored = target.write("hotel/lease", [b"mine"], expect=expect)

        assert (stored.size, stored.etag) == (4, behind.list("").items[0].etag)
        assert b"mine" == content(behind, "hotel/lease")

    def test_the_answer_to_a_renewal_is_lost(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """So is the one to an overwrite of a known content."""
        first = target.write("hotel/lease", [b"1"])
        proxy.on("PUT", "lease", Drop())
        second = target.write("hotel/lease", [b"2"], expect=first.etag)

        assert second.etag == behind.list("").items[0].etag != first.etag

    def test_something_on_the_way_asks_twice(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """A proxy that repeats a write whose answer it lost hears that somebody was first, and so do we: that was ourselves."""
        proxy.on("PUT", "lease", Instead(answer=Answer(status=412)))
        stored = target.write("hotel/lease", [b"mine"], expect=ABSENT)
        assert stored.etag == behind.list("").items[0].etag

        proxy.on("POST", r"uploadId=", Instead(answer=Answer(status=412)))
        target.write(DUMP, stream(20), expect=ABSENT)
        assert b"".join(stream(20)) == content(behind, DUMP)

    def test_a_store_that_hangs_on_a_small_write(self, target: S3Target, proxy: FaultProxy) -> None:
        """It costs one time-out, and one more for the look: whoever writes it goes by what is true for a minute."""
        clock = target.bucket.clock
        assert isinstance(clock, MovedClock)
        target._client.meta.events.register("before-send.s3", lambda **_: clock.waits.append(60))
        for method in ("PUT", "HEAD"):
            proxy.on(method, "lease", Drop(), times=-1)

        with pytest.raises(Unreachable):
            target.write("hotel/lease", [b"mine"], expect=ABSENT)
        assert ["PUT", "HEAD"] == [method for method, _ in proxy.seen]

    def test_no_answer_to_a_small_write_ever(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """The object is looked for, found, and known by its write's id."""
        proxy.on("PUT", "lease", Drop(), times=-1)
        stored = target.write("hotel/lease", [b"mine"], expect=ABSENT)

        assert stored.etag == behind.list("").items[0].etag

    def test_somebody_else_was_first_and_the_answer_is_lost(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """The same bytes by another write are not ours: Conflict."""
        behind.write("hotel/lease", [b"same"])
        proxy.on("PUT", "lease", Drop())

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"same"], expect=ABSENT)

    @pytest.mark.parametrize("times", [1, -1], ids=["once", "always"])
    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_completing_is_lost(
        self, target: S3Target, behind: S3Target, proxy: FaultProxy, expect: str | None, times: int
    ) -> None:
        """The object is there: the write has succeeded, and says so."""
        proxy.on("POST", r"uploadId=", Drop(), times=times)
        stored = target.write(DUMP, stream(20), expect=expect)

        assert (20 * MIB, stored.etag) == (stored.size, behind.list("").items[0].etag)
        assert b"".join(stream(20)) == content(behind, DUMP)
        assert () == behind.unfinished("")

    def test_completing_is_answered_200_with_an_error(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """200 is not yet success: it is tried again."""
        error = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>oh</Message></Error>'
        proxy.on("POST", r"uploadId=", Answer(status=200, body=error))
        target.write(DUMP, stream(20))

        assert b"".join(stream(20)) == content(behind, DUMP)
        assert 2 == sum(method == "POST" and "uploadId=" in path for method, path in proxy.seen)

    def test_completing_never_succeeds(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """Nothing is stored, and nothing stays unfinished."""
        proxy.on("POST", r"uploadId=", Answer(status=503), times=-1)

        with pytest.raises(Unreachable):
            target.write(DUMP, stream(20))
        assert () == behind.list("").items
        assert () == behind.unfinished("")

    def test_the_store_goes_away_in_mid_write(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """What can't be freed then is found later."""

        def cut_off() -> Iterator[bytes]:
            yield from stream(20)
            proxy.refuse()
            yield from stream(10)

        with pytest.raises(Unreachable, match="refuses the connection"):
            target.write(DUMP, cut_off())
        assert () == behind.list("").items
        (upload,) = behind.unfinished("hotel/")
        behind.abort(upload)
        assert () == behind.unfinished("")

    @pytest.mark.parametrize("megabytes", [20, 60], ids=["the last parts", "in the midst"])
    def test_asked_to_stop_while_parts_hang(
        self, s3_server: S3Server, bucket: str, behind: S3Target, monkeypatch: pytest.MonkeyPatch, megabytes: int
    ) -> None:
        """It does not take until their time-out, and frees what was begun."""
        stop, end, access = Event(), Event(), s3_server.access(bucket)
        slow = Bucket("offsite", access, make_client("offsite", access), prefix="", clock=SystemClock(), stop=stop)

        def hang(**_: object) -> None:
            stop.set()
            end.wait(60)

        monkeypatch.setattr(slow.client, "upload_part", hang)
        began = SystemClock().monotonic()
        with pytest.raises(Stopped):
            S3Target(slow, domain="s3:test").write(DUMP, stream(megabytes))
        end.set()

        assert SystemClock().monotonic() - began < 30
        assert () == behind.unfinished("")

    def test_part_sizes_reach_what_s3_takes(self) -> None:
        """Ten thousand parts hold 5 TiB, none is above 5 GiB, and the first 8 GiB go in equal ones."""
        sizes = [part_bytes(number) for number in range(1, MOST_PARTS + 1)]

        assert 5 * 1024**4 <= sum(sizes)
        assert sizes[-1] == max(sizes) <= 5 * 1024**3
        assert {8 * MIB} == set(sizes[:1000])

    def test_the_store_keeps_its_promises(self, behind: S3Target) -> None:
        """The server that we test on honours conditions, so these tests mean something."""
        assert honours_conditions(behind, "hotel/probe")
        assert () == behind.list("").items


class TestReading:
    def test_a_store_that_begins_anew(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """It was asked for the rest, and sends the beginning: that is never taken for the rest."""
        behind.write(DUMP, [b"hotel"])
        headers = ('ETag: "1"', "Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT")
        proxy.on("GET", "dump", Answer(status=200, body=b"the beginning", headers=headers))

        with pytest.raises(Refused, match="does not begin at byte 3"):
            target.read(DUMP, start=3)

        proxy.on("GET", "dump", Answer(status=206, body=b"el", headers=(*headers, "Content-Range: bytes 3-4/5")))
        with pytest.raises(Refused, match="does not begin at byte 0"):
            target.read(DUMP)

    @pytest.mark.parametrize(
        "fault", [Cut(after=5_000_000, side="down"), Stall(after=5_000_000, side="down")], ids=["cut", "stalled"]
    )
    def test_a_stream_breaks(self, target: S3Target, behind: S3Target, proxy: FaultProxy, fault: Fault) -> None:
        """It is Unreachable, never a short object that looks whole."""
        behind.write(DUMP, stream(12))
        proxy.on("GET", "dump", fault)

        with pytest.raises(Unreachable), target.read(DUMP) as blob:
            b"".join(blob)

    @pytest.mark.parametrize(
        "fault", [Cut(after=5_000_000, side="down"), Stall(after=5_000_000, side="down")], ids=["cut", "stalled"]
    )
    def test_a_stream_breaks_and_is_resumed(self, target: S3Target, behind: S3Target, proxy: FaultProxy, fault: Fault) -> None:
        """The wrapper goes on where it broke."""
        behind.write(DUMP, stream(12))
        proxy.on("GET", "dump", fault, times=2)
        with Retrying(target, clock=MovedClock(), stop=Event()).read(DUMP) as blob:
            assert b"".join(stream(12)) == b"".join(blob)

    def test_the_rest_comes_in_pieces(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """Something before the store answers with less than was asked for, and well-formed: that is not taken for the end."""
        stored = behind.write("hotel/x", [b"0123456789"])
        proxy.on("GET", "hotel/x", Cut(after=3, side="down"))
        headers = (f'ETag: "{stored.etag}"', "Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT")
        proxy.on("GET", "hotel/x", Answer(status=206, body=b"0123", headers=(*headers, "Content-Range: bytes 0-3/10")))
        proxy.on("GET", "hotel/x", Answer(status=206, body=b"45", headers=(*headers, "Content-Range: bytes 4-5/10")))

        with Retrying(target, clock=MovedClock(), stop=Event()).read("hotel/x") as blob:
            assert b"0123456789" == b"".join(blob)

    def test_bytes_change_on_the_way(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """The store's own checksum comes with a small object, and what differs is Corrupt."""
        behind.write("hotel/x", [b"right"])
        honest = behind._client.get_object(Bucket=behind.bucket.name, Key="hotel/x", ChecksumMode="ENABLED")
        headers = (
            f"x-amz-checksum-crc32: {honest['ChecksumCRC32']}",
            'ETag: "1"',
            "Last-Modified: Sat, 25 Oct 2025 12:00:00 GMT",
        )
        proxy.on("GET", "hotel/x", Answer(status=200, body=b"wrong", headers=headers))

        with pytest.raises(Corrupt, match="checksum"), target.read("hotel/x") as blob:
            b"".join(blob)


class TestListing:
    def test_the_second_page_fails(self, target: S3Target, behind: S3Target, proxy: FaultProxy) -> None:
        """The listing raises rather than being short; through the wrapper it is whole."""
        for number in range(12):
            behind.write(f"hotel/{number:04d}", [b"x"])
        pages_of(target, 5)
        proxy.on("GET", "continuation-token", Answer(status=500))

        with pytest.raises(Unreachable, match="cannot list"):
            target.list("hotel/")
        proxy.on("GET", "continuation-token", Answer(status=500))
        whole = Retrying(target, clock=MovedClock(), stop=Event()).list("hotel/")
        assert 12 == len(whole.items)

    def test_many_pages_of_versions_and_uploads(self, s3_server: S3Server) -> None:
        """Every listing goes on to its end."""
        access = s3_server.access(s3_server.new_bucket(versioned=True))
        target = S3Target(
            Bucket("v", access, make_client("v", access), prefix="p/", clock=SystemClock(), stop=Event()), domain="s3:test"
        )
        pages_of(target, 3)
        for number in range(5):
            target.write(f"hotel/{number % 2}", [b"%d" % number])
            target._client.create_multipart_upload(Bucket=access.bucket, Key=f"p/hotel/{number % 2}")
        target.delete("hotel/0")

        found = [(item.key, item.latest, item.marker) for item in target.list("", versions=True).items]
        assert [
            ("hotel/0", True, True),
            *[("hotel/0", False, False)] * 3,
            ("hotel/1", True, False),
            ("hotel/1", False, False),
        ] == found
        assert 5 == len(target.unfinished("hotel/"))

    def test_a_page_of_versions_that_ends_with_a_key(self, target: S3Target, proxy: FaultProxy) -> None:
        """Where the next one begins with another key, the last page's version is not asked for with it."""
        marks = (
            b"<NextKeyMarker>a</NextKeyMarker><NextVersionIdMarker>1</NextVersionIdMarker>",
            b"<NextKeyMarker>b</NextKeyMarker>",
            b"",
        )
        proxy.on(
            "GET",
            "versioning",
            Answer(status=200, body=b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
        )
        for following in marks:
            more = b"true" if following else b"false"
            page = b"<ListVersionsResult><IsTruncated>" + more + b"</IsTruncated>" + following + b"</ListVersionsResult>"
            proxy.on("GET", "versions", Answer(status=200, body=page, headers=("Date: Wed, 25 Nov 2026 10:00:00 GMT",)))
        target.list("", versions=True)

        assert ["version-id-marker" in path for _, path in proxy.seen] == [False, False, True, False]

    @pytest.mark.parametrize("marks", [b"", b"<NextContinuationToken>same</NextContinuationToken>"])
    def test_a_listing_that_never_ends(self, target: S3Target, proxy: FaultProxy, marks: bytes) -> None:
        """A store that can't say where the listing goes on is refused, not asked for ever."""
        page = b"<ListBucketResult><IsTruncated>true</IsTruncated>" + marks + b"</ListBucketResult>"
        proxy.on("GET", "list-type=2", Answer(status=200, body=page), times=-1)

        with pytest.raises(Refused, match="there is more"):
            target.list("")


class TestVersions:
    def test_what_a_marker_hides(self, s3_server: S3Server) -> None:
        """A deleted object is Absent, its version can be read, and deleting the marker brings it back."""
        access = s3_server.access(s3_server.new_bucket(versioned=True))
        target = S3Target(
            Bucket("v", access, s3_server.careful_client, prefix="", clock=SystemClock(), stop=Event()), domain="s3:test"
        )
        old, new = target.write("hotel/x", [b"old"]), target.write("hotel/x", [b"new"])
        target.delete("hotel/x")
        marker = target.list("", versions=True).items[0]

        assert () == target.list("").items
        for version in (None, marker.version):
            with pytest.raises(Absent):
                target.read("hotel/x", version=version)
        with target.read("hotel/x", version=old.version) as blob:
            assert b"old" == b"".join(blob)
        target.delete("hotel/x", version=marker.version)
        assert b"new" == content(target, "hotel/x")
        assert new.etag == target.list("").items[0].etag

    def test_the_probe_leaves_no_version(self, s3_server: S3Server) -> None:
        """Neither versions nor markers of the scratch key stay."""
        access = s3_server.access(s3_server.new_bucket(versioned=True))
        target = S3Target(
            Bucket("v", access, s3_server.careful_client, prefix="", clock=SystemClock(), stop=Event()), domain="s3:test"
        )

        assert honours_conditions(target, "hotel/probe")
        assert () == target.list("", versions=True).items


WRITER = """
import sys
from threading import Event
from reconciler.targets.s3_bucket import Access, Bucket, make_client
from reconciler.targets.s3_target import S3Target
from reconciler.world.clock import SystemClock

endpoint, bucket, megabytes = sys.argv[1:]
key, secret = sys.stdin.read().split()
access = Access(bucket=bucket, endpoint=endpoint, access_key_id=key, secret_access_key=secret)
target = S3Target(Bucket("s3", access, make_client("s3", access), prefix="", clock=SystemClock(), stop=Event()), domain="x")

def peak():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def stream():
    for number in range(int(megabytes)):
        if number == 1:
            print(peak(), flush=True)
        yield bytes(1 << 20)

target.write("hotel/backups/x/dump.zst", [b"warm"])
target.write("hotel/backups/x/dump.zst", stream())
print(peak())
"""


@pytest.fixture
def writer(s3_server: S3Server, bucket: str) -> Iterator[Callable[[int], "subprocess.Popen[str]"]]:
    """Starts a process that writes so many MiB to the bucket, printing its peak memory before and after."""
    started = []

    def start(megabytes: int) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, s3_server.endpoint, bucket, str(megabytes)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdin
        child.stdin.write(f"{s3_server.access_key_id}\n{s3_server.secret_access_key}\n")
        child.stdin.close()
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


class TestProcesses:
    @pytest.mark.parametrize("arrived", [0, 1, 5])
    def test_killed_in_mid_write(self, behind: S3Target, writer: Callable[[int], "subprocess.Popen[str]"], arrived: int) -> None:
        """After `kill -9`, however many parts had arrived, the old object stands, and what is unfinished is found and freed."""
        child = writer(100_000)
        wait_for(lambda: parts_of(behind) >= arrived, seconds=60, what="the upload to begin")
        child.send_signal(signal.SIGKILL)
        child.wait()

        assert b"warm" == content(behind, DUMP)
        (upload,) = behind.unfinished("hotel/")
        assert DUMP == upload.key
        assert abs((SystemClock().now() - upload.begun).total_seconds()) < 60
        behind.abort(upload)
        assert () == behind.unfinished("")

    def test_memory_is_bounded(self, behind: S3Target, writer: Callable[[int], "subprocess.Popen[str]"]) -> None:
        """300 MiB go through less than 70 MiB of memory (measured: 30)."""
        child = writer(300)
        assert child.stdout
        before, after = (int(line) for line in child.stdout)

        assert 300 * MIB == behind.list("").items[0].size
        assert after - before < 70


def parts_of(target: S3Target) -> int:
    """How many parts of the one unfinished write have arrived; -1 before it has begun."""
    uploads = target.unfinished("")
    if not uploads:
        return -1
    answer = target._client.list_parts(Bucket=target.bucket.name, Key=uploads[0].key, UploadId=uploads[0].upload_id)
    return len(answer.get("Parts", []))


def pages_of(target: S3Target, most: int) -> None:
    """Let the store answer listings in pages of so many."""
    fields = {"ListObjectsV2": "MaxKeys", "ListObjectVersions": "MaxKeys", "ListMultipartUploads": "MaxUploads"}
    for operation, field in fields.items():

        def limit(params: dict[str, object], field: str = field, **_: object) -> None:
            params.setdefault(field, most)

        target._client.meta.events.register(f"provide-client-params.s3.{operation}", limit)


def test_a_small_write_is_asked_for_so_often_and_no_more(target: S3Target, proxy: FaultProxy) -> None:
    """A store that answers 503 for ever costs ten seconds, not a minute."""
    proxy.on("PUT", "lease", Answer(status=503), times=-1)

    with pytest.raises(Unreachable):
        Retrying(target, clock=MovedClock(), stop=Event()).write("hotel/lease", [b"mine"], expect=ABSENT)
    assert ATTEMPTS == sum(method == "PUT" for method, _ in proxy.seen)
