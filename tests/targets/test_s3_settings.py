"""From what a policy says of a bucket to the bucket."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal

import pytest

from reconciler.errors import Refused, Unreachable
from reconciler.policy.folder import Folder
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.policy.units import LockTime
from reconciler.targets import TARGETS
from reconciler.targets.s3 import KIND, ObjectLock, S3Settings
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_target import S3Target
from tests.faults.clock import BEGIN, MovedClock
from tests.faults.proxy import Answer, FaultProxy, Instead
from tests.servers.s3 import S3Server

honest: Final = Bucket.checksum
NOW: Final = "Wed, 25 Nov 2026 10:00:00 GMT"


def connected(settings: S3Settings, environ: Mapping[str, str] | None = None) -> S3Target:
    surroundings = Surroundings(base=Path("/nowhere"), environ=environ or {}, redactor=Redactor())
    target: S3Target = KIND.connect("offsite", settings, surroundings=surroundings, clock=MovedClock(), stop=Event())
    return target


def of(server: S3Server, **more: Any) -> tuple[S3Settings, dict[str, str]]:
    settings = S3Settings(
        bucket=server.new_bucket(),
        endpoint=Text.parse("${ENDPOINT}"),
        access_key_id=Secret.parse("${KEY}"),
        secret_access_key=Secret.parse("${SECRET}"),
        **more,
    )
    return settings, {"ENDPOINT": server.endpoint, "KEY": server.access_key_id, "SECRET": server.secret_access_key}


@pytest.mark.parametrize("prefix", ["", "backups", "backups/", "/a/b/"])
def test_a_bucket_by_references(s3_server: S3Server, prefix: str) -> None:
    """Endpoint and keys come from the environment; a prefix is a folder, however its slashes are written."""
    settings, environ = of(s3_server, prefix=Folder.parse(prefix))
    target = connected(settings, environ)
    target.write("hotel/x", [b"x"])

    expected = "/".join([*prefix.strip("/").split("/"), "hotel/x"]).removeprefix("/")
    assert [expected] == [each["Key"] for each in s3_server.client().list_objects_v2(Bucket=settings.bucket)["Contents"]]
    store = s3_server.endpoint.partition("://")[2]
    assert f"s3://{settings.bucket}/{expected.removesuffix('hotel/x')} at {store}" == target.place


@pytest.mark.parametrize(
    ("endpoint", "at"),
    [
        (None, ""),
        ("https://s3.eu-west-1.amazonaws.com", ""),
        ("https://minio.internal:9000/", " at minio.internal:9000"),
        ("http://localhost:8333", " at localhost:8333"),
    ],
)
def test_a_bucket_of_the_same_name_in_another_store(endpoint: str | None, at: str) -> None:
    """It is another place: what was learnt of one, such as that it honours conditions, is not taken for the other's."""
    settings = S3Settings(bucket="backups", region=Text.parse("eu-west-1"), endpoint=Text.parse(endpoint) if endpoint else None)

    assert f"s3://backups/{at}" == connected(settings).place


def test_a_store_that_takes_no_new_checksums(s3_server: S3Server) -> None:
    """With `checksums: md5` no x-amz-checksum header is sent, in small writes and in parts, and all arrives."""
    settings, environ = of(s3_server, checksums="md5")
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        target = connected(settings, environ | {"ENDPOINT": proxy.endpoint})
        target.write("hotel/small", [b"x"])
        target.write("hotel/large", (bytes([number]) * (1 << 20) for number in range(20)))
        heads = "\n".join(proxy.heads).lower()

    assert "content-md5:" in heads
    assert "x-amz-checksum" not in heads
    assert "x-amz-sdk-checksum" not in heads
    with connected(settings, environ).read("hotel/large") as blob:
        assert 20 << 20 == len(b"".join(blob))


@pytest.mark.parametrize(
    ("checksums", "header", "other"),
    [("crc32", "x-amz-checksum-crc32: ", "sha256: "), ("sha256", "x-amz-checksum-sha256: ", "crc32")],
)
def test_what_arrives_is_checked(s3_server: S3Server, checksums: Literal["crc32", "sha256"], header: str, other: str) -> None:
    """Each request that brings bytes has the checksum, and a store that finds another says so, small or in parts."""
    settings, environ = of(s3_server, checksums=checksums)
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        target = connected(settings, environ | {"ENDPOINT": proxy.endpoint})
        target.write("hotel/small", [b"x"])
        target.write("hotel/large", (bytes([number]) * (1 << 20) for number in range(20)))
        heads = [head.lower() for head in proxy.heads]

    brought = [head for head in heads if head.startswith("put ")]
    assert 4 == len(brought)
    assert all(header in head and f"x-amz-checksum-{other}" not in head for head in brought)
    for key in ("hotel/small", "hotel/large"):
        kept: Mapping[str, Any] = s3_server.client().head_object(Bucket=settings.bucket, Key=key, ChecksumMode="ENABLED")
        assert kept[f"Checksum{checksums.upper()}"], key


