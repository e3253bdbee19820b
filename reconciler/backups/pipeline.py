"""The stream between a dump and a target, both ways: compress, encrypt, tally; check each part before a byte of it is used."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import IO, cast

import msgspec
import zstandard

from reconciler.backups.encryption import decrypt, encrypt
from reconciler.backups.frame import Frame
from reconciler.backups.layout import AGE, object_key
from reconciler.backups.manifest import PART_BYTES, Content, Manifest, Part, StoredObject
from reconciler.backups.part import CHUNK_BYTES, Kept, one_ahead
from reconciler.errors import Corrupt, Stopped
from reconciler.world.ports import Identities, Target

MOST_THREADS = 4
"""Of zstd where nobody says how many: they are more than a dump keeps busy, and each holds about 10 MiB."""

Progress = Callable[[int], None]


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """How the objects of a backup are packed."""

    level: int
    threads: int
    recipients: tuple[str, ...] = ()
    """None: not encrypted."""

    def name(self, plain: str) -> str:
        """Of an object that is packed like this."""
        return plain + AGE if self.recipients else plain


class Tally:
    """Counts and hashes what passes. `raw` is before compression, the rest is what is stored."""

    def __init__(self) -> None:
        self.raw_bytes = 0
        self.stored_bytes = 0
        self._whole = sha256()
        self._part = sha256()
        self._part_bytes = 0
        self._parts: list[Part] = []

    def count_raw(self, chunks: Iterable[bytes], moved: Progress) -> Iterator[bytes]:
        """Passes the chunks on."""
        for chunk in chunks:
            self.raw_bytes += len(chunk)
            moved(self.raw_bytes)
            yield chunk

    def hash_stored(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Passes the chunks on, cut nowhere: parts are ranges, not objects."""
        for chunk in chunks:
            self._add(memoryview(chunk))
            yield chunk

    def _add(self, view: memoryview) -> None:
        self.stored_bytes += len(view)
        while view:
            piece = view[: PART_BYTES - self._part_bytes]
            self._part.update(piece)
            if self._parts:
                self._whole.update(piece)
            self._part_bytes += len(piece)
            view = view[len(piece) :]
            if self._part_bytes == PART_BYTES:
                self._close_part()

    def _close_part(self) -> None:
        if not self._parts:
            # So far the two are one, and are hashed once: most files of a directory archive have no second part.
            self._whole = self._part.copy()
        self._parts.append(Part(size=self._part_bytes, sha256=self._part.hexdigest()))
        self._part, self._part_bytes = sha256(), 0

    def result(self, name: str, content: Content) -> StoredObject:
        """Once the stream has ended."""
        if self._part_bytes or not self._parts:
            self._close_part()
        return StoredObject(
            name=name,
            content=content,
            stored_bytes=self.stored_bytes,
            sha256=self._whole.hexdigest(),
            raw_bytes=self.raw_bytes,
            parts=tuple(self._parts),
        )


def pack(chunks: Iterable[bytes], tally: Tally, packing: Packing, moved: Progress = lambda _: None) -> Iterator[bytes]:
    """What a target is to store, tallied on its way. What the chunks raise goes through."""
    packed = compress(tally.count_raw(chunks, moved), level=packing.level, threads=packing.threads)
    return tally.hash_stored(encrypt(packed, packing.recipients) if packing.recipients else packed)


