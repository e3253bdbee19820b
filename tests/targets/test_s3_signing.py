"""How requests that bring bytes are signed, over http and https, read off the requests themselves."""

import hashlib
from base64 import b64encode
from typing import Any

import pytest

from reconciler.targets.s3_bucket import Access, Checksums, make_client

BODY = b"a part"


def written(endpoint: str, checksums: Checksums, **request: Any) -> dict[str, str]:
    """The headers, in small letters, of the request that would write `request`; nothing is sent."""
    access = Access(
        bucket="b", endpoint=endpoint, region="eu-west-1", access_key_id="k", secret_access_key="s", checksums=checksums
    )
    client = make_client("offsite", access)
    sent: list[Any] = []

    def keep(request: Any, **_: Any) -> None:
        sent.append(request)
        raise InterruptedError

    client.meta.events.register("before-send.s3", keep)
    with pytest.raises(InterruptedError):
        client.put_object(Bucket="b", Key="k", Body=BODY, **request)
    return {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in sent[0].headers.items()}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_signature_covers_the_checksum_that_is_sent(scheme: str) -> None:
    """By the hash that the request names, over both, so that the body is not read again; never unsigned, never in a framing."""
    digest = hashlib.sha256(b"told")  # not the body's: only who takes it from the header signs by it
    headers = written(f"{scheme}://store.example", "sha256", ChecksumSHA256=b64encode(digest.digest()).decode())

    assert digest.hexdigest() == headers["x-amz-content-sha256"]
    assert "x-amz-checksum-sha256;" in headers["authorization"]
    assert "content-encoding" not in headers
    assert "x-amz-trailer" not in headers
    assert str(len(BODY)) == headers["content-length"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_without_a_checksum_the_body_is_signed_as_ever(scheme: str) -> None:
    headers = written(f"{scheme}://store.example", "md5")

    assert hashlib.sha256(BODY).hexdigest() == headers["x-amz-content-sha256"]
