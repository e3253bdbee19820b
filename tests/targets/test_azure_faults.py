"""Azure through a network and a store that fail at the worst moments: Azurite, behind a proxy that breaks things."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from reconciler.errors import Conflict, Locked, Refused, Unreachable
from reconciler.targets.azure_container import AzureContainer
from reconciler.targets.azure_target import AzureTarget
from reconciler.targets.azure_upload import MOST_BLOCKS, block_bytes
from reconciler.targets.conditions import honours_conditions
from reconciler.targets.retrying import Retrying
from reconciler.world.ports import ABSENT, Upload
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, Cut, Drop, Fault, FaultProxy, FromThenOn, Instead
from tests.servers.azure import AzureServer

DUMP = "hotel/backups/x/dump.zst"
MIB = 1 << 20
DATED = "Date: Sat, 25 Oct 2025 12:00:00 GMT"


@pytest.fixture
def proxy(azure_server: AzureServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", azure_server.port, http=True) as proxy:
        yield proxy


@pytest.fixture
def container(azure_server: AzureServer) -> AzureContainer:
    return azure_server.container()


@pytest.fixture
def target(azure_server: AzureServer, container: AzureContainer, proxy: FaultProxy) -> AzureTarget:
    """Behind the proxy, with a clock that nobody waits for."""
    before = azure_server.container(name=container.name, endpoint=f"{proxy.endpoint}/devstoreaccount1")
    return AzureTarget(before, domain="azure:test", clock=MovedClock(), stop=Event(), page_items=2)


@pytest.fixture
def behind(container: AzureContainer) -> AzureTarget:
    """The same container, without the proxy: to see what is there."""
    return AzureTarget(container, domain="azure:test", clock=MovedClock(), stop=Event())


def content(target: AzureTarget, key: str) -> bytes:
    with target.read(key) as blob:
        return b"".join(blob)


def stream(megabytes: int) -> Iterator[bytes]:
    for number in range(megabytes):
        yield bytes([number]) * MIB


class TestWriting:
    @pytest.mark.parametrize(
        "fault",
        [Cut(after=3_000_000, side="up"), Drop(), Answer(status=503), Answer(status=429)],
        ids=["cut", "answer lost", "503", "429"],
    )
    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_block_meets_trouble(
        self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy, *, fault: Fault, nth: int
    ) -> None:
        """It is sent again from memory, on its own, and the whole arrives byte for byte."""
        proxy.on("PUT", r"comp=block&", fault, nth=nth)
        stored = target.write(DUMP, stream(20), expect=ABSENT)

        assert b"".join(stream(20)) == content(behind, DUMP)
        assert stored.etag == behind.list("").items[0].etag

    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_the_list_of_blocks_is_lost(
        self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy, expect: str | None
    ) -> None:
        """The second attempt meets our own blob, or blocks that are no more: done."""
        proxy.on("PUT", "comp=blocklist", Drop())
        stored = target.write(DUMP, stream(20), expect=expect)

        assert b"".join(stream(20)) == content(behind, DUMP)
        assert stored.etag == behind.list("").items[0].etag

    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_a_small_write_is_lost(
        self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy, expect: str | None
    ) -> None:
        """The second attempt meets our own blob: done, though the store says that somebody was first."""
        proxy.on("PUT", "lease", Drop())
        stored = target.write("hotel/lease", [b"mine"], expect=expect)

        assert (stored.size, stored.etag) == (4, behind.list("").items[0].etag)

    def test_something_on_the_way_asks_twice(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """A proxy that repeats a write whose answer it lost hears that somebody was first, and so do we: that was ourselves."""
        proxy.on("PUT", "lease", Instead(answer=Answer(status=412)))
        stored = target.write("hotel/lease", [b"mine"], expect=ABSENT)

        assert stored.etag == behind.list("").items[0].etag

    def test_another_was_first_while_the_answer_was_lost(
        self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy
    ) -> None:
        """The id in the metadata tells that it was not us."""
        behind.write("hotel/lease", [b"yours"])
        proxy.on("PUT", "lease", Answer(status=503))

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"mine"], expect=ABSENT)
        assert b"yours" == content(behind, "hotel/lease")

    def test_somebody_comes_first_during_the_upload(self, target: AzureTarget, behind: AzureTarget) -> None:
        """The condition holds when the blocks are put together."""

        def slow() -> Iterator[bytes]:
            yield from stream(20)
            behind.write(DUMP, [b"theirs"])
            yield from stream(3)

        with pytest.raises(Conflict):
            target.write(DUMP, slow(), expect=ABSENT)
        assert b"theirs" == content(behind, DUMP)
        assert () == behind.unfinished("")

    def test_lasting_trouble(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """After a few attempts the write fails, and the blocks that had arrived are freed."""
        proxy.on("PUT", r"comp=block&", Answer(status=503), nth=2, times=-1)

        with pytest.raises(Unreachable, match="cannot write"):
            target.write(DUMP, stream(30))
        assert () == behind.list("").items
        assert () == behind.unfinished("")

    @pytest.mark.parametrize(
        ("status", "code"), [(403, "AuthenticationFailed"), (401, "InvalidAuthenticationInfo")], ids=["signature", "token"]
    )
    def test_credentials_that_end_half_way(
        self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy, *, status: int, code: str
    ) -> None:
        """At once, with what would help; the blocks that had arrived are found by whoever has new ones."""
        refusal = Answer(status=status, headers=(f"x-ms-error-code: {code}",))
        proxy.on("PUT", r"comp=block&", FromThenOn(answer=refusal), nth=3)

        with pytest.raises(Refused, match=f"cannot write azure://.*: {status} {code}") as caught:
            target.write(DUMP, stream(60))
        assert "renew" in caught.value.cure
        (upload,) = behind.unfinished("hotel/")
        behind.abort(upload)
        assert () == behind.unfinished("")
        assert () == behind.list("").items

    def test_blocks_that_could_not_be_freed(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """They stay among the unfinished, as after a death, and can be aborted later."""
        proxy.on("PUT", r"comp=block&", Answer(status=503), nth=3, times=-1)
        proxy.on("PUT", r"comp=blocklist", Answer(status=503), times=-1)

        with pytest.raises(Unreachable):
            target.write(DUMP, stream(30))
        (upload,) = behind.unfinished("hotel/")
        assert DUMP == upload.key
        behind.abort(upload)
        assert () == behind.unfinished("")
        assert () == behind.list("").items

    def test_aborting_what_bears_no_date(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """As Azure lists what is not committed: it is known by its key, not by the time of a listing. (Azurite gives a date.)"""
        proxy.on("PUT", r"comp=block&", Answer(status=503), nth=3, times=-1)
        proxy.on("PUT", r"comp=blocklist", Answer(status=503), times=-1)
        with pytest.raises(Unreachable):
            target.write(DUMP, stream(30))
        proxy.forget()
        blob = f"<Blob><Name>{DUMP}</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>"
        page = f"<EnumerationResults><Blobs>{blob}</Blobs><NextMarker/></EnumerationResults>".encode()
        for second in (0, 5):
            dated = (f"Date: Sat, 25 Oct 2025 12:00:0{second} GMT",)
            proxy.on("GET", "uncommittedblobs", Answer(status=200, body=page, headers=dated))
        (upload,) = target.unfinished("hotel/")
        target.abort(upload)

        assert () == behind.unfinished("")
        assert () == behind.list("").items

    def test_aborting_what_was_completed_meanwhile(self, behind: AzureTarget) -> None:
        """The blob stays: nothing but blocks is ever removed that way."""
        seen: list[Upload] = []

        def watched() -> Iterator[bytes]:
            yield from stream(20)
            seen.extend(behind.unfinished(""))

        behind.write(DUMP, watched())
        (upload,) = seen
        behind.abort(upload)

        assert b"".join(stream(20)) == content(behind, DUMP)

    def test_conditions_are_kept(self, target: AzureTarget) -> None:
        """As whoever takes a lease proves it."""
        assert honours_conditions(target, "hotel/scratch")

    def test_blocks_grow(self) -> None:
        """As many as Azure takes hold more than 2 TiB."""
        assert 2 << 40 < sum(block_bytes(number) for number in range(1, MOST_BLOCKS + 1))


class TestReading:
    def test_a_store_that_begins_anew(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """It was asked for the rest, and sends the beginning: that is never taken for the rest."""
        behind.write(DUMP, stream(4))
        proxy.on(
            "GET",
            "dump",
            Answer(
                status=200,
                body=b"the beginning",
                headers=(
                    'ETag: "0x1"',
                    "Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT",
                ),
            ),
        )

        with pytest.raises(Refused, match="does not begin at byte 5"):
            target.read(DUMP, start=5)

    def test_a_stream_that_breaks(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """Ends as no end, and is gone on with where it broke."""
        behind.write(DUMP, stream(4))
        proxy.on("GET", "dump", Cut(after=2_500_000, side="down"), times=2)

        with target.read(DUMP) as blob, pytest.raises(Unreachable, match="broke off"):
            b"".join(blob)
        with Retrying(target, clock=MovedClock(), stop=Event()).read(DUMP) as blob:
            assert b"".join(stream(4)) == b"".join(blob)

    @pytest.mark.parametrize(
        "fault",
        [
            Answer(status=200, body=b"<html><p>Welcome</html>"),
            Answer(status=200, body=b"<html></html>"),
            Answer(status=200, body=b""),
            Answer(status=302),
        ],
        ids=["a page", "another XML", "nothing", "a redirect"],
    )
    def test_what_is_no_listing(self, target: AzureTarget, proxy: FaultProxy, fault: Fault) -> None:
        """Never passes for an empty one."""
        proxy.on("GET", "comp=list", fault)

        with pytest.raises(Refused):
            target.list("")

    def test_a_store_that_says_for_how_long_it_is_busy(self, target: AzureTarget, proxy: FaultProxy) -> None:
        """It is left alone for that long."""
        proxy.on("GET", "comp=list", Answer(status=503, headers=("x-ms-error-code: ServerBusy", "Retry-After: 7")))

        with pytest.raises(Unreachable, match="503 ServerBusy") as caught:
            target.list("")
        assert timedelta(seconds=7) == caught.value.retry_after

    def test_a_page_that_fails(self, target: AzureTarget, behind: AzureTarget, proxy: FaultProxy) -> None:
        """Makes the whole listing fail: it is never short."""
        for number in range(5):
            behind.write(f"hotel/{number}", [b"x"])
        proxy.on("GET", "marker=", Answer(status=503), nth=2)

        with pytest.raises(Unreachable):
            target.list("")
        assert 5 == len(target.list("").items)

    def test_a_listing_that_goes_round(self, target: AzureTarget, proxy: FaultProxy) -> None:
        """The same marker again and again is refused."""
        page = b"<EnumerationResults><Blobs/><NextMarker>a</NextMarker></EnumerationResults>"
        proxy.on("GET", "comp=list", Answer(status=200, body=page, headers=(DATED,)), times=-1)

        with pytest.raises(Refused, match="there is more, but not where"):
            target.list("")

    def test_a_container_that_is_not_there(self, azure_server: AzureServer) -> None:
        """Is neither empty nor does it hold nothing of that name."""
        lost = azure_server.container(name="never-was-there")
        target = AzureTarget(lost, domain="x", clock=MovedClock(), stop=Event())

        for use in (
            lambda: target.list(""),
            lambda: target.read("hotel/x"),
            lambda: target.write("hotel/x", [b"x"]),
            lambda: target.write("hotel/x", stream(20)),
            lambda: target.delete("hotel/x"),
        ):
            with pytest.raises(Refused) as caught:
                use()
            assert "make the container" in caught.value.cure

    def test_an_archived_blob(self, target: AzureTarget, proxy: FaultProxy) -> None:
        """Is listed as such, and reading it says what to do."""
        blob = (
            b"<Blob><Name>hotel/x</Name><Properties><Last-Modified>Sat, 25 Oct 2025 12:00:00 GMT</Last-Modified><Etag>0x1</Etag>"
            b"<Content-Length>1</Content-Length><AccessTier>Archive</AccessTier></Properties></Blob>"
        )
        page = b"<EnumerationResults><Blobs>" + blob + b"</Blobs><NextMarker/></EnumerationResults>"
        proxy.on("GET", "comp=list", Answer(status=200, body=page, headers=(DATED,)))
        proxy.on("GET", "hotel/x", Answer(status=409, headers=("x-ms-error-code: BlobArchived",)))

        assert ["Archive"] == [item.archive for item in target.list("").items]
        with pytest.raises(Refused, match="409 BlobArchived") as caught:
            target.read("hotel/x")
        assert "archive tier" in caught.value.cure

    def test_nobody_there(self, target: AzureTarget, proxy: FaultProxy) -> None:
        """Unreachable, with the endpoint named."""
        proxy.refuse()

        with pytest.raises(Unreachable, match="refuses the connection"):
            target.list("")


class TestImmutable:
    @pytest.mark.parametrize(
        ("headers", "says", "until"),
        [
            (
                ("x-ms-immutability-policy-until-date: Sat, 01 Nov 2025 12:00:00 GMT",),
                "is locked until 2025-11-01 12:00Z",
                datetime(2025, 11, 1, 12, tzinfo=UTC),
            ),
            (("x-ms-legal-hold: true",), "is locked by a legal hold", None),
        ],
        ids=["a policy", "a hold"],
    )
    def test_what_is_kept(
        self, target: AzureTarget, proxy: FaultProxy, *, headers: tuple[str, ...], says: str, until: datetime | None
    ) -> None:
        """A deletion is put off until Azure lets go. (Azurite knows no immutability: its answers are played.)"""
        target.write("hotel/x", [b"x"])
        proxy.on("DELETE", "hotel/x", Answer(status=409, headers=("x-ms-error-code: BlobImmutableDueToPolicy",)))
        proxy.on("HEAD", "hotel/x", Answer(status=200, headers=(DATED, *headers)))

        with pytest.raises(Locked, match=says) as caught:
            target.delete("hotel/x")
        assert until == caught.value.until

    @pytest.mark.parametrize("code", ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"])
    def test_what_the_container_keeps(self, target: AzureTarget, proxy: FaultProxy, code: str) -> None:
        """Azure tells of a policy or a hold of the container by refusing alone: it is a lock without an end that is known."""
        target.write("hotel/x", [b"x"])
        for method in ("DELETE", "PUT"):
            proxy.on(method, "hotel/x", Answer(status=409, headers=(f"x-ms-error-code: {code}",)))

        with pytest.raises(Locked, match=f"what is there is locked.*{code}") as caught:
            target.delete("hotel/x")
        assert caught.value.until is None
        with pytest.raises(Locked, match="cannot write"):
            target.write("hotel/x", [b"y"])

    def test_a_snapshot_of_somebodys(self, azure_server: AzureServer, container: AzureContainer, behind: AzureTarget) -> None:
        """Azure removes no blob that has one, and the cure says so."""
        behind.write("hotel/x", [b"x"])
        azure_server.ask("PUT", f"{azure_server.endpoint}/{container.name}/hotel/x?comp=snapshot")

        with pytest.raises(Refused, match="409 SnapshotsPresent") as caught:
            behind.delete("hotel/x")
        assert "snapshots" in caught.value.cure

    def test_what_is_refused_for_another_reason(self, target: AzureTarget, proxy: FaultProxy) -> None:
        """Is no lock: a lease of somebody's on the blob, say."""
        target.write("hotel/x", [b"x"])
        proxy.on("DELETE", "hotel/x", Answer(status=412, headers=("x-ms-error-code: LeaseIdMissing",)))

        with pytest.raises(Refused, match="LeaseIdMissing"):
            target.delete("hotel/x")
