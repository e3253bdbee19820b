"""A real S3 server for tests, one per worker: import `s3_server` in a conftest, then ask for the fixture."""

import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from reconciler.sandbox import process
from reconciler.sandbox.s3 import REGION, remove_server, start_server
from reconciler.targets.s3_bucket import Access, make_client

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class S3Server(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Where it is, and the keys of an account that may do everything."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    new_bucket: Any
    """`new_bucket(versioned=False, locked=False) -> str`: a bucket that nobody else uses; with Object Lock if `locked`."""

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def access(self, bucket: str, *, endpoint: str = "") -> Access:
        """What the target needs; `endpoint`: of a proxy before the server."""
        return Access(
            bucket=bucket,
            endpoint=endpoint or self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
        )

    @cached_property
    def careful_client(self) -> "S3Client":
        """The target's own kind of client, made once: making one takes a third of a second."""
        return make_client("s3", self.access("any"))

    def shorten_lock(self, bucket: str, key: str, version: str) -> None:
        """A lock in governance mode ends in a few seconds: the store takes no date that has passed."""
        until = datetime.now(UTC) + timedelta(seconds=5)
        self.client().put_object_retention(
            Bucket=bucket,
            Key=key,
            VersionId=version,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
            BypassGovernanceRetention=True,
        )

    def client(self, endpoint: str | None = None) -> "S3Client":
        """A plain client, to look at the world without the code under test."""
        return plain_client(endpoint or self.endpoint, self.access_key_id, self.secret_access_key)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    # Not below pytest's own folder: a server's command line is looked up by this path, and its sockets want a short one.
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        server = start_server(Path(folder) / "s3")
        client = plain_client(server.endpoint, server.access_key_id, server.secret_access_key)

        def new_bucket(*, versioned: bool = False, locked: bool = False) -> str:
            name = f"test-{token_hex(6)}"
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
            if versioned:
                client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            return name

        try:
            yield S3Server(
                endpoint=server.endpoint,
                access_key_id=server.access_key_id,
                secret_access_key=server.secret_access_key,
                new_bucket=new_bucket,
            )
        finally:
            remove_at_once(Path(folder) / "s3")


def remove_at_once(folder: Path) -> None:
    """Remove the server in `folder` without the seconds that it takes to end when asked: nothing of it is read again."""
    process.end(process.find("weed", f"-dir={folder.absolute() / 'data'}"), signals=((signal.SIGKILL, 5.0),))
    remove_server(folder)


@cache
def plain_client(endpoint: str, access_key_id: str, secret_access_key: str) -> "S3Client":
    """One for each account, made once: to look at the world without the code under test. For any thread."""
    session = boto3.session.Session(aws_access_key_id=access_key_id, aws_secret_access_key=secret_access_key, region_name=REGION)
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)
    client: S3Client = session.client("s3", endpoint_url=endpoint, config=config)
    return client
