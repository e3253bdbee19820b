"""A container of Azure Blob Storage as a target: what a policy says of it, and how that is resolved."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from reconciler.errors import Refused
from reconciler.policy.folder import Folder
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.world.endpoint import domain_of, host_of, refuse_plain, site_of
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.targets.azure_target import AzureTarget


class AzureSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="azure", forbid_unknown_fields=True):
    """A container of Azure Blob Storage; takes the extra `azure`."""

    account: Annotated[
        str, Meta(pattern="^[a-z0-9]{3,24}$", description="The storage account's name.", examples=["backupsagente"])
    ]
    container: Annotated[str, Meta(min_length=3, max_length=63, description="The container's name.", examples=["backups"])]
    prefix: Annotated[
        Folder,
        Meta(
            description="The folder in the container; none: its top.", examples=["postgres/"], extra_json_schema={"default": ""}
        ),
    ] = msgspec.field(default_factory=Folder)
    account_key: Annotated[
        Secret | None,
        Meta(
            description="A key of the account; default: as Azure's own tools find an identity, e.g. the machine's.",
            examples=["${AZURE_STORAGE_KEY}"],
        ),
    ] = None
    sas_token: Annotated[
        Secret | None,
        Meta(description="A shared access signature for the container.", examples=[{"file": "/run/secrets/sas"}]),
    ] = None
    endpoint: Annotated[
        Text | None,
        Meta(
            description="The account's URL; default: https://ACCOUNT.blob.core.windows.net. http on this machine only.",
            examples=["http://127.0.0.1:10000/devstoreaccount1"],
        ),
    ] = None
    domain: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="What fails together with this container; default: azure:ACCOUNT, the endpoint's host, or this machine.",
            examples=["azure-backups"],
        ),
    ] = None
    append_only: Annotated[
        bool,
        Meta(description="Never delete anything there: backups come and stay, whatever the retention says.", examples=[True]),
    ] = False


def connect(name: str, settings: AzureSettings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> "AzureTarget":
    """The target that the settings describe. Asks nobody anything yet. Raises Refused when a reference leads nowhere."""
    from reconciler.targets.azure_account import shared_access, shared_key, surrounding
    from reconciler.targets.azure_container import AzureContainer
    from reconciler.targets.azure_target import AzureTarget

    where = f"targets.{name}"
    url, domain = f"https://{host_of_account(settings.account)}", f"azure:{settings.account}"
    if settings.endpoint:
        url = settings.endpoint.reveal(surroundings, field=f"{where}.endpoint").rstrip("/")
        host = host_of(url, f"{where}.endpoint")
        refuse_plain(url, host, f"{where}.endpoint")
        domain = domain_of(host, "azure")
    if settings.account_key and settings.sas_token:
        raise Refused(f"{where}: account_key and sas_token exclude each other", cure="set one of them, or neither")
    if settings.account_key:
        key = settings.account_key.reveal(surroundings, field=f"{where}.account_key")
        authorise = shared_key(settings.account, key.expose(), field=f"{where}.account_key")
    elif settings.sas_token:
        authorise = shared_access(settings.sas_token.reveal(surroundings, field=f"{where}.sas_token").expose())
    else:
        authorise = surrounding(name)
    container = AzureContainer(
        name, settings.account, settings.container, endpoint=url, prefix=settings.prefix, authorise=authorise
    )
    return AzureTarget(container, domain=settings.domain or domain, clock=clock, stop=stop)


def site(settings: AzureSettings, base: Path) -> str:
    """What holds it, as the policy writes it."""
    return site_of(
        "azure", settings.endpoint, settings.account, settings.container, settings.prefix, own=host_of_account(settings.account)
    )


def host_of_account(account: str) -> str:
    """Unless the policy names another."""
    return f"{account}.blob.core.windows.net"


KIND = Kind(type="azure", settings=AzureSettings, connect=connect, site=site)
