"""One bucket as one target uses it: the client with its manners, and what each request and message must name."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import urlsplit
from zlib import crc32

import botocore.session
import msgspec
from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.utils import parse_timestamp

from reconciler.errors import Refused
from reconciler.targets.s3 import AMAZON
from reconciler.targets.s3_definitions import definitions
from reconciler.targets.s3_errors import Doing, archive_of
from reconciler.targets.s3_signing import sign_by_checksum
from reconciler.world.ports import Clock, Stored

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Checksums = Literal["crc32", "sha256", "md5"]

_CHECKSUMS: Final[Mapping[Checksums, tuple[str, Callable[[bytes | bytearray], bytes]]]] = {
    "crc32": ("ChecksumCRC32", lambda body: crc32(body).to_bytes(4, "big")),
    "sha256": ("ChecksumSHA256", lambda body: hashlib.sha256(body).digest()),
    "md5": ("ContentMD5", lambda body: hashlib.md5(body, usedforsecurity=False).digest()),
}
"""By name: the field of a request that brings it, and how it is reckoned."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a bucket is reached, every reference resolved."""

    bucket: str
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    checksums: Checksums = "crc32"

    def __repr__(self) -> str:
        return f"Access(bucket={self.bucket!r}, endpoint={self.endpoint!r})"


class Bucket:
    """A bucket, a prefix in it, and the client to reach it by. Safe to use from several threads."""

    def __init__(self, target: str, access: Access, client: "S3Client", *, prefix: str, clock: Clock, stop: Event) -> None:
        self.target: Final = target
        self.name: Final = access.bucket
        self.prefix: Final = prefix
        self.endpoint: Final = access.endpoint or "AWS"
        self.checksums: Final = access.checksums
        self.account: Final = msgspec.structs.replace(access, bucket="")
        """Where and as whom, whatever the bucket."""
        self.clock: Final = clock
        self.stop: Final = stop
        self.client: Final = client

    @property
    def place(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def at(self, key: str) -> dict[str, Any]:
        """The part of a request that names the object."""
        return {"Bucket": self.name, "Key": self.prefix + key}

    def doing(self, verb: str, key: str, right: str) -> Doing:
        """For messages: what is being done, and the right that it takes."""
        what = f"{verb} {self.place}{key}"
        return Doing(target=self.target, what=what, bucket=self.name, right=f"s3:{right}", endpoint=self.endpoint)

    def writing(self, verb: str, key: str, lock: Mapping[str, Any]) -> Doing:
        """As `doing`. What locks (`lock`, a part of the request) takes a right of its own, and a refusal tells not which."""
        return self.doing(verb, key, "PutObject and s3:PutObjectRetention" if lock else "PutObject")

    def checksum(self, body: bytes | bytearray) -> dict[str, Any]:
        """The part of a request that lets the store check what arrives."""
        field, digest = _CHECKSUMS[self.checksums]
        return {field: b64encode(digest(body)).decode("ascii")}

    @property
    def upload_checksum(self) -> dict[str, Any]:
        """The part of a request that begins an upload whose parts will bring theirs."""
        return {} if self.checksums == "md5" else {"ChecksumAlgorithm": self.checksums.upper()}

    def part_checksum(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """What completing an upload must name of a part, by the answer to it: nothing of a store that keeps no checksums."""
        field, _ = _CHECKSUMS[self.checksums]
        return {field: answer[field]} if answer.get(field) else {}

    def described(self, key: str, answer: Mapping[str, Any], *, size: int) -> Stored:
        """An object as the answer to a request about it describes it."""
        modified: datetime | None = answer.get("LastModified")
        return Stored(
            key=key,
            size=size,
            etag=self.told(answer, "ETag").strip('"'),
            modified=modified.astimezone(UTC) if modified else self.time_of(answer),
            version=answer.get("VersionId"),
            archive=archive_of(answer),
        )

    def told(self, answer: Mapping[str, Any], field: str) -> str:
        """What every S3 store answers. Raises Refused where it is missing: a router's page has the status of a success, too."""
        if field not in answer:
            raise Refused(f"{self.target}: {self.endpoint} does not answer like an S3 store", cure="correct `endpoint`")
        return str(answer[field])

    def time_of(self, answer: Mapping[str, Any]) -> datetime:
        """The store's own clock. Raises Refused where the answer does not tell it: nothing could be dated by it then."""
        text = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(text).astimezone(UTC)
        except ValueError as error:
            raise Refused(
                f"{self.target}: {self.endpoint} answers without a date", cure="use a store that sends Date headers"
            ) from error


def make_client(target: str, access: Access, *, connect_seconds: float = 10, read_seconds: float = 60) -> "S3Client":
    """A client with all its time limits. Asks the store nothing yet. Raises Refused, e.g. for a profile that isn't there."""
    # Where checksums are refused, botocore must not add its own.
    when: Literal["when_supported", "when_required"] = "when_required" if access.checksums == "md5" else "when_supported"
    # A certificate names a wildcard of one level, and a dot in the bucket's name would make two.
    by_path = access.endpoint is not None or "." in access.bucket
    config = Config(
        signature_version="s3v4",
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"total_max_attempts": 1},  # trying again is ours: botocore would do it blindly
        s3={"addressing_style": "path" if by_path else "auto"},
        request_checksum_calculation=when,
        response_checksum_validation=when,
        max_pool_connections=20,
        tcp_keepalive=True,
    )
    try:
        session = botocore.session.Session(profile=access.profile)
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_instant)
        session.register_component("data_loader", definitions(session.get_config_variable("data_path")))
        if access.endpoint is None:
            _refuse_another_store(target, session)
        if access.region is not None:  # by the session, since what looks for credentials asks it too
            session.set_config_variable("region", access.region)
        region = session.get_config_variable("region") or ("us-east-1" if access.endpoint else None)
        made = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=access.endpoint,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            config=config,
        )
        client = cast("S3Client", made)
        sign_by_checksum(client)
        return client
    except (BotoCoreError, ValueError) as error:
        raise Refused(
            f"{target}: no S3 client can be made: {type(error).__name__}", cure="correct `profile`, `region` or `endpoint`"
        ) from error


def _refuse_another_store(target: str, session: botocore.session.Session) -> None:
    """Whom botocore's own settings lead elsewhere: place and domain, which the policy tells everybody else, would be wrong."""
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return
    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3")
    host = urlsplit(provider.provide() or f"https://{AMAZON}").hostname or ""
    if AMAZON not in host:  # of any partition; an endpoint of one's own network is AWS, too
        raise Refused(
            f"{target}: AWS_ENDPOINT_URL, or the profile, leads to {host}, which the policy does not say",
            cure="write that URL as `endpoint` of this target, or set AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true to reach AWS",
        )


def _instant(text: Any) -> datetime:
    """As botocore reads them, which tries so many notations that it takes most of the time that a long listing takes."""
    with suppress(ValueError):
        if isinstance(text, str) and text[10:11] == "T" and text.endswith("Z"):
            return datetime.fromisoformat(text)
    read: datetime = parse_timestamp(text)
    return read
