"""What botocore raises, as our own errors: what was refused, where, and what would cure it. Never a key, never a signature."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from reconciler.errors import Absent, Conflict, Corrupt, ReconcilerError, Refused, Unreachable


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as a message about it needs to know."""

    target: str
    what: str
    """E.g. `read s3://bucket/hotel/x`."""
    bucket: str
    right: str
    """Which right it needs, e.g. `s3:GetObject`."""
    endpoint: str

    def __str__(self) -> str:
        return f"{self.target}: cannot {self.what}"


_ABSENT: Final = {"NoSuchKey", "NoSuchVersion", "NotFound", "404"}

_CONFLICTS: Final = {
    "412": "it is there already, or has changed since it was looked at; nothing was written",
    "PreconditionFailed": "it is there already, or has changed since it was looked at; nothing was written",
    "NoSuchUpload": "the unfinished write was aborted by another before its end",
}

_TRY_AGAIN: Final = {
    # Ours arrived damaged, or not at all: the same bytes sent again are right.
    "BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict", "OperationAborted",
    "InternalError", "RequestLimitExceeded", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling",
    "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
}  # fmt: skip

_ARCHIVES: Final = {"GLACIER", "DEEP_ARCHIVE"}
"""Of AWS, whose GLACIER_IR reads at once."""

_CURES: Final = {
    "AllAccessDisabled": "ask the store's operator why this bucket was closed",
    "EntityTooLarge": "this store takes no objects of that size; use another",
    "ExpiredToken": "get new credentials: these have expired",
    "InsufficientStorage": "free space in this store, raise its quota, or shorten the retention",
    "InvalidAccessKeyId": "correct `access_key_id`: the store does not know it",
    "InvalidBucketName": "correct `bucket`: the store takes no such name",
    "InvalidObjectState": "bring the object back from the archive class first",
    "InvalidToken": "get new credentials: the store does not take this session's token",
    "NoSuchBucket": "make the bucket, or correct `bucket` (and `endpoint`, `region`)",
    "NotImplemented": "use a store that implements this",
    "QuotaExceeded": "free space in this store, raise its quota, or shorten the retention",
    "RequestTimeTooSkewed": "set this machine's clock (NTP): the store's differs too much",
    "SignatureDoesNotMatch": "correct `secret_access_key`: the signature made with it is wrong",
    "TokenRefreshRequired": "get new credentials: these have expired",
}

_WRONG_REGION: Final = {
    "301", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "IllegalLocationConstraintException",
    "IncorrectEndpoint", "PermanentRedirect", "TemporaryRedirect",
}  # fmt: skip

_CHECKSUM_REFUSALS: Final = {
    "InvalidArgument",
    "InvalidRequest",
    "MalformedTrailerError",
    "NotImplemented",
    "UnsupportedArgument",
}
_ABOUT_CHECKSUMS: Final = re.compile(r"checksum|trailer|aws-chunked|x-amz-sdk|header you provided implies", re.IGNORECASE)

_SIGN: Final = "set `checksums: sha256`"
"""It signs the body of each request."""

_WAIT: Final = "wait: the store is busy or has a fault of its own"
_PATIENCE: Final = {
    # Of a body that was not signed it means that the store has no word for that.
    "XAmzContentSHA256Mismatch": f"nothing: it is sent again; where that goes on, {_SIGN} on this target",
}

_NO_ANSWER: Final = (
    boto.ConnectionError,
    boto.ConnectionClosedError,
    boto.ConnectTimeoutError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ReadTimeoutError,
    boto.ResponseStreamingError,
)

_NO_CREDENTIALS: Final = (
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.SSOError,
    boto.TokenRetrievalError,
    boto.UnknownCredentialError,
)


