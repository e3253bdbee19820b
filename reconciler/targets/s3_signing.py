"""Requests that bring bytes, signed without reading those bytes once more.

Over https, botocore lets the bytes unsigned or sends their checksum behind them in a framing that some stores don't read; over
http it hashes them a second time. Here the checksum is a header, and it is what the signature covers.
"""

from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_PLAIN: Final = "s3v4"
_KNOWN: Final = "reconciler-s3v4-known"
_OPERATIONS: Final = ("PutObject", "UploadPart")
_HEADER: Final = "x-amz-checksum-sha256"


class _Known(S3SigV4Auth):
    """The checksum in the header is the body's hash in another notation."""

    def payload(self, request: Any) -> str:
        told = request.headers.get(_HEADER)
        known: str = b64decode(told).hex() if told else super().payload(request)
        return known


def sign_by_checksum(client: "S3Client") -> None:
    """See to it that this client signs what it writes by the SHA-256 that each request names, where it names one."""
    AUTH_TYPE_MAPS[_KNOWN] = _Known
    for operation in _OPERATIONS:
        client.meta.events.register(f"choose-signer.s3.{operation}", _choose)  # type: ignore[arg-type]  # its answer counts


def _choose(signature_version: Any, **_: Any) -> str | None:
    return _KNOWN if signature_version == _PLAIN else None
