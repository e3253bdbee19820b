"""One container of Azure Blob Storage as one target uses it: its URLs, its listings in XML, what its faults mean."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, unquote, urlencode
from xml.etree import ElementTree as ET

import httpx

from reconciler.errors import Conflict, Locked, ReconcilerError, Refused, Unreachable
from reconciler.targets.azure_account import Authorise
from reconciler.world.ports import Stored
from reconciler.world.wire import Doing, Fault, Wire

WRITE_ID: Final = "x-ms-meta-writeid"

_CONFLICTS: Final = {
    "BlobAlreadyExists": "it is there already; nothing was written",
    "InvalidBlockList": "the unfinished write was aborted by another before its end",
}

_LOCKS: Final = {
    "BlobImmutableDueToLegalHold": "wait until the legal hold is released",
    "BlobImmutableDueToPolicy": "wait until the container's immutability policy lets it go",
}
"""Why a blob may be neither removed nor written over."""

_TRY_AGAIN: Final = {"Md5Mismatch", "ServerBusy", "OperationTimedOut", "InternalError"}

_CURES: Final = {
    "AccountIsDisabled": "see to the subscription: the account is disabled",
    "AuthenticationFailed": "correct `account_key` or `sas_token` (or renew it), and see whether this machine's clock is right",
    "AuthorizationFailure": "let the account's firewall admit this machine, and the credentials the right",
    "BlobArchived": "bring the blob back from the archive tier first",
    "BlobBeingRehydrated": "wait: the blob is on its way back from the archive tier",
    "ContainerBeingDeleted": "make the container again, once it is gone",
    "ContainerNotFound": "make the container, or correct `container`",
    "InsufficientAccountPermissions": "correct `account_key`: it may not do this",
    "InvalidAuthenticationInfo": "correct or renew the credentials: Azure does not take them",
    "LeaseIdMissing": "break the lease that somebody holds on this blob",
    "InvalidResourceName": "correct `container`: Azure takes no such name",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: remove `account_key`, and give an identity the role",
    "OutOfRangeInput": "correct `container`: Azure takes no such name",
    "ResourceNotFound": "make the container, or correct `container`",
    "SnapshotsPresent": "delete the snapshots that somebody made of this blob: Azure keeps it as long as there are any",
}


class AzureContainer:
    """A container, a prefix in it, and the way to reach it."""

    def __init__(self, target: str, account: str, name: str, *, endpoint: str, prefix: str, authorise: Authorise) -> None:
        self.target: Final = target
        self.account: Final = account
        self.name: Final = name
        self.prefix: Final = prefix
        self.wire: Final = Wire(endpoint, authorise=authorise, read_fault=_read_fault, explain=_explain)
        self._root = f"{endpoint}/{quote(name, safe='')}"

    @property
    def place(self) -> str:
        return f"azure://{self.account}/{self.name}/{self.prefix}"

    def doing(self, verb: str, key: str, permission: str) -> Doing:
        """For messages. `permission`: in the words of a shared access signature."""
        right = f"the identity the role Storage Blob Data Contributor on container {self.name}, or the signature {permission!r}"
        return Doing(target=self.target, what=f"{verb} {self.place}{key}", right=right)

    def listing(self, **query: str) -> str:
        return f"{self._root}?{urlencode({'restype': 'container', 'comp': 'list', **query})}"

    def at(self, key: str, **query: str) -> str:
        """Of one blob."""
        return f"{self._root}/{quote(self.prefix + key, safe='/')}" + (f"?{urlencode(query)}" if query else "")

    def described(self, key: str, response: httpx.Response, *, size: int) -> Stored:
        """A blob as the answer to a request about it describes it."""
        etag, modified = response.headers.get("etag"), response.headers.get("last-modified")
        if not (etag and modified):
            raise self.no_azure()
        return Stored(
            key=key,
            size=size,
            etag=etag.strip('"'),
            modified=parsedate_to_datetime(modified).astimezone(UTC),
            archive=_archive(response.headers.get("x-ms-access-tier")),
        )

    def page(self, response: httpx.Response) -> ET.Element:
        """One page of a listing. Raises Refused where it is none: what is no listing must not pass for an empty one."""
        try:
            root = ET.fromstring(response.content)  # noqa: S314 - as above
        except ET.ParseError as error:
            raise self.no_azure() from error
        if root.tag != "EnumerationResults":
            raise self.no_azure()
        return root

    def listed(self, page: ET.Element, otherwise: datetime) -> Iterator[Stored]:
        """What a page shows. `otherwise` dates what bears no date: what is not committed."""
        for blob in page.iterfind("Blobs/Blob"):
            name = blob.find("Name")
            text = name.text or "" if name is not None else ""
            key = unquote(text) if name is not None and name.get("Encoded") == "true" else text
            modified = blob.findtext("Properties/Last-Modified") or blob.findtext("Properties/Creation-Time")
            yield Stored(
                key=key.removeprefix(self.prefix),
                size=int(blob.findtext("Properties/Content-Length") or 0),
                etag=(blob.findtext("Properties/Etag") or "").strip('"'),
                modified=parsedate_to_datetime(modified).astimezone(UTC) if modified else otherwise,
                archive=_archive(blob.findtext("Properties/AccessTier")),
            )

    def no_azure(self) -> Refused:
        what = f"{self.target}: {self.wire.endpoint} does not answer like Azure Blob Storage"
        return Refused(what, cure="correct `endpoint`")


def _archive(tier: str | None) -> str:
    return "Archive" if tier == "Archive" else ""


def _read_fault(response: httpx.Response) -> Fault:
    code = response.headers.get("x-ms-error-code", "")
    told = re.search(r"<Message>([^<\n]*)", response.text)
    return Fault(status=response.status_code, code=code if code.isalnum() else "", message=told[1] if told else "")


def _explain(fault: Fault, doing: Doing) -> ReconcilerError | None:
    said = f"{doing}: {fault.status} {fault.code}"
    if fault.code in _CONFLICTS:
        return Conflict(f"{doing}: {_CONFLICTS[fault.code]}")
    if fault.code in _LOCKS:
        return Locked(f"{doing}: what is there is locked ({fault.code})", cure=_LOCKS[fault.code])
    if fault.code in _TRY_AGAIN:
        return Unreachable(said, cure="wait: the store is busy or has a fault of its own", retry_after=fault.retry_after)
    return Refused(said, cure=_CURES[fault.code]) if fault.code in _CURES else None
