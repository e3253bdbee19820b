"""Durations, spans, sizes and zones are read as people write them."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reconciler.policy.units import (
    ByteSize,
    Duration,
    Length,
    Span,
    TimeZone,
    format_duration,
    parse_duration,
    parse_size,
    parse_span,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6h", timedelta(hours=6)),
        ("15m", timedelta(minutes=15)),
        ("7d", timedelta(days=7)),
        ("90s", timedelta(seconds=90)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration(text: str, expected: timedelta) -> None:
    """It is what its units say."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "6", "h", "6 h", " 6h", "6H", "1.5h", "-6h", "30m1h", "6h6h", "1y", "٦h", "6h\n", "999999h"]
)
def test_what_is_no_duration(text: str) -> None:
    """It is refused with a reason."""
    with pytest.raises(ValueError, match=r"a duration is|longer than"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["26h", "7d", "14d", "15m", "2m41s", "33h12m", "1h30m", "0s", "400d"])
def test_a_duration_as_it_is_printed(text: str) -> None:
    """It is printed as a policy would write it."""
    assert text == format_duration(parse_duration(text))
    assert text == str(Duration.parse(text))


def test_a_negative_duration() -> None:
    """It is printed with its sign."""
    expected = "-2h"
    assert expected == format_duration(timedelta(hours=-2))


@given(some.integers(min_value=0, max_value=10**8))
def test_any_duration_printed_and_read(seconds: int) -> None:
    """It is the same again."""
    duration = timedelta(seconds=seconds)

    assert duration == parse_duration(format_duration(duration))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1y6mo14d12h", Span(years=1, months=6, days=14, hours=12)),
        ("2w", Span(days=14)),
        ("1w1d", Span(days=8)),
        ("48h", Span(hours=48)),
        ("1mo", Span(months=1)),
    ],
)
def test_a_span(text: str, expected: Span) -> None:
    """It is what its units say, and a month stays a month."""
    assert expected == parse_span(text)
    assert hash(expected) == hash(Span.parse(text))


@pytest.mark.parametrize("text", ["", "6m", "1d1y", "1s", "-1d", "d", "0d", "1y\n"])
def test_what_is_no_span(text: str) -> None:
    """It is refused with a reason."""
    with pytest.raises(ValueError, match=r"a span (is|of)"):
        parse_span(text)


@given(some.tuples(*[some.integers(min_value=0, max_value=999)] * 4).filter(any))
def test_any_span_printed_and_read(parts: tuple[int, int, int, int]) -> None:
    """It is the same again."""
    years, months, days, hours = parts
    span = Span(years=years, months=months, days=days, hours=hours)

    assert span == parse_span(str(span))


def test_a_span_is_immutable() -> None:
    """What was read can't be changed afterwards, nor be negative."""
    with pytest.raises(AttributeError, match="immutable"):
        Span(days=1).days = 2
    with pytest.raises(ValueError, match="can't be negative"):
        Span(days=-1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16MiB", 16 * 2**20), ("1GB", 10**9), ("512", 512), ("3kB", 3000), ("3KB", 3000), ("2TiB", 2 * 2**40), ("7B", 7)],
)
def test_a_size(text: str, expected: int) -> None:
    """Decimal and binary units differ."""
    assert expected == parse_size(text) == ByteSize.parse(text)


@pytest.mark.parametrize("text", ["", "MiB", "1.5GiB", "-1", "1 GB", "1mb", "1GB\n", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    """It is refused with a reason."""
    with pytest.raises(ValueError, match="a size is"):
        parse_size(text)


@pytest.mark.parametrize("text", ["UTC", "Europe/Madrid", "America/Argentina/Buenos_Aires"])
def test_a_time_zone(text: str) -> None:
    """A name that the tz database knows is a zone."""
    assert text == TimeZone.parse(text)


NO_ZONES = ["", "Europe", "Europe/Madird", "../../etc/passwd", "/etc/localtime", "localtime", "posixrules", "a\0b", "x" * 5000]


@pytest.mark.parametrize("text", NO_ZONES)
def test_what_is_no_time_zone(text: str) -> None:
    """It is refused, files beside the zones included."""
    with pytest.raises(ValueError, match="no such time zone"):
        TimeZone.parse(text)


@pytest.mark.parametrize("parse", [Duration.parse, Length.parse, Span.parse, ByteSize.parse, TimeZone.parse])
@given(text=some.text(max_size=12))
def test_any_text_at_all(parse: Any, text: str) -> None:
    """It is read or refused; nothing else comes of it."""
    with suppress(ValueError):
        assert parse(text) is not None
