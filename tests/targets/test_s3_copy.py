"""Copies inside one store: a real server is asked for them, and streams nothing through us."""

import hashlib
from collections.abc import Iterator
from threading import Event

import msgspec
import pytest

from reconciler.errors import Conflict, Corrupt, Stopped, Unreachable
from reconciler.targets.retrying import Retrying
from reconciler.targets.s3_bucket import Bucket, make_client
from reconciler.targets.s3_target import S3Target
from reconciler.targets.telling import Telling
from reconciler.world.ports import CopyWithin, Hashed, Target, copy_within
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, Drop, Fault, FaultProxy, Instead
from tests.servers.s3 import S3Server

DUMP = "hotel/backups/x/dump.zst"
PART = 5 << 20
CONTENT = bytes(range(256)) * (11 << 12)
"""11 MiB: two parts, and a short one."""


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        yield proxy


class Place:
    """Prefixes of one bucket, reached through the proxy."""

    def __init__(self, server: S3Server, proxy: FaultProxy) -> None:
        self.stop = Event()
        self.access = server.access(server.new_bucket(), endpoint=proxy.endpoint)
        self.client = make_client("s3", self.access, connect_seconds=3, read_seconds=3)

    def target(self, prefix: str, **other: str) -> S3Target:
        access = msgspec.structs.replace(self.access, **other)
        bucket = Bucket(prefix, access, self.client, prefix=f"{prefix}/", clock=MovedClock(), stop=self.stop)
        return S3Target(bucket, domain="s3:test")


@pytest.fixture
def place(s3_server: S3Server, proxy: FaultProxy) -> Place:
    return Place(s3_server, proxy)


def wanted(content: bytes = CONTENT, about_to: list[str] | None = None) -> CopyWithin:
    cut = [content[start : start + PART] for start in range(0, len(content), PART)]
    parts = [Hashed(size=len(part), sha256=hashlib.sha256(part).hexdigest()) for part in cut]
    return CopyWithin(key=DUMP, parts=parts, about_to=lambda: (about_to if about_to is not None else []).append("asked"))


def content(target: Target) -> bytes:
    with target.read(DUMP) as blob:
        return b"".join(blob)


def wrapped(target: Target) -> Target:
    """As a turn has it."""
    return Telling(Retrying(target, clock=MovedClock(), stop=Event()), lambda _: None)


def nothing(target: Target) -> bool:
    return () == target.list("").items and () == target.unfinished("")


def test_between_two_prefixes(place: Place, proxy: FaultProxy) -> None:
    """The copy is whole, its writer was asked once whether it still may, progress was told, and no byte of it was read by us."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    proxy.seen.clear()
    asked: list[str] = []
    moved: list[int] = []
    done = copy_within(wrapped(target), wrapped(origin), msgspec.structs.replace(wanted(about_to=asked), moved=moved.append))

    assert done
    assert "GET" not in {method for method, _ in proxy.seen}
    assert CONTENT == content(target)
    assert ["asked"] == asked
    assert [PART, 2 * PART, len(CONTENT)] == moved


def test_between_two_accounts(place: Place) -> None:
    """Other keys, or another endpoint: the bytes must come by here."""
    origin, target = place.target("a", access_key_id="other"), place.target("b")

    assert not copy_within(wrapped(target), wrapped(origin), wanted())


def test_to_another_kind_of_target(place: Place) -> None:
    """No other kind can."""

    class Plain:
        """Knows of no copies."""

    assert not copy_within(Plain(), place.target("a"), wanted())  # type: ignore[arg-type]  # it needs nothing of a target


def test_what_is_short_is_streamed(place: Place) -> None:
    """S3 takes no small parts, and they gain nothing."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [b"short"])

    assert not copy_within(target, origin, wanted(b"short"))
    assert nothing(target)


def test_a_bad_original(place: Place) -> None:
    """The store's checksum tells, before there is any copy."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT[:PART], b"X", CONTENT[PART + 1 :]])

    with pytest.raises(Corrupt, match="part 2 of 3"):
        copy_within(target, origin, wanted())
    assert nothing(target)


def test_an_original_that_is_shorter(place: Place) -> None:
    """No copy comes to be; streaming says what is wrong."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT[: 2 * PART]])

    assert not copy_within(target, origin, wanted())
    assert nothing(target)


def test_something_is_there_already(place: Place) -> None:
    """It is not written over."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    target.write(DUMP, [b"another's"])

    with pytest.raises(Conflict):
        copy_within(target, origin, wanted())
    assert b"another's" == content(target)
    assert () == target.unfinished("")


@pytest.mark.parametrize("fault", [Drop(), Answer(status=503)], ids=["answer lost", "503"])
@pytest.mark.parametrize(("method", "path"), [("PUT", "partNumber=2"), ("POST", "uploadId=")], ids=["a part", "completing"])
def test_short_trouble(place: Place, proxy: FaultProxy, *, fault: Fault, method: str, path: str) -> None:
    """Is borne: asked again, or found to be done."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    proxy.on(method, path, fault)

    assert copy_within(target, origin, wanted())
    assert CONTENT == content(target)


def test_lasting_trouble(place: Place, proxy: FaultProxy) -> None:
    """The copy fails and leaves nothing; done again, it is done."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    proxy.on("PUT", "partNumber=2", Answer(status=503), times=-1)
    with pytest.raises(Unreachable):
        copy_within(target, origin, wanted())
    assert nothing(target)
    proxy.forget()

    assert copy_within(target, origin, wanted())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=501, body=b"<Error><Code>NotImplemented</Code></Error>"),
        Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"),
        Answer(status=200, body=b'<CopyPartResult><ETag>"x"</ETag></CopyPartResult>'),
    ],
    ids=["knows no copies", "the other bucket is forbidden", "proves nothing"],
)
def test_a_store_that_can_not(place: Place, proxy: FaultProxy, answer: Answer) -> None:
    """Nothing was begun for good, and streaming may try."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    proxy.on("PUT", "partNumber=1", Instead(answer=answer))

    assert not copy_within(target, origin, wanted())
    assert nothing(target)


def test_a_store_that_takes_no_sha256(place: Place, proxy: FaultProxy) -> None:
    """It refuses the upload itself: streaming, with the checksums that are set, may still do."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])
    body = b"<Error><Code>InvalidRequest</Code><Message>Checksum algorithm SHA256 is unknown</Message></Error>"
    proxy.on("POST", r"\?uploads", Answer(status=400, body=body))

    assert not copy_within(target, origin, wanted())
    assert nothing(target)


def test_taken_for_dead(place: Place) -> None:
    """What the writer raises when it is asked keeps the copy from coming to be."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])

    def lost() -> None:
        raise Conflict("the intent was taken away")

    with pytest.raises(Conflict, match="taken away"):
        copy_within(target, origin, msgspec.structs.replace(wanted(), about_to=lost))
    assert nothing(target)


def test_asked_to_stop(place: Place) -> None:
    """Between two parts."""
    origin, target = place.target("a"), place.target("b")
    origin.write(DUMP, [CONTENT])

    with pytest.raises(Stopped):
        copy_within(target, origin, msgspec.structs.replace(wanted(), moved=lambda _: place.stop.set()))
    place.stop.clear()
    assert nothing(target)
