"""A bucket of Google Cloud Storage as a target: what a policy says of it, and how that is resolved."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from reconciler.policy.folder import Folder
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.world.endpoint import domain_of, host_of, is_loopback, refuse_plain, site_of
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.targets.gcs_target import GcsTarget

GOOGLE_HOST = "storage.googleapis.com"
GOOGLE = f"https://{GOOGLE_HOST}"


class GcsSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gcs", forbid_unknown_fields=True):
    """A bucket of Google Cloud Storage; takes the extra `gcs`."""

    bucket: Annotated[str, Meta(min_length=3, max_length=222, description="The bucket's name.", examples=["backups-agente"])]
    prefix: Annotated[
        Folder,
        Meta(description="The folder in the bucket; none: its top.", examples=["backups/"], extra_json_schema={"default": ""}),
    ] = msgspec.field(default_factory=Folder)
    credentials: Annotated[
        Secret | None,
        Meta(
            description="A service account's key (JSON); default: as Google's own tools find it, e.g. the machine's account.",
            examples=[{"file": "/run/secrets/gcs.json"}],
        ),
    ] = None
    endpoint: Annotated[
        Text | None,
        Meta(description="The store's URL; default: Google. http on this machine only.", examples=["http://localhost:4443"]),
    ] = None
    domain: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="What fails together with this bucket; default: gcs:google, the endpoint's host, or this machine.",
            examples=["gcp-backups"],
        ),
    ] = None
    append_only: Annotated[
        bool,
        Meta(description="Never delete anything there: backups come and stay, whatever the retention says.", examples=[True]),
    ] = False


def connect(name: str, settings: GcsSettings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> "GcsTarget":
    """The target that the settings describe. Asks nobody anything yet. Raises Refused when a reference leads nowhere."""
    from reconciler.targets.gcs_account import anonymous, service_account, surrounding
    from reconciler.targets.gcs_bucket import GcsBucket
    from reconciler.targets.gcs_target import GcsTarget

    where = f"targets.{name}"
    url, domain, here = GOOGLE, "gcs:google", False
    if settings.endpoint:
        url = settings.endpoint.reveal(surroundings, field=f"{where}.endpoint").rstrip("/")
        host = host_of(url, f"{where}.endpoint")
        refuse_plain(url, host, f"{where}.endpoint")
        domain, here = domain_of(host, "gcs"), is_loopback(host)
    if settings.credentials:
        key = settings.credentials.reveal(surroundings, field=f"{where}.credentials")
        authorise = service_account(key.expose(), field=f"{where}.credentials", redactor=surroundings.redactor)
    else:
        # An emulator knows no accounts; and Google's tools would look for a machine's account, in vain and for seconds.
        authorise = anonymous if here else surrounding(name)
    bucket = GcsBucket(name, settings.bucket, endpoint=url, prefix=settings.prefix, authorise=authorise)
    return GcsTarget(bucket, domain=settings.domain or domain, clock=clock, stop=stop)


def site(settings: GcsSettings, base: Path) -> str:
    """What holds it, as the policy writes it."""
    return site_of("gcs", settings.endpoint, "google", settings.bucket, settings.prefix, own=GOOGLE_HOST)


KIND = Kind(type="gcs", settings=GcsSettings, connect=connect, site=site)
