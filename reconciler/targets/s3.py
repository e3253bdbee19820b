"""A bucket of any S3-compatible store as a target: what a policy says of it, and how that is resolved."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from reconciler.errors import Refused
from reconciler.policy.folder import Folder
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.policy.units import LockTime
from reconciler.world.endpoint import domain_of, host_of, site_of
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.targets.s3_target import S3Target

AMAZON = "amazonaws.com"


class ObjectLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The store lets nobody delete what belongs to a backup, for so long after it was taken."""

    mode: Annotated[
        Literal["governance", "compliance"],
        Meta(
            description="governance: a right of its own lifts the lock; compliance: nobody can, not the account's owner.",
            examples=["governance"],
        ),
    ]
    retain: Annotated[LockTime, Meta(description="For how long.", examples=["30d"])]


class S3Settings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="s3", forbid_unknown_fields=True):
    """A bucket of an S3-compatible store."""

    bucket: Annotated[str, Meta(min_length=3, max_length=63, description="The bucket's name.", examples=["backups-agente"])]
    prefix: Annotated[
        Folder,
        Meta(description="The folder in the bucket; none: its top.", examples=["backups/"], extra_json_schema={"default": ""}),
    ] = msgspec.field(default_factory=Folder)
    region: Annotated[
        Text | None, Meta(description="The bucket's region; default: as AWS's own tools find it.", examples=["eu-west-1"])
    ] = None
    endpoint: Annotated[
        Text | None, Meta(description="The store's URL; default: AWS.", examples=["https://s3.eu-central-003.backblazeb2.com"])
    ] = None
    profile: Annotated[str | None, Meta(description="A profile of ~/.aws/config with the credentials.", examples=["backups"])] = (
        None
    )
    access_key_id: Annotated[
        Secret | None,
        Meta(description="The access key's id; default: as AWS's own tools find it.", examples=["${S3_ACCESS_KEY_ID}"]),
    ] = None
    secret_access_key: Annotated[
        Secret | None, Meta(description="The access key's secret part.", examples=["${S3_SECRET_ACCESS_KEY}"])
    ] = None
    checksums: Annotated[
        Literal["crc32", "sha256", "md5"],
        Meta(
            description="What the store checks arriving bytes by; sha256 signs them, too; md5 where x-amz-checksum is not taken.",
            examples=["md5"],
        ),
    ] = "crc32"
    domain: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="What fails together with this bucket; default: the endpoint's host, s3:aws, or this machine.",
            examples=["aws-backups"],
        ),
    ] = None
    object_lock: Annotated[
        ObjectLock | None,
        Meta(
            description="Lock new backups (S3 Object Lock); the bucket must have been made with it.",
            examples=[{"mode": "governance", "retain": "30d"}],
        ),
    ] = None
    append_only: Annotated[
        bool,
        Meta(description="Never delete anything there: backups come and stay, whatever the retention says.", examples=[True]),
    ] = False
    single_writer: Annotated[
        bool,
        Meta(
            description="For a store that ignores conditional writes: you see to it that one program at a time acts on it.",
            examples=[True],
        ),
    ] = False


def connect(name: str, settings: S3Settings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> "S3Target":
    """The target that the settings describe. Asks the store nothing yet. Raises Refused when a reference leads nowhere."""
    # botocore takes a fifth of a second to import: only who has such a target waits for it.
    from reconciler.targets.s3_bucket import Access, Bucket, make_client
    from reconciler.targets.s3_custody import Lock, S3Custody
    from reconciler.targets.s3_target import S3Target

    where = f"targets.{name}"
    key, secret, endpoint = settings.access_key_id, settings.secret_access_key, settings.endpoint
    if (key is None) != (secret is None):
        raise Refused(f"{where}: access_key_id and secret_access_key go together", cure="set both, or neither")
    url = endpoint.reveal(surroundings, field=f"{where}.endpoint") if endpoint else None
    host = host_of(url, f"{where}.endpoint") if url else None
    access = Access(
        bucket=settings.bucket,
        region=settings.region.reveal(surroundings, field=f"{where}.region") if settings.region else None,
        endpoint=url,
        profile=settings.profile,
        access_key_id=key.reveal(surroundings, field=f"{where}.access_key_id").expose() if key else None,
        secret_access_key=secret.reveal(surroundings, field=f"{where}.secret_access_key").expose() if secret else None,
        checksums=settings.checksums,
    )
    bucket = Bucket(name, access, make_client(name, access), prefix=settings.prefix, clock=clock, stop=stop)
    lock = Lock(mode=settings.object_lock.mode, retain=settings.object_lock.retain) if settings.object_lock else None
    custody = S3Custody(bucket, lock=lock, single_writer=settings.single_writer)
    return S3Target(bucket, domain=settings.domain or _domain(host), custody=custody)


def site(settings: S3Settings, base: Path) -> str:
    """What holds it, as the policy writes it."""
    return site_of("s3", settings.endpoint, "aws", settings.bucket, settings.prefix, own=AMAZON)


KIND = Kind(type="s3", settings=S3Settings, connect=connect, site=site)


def _domain(host: str | None) -> str:
    return "s3:aws" if host is None or host.endswith(f".{AMAZON}") else domain_of(host, "s3")
