"""What every target promises, run over each by naming it in the fixture `target`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.errors import Absent, Conflict, Locked, ReconcilerError, Refused
from reconciler.world.ports import ABSENT, Target, Upload, custody_of

MANIFEST = "hotel/backups/20251025T020000Z-3f9c2a/manifest.json"


def content(target: Target, key: str, start: int = 0) -> bytes:
    with target.read(key, start=start) as blob:
        return b"".join(blob)


def keys(target: Target, prefix: str = "") -> list[str]:
    return [item.key for item in target.list(prefix).items]


class TestWriteAndRead:
    def test_what_was_written_is_read_back(self, target: Target) -> None:
        """All chunks come back, joined, and the object is described alike by write, list and read."""
        written = target.write(MANIFEST, [b"one ", b"", b"two"])

        assert b"one two" == content(target, MANIFEST)
        assert (MANIFEST, 7) == (written.key, written.size)
        (listed,) = target.list("hotel/", versions=True).items
        assert (written.key, written.size, written.etag, written.version) == (
            listed.key,
            listed.size,
            listed.etag,
            listed.version,
        )
        with target.read(MANIFEST) as blob:
            assert (written.key, written.size, written.etag) == (blob.stored.key, blob.stored.size, blob.stored.etag)

    def test_a_plain_listing_tells_of_no_versions(self, target: Target) -> None:
        """So whoever binds something to a content must list as whoever looks for it does."""
        for content_ in (b"one", b"two"):
            target.write(MANIFEST, [content_])

        assert [(MANIFEST, None)] == [(item.key, item.version) for item in target.list("hotel/").items]

    def test_what_is_to_be_kept_is_written_like_anything_else(self, target: Target) -> None:
        """A store that can't lock, or wasn't asked to, takes no offence."""
        target.write("hotel/x", [b"kept"], keep_until=datetime.now(UTC) + timedelta(hours=1))

        assert b"kept" == content(target, "hotel/x")

    def test_an_empty_object_is_an_object(self, target: Target) -> None:
        """No bytes at all are stored and read back as such."""
        target.write("hotel/empty", [])

        assert b"" == content(target, "hotel/empty")
        assert ["hotel/empty"] == keys(target)

    @pytest.mark.parametrize("start", [0, 1, 3, 6, 7, 100])
    def test_reading_from_the_middle(self, target: Target, start: int) -> None:
        """Reading begins at the asked byte; at the end or beyond there are no bytes."""
        target.write("hotel/part", [b"0123456"])

        assert b"0123456"[start:] == content(target, "hotel/part", start)

    def test_a_stream_longer_than_one_part(self, target: Target) -> None:
        """A stream of 20 MiB in odd chunks arrives byte for byte, and the middle of it can be read."""
        chunk = bytes(range(256)) * 1021
        target.write("hotel/long", (chunk for _ in range(80)))

        assert chunk * 80 == content(target, "hotel/long")
        assert (chunk * 80)[15_000_000:] == content(target, "hotel/long", 15_000_000)
        assert () == tuple(target.unfinished(""))

    def test_one_chunk_larger_than_a_part(self, target: Target) -> None:
        """A chunk of 17 MiB is not too much for one step."""
        chunk = bytes(range(256)) * 4 * 1024 * 17
        target.write("hotel/lump", [chunk])

        assert chunk == content(target, "hotel/lump")

    def test_keys_with_odd_letters(self, target: Target) -> None:
        """Spaces, percent signs, plus, letters beyond ASCII are letters like others."""
        odd = "hotel/a b+c%20d&e=f?#/ñandú-☃.json"
        target.write(odd, [b"x"])

        assert [odd] == keys(target, "hotel/a b")
        assert b"x" == content(target, odd)

    @pytest.mark.parametrize("key", ["", "../x", "/x", "a//b", "a/./b", "a/", "a\0b"])
    def test_what_is_no_key(self, target: Target, key: str) -> None:
        """A name that could mean another place in some store is refused by all of them."""
        for use in (lambda: target.read(key), lambda: target.write(key, [b"x"]), lambda: target.delete(key)):
            with pytest.raises(Refused, match="is no key"):
                use()

    def test_reading_what_is_not_there(self, target: Target) -> None:
        """Absent is said as such, whether or not anything is near."""
        target.write("hotel/there/x", [b"x"])

        for key in ("nowhere", "hotel/there/y", "hotel/there", "hotel/there/x/below"):
            with pytest.raises(Absent):
                content(target, key)

    def test_a_reader_keeps_what_it_opened(self, target: Target) -> None:
        """Overwriting and deleting during a read does not mix two contents."""
        target.write("hotel/x", [b"a" * 3_000_000])
        with target.read("hotel/x") as blob:
            chunks = iter(blob)
            first = next(chunks)
            target.write("hotel/x", [b"b" * 3_000_000])

            assert {ord("a")} == set(first)
            assert set(b"".join(chunks)) in ({ord("a")}, set())


class TestList:
    def test_nothing_there_is_an_empty_listing(self, target: Target) -> None:
        """Before the first write there is nothing, and that is no error."""
        assert () == target.list("").items
        assert () == target.list("hotel/").items
        assert () == tuple(target.unfinished(""))

    def test_order_and_prefix(self, target: Target) -> None:
        """Items are ordered by key; a prefix is letters, not folders."""
        for key in ("hotel/b", "hotel/a/z", "hotel-annex/a", "hotel/a.json", "reservas/x", "hotel/a/y"):
            target.write(key, [b"x"])

        assert ["hotel/a.json", "hotel/a/y", "hotel/a/z", "hotel/b"] == keys(target, "hotel/")
        assert ["hotel-annex/a", "hotel/a.json", "hotel/a/y", "hotel/a/z", "hotel/b"] == keys(target, "hotel")
        assert ["hotel/a.json", "hotel/a/y", "hotel/a/z"] == keys(target, "hotel/a")
        assert [] == keys(target, "hotel/a/y/")
        assert [] == keys(target, "otel")

    def test_the_store_tells_its_time(self, target: Target) -> None:
        """The store's clock is aware, in UTC, and (here) about ours; so is an object's."""
        target.write("hotel/x", [b"x"])
        listing = target.list("")

        for instant in (listing.store_time, listing.items[0].modified):
            assert timedelta(0) == instant.utcoffset()
            assert abs(datetime.now(UTC) - instant) < timedelta(seconds=60)


class TestConditions:
    def test_only_where_there_is_nothing(self, target: Target) -> None:
        """ABSENT writes once; the second changes nothing."""
        target.write("hotel/lease", [b"mine"], expect=ABSENT)

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"yours"], expect=ABSENT)
        assert b"mine" == content(target, "hotel/lease")

    def test_only_over_that_very_content(self, target: Target) -> None:
        """An ETag lets one overwrite through; the old one is then worth nothing."""
        first = target.write("hotel/lease", [b"1"])
        second = target.write("hotel/lease", [b"2"], expect=first.etag)

        assert b"2" == content(target, "hotel/lease")
        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"3"], expect=first.etag)
        assert b"2" == content(target, "hotel/lease")
        assert second.etag == target.list("hotel/").items[0].etag

    def test_over_what_is_gone(self, target: Target) -> None:
        """An ETag of something deleted writes nothing."""
        first = target.write("hotel/lease", [b"1"])
        target.delete("hotel/lease")

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"2"], expect=first.etag)
        assert [] == keys(target)

    def test_absent_again_after_a_deletion(self, target: Target) -> None:
        """What was deleted may be written if-absent again."""
        target.write("hotel/lease", [b"1"], expect=ABSENT)
        target.delete("hotel/lease")
        target.write("hotel/lease", [b"2"], expect=ABSENT)

        assert b"2" == content(target, "hotel/lease")

    def test_a_long_stream_where_something_is(self, target: Target) -> None:
        """The condition holds for streams of several parts too, and nothing of the loser is left."""
        target.write("hotel/dump", [b"first"])

        with pytest.raises(Conflict):
            target.write("hotel/dump", (b"x" * 1_000_000 for _ in range(12)), expect=ABSENT)
        assert b"first" == content(target, "hotel/dump")
        assert () == tuple(target.unfinished(""))

    def test_quick_writes_of_equal_size_differ(self, target: Target) -> None:
        """Each content has its own ETag, however quickly one follows the other."""
        contents = [f"{number:03d}".encode() for number in range(30)]
        etags = {target.write("hotel/counter", [each]).etag for each in contents}

        assert 30 == len(etags)

    def test_of_eight_writers_one_wins(self, target: Target) -> None:
        """If-absent from eight threads: one write succeeds, seven get Conflict, and the winner's bytes are there."""

        def attempt(number: int) -> int | None:
            try:
                target.write("hotel/race", [str(number).encode() * 1000], expect=ABSENT)
            except Conflict:
                return None
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(attempt, range(8)) if number is not None]

        assert 1 == len(winners)
        assert str(winners[0]).encode() * 1000 == content(target, "hotel/race")


