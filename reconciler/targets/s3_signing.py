"""Requests that bring bytes, signed without reading those bytes once more than the road to the store asks for.

The checksum is a header, which the signature covers: botocore would send it behind the bytes, in a framing that some stores don't
read. What hashes the bytes for the signature costs us a pass over them, and the store another, and proves no more than TLS does.
"""

from base64 import b64decode
from collections.abc import Mapping
from threading import Event
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.auth import AUTH_TYPE_MAPS, UNSIGNED_PAYLOAD, S3SigV4Auth

from reconciler.world.endpoint import is_loopback

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_PLAIN: Final = "s3v4"
_SIGNED: Final = "reconciler-s3v4-signed"
_CLOSED: Final = "reconciler-s3v4-closed"
_OPERATIONS: Final = ("PutObject", "UploadPart")
_SHA256: Final = "x-amz-checksum-sha256"
_CRC32: Final = "x-amz-checksum-crc32"


class _Signed(S3SigV4Auth):
    """A SHA-256 in the header is the body's hash in another notation."""

    def payload(self, request: Any) -> str:
        if told := request.headers.get(_SHA256):
            return b64decode(told).hex()
        signed: str = super().payload(request)
        return signed


class _Closed(_Signed):
    """With a CRC, the body is signed only where it could be changed on its way, or where the user's own settings ask for it."""

    def payload(self, request: Any) -> str:
        asked = (getattr(request.context.get("client_config"), "s3", None) or {}).get("payload_signing_enabled")
        if request.headers.get(_CRC32) and _is_closed(request.url) and not asked:
            return str(UNSIGNED_PAYLOAD)
        return super().payload(request)


def _is_closed(url: str) -> bool:
    """Whether nobody between us and the store can change what passes."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def sign_by_checksum(client: "S3Client") -> None:
    """See to it that this client signs what it writes by the checksum that each request names, where it names one.

    Until the store has told of a CRC that it got, bodies are signed: one that passes it over would compare them with nothing.
    """
    AUTH_TYPE_MAPS[_SIGNED], AUTH_TYPE_MAPS[_CLOSED] = _Signed, _Closed
    compares = Event()

    def choose(signature_version: Any, **_: Any) -> str | None:
        if signature_version != _PLAIN:
            return None
        return _CLOSED if compares.is_set() else _SIGNED

    def hear(parsed: Mapping[str, Any], **_: Any) -> None:
        if parsed.get("ChecksumCRC32"):
            compares.set()

    for operation in _OPERATIONS:
        client.meta.events.register(f"choose-signer.s3.{operation}", choose)  # type: ignore[arg-type]  # its answer counts
        client.meta.events.register(f"after-call.s3.{operation}", hear)
