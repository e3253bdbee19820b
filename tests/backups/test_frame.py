"""Where a frame of zstd ends: every cut is seen, and nothing behind the end is."""

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.backups.frame import Frame
from reconciler.backups.pipeline import decompress
from reconciler.errors import Corrupt

CONTENTS = {
    "nothing": b"",
    "one byte": b"x",
    "zeros, which are repeated blocks": bytes(3_000_000),
    "text": b"".join(b"%d, a row like many others\n" % number for number in range(60_000)),
    "noise, which is stored as it is": b"".join(number.to_bytes(4, "big") for number in range(0, 2**32, 40_503_001)) * 900,
}


def packed(content: bytes, *, checksum: bool = True, size: bool = False) -> bytes:
    made = zstandard.ZstdCompressor(level=3, write_checksum=checksum, write_content_size=size)
    if size:
        return made.compress(content)
    writer = made.compressobj()
    return writer.compress(content) + writer.flush()


def ended(stored: bytes, piece: int = 1 << 20) -> bool:
    frame = Frame()
    for _ in frame.follow(stored[start : start + piece] for start in range(0, len(stored), piece)):
        pass
    return frame.ended


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("size", [True, False])
def test_the_end_is_seen_and_no_sooner(content: bytes, *, checksum: bool, size: bool) -> None:
    """To the byte, whatever is behind it, and however the bytes come."""
    stored = packed(content, checksum=checksum, size=size)

    assert ended(stored)
    assert ended(stored + b"behind", piece=7 if len(stored) < 5000 else 4096)
    assert not ended(stored[:-1])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_frame_that_was_cut_is_refused(data: st.DataObject) -> None:
    """Wherever it was cut: what came out before is not the whole."""
    stored = packed(CONTENTS["text"])
    cut = data.draw(st.integers(0, len(stored) - 1))

    with pytest.raises(Corrupt):
        list(decompress([stored[:cut]], "dump.zst"))


def test_a_whole_frame_passes() -> None:
    """Nothing is added, and nothing is lost."""
    for content in CONTENTS.values():
        assert content == b"".join(decompress([packed(content)], "dump.zst"))