class TestFailedStreams:
    @pytest.mark.parametrize("megabytes", [0, 1, 20])
    def test_a_producer_that_dies(self, target: Target, megabytes: int) -> None:
        """Its exception goes through, nothing is stored, and what was there stays."""
        target.write("hotel/dump", [b"old"])

        def dying() -> Iterator[bytes]:
            for _ in range(megabytes):
                yield b"x" * 1_000_000
            raise OSError(28, "the producer's own")

        with pytest.raises(OSError, match="the producer's own") as caught:
            target.write("hotel/dump", dying())

        assert not isinstance(caught.value, ReconcilerError)
        assert b"old" == content(target, "hotel/dump")
        assert ["hotel/dump"] == keys(target)
        assert () == tuple(target.unfinished(""))

    def test_an_interrupt_in_mid_stream(self, target: Target) -> None:
        """Ctrl-C between two chunks is no different."""

        def interrupted() -> Iterator[bytes]:
            yield b"x" * 9_000_000
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            target.write("hotel/dump", interrupted(), expect=ABSENT)

        assert [] == keys(target)
        assert () == tuple(target.unfinished(""))


class TestUnfinished:
    def test_a_write_in_progress_is_seen_and_can_be_aborted(self, target: Target) -> None:
        """It is not listed as an object; aborting frees it, and its writer fails without storing anything."""
        if not custody_of(target).shows_unfinished:
            pytest.skip("this store shows nobody what was begun")
        seen: list[Upload] = []

        def watched() -> Iterator[bytes]:
            for _ in range(20):
                yield b"x" * 1_000_000
            assert [] == keys(target)
            seen.extend(target.unfinished("hotel/"))
            for upload in seen:
                target.abort(upload)
            yield b"y" * 9_000_000

        with pytest.raises(ReconcilerError):
            target.write(MANIFEST, watched())

        assert [MANIFEST] == [upload.key for upload in seen]
        assert abs(datetime.now(UTC) - seen[0].begun) < timedelta(seconds=60)
        assert [] == keys(target)
        assert () == tuple(target.unfinished(""))
        target.abort(seen[0])


