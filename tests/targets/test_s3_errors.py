"""Each way in which a store says no, as one sentence with its cure, and never a secret."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Unreachable
from reconciler.targets.s3_bucket import Access, Bucket, make_client
from reconciler.targets.s3_target import S3Target
from tests.faults.clock import MovedClock
from tests.faults.proxy import Answer, FaultProxy
from tests.servers.s3 import S3Server

SECRET = "tHis-Is-The-Secret/Part+Of-A-Key"


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        yield proxy


def reached(access: Access) -> S3Target:
    client = make_client("offsite", access, connect_seconds=2, read_seconds=2)
    return S3Target(Bucket("offsite", access, client, prefix="hotels/", clock=MovedClock(), stop=Event()), domain="s3:test")


@pytest.fixture
def target(proxy: FaultProxy) -> S3Target:
    return reached(Access(bucket="backups", endpoint=proxy.endpoint, access_key_id="AKIDEXAMPLE", secret_access_key=SECRET))


def refusal(status: int, code: str, *, message: str = "no", extra: str = "", headers: tuple[str, ...] = ()) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>'
    return Answer(status=status, body=body.encode(), headers=headers)


def chained(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error} {error!r} {getattr(error, 'cure', '')}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("answer", "kind", "cure"),
    [
        (refusal(301, "PermanentRedirect", headers=("x-amz-bucket-region: eu-west-1",)), Refused, "set `region: eu-west-1`"),
        (refusal(400, "AuthorizationHeaderMalformed", extra="<Region>eu-west-3</Region>"), Refused, "set `region: eu-west-3`"),
        (refusal(400, "IllegalLocationConstraintException"), Refused, "correct `region`"),
        (refusal(403, "RequestTimeTooSkewed"), Refused, "clock"),
        (refusal(404, "NoSuchBucket"), Refused, "make the bucket, or correct `bucket`"),
        (refusal(403, "AccessDenied"), Refused, "give the key s3:ListBucket on bucket backups"),
        (refusal(403, "SomethingNewAboutRights"), Refused, "give the key s3:ListBucket on bucket backups"),
        (refusal(403, "InvalidAccessKeyId"), Refused, "correct `access_key_id`"),
        (refusal(403, "SignatureDoesNotMatch"), Refused, "correct `secret_access_key`"),
        (refusal(400, "ExpiredToken"), Refused, "new credentials"),
        (refusal(503, "SlowDown"), Unreachable, "wait"),
        (refusal(500, "InternalError"), Unreachable, "wait"),
        (refusal(429, "TooManyRequests"), Unreachable, "wait"),
        (Answer(status=502, body=b"<html>Bad Gateway</html>"), Unreachable, "wait"),
        (refusal(400, "Peculiar", message="a reason"), Refused, "Peculiar"),
        (Answer(status=200, body=b"<html>Welcome to the ro"), Unreachable, "wait"),
    ],
)
def test_a_listing_is_answered_with(
    target: S3Target, proxy: FaultProxy, answer: Answer, kind: type[ReconcilerError], cure: str
) -> None:
    """The kind says who acts, the sentence names target and place, the cure what to do."""
    proxy.on("GET", "list-type=2", answer, times=-1)

    with pytest.raises(kind) as caught:
        target.list("agente/")
    assert caught.value.what.startswith("offsite: cannot list s3://backups/hotels/agente/: ")
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    ("answer", "kind", "cure"),
    [
        (refusal(400, "InvalidRequest", message="Checksum algorithm sha256 is unknown"), Refused, "set `checksums: md5`"),
        (refusal(501, "NotImplemented", message="A header you provided implies functionality"), Refused, "set `checksums: md5`"),
        (
            refusal(
                501, "NotImplemented", message="A header you provided implies functionality", extra="<Header>If-Match</Header>"
            ),
            Refused,
            "use a store that implements this",
        ),
        (refusal(400, "InvalidArgument", message="Unsupported header 'x-amz-checksum-crc32'"), Refused, "set `checksums: md5`"),
        (refusal(403, "AccessDenied"), Refused, "give the key s3:PutObject"),
        (
            refusal(403, "AccessDenied", message="with an explicit deny in a resource-based policy"),
            Refused,
            "`checksums: sha256`",
        ),
        (refusal(400, "XAmzContentSHA256Mismatch"), Unreachable, "`checksums: sha256`"),
        (refusal(507, "InsufficientStorage"), Refused, "free space"),
        (refusal(400, "EntityTooLarge"), Refused, "of that size"),
        (refusal(400, "BadDigest"), Unreachable, ""),
        (refusal(409, "OperationAborted"), Unreachable, ""),
        (refusal(412, "PreconditionFailed"), Conflict, ""),
        (refusal(404, "NoSuchKey"), Conflict, ""),
    ],
)
def test_a_write_is_answered_with(
    target: S3Target, proxy: FaultProxy, answer: Answer, kind: type[ReconcilerError], cure: str
) -> None:
    """Damage on the way and passing troubles may be tried again; a lost condition is Conflict; the rest has a cure."""
    proxy.on("PUT", "lease", answer, times=-1)

    with pytest.raises(kind) as caught:
        target.write("agente/lease", [b"x"], expect="etag")
    assert cure in caught.value.cure


def test_the_store_asks_to_wait(target: S3Target, proxy: FaultProxy) -> None:
    """Its Retry-After goes with the error."""
    proxy.on("GET", "list-type=2", refusal(503, "SlowDown", headers=("Retry-After: 7",)))

    with pytest.raises(Unreachable) as caught:
        target.list("")
    assert timedelta(seconds=7) == caught.value.retry_after


@pytest.mark.parametrize("body", [b"", b"<html><body>Welcome to the router</body></html>"])
def test_what_answers_is_no_store(target: S3Target, proxy: FaultProxy, body: bytes) -> None:
    """A page with status 200 passes neither for an empty listing nor for a write that succeeded."""
    for method in ("GET", "PUT"):
        proxy.on(method, "/backups", Answer(status=200, body=body), times=-1)

    for use in (lambda: target.list(""), lambda: target.unfinished(""), lambda: target.write("hotel/x", [b"x"])):
        with pytest.raises(Refused, match="does not answer like an S3 store") as caught:
            use()
        assert "correct `endpoint`" in caught.value.cure


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_nobody_answers(endpoint: str) -> None:
    """The endpoint is named: no such host, or nothing that listens."""
    target = reached(Access(bucket="backups", endpoint=endpoint, access_key_id="AKIDEXAMPLE", secret_access_key=SECRET))

    with pytest.raises(Unreachable, match=endpoint) as caught:
        target.list("")
    assert "correct `endpoint`" in caught.value.cure


def test_the_real_server_says_no(s3_server: S3Server) -> None:
    """A wrong key, a wrong secret and a missing bucket, as a real server words them."""
    good = s3_server.access(s3_server.new_bucket())
    wrong = {
        "access_key_id": Access(
            bucket=good.bucket, endpoint=good.endpoint, access_key_id="AKIDEXAMPLE", secret_access_key=SECRET
        ),
        "secret_access_key": Access(
            bucket=good.bucket, endpoint=good.endpoint, access_key_id=good.access_key_id, secret_access_key=SECRET
        ),
        "make the bucket": s3_server.access("never-made"),
    }
    for cure, access in wrong.items():
        with pytest.raises(Refused) as caught:
            reached(access).list("")
        assert cure in caught.value.cure


def test_no_credentials_at_all(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing gives any, the settings that would are named."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(Refused, match="no usable credentials") as caught:
        reached(Access(bucket="backups", endpoint=proxy.endpoint)).list("")
    assert "`access_key_id`" in caught.value.cure


def test_what_is_missing(target: S3Target, proxy: FaultProxy) -> None:
    """A 404 for a key is Absent, a fact and no fault."""
    proxy.on("GET", "agente/x", refusal(404, "NoSuchKey"))

    with pytest.raises(Absent):
        target.read("agente/x")


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "AccessDenied", "InternalError", "Peculiar", "PermanentRedirect"])
def test_no_secret_in_any_of_them(target: S3Target, proxy: FaultProxy, code: str) -> None:
    """Neither in the sentence nor in what is chained to it, nor in how the access prints."""
    proxy.on("GET", "list-type=2", refusal(403, code, extra="<StringToSign>AWS4</StringToSign>"), times=-1)

    with pytest.raises(ReconcilerError) as caught:
        target.list("")
    assert [] == [text for text in chained(caught.value) if SECRET in text]
    assert SECRET not in repr(Access(bucket="b", secret_access_key=SECRET))