@contextmanager
def translated(doing: Doing) -> Iterator[None]:
    """Let nothing of botocore's through. Absent, Conflict, Corrupt, Refused and Unreachable mean what the port says."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, doing) from error
    except (boto.BotoCoreError, ResponseParserError) as error:
        raise _of_no_answer(error, doing) from error


def archive_of(described: Mapping[str, Any]) -> str:
    """The archive class that an answer says the object is in; empty where it can be read at once."""
    stored_as = str(described.get("StorageClass", ""))
    return stored_as if stored_as in _ARCHIVES and 'ongoing-request="false"' not in described.get("Restore", "") else ""


def code_of(error: BaseException | None) -> str:
    """S3's own name for what went wrong; empty where it answered nothing."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def _of_answer(error: boto.ClientError, doing: Doing) -> ReconcilerError:
    """The store answered, with an error."""
    answer: Mapping[str, Any] = error.response
    code, status = code_of(error), int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _ABSENT or (code == "MethodNotAllowed" and doing.right.startswith("s3:GetObject")):  # the latter: a delete marker
        return Absent(f"{doing}: it is not there")
    if code in _CONFLICTS:
        return Conflict(f"{doing}: {_CONFLICTS[code]}")
    # An answer without S3's own words, a proxy's say, has nothing but its status for a code.
    said = f"{doing}: {status} {code}" if code != str(status) else f"{doing}: {status}"
    if code in _TRY_AGAIN or status in (429, 500, 502, 503, 504):
        return Unreachable(said, cure=_PATIENCE.get(code, _WAIT), retry_after=_retry_after(answer))
    cure = _wrong_region(answer, code, doing) or _refused_checksum(answer, code) or _CURES.get(code)
    if not cure and status == 403:
        cure = f"give the key {doing.right} on bucket {doing.bucket}"
        if "s3:PutObject" in doing.right and "explicit deny" in _message(answer):
            cure += f"; where a policy of the bucket denies it to UNSIGNED-PAYLOAD, {_SIGN} on this target"
    if cure:
        return Refused(said, cure=cure)
    return Refused(f"{said} ({_message(answer)})", cure=f"see what {doing.endpoint} says about {code or status}")


def _of_no_answer(error: Exception, doing: Doing) -> ReconcilerError:
    """No answer, or none that can be used."""
    if isinstance(error, boto.FlexibleChecksumError | boto.ChecksumError):
        return Corrupt(
            f"{doing}: the bytes that arrived differ from the store's checksum", cure="read it again, then from another copy"
        )
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Refused(f"{doing}: the certificate of {doing.endpoint} is not trusted", cure="name its authority in AWS_CA_BUNDLE")
    if isinstance(error, _NO_ANSWER):
        return Unreachable(
            f"{doing}: {doing.endpoint} {_reason(error)}", cure="correct `endpoint`, or see to the network and the store"
        )
    return _of_no_request(error, doing)


def _of_no_request(error: Exception, doing: Doing) -> ReconcilerError:
    """Nothing was asked, or what answered is no S3 store."""
    if isinstance(error, _NO_CREDENTIALS):
        cure = "set `access_key_id` and `secret_access_key`, `profile`, or AWS's own environment"
        return Refused(f"{doing}: no usable credentials were found", cure=cure)
    if isinstance(error, ResponseParserError):
        return Refused(f"{doing}: {doing.endpoint} does not answer like an S3 store", cure="correct `endpoint`")
    return Refused(f"{doing}: {type(error).__name__}", cure="correct this target's settings")


def _reason(error: Exception) -> str:
    if not isinstance(error, boto.EndpointConnectionError | boto.ProxyConnectionError):
        return "broke off or did not answer in time"
    text = f"{error.kwargs.get('error', '')} {error}"
    if re.search(r"NameResolution|getaddrinfo|Name or service|nodename nor servname", text):
        return "is a name that nobody knows"
    return "refuses the connection" if "refused" in text.lower() else "cannot be connected to"


def _wrong_region(answer: Mapping[str, Any], code: str, doing: Doing) -> str:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or ""
    if code not in _WRONG_REGION and not (code == "400" and region):
        return ""
    if region:
        return f"set `region: {region}`: that is where bucket {doing.bucket} is"
    return f"correct `region` (or `endpoint`): bucket {doing.bucket} is elsewhere"


def _refused_checksum(answer: Mapping[str, Any], code: str) -> str:
    # Where the store names the header, that is what it refuses: it may be a condition's.
    about = str(answer.get("Error", {}).get("Header", "")) or _message(answer)
    if code not in _CHECKSUM_REFUSALS or not _ABOUT_CHECKSUMS.search(about):
        return ""
    return "set `checksums: md5` on this target: its store takes no newer ones"


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("Error", {}).get("Message", ""))[:200] or "no reason given"


def _retry_after(answer: Mapping[str, Any]) -> timedelta | None:
    text = str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    return timedelta(seconds=int(text)) if re.fullmatch(r"\d{1,6}", text) else None
