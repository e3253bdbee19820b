"""The stream there and back: every byte returns, and no damaged one gets through."""

import resource
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Condition, Event

import pytest

from reconciler.backups import pipeline
from reconciler.backups.manifest import Manifest, StoredObject
from reconciler.backups.part import CHUNK_BYTES
from reconciler.backups.pipeline import Tally, compress, decompress, heed, open_object, read_checked
from reconciler.errors import Corrupt, Full, Refused, Stopped
from reconciler.targets.local_target import LocalTarget
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import Blob, Stored, Target, no_identities
from reconciler.world.through import Through
from tests.backups.faking import MovedClock, make_world, manifest_of, take
from tests.faults.files import no_file_longer_than

PART = 1000
KEY = "hotel/backups/{}/dump.zst"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return LocalTarget("disk", tmp_path / "disk", clock=MovedClock())


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Some manifest; what it says of its objects is not looked at here."""
    world = make_world(tmp_path, MovedClock())
    return manifest_of(world, take(world))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PART_BYTES", PART)


def packed(raw: Iterable[bytes], *, level: int = 3, threads: int = 1) -> tuple[bytes, StoredObject]:
    """What is stored of that stream, and what a manifest says of it."""
    tally = Tally()
    stored = b"".join(tally.hash_stored(compress(tally.count_raw(raw, lambda _: None), level=level, threads=threads)))
    return stored, tally.result("dump.zst", "dump")


def as_stored(data: bytes, cut: int = 333) -> tuple[bytes, StoredObject]:
    """Bytes that are stored as they are: what parts are cut from needs no compression."""
    tally = Tally()
    pieces = (data[start : start + cut] for start in range(0, len(data), cut))
    return b"".join(tally.hash_stored(pieces)), tally.result("dump.zst", "dump")


CUT = 100


class Gated(Through):
    """Gives an object in small chunks, up to some byte until it is set free, and says how far it was asked."""

    def __init__(self, target: Target, stored: bytes, upto: int = 1 << 40) -> None:
        super().__init__(target)
        self._stored, self._upto = stored, upto
        self._asked = Condition()
        self.free, self.closed, self.given = Event(), False, 0

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        return Blob(Stored(key=key, size=len(self._stored), etag="1", modified=datetime.now(UTC)), self._chunks(), self._close)

    def _chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._stored), CUT):
            with self._asked:
                self.given = start + CUT
                self._asked.notify_all()
            if self.given > self._upto:
                assert self.free.wait(60)
            yield self._stored[start : start + CUT]

    def _close(self) -> None:
        self.closed = True

    def asked(self, byte: int) -> bool:
        """Whether somebody asked for it, sooner or later."""
        with self._asked:
            return self._asked.wait_for(lambda: self.given >= byte, 60)


class CountingHash:
    """SHA-256 that tells how many bytes went in, over all of them together."""

    def __init__(self, seen: list[int]) -> None:
        self._seen, self._hash = seen, sha256()

    def update(self, data: memoryview) -> None:
        self._seen.append(len(data))
        self._hash.update(data)

    def copy(self) -> "CountingHash":
        other = CountingHash(self._seen)
        other._hash = self._hash.copy()
        return other

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def put(target: Target, manifest: Manifest, data: bytes) -> None:
    target.write(KEY.format(manifest.id), [data])


class TestThereAndBack:
    @pytest.mark.parametrize("level", [1, 3, 19])
    @pytest.mark.parametrize("threads", [0, 1, 3])
    @pytest.mark.parametrize("raw", [b"", b"x", bytes(50_000), secrets.token_bytes(50_000), b"hotel " * 9_000])
    def test_every_byte_returns(self, target: Target, manifest: Manifest, raw: bytes, level: int, threads: int) -> None:
        """Nothing, one byte, zeros, what can't be compressed: at any level, by any number of threads."""
        pieces = [raw[start : start + 7000] for start in range(0, len(raw), 7000)]
        stored, described = packed(pieces, level=level, threads=threads)
        put(target, manifest, stored)

        assert raw == b"".join(open_object(target, manifest, described, identities=no_identities))
        assert (len(raw), len(stored)) == (described.raw_bytes, described.stored_bytes)

    @pytest.mark.usefixtures("small_parts")
    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 7 * PART + 500])
    @pytest.mark.parametrize("cut", [1, 333, PART, PART + 1, 5 * PART])
    def test_parts_are_ranges_whatever_the_chunks_were(self, target: Target, manifest: Manifest, size: int, cut: int) -> None:
        """Full ones, and a shorter last one; never an empty one but of nothing."""
        data = secrets.token_bytes(size)
        stored, described = as_stored(data, cut)
        put(target, manifest, stored)

        parts = [part.size for part in described.parts]
        assert [PART] * (size // PART) + ([size % PART] if size % PART or not size else []) == parts
        assert data == b"".join(read_checked(target, manifest, described))

    @pytest.mark.usefixtures("small_parts")
    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
    @pytest.mark.parametrize("cut", [333, 5 * PART])
    def test_the_whole_and_each_part_have_their_hashes(self, size: int, cut: int) -> None:
        """As anybody would compute them."""
        data = secrets.token_bytes(size)
        _, described = as_stored(data, cut)

        assert sha256(data).hexdigest() == described.sha256
        parts = [data[start : start + PART] for start in range(0, max(size, 1), PART)]
        assert [sha256(part).hexdigest() for part in parts] == [part.sha256 for part in described.parts]

    @pytest.mark.usefixtures("small_parts")
    @pytest.mark.parametrize(("size", "hashed"), [(PART - 1, PART - 1), (PART, PART), (3 * PART + 7, 5 * PART + 14)])
    def test_what_has_one_part_is_hashed_once(self, monkeypatch: pytest.MonkeyPatch, size: int, hashed: int) -> None:
        """A first part's hash is that of all there is so far: most files of a directory archive have no second one."""
        seen: list[int] = []
        monkeypatch.setattr(pipeline, "sha256", lambda: CountingHash(seen))
        as_stored(secrets.token_bytes(size))

        assert hashed == sum(seen)

    def test_chunks_of_no_bytes_are_no_end(self) -> None:
        """Neither on the way there nor on the way back."""
        stored, described = packed([b"", b"ab", b"", b"", b"c", b""])
        pieces: Iterator[bytes] = (piece for byte in stored for piece in (b"", bytes([byte])))

        assert 3 == described.raw_bytes
        assert b"abc" == b"".join(decompress(pieces, "it"))

    @pytest.mark.skipif(shutil.which("zstd") is None, reason="the zstd program is not on this machine")
    @pytest.mark.parametrize("raw", [b"", b"hotel " * 9_000, secrets.token_bytes(300_000)])
    def test_the_real_program_reads_it(self, tmp_path: Path, raw: bytes) -> None:
        """One frame with its size left open and a checksum that the program checks."""
        stored, _ = packed([raw], threads=2)
        (tmp_path / "dump.zst").write_bytes(stored)

        found = subprocess.run(["zstd", "-d", "-c", tmp_path / "dump.zst"], capture_output=True, check=True, timeout=60)  # noqa: S607
        assert raw == found.stdout


class TestMemory:
    def test_zeros_come_back_in_small_chunks(self) -> None:
        """200 MB of zeros are a few kB stored: they must not all come out at once."""
        stored, described = packed(bytes(CHUNK_BYTES) for _ in range(200))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sizes = [len(chunk) for chunk in decompress([stored], "zeros")]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        assert described.stored_bytes < CHUNK_BYTES
        assert 200 * CHUNK_BYTES == sum(sizes)
        assert max(sizes) <= CHUNK_BYTES
        assert (after - before) * 1024 < 50 * CHUNK_BYTES


class TestKeptOnDisk:
    @pytest.mark.usefixtures("small_parts")
    @pytest.mark.parametrize("size", [0, 1, PART, 7 * PART + 500])
    def test_every_byte_returns(self, target: Target, manifest: Manifest, size: int, tmp_path: Path) -> None:
        """From files that have no name, and are gone."""
        data = secrets.token_bytes(size)
        stored, described = as_stored(data)
        put(target, manifest, stored)
        folder = tmp_path / "beside"
        folder.mkdir()

        out = b""
        for piece in read_checked(target, manifest, described, beside=folder):
            out += piece
            assert [] == list(folder.iterdir())

        assert data == out

    @pytest.mark.usefixtures("small_parts")
    def test_the_next_part_is_read_while_one_is_used(self, target: Target, manifest: Manifest, tmp_path: Path) -> None:
        """And no further: a part more at a time is on the disk, not the whole."""
        stored, described = as_stored(secrets.token_bytes(4 * PART))
        source = Gated(target, stored)
        pieces = read_checked(source, manifest, described, beside=tmp_path)

        first = next(pieces)
        assert source.asked(2 * PART)
        assert stored[:PART] == first
        assert source.given <= 2 * PART
        assert stored[PART:] == b"".join(pieces)

    @pytest.mark.usefixtures("small_parts")
    def test_giving_up_waits_for_no_more_than_a_chunk(
        self, target: Target, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody reads from the store any more once it is over."""
        over = Event()
        monkeypatch.setattr(pipeline, "Event", lambda: over)
        stored, described = as_stored(secrets.token_bytes(4 * PART))
        source = Gated(target, stored, upto=PART + 1)
        pieces = read_checked(source, manifest, described, beside=tmp_path)
        next(pieces)
        assert source.asked(PART + CUT)

        givers_up = ThreadPool(1).submit(pieces.close)
        assert over.wait(60)
        source.free.set()
        givers_up.result(60)

        assert [True, PART + CUT] == [source.closed, source.given]

    def test_the_disk_is_full(self, target: Target, manifest: Manifest, tmp_path: Path) -> None:
        """Said of the disk, and never of the backup."""
        stored, described = as_stored(bytes(20_000))
        put(target, manifest, stored)

        with pytest.raises(Full, match="cannot keep a part of a backup in"), no_file_longer_than(4096):
            list(read_checked(target, manifest, described, beside=tmp_path))

    def test_no_such_folder(self, target: Target, manifest: Manifest, tmp_path: Path) -> None:
        """A sentence."""
        stored, described = as_stored(bytes(20_000))
        put(target, manifest, stored)

        with pytest.raises(Refused, match="cannot keep a part of a backup in"):
            list(read_checked(target, manifest, described, beside=tmp_path / "nowhere"))


@pytest.mark.usefixtures("small_parts")
class TestDamage:
    DATA = bytes(number % 251 for number in range(3 * PART + 10))

    @pytest.fixture(params=["memory", "disk"], autouse=True)
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """Where parts lie until they were checked."""
        self.beside = tmp_path if request.param == "disk" else None

    def read(self, target: Target, manifest: Manifest, described: StoredObject) -> tuple[bytes, str]:
        """What came out before it failed, and how it failed."""
        out: list[bytes] = []
        with pytest.raises(Corrupt) as caught:
            out.extend(read_checked(target, manifest, described, beside=self.beside))
        return b"".join(out), caught.value.what

    @pytest.mark.parametrize("at", [0, 1, PART - 1, PART, 2 * PART + 500, 3 * PART, 3 * PART + 9])
    def test_one_bit_anywhere(self, target: Target, manifest: Manifest, at: int) -> None:
        """Its part is named, and no byte of that part comes out."""
        stored, described = as_stored(self.DATA)
        put(target, manifest, stored[:at] + bytes([stored[at] ^ 4]) + stored[at + 1 :])
        out, what = self.read(target, manifest, described)

        assert stored[: at // PART * PART] == out
        assert f"dump.zst, part {at // PART + 1} of 4: the bytes are not those that were written" in what

    @pytest.mark.parametrize("length", [0, 1, PART, 3 * PART, 3 * PART + 9])
    def test_cut_short(self, target: Target, manifest: Manifest, length: int) -> None:
        """Whether or not between two parts."""
        stored, described = as_stored(self.DATA)
        put(target, manifest, stored[:length])
        out, what = self.read(target, manifest, described)

        assert stored[: length // PART * PART] == out
        assert f"part {length // PART + 1} of 4" in what

    def test_swapped_parts(self, target: Target, manifest: Manifest) -> None:
        """Each has its place."""
        stored, described = as_stored(self.DATA)
        put(target, manifest, stored[PART : 2 * PART] + stored[:PART] + stored[2 * PART :])

        assert b"" == self.read(target, manifest, described)[0]

    def test_longer_than_it_was(self, target: Target, manifest: Manifest) -> None:
        """What was put behind it is noticed, too late for the bytes before it, in time for the restore's end."""
        stored, described = as_stored(self.DATA)
        put(target, manifest, stored + b"x")

        assert "longer than its manifest says" in self.read(target, manifest, described)[1]


class TestDamageBehindTheHashes:
    """The hashes fit, and it is wrong all the same: as when it was written wrong."""

    def spoilt(self, target: Target, manifest: Manifest, data: bytes, raw_bytes: int) -> Iterator[bytes]:
        tally = Tally()
        put(target, manifest, b"".join(tally.hash_stored([data])))
        tally.raw_bytes = raw_bytes
        return open_object(target, manifest, tally.result("dump.zst", "dump"), identities=no_identities)

    def test_no_frame_at_all(self, target: Target, manifest: Manifest) -> None:
        """Zstd's own refusal is told in our words."""
        with pytest.raises(Corrupt, match="not what zstd wrote"):
            list(self.spoilt(target, manifest, b"plain text", 10))

    def test_a_frame_without_its_end(self, target: Target, manifest: Manifest) -> None:
        """Its own blocks tell, also where nobody knows the length."""
        stored, _ = packed([secrets.token_bytes(5000)])
        with pytest.raises(Corrupt, match="ends in the middle"):
            list(self.spoilt(target, manifest, stored[:-2000], 5000))

    def test_a_frame_whose_content_differs(self, target: Target, manifest: Manifest) -> None:
        """Zstd's checksum tells."""
        stored, _ = packed([secrets.token_bytes(5000)])
        with pytest.raises(Corrupt):
            list(self.spoilt(target, manifest, stored[:2000] + bytes([stored[2000] ^ 1]) + stored[2001:], 5000))

    def test_something_behind_the_frame(self, target: Target, manifest: Manifest) -> None:
        """More than one frame is not what we write."""
        stored, _ = packed([b"hotel"])
        with pytest.raises(Corrupt):
            list(self.spoilt(target, manifest, stored + secrets.token_bytes(3 * CHUNK_BYTES), 5))

    def test_longer_on_the_target_than_its_manifest_says(self, target: Target, manifest: Manifest) -> None:
        """Though zstd is content with what comes before."""
        stored, described = packed([b"hotel"])
        put(target, manifest, stored + b"x")
        with pytest.raises(Corrupt, match="longer than its manifest says"):
            list(open_object(target, manifest, described, identities=no_identities))


def test_a_stop_is_heeded_between_two_chunks() -> None:
    """What came before it has passed."""
    stop = Event()
    chunks = heed(stop, iter([b"1", b"2", b"3"]))

    assert b"1" == next(chunks)
    stop.set()
    with pytest.raises(Stopped):
        next(chunks)


def test_what_the_producer_raises_goes_through() -> None:
    """No end of frame is written after a failure."""

    def dying() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError("the producer's own")

    with pytest.raises(OSError, match="the producer's own"):
        list(compress(dying(), level=3, threads=2))
