"""How requests that bring bytes are signed, over http and https, read off the requests themselves."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.targets.s3_bucket import Access, Checksums, make_client

BODY = b"a part"


def written(endpoint: str, checksums: Checksums, *, told: Mapping[str, str] | None = None, **request: Any) -> dict[str, str]:
    """The headers, in small letters, of the request that would write `request`; nothing is sent. `told`: by the store before."""
    access = Access(
        bucket="b", endpoint=endpoint, region="eu-west-1", access_key_id="k", secret_access_key="s", checksums=checksums
    )
    client = make_client("offsite", access)
    client.meta.events.emit("after-call.s3.UploadPart", http_response=None, parsed=dict(told or {}), context={})
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


@pytest.mark.parametrize(
    ("endpoint", "signed"),
    [
        ("https://store.example", False),
        ("https://127.0.0.1:9000", False),
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000", False),
        ("http://localhost:9000", False),
        ("http://store.example", True),
        ("http://10.0.0.7:9000", True),
    ],
)
def test_a_body_is_signed_where_somebody_could_change_it(endpoint: str, signed: bool) -> None:
    """Whoever can change the body of a plain request can reckon another CRC, and the signature covers no more than that."""
    headers = written(endpoint, "crc32", told={"ChecksumCRC32": "BBBBBA=="}, ChecksumCRC32="AAAAAA==")

    assert (hashlib.sha256(BODY).hexdigest() if signed else "UNSIGNED-PAYLOAD") == headers["x-amz-content-sha256"]
    assert "x-amz-checksum-crc32;" in headers["authorization"]
    assert "content-encoding" not in headers
    assert "x-amz-trailer" not in headers


def test_a_body_is_signed_until_the_store_has_told_of_a_checksum() -> None:
    """One that passes the header over would else compare what arrives with nothing."""
    headers = written("https://store.example", "crc32", told={"ETag": '"1"'}, ChecksumCRC32="AAAAAA==")

    assert hashlib.sha256(BODY).hexdigest() == headers["x-amz-content-sha256"]
    assert "x-amz-checksum-crc32;" in headers["authorization"]


def test_a_profile_that_asks_for_signed_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is heeded, whatever the store takes."""
    (tmp_path / "config").write_text("[default]\ns3 =\n  payload_signing_enabled = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    headers = written("https://store.example", "crc32", told={"ChecksumCRC32": "BBBBBA=="}, ChecksumCRC32="AAAAAA==")

    assert hashlib.sha256(BODY).hexdigest() == headers["x-amz-content-sha256"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_without_a_checksum_the_body_is_signed_as_ever(scheme: str) -> None:
    headers = written(f"{scheme}://store.example", "md5")

    assert hashlib.sha256(BODY).hexdigest() == headers["x-amz-content-sha256"]
