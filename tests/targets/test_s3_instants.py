"""Instants as stores write them."""

from datetime import UTC
from threading import Event
from typing import Any

import pytest
from botocore.utils import parse_timestamp

from reconciler.targets import s3_bucket
from reconciler.targets.s3_bucket import Access, Bucket, make_client
from reconciler.targets.s3_target import S3Target
from tests.faults.clock import MovedClock
from tests.servers.s3 import S3Server

USUAL = ("2025-10-25T02:00:00.000Z", "2025-10-25T02:00:00Z", "2025-10-25T02:00:00.123456789Z", "2024-02-29T23:59:59.5Z")
OTHERS = ("Sat, 25 Oct 2025 02:00:00 GMT", "20251025T020000Z", "2025-10-25T02:00:00+02:00", "1761357600", 1761357600)


@pytest.mark.parametrize("text", [*USUAL, *OTHERS])
def test_they_are_what_botocore_takes_them_for(text: Any) -> None:
    """However they are written."""
    assert parse_timestamp(text).astimezone(UTC) == s3_bucket._instant(text).astimezone(UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2025-13-25T02:00:00Z", "T:Z"])
def test_what_is_none(text: str) -> None:
    """Fails as it does there."""
    with pytest.raises(ValueError, match="timestamp"):
        s3_bucket._instant(text)


def test_a_listing_tries_no_notations(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which took most of its time."""
    access = Access(
        bucket=s3_server.new_bucket(),
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )
    bucket = Bucket("primary", access, make_client("primary", access), prefix="", clock=MovedClock(), stop=Event())
    target = S3Target(bucket, domain="s3")
    target.write("hotel/x", [b"x"])
    monkeypatch.setattr("botocore.utils.dateutil.parser.parse", None)

    assert ["hotel/x"] == [item.key for item in target.list("hotel/").items]