def heed(stop: Event, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Passes the chunks on until we are asked to stop; then raises Stopped."""
    for chunk in chunks:
        if stop.is_set():
            raise Stopped("asked to stop")
        yield chunk


def compress(chunks: Iterable[bytes], *, level: int, threads: int) -> Iterator[bytes]:
    """One zstd frame with its content checksum. What the chunks raise goes through."""
    compressor = zstandard.ZstdCompressor(level=level, threads=_threads(threads), write_checksum=True)
    chunker = compressor.chunker(chunk_size=CHUNK_BYTES)
    for chunk in chunks:
        yield from chunker.compress(chunk)
    yield from chunker.finish()  # type: ignore[no-untyped-call]  # zstandard's stub forgot it


def _threads(asked: int) -> int:
    """As zstd counts them: 0 works in the caller's. Asked 0: one a core, up to a bound."""
    count = asked or min(os.cpu_count() or 1, MOST_THREADS)
    return 0 if count == 1 else count


def decompress(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The other way round, in chunks of bounded size however well they were compressed. Raises Corrupt for what zstd refuses.

    An end in the middle of the frame is refused too.
    """
    frame = Frame()
    source = _Pieces(frame.follow(chunks))
    reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], source), read_size=CHUNK_BYTES)
    try:
        while out := reader.read(CHUNK_BYTES):
            yield out
    except zstandard.ZstdError as error:
        raise Corrupt(f"{what}: not what zstd wrote: {error}") from error
    if not frame.ended:
        raise Corrupt(f"{what}: it ends in the middle of what zstd wrote", cure="use another copy of this backup")


def read_checked(
    target: Target,
    manifest: Manifest,
    stored: StoredObject,
    *,
    moved: Progress = lambda _: None,
    beside: Path | None = None,
) -> Generator[bytes, None, None]:
    """The object's bytes, each yielded only after the hash of its part was compared. Raises Corrupt, naming the part.

    One part is in memory at a time, whoever reads: it is handed on in small pieces. With `beside`, it lies in a file without a
    name in that folder instead, as it is stored, and the next one is read meanwhile. Raises Full or Refused where the folder
    can't take it.
    """
    key = object_key(manifest.database, manifest.id, stored.name)
    done, over = 0, Event()
    with target.read(key) as blob:
        source = _Pieces(heed(over, blob))
        parts = _checked_parts(source, stored.parts, f"{target.name}: {key}", beside)
        with closing(parts if beside is None else one_ahead(parts)) as checked:
            try:
                for part, kept in zip(stored.parts, checked, strict=True):
                    with closing(kept):
                        yield from kept.pieces()
                    done += part.size
                    moved(done)
                if source.read(1):
                    raise Corrupt(f"{target.name}: {key} is longer than its manifest says")
            finally:
                over.set()


def _checked_parts(source: "_Pieces", parts: Sequence[Part], what: str, beside: Path | None) -> Generator[Kept, None, None]:
    """Each to be closed by whoever gets it."""
    for number, part in enumerate(parts, start=1):
        with ExitStack() as failing:
            kept = failing.enter_context(Kept(beside))
            if not kept.take(source.read, part):
                where = f"{what}, part {number} of {len(parts)}"
                raise Corrupt(f"{where}: the bytes are not those that were written", cure="use another copy of this backup")
            failing.pop_all()
        yield kept


class _Pieces:
    """Chunks of any size, read in pieces that are no longer than asked for, and are views: no byte is copied."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, most: int) -> memoryview:
        """What is at hand, or comes next; empty at the end only."""
        if not self._rest:
            self._rest = memoryview(b"")  # or the last chunk would stay while the next one is fetched
            self._rest = memoryview(next((chunk for chunk in self._chunks if chunk), b""))
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


def open_object(
    target: Target,
    manifest: Manifest,
    stored: StoredObject,
    *,
    identities: Identities,
    moved: Progress = lambda _: None,
    beside: Path | None = None,
) -> Iterator[bytes]:
    """Read, checked, decrypted where it must be, and decompressed; the raw length compared at the end.

    `beside`: see `read_checked`. Raises Corrupt; NoKey where none of the identities opens it.
    """
    what = f"{target.name}: {stored.name} of {manifest.id}"
    total = 0
    checked: Iterator[bytes] = read_checked(target, manifest, stored, moved=moved, beside=beside)
    if stored.is_encrypted:
        checked = decrypt(checked, identities(), what)
    for chunk in decompress(checked, what):
        total += len(chunk)
        yield chunk
    # The decompressor asks for no more than its frame; what lies behind it must be checked too.
    if any(checked):
        raise Corrupt(f"{what}: there is more after the end of what zstd wrote")
    if total != stored.raw_bytes:
        raise Corrupt(f"{what}: {total} bytes came out instead of {stored.raw_bytes}")