def test_a_store_that_passes_checksums_over(s3_server: S3Server) -> None:
    """Bodies go on being signed there, which every store compares; elsewhere no longer than until the first answer."""
    settings, environ = of(s3_server)
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        for answers in (True, False):
            target = connected(settings, environ | {"ENDPOINT": proxy.endpoint})
            if not answers:
                proxy.on("PUT", "", Instead(answer=Answer(status=200, headers=('ETag: "1"', f"Date: {NOW}"))), times=-1)
            for number in range(3):
                target.write(f"hotel/{number}", [b"x"])
        unsigned = ["unsigned-payload" in head.lower() for head in proxy.heads]

    assert [False, True, True, False, False, False] == unsigned


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_an_endpoint_that_the_policy_does_not_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    """A store that only botocore's own settings name is another place and domain than the policy says: it is refused."""
    settings = S3Settings(bucket="backups", region=Text.parse("eu-west-1"))
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://localhost:9000\n" if where == "profile" else "")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if where == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")

    with pytest.raises(Refused, match="localhost, which the policy does not say") as caught:
        connected(settings)
    assert "`endpoint`" in caught.value.cure
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert "s3:aws" == connected(settings).domain


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1"])
def test_aws_wherever_it_is(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    """Its other partitions, and an endpoint of one's own network, are no other store."""
    settings = S3Settings(bucket="backups", region=Text.parse(region))
    assert "s3:aws" == connected(settings).domain

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://bucket.vpce-1a2b.s3.{region}.vpce.amazonaws.com")
    assert "s3:aws" == connected(settings).domain


@pytest.mark.parametrize("checksums", ["crc32", "sha256"])
@pytest.mark.parametrize("mebibytes", [1, 20], ids=["small", "parts"])
def test_bytes_change_on_their_way_to_the_store(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, checksums: Literal["crc32", "sha256"], mebibytes: int
) -> None:
    """The store refuses them, and nothing comes to be."""
    settings, environ = of(s3_server, checksums=checksums)
    monkeypatch.setattr(Bucket, "checksum", lambda bucket, body: honest(bucket, body[:-1] + b"?"))
    target = connected(settings, environ)

    with pytest.raises(Unreachable, match="hotel/x"):
        target.write("hotel/x", (b"hotel---" * (1 << 17) for _ in range(mebibytes)))
    assert () == target.list("").items


@pytest.mark.parametrize(
    ("endpoint", "domain"),
    [
        (None, "s3:aws"),
        ("https://s3.eu-west-1.amazonaws.com", "s3:aws"),
        ("https://s3.eu-central-003.backblazeb2.com", "s3:s3.eu-central-003.backblazeb2.com"),
        ("http://127.0.0.1:8333", "host:localhost"),
        ("http://localhost:8333", "host:localhost"),
        ("http://[::1]:8333", "host:localhost"),
    ],
)
def test_what_fails_together(endpoint: str | None, domain: str) -> None:
    """The endpoint's host; this machine where it is on loopback; a word of one's own wins."""
    url = Text.parse(endpoint) if endpoint else None

    assert domain == connected(S3Settings(bucket="backups", endpoint=url)).domain
    assert "cellar" == connected(S3Settings(bucket="backups", endpoint=url, domain="cellar")).domain


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@store",
        "hunter2",
        "ftp://hunter2",
        "https://",
        "http://[hunter2",
        "http://store:hunter2",
        "//hunter2",
    ],
)
def test_an_endpoint_that_is_none(url: str) -> None:
    """Is refused without being shown, for it may hold a password."""
    with pytest.raises(Refused, match=r"targets\.offsite\.endpoint is no URL") as caught:
        connected(S3Settings(bucket="backups", endpoint=Text.parse("${URL}")), {"URL": url})
    assert "hunter2" not in f"{caught.value} {caught.value.cure} {caught.value.__cause__} {caught.value.__context__}"


def test_half_a_key() -> None:
    """An id without its secret part is refused before anything is asked."""
    with pytest.raises(Refused, match="go together"):
        connected(S3Settings(bucket="backups", access_key_id=Secret.parse("${KEY}")), {"KEY": "x"})


def test_a_reference_that_leads_nowhere() -> None:
    """The field and the variable are named."""
    with pytest.raises(Refused, match=r"targets\.offsite\.region.*S3_REGION"):
        connected(S3Settings(bucket="backups", region=Text.parse("${S3_REGION}")))


def test_a_profile_that_is_not_there() -> None:
    """Is refused as such."""
    with pytest.raises(Refused, match="ProfileNotFound") as caught:
        connected(S3Settings(bucket="backups", profile="no-such-profile"))
    assert "`profile`" in caught.value.cure


def test_naming_the_kinds_is_cheap() -> None:
    """Reading a policy imports no library of a store: only a connected one does."""
    slow = "('botocore', 'httpx', 'google', 'azure', 'tenacity')"
    code = f"import sys, reconciler.targets; sys.exit(any(name in sys.modules for name in {slow}))"

    assert 0 == subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode
    assert ("local", "s3", "gcs", "azure", "git_lfs") == tuple(kind.type for kind in TARGETS)


def test_a_client_is_botocores_own() -> None:
    """What boto3 puts around it would take a third of the time that a client takes, and nothing uses it."""
    code = (
        "import sys; from reconciler.targets.s3_bucket import Access, make_client; "
        "make_client('offsite', Access(bucket='b', endpoint='http://store.example')); "
        "sys.exit(any(name in sys.modules for name in ('boto3', 's3transfer')))"
    )

    assert 0 == subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode


def test_a_lock_is_asked_for(s3_server: S3Server) -> None:
    """In the mode and for the time that the policy says; without it none is."""
    lock = ObjectLock(mode="compliance", retain=LockTime(days=30))
    target = connected(*of(s3_server, object_lock=lock))

    assert timedelta(days=30) == target.custody.retain
    assert {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": BEGIN} == target.custody.lock_until(BEGIN)
    assert {} == connected(*of(s3_server)).custody.lock_until(BEGIN)


def test_a_single_writer(s3_server: S3Server) -> None:
    """Said by the policy, and by nobody else."""
    assert connected(*of(s3_server, single_writer=True)).custody.single_writer
    assert not connected(*of(s3_server)).custody.single_writer