class TestDelete:
    def test_deleted_is_gone_and_its_neighbours_stay(self, target: Target) -> None:
        """One key is removed, no more."""
        target.write("hotel/a/x", [b"x"])
        target.write("hotel/a/xy", [b"y"])
        target.delete("hotel/a/x")

        assert ["hotel/a/xy"] == keys(target)

    def test_deleting_what_is_not_there(self, target: Target) -> None:
        """Is fine, and again; a folder is not an object."""
        target.write("hotel/a/x", [b"x"])
        for key in ("nothing", "hotel/a", "hotel/a/x/below"):
            target.delete(key)
            target.delete(key)

        assert ["hotel/a/x"] == keys(target)

    def test_a_version_is_deleted_alone(self, target: Target) -> None:
        """Where versions are kept, deleting one by its id leaves the others; elsewhere there are none."""
        target.write("hotel/x", [b"1"])
        target.write("hotel/x", [b"2"])
        before = target.list("", versions=True).items
        target.delete("hotel/x", version=before[-1].version or "none")

        assert b"2" == content(target, "hotel/x")
        assert before[: 1 + 1 - target.versioned] == target.list("", versions=True).items[: 1 + 1 - target.versioned]


class TestLocks:
    """Of those that keep what they are asked to keep."""

    def test_a_locked_version_stays(self, locking: Target) -> None:
        """Its deletion is refused with the date, and it is read as before."""
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
        stored = locking.write(MANIFEST, [b"kept"], keep_until=until)

        with pytest.raises(Locked) as caught:
            locking.delete(MANIFEST, version=stored.version)
        assert until == caught.value.until
        assert b"kept" == content(locking, MANIFEST)

    def test_a_marker_hides_it(self, locking: Target) -> None:
        """The version is there all the same, and comes back with the marker's end."""
        stored = locking.write(MANIFEST, [b"kept"], keep_until=datetime.now(UTC) + timedelta(hours=1))
        locking.delete(MANIFEST)
        (marker, kept) = locking.list("hotel/", versions=True).items

        assert [] == keys(locking)
        assert (True, stored.version) == (marker.marker, kept.version)
        locking.delete(MANIFEST, version=marker.version)
        assert b"kept" == content(locking, MANIFEST)

    def test_what_is_written_plainly_is_not_locked(self, locking: Target) -> None:
        """Leases go."""
        stored = locking.write("hotel/lease-keep.json", [b"1"])
        locking.delete("hotel/lease-keep.json", version=stored.version)

        assert () == locking.list("", versions=True).items

    def test_a_date_that_has_passed(self, locking: Target) -> None:
        """Nothing is written that was to be kept and would not be."""
        with pytest.raises(Refused):
            locking.write(MANIFEST, [b"kept"], keep_until=datetime.now(UTC) - timedelta(hours=1))
        assert [] == keys(locking)
