"""Reading a catalogue: whole or not at all, each manifest once, and never the worse for its cache."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec import json, structs

from reconciler.backups.catalogue import MARKED
from reconciler.backups.evidence import read_chain
from reconciler.backups.layout import MANIFEST, evidence_key, object_key
from reconciler.backups.manifest import decode_record, encode
from reconciler.errors import Corrupt, Unreachable
from reconciler.simulation.signing import public
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.telling import Telling
from reconciler.world.cache import FileCache
from reconciler.world.evidence import Chain, Evidence
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import Blob, Listing, Signatures, World
from tests.backups.faking import Counting, MemoryCache, MovedClock, bury, catalogue, make_world, manifest_of, silent, states, take
from tests.building import HOUR, MINUTE, NOW, copy, evidence


class Seen:
    """A world whose target counts what is read of it, and that lost or kept its cache."""

    def __init__(self, folder: Path) -> None:
        self.clock = MovedClock()
        self.target = Counting(LocalTarget("primary", folder / "primary", clock=self.clock))
        self.folder = folder
        self.cache = FileCache(folder / "cache")
        self.world = make_world(folder, self.clock, targets={"primary": self.target}, cache=self.cache)
        first = take(self.world)
        self.clock.move(HOUR)
        self.ids = {first, take(self.world, repository=manifest_of(self.world, first).repository)}
        self.target.keys_read.clear()

    def again(self) -> World:
        """As another process meets it."""
        return make_world(self.folder, self.clock, targets={"primary": self.target}, cache=FileCache(self.folder / "cache"))

    def manifests_read(self) -> int:
        """Since the last time it was asked."""
        read = sum(key.endswith("manifest.json") for key in self.target.keys_read)
        self.target.keys_read.clear()
        return read

    def cached(self) -> list[Path]:
        return sorted((self.folder / "cache").iterdir())


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    return Seen(tmp_path)


def test_manifests_are_read_once(seen: Seen) -> None:
    """Over as many looks as there are, and over processes, while there is a cache."""
    for _ in range(3):
        assert {"whole"} == set(states(seen.world).values())
    states(seen.again())

    assert 0 == seen.manifests_read()
    for file in seen.cached():
        file.unlink()
    states(seen.again())
    assert 2 == seen.manifests_read()


def test_an_unchanged_target_costs_a_listing(seen: Seen) -> None:
    """Nothing else is read of it, once a process has seen it, but whose it is: a listing may be older than that."""
    states(seen.world)
    seen.target.keys_read.clear()

    assert {"whole"} == set(states(seen.world).values())
    assert ["hotel/repository.json"] == seen.target.keys_read


def test_a_manifest_that_changed_is_read_again(seen: Seen) -> None:
    """Its ETag differs, so the cache knows nothing of it."""
    one = min(seen.ids)
    seen.target.write(object_key("hotel", one, "manifest.json"), [b"garbage"])

    assert "damaged" == states(seen.world)[one]


@pytest.mark.parametrize("text", [b"", b"0", b"garbage", b"\x00" * 500])
def test_a_torn_cache_is_as_none(seen: Seen, text: bytes) -> None:
    """It is read afresh, and mended."""
    for file in seen.cached():
        file.write_bytes(text)

    assert {"whole"} == set(states(seen.world).values())
    assert 2 == seen.manifests_read()
    states(seen.world)
    assert 0 == seen.manifests_read()


@pytest.mark.parametrize("text", [b"", b"[]", b'{"format": 1}', b'{"format": 99}', b'{"format": 1, "id": "another"}'])
def test_a_poisoned_cache_hides_nothing(seen: Seen, text: bytes) -> None:
    """A text under a right hash that is no manifest of that backup: what the target holds decides."""
    poison(seen, text)

    assert {"whole"} == set(states(seen.world).values())


def test_the_manifest_of_another_in_the_cache_hides_nothing(seen: Seen) -> None:
    """Two swapped entries neither swap the backups nor damage them."""
    texts = [seen.target.read(object_key("hotel", each, "manifest.json")) for each in sorted(seen.ids)]
    poison(seen, b"".join(texts[0]))

    assert {"whole"} == set(states(seen.world).values())


def poison(seen: Seen, text: bytes) -> None:
    """Put it in the place of each cached manifest, under its right hash."""
    for file in seen.cached():
        file.write_bytes(sha256(text).hexdigest().encode() + b"\n" + text)


def test_a_cache_that_can_be_neither_read_nor_written_hurts_nobody(seen: Seen) -> None:
    """A file stands where its folder should be."""
    (seen.folder / "in the way").write_bytes(b"")
    world = make_world(
        seen.folder, seen.clock, targets={"primary": seen.target}, cache=FileCache(seen.folder / "in the way" / "cache")
    )

    assert {"whole"} == set(states(world).values())


class Asked(MemoryCache):
    """Knows how often it was asked."""

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        super().__init__(texts)
        self.times = 0

    def get(self, key: str) -> bytes | None:
        self.times += 1
        return super().get(key)


def test_many_backups_that_are_as_they_were(tmp_path: Path) -> None:
    """Another look costs a listing and a few texts of the cache, however many there are; the first of a process a text more."""
    cache, clock = Asked(), MovedClock()
    world = make_world(tmp_path, clock, cache=cache)
    taken = [take(world)]
    for _ in range(30):
        clock.move(MINUTE)
        taken.append(take(world, repository=manifest_of(world, taken[0]).repository))
    before = states(world)

    cache.times = 0
    assert before == states(world) == dict.fromkeys(taken, "whole")
    assert MARKED >= cache.times

    another = Asked(cache.texts)
    assert before == states(make_world(tmp_path, clock, cache=another))
    assert 1 + MARKED >= another.times


def test_what_is_no_longer_listed_is_forgotten(seen: Seen) -> None:
    """With the next backup of its month, and what is listed still is known."""
    (month,) = [file for file in seen.cached() if b"gists" in file.read_bytes()]
    one, other = sorted(seen.ids)
    assert one in month.read_text()
    for name in ("manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"):
        seen.target.delete(object_key("hotel", one, name))
    seen.clock.move(HOUR)
    take(seen.world, repository=manifest_of(seen.world, other).repository)

    assert [False, True] == [backup in month.read_text() for backup in (one, other)]


def test_the_gists_of_another_target(seen: Seen) -> None:
    """One file of the cache in the place of another, under its right hash: what it tells is of other backups."""
    cache = MemoryCache()
    world = make_world(seen.folder, seen.clock, targets={"primary": seen.target}, cache=cache)
    states(world)
    (name,) = [key for key in cache.texts if key.startswith("gists")]
    lying = cache.texts[name].replace(b"primary", b"another").replace(b'"kind":"scheduled"', b'"kind":"manual"')
    another = MemoryCache(cache.texts | {name: lying})
    world = make_world(seen.folder, seen.clock, targets={"primary": seen.target}, cache=another)

    assert {manifest_of(world, backup).kind for backup in seen.ids} == {copy.kind for copy in catalogue(world).copies}
    assert lying != another.texts[name]


def test_a_gist_under_the_id_of_another(seen: Seen) -> None:
    """It is not believed."""
    cache = MemoryCache()
    world = make_world(seen.folder, seen.clock, targets={"primary": seen.target}, cache=cache)
    expected = catalogue(world).copies
    (name,) = [key for key in cache.texts if key.startswith("gists")]
    one, other = (backup.encode() for backup in sorted(seen.ids))
    swapped = cache.texts[name].replace(one, b"...").replace(other, one).replace(b"...", other)
    another = MemoryCache(cache.texts | {name: swapped})

    assert expected == catalogue(make_world(seen.folder, seen.clock, targets={"primary": seen.target}, cache=another)).copies


def test_keys_that_are_pinned_later(seen: Seen) -> None:
    """What the cache knows of a manifest vouches for nothing: nobody signed it."""
    pinned = structs.replace(seen.world, signatures=Signatures(public_keys=(public(),)))

    for world in (seen.world, pinned):
        states(world)
    assert {"foreign"} == set(states(pinned).values())


def test_one_object_out_of_reach_makes_the_whole_unknown(seen: Seen) -> None:
    """A catalogue with a hole would let somebody take what is not seen for absent."""

    class Patchy(Telling):
        def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
            if key.endswith(f"{max(seen.ids)}/manifest.json"):
                raise Unreachable("no answer")
            return super().read(key, start=start, version=version)

    world = make_world(seen.folder, seen.clock, targets={"primary": Patchy(seen.target, silent)}, pool=ThreadPool(4))

    with pytest.raises(Unreachable):
        catalogue(world)


def test_a_torn_repository_record_makes_the_whole_unknown(seen: Seen) -> None:
    """Whose catalogue it is can't be guessed."""
    seen.target.write("hotel/repository.json", [b"{"])

    with pytest.raises(Corrupt):
        catalogue(seen.world)


def test_what_goes_away_between_listing_and_reading(seen: Seen) -> None:
    """Is no fault of the whole: the others are told of as they are."""
    one = min(seen.ids)

    class Vanishing(Telling):
        def list(self, prefix: str, *, versions: bool = False) -> Listing:
            listing = super().list(prefix, versions=versions)
            for name in ("manifest.json", "dump.zst"):
                self._target.delete(object_key("hotel", one, name))
            return listing

    world: World = make_world(seen.folder, seen.clock, targets={"primary": Vanishing(seen.target, silent)})
    found = {copy.id: copy for copy in catalogue(world).copies}

    assert "whole" == found[max(seen.ids)].state
    assert ("damaged", "the manifest went away while we looked") == (found[one].state, found[one].why)


@pytest.mark.parametrize("told", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_an_instant_at_the_end_of_the_calendar(seen: Seen, told: str) -> None:
    """Nothing can be reckoned from it, so whoever writes it into a record stops no turn: the record can't be read."""
    backup = min(seen.ids)
    key = object_key("hotel", backup, MANIFEST)
    text = json.decode(b"".join(seen.target.read(key))) | {"instant": told}
    seen.target.write(key, [json.encode(text)])
    proof = json.decode(encode(evidence(copy(NOW)))) | {"expires": told}

    assert "damaged" == states(seen.world)[backup]
    with pytest.raises(Corrupt, match="expires tells"):
        decode_record(json.encode(proof), Evidence, "the evidence")


def test_evidence_is_hashed_once(tmp_path: Path) -> None:
    """While the listing shows the same, neither target nor cache is asked for it again; what is new is met at the next look."""
    target = Counting(LocalTarget("primary", tmp_path / "primary", clock=MovedClock()))
    asked: list[str] = []

    class Asked(MemoryCache):
        def get(self, key: str) -> bytes | None:
            asked.append(key)
            return super().get(key)

    cache = Asked()
    keys = [evidence_key("hotel", number) for number in (1, 2)]

    def look() -> Chain:
        items = target.list("hotel/evidence/").items
        asked.clear()
        target.keys_read.clear()
        return read_chain(target, items, cache)

    target.write(keys[0], [encode(first := evidence(copy(NOW)))])
    look()
    assert (first,) == look().records
    assert ([], []) == (asked, target.keys_read)
    second = structs.replace(first, sequence=2, before=sha256(encode(first)).hexdigest())
    target.write(keys[1], [encode(second)])
    found = look()
    assert (first, second) == found.records
    assert () == found.faults
    assert [keys[1]] == target.keys_read
    target.write(keys[0], [b"garbage"])
    assert 2 == len(look().faults)
    look()
    assert asked


def test_what_was_whole_does_not_stay_so_by_itself(seen: Seen) -> None:
    """What is remembered of it holds for its repository, until our clock is set back to before it was, or a grace is over."""
    assert {"whole"} == set(states(seen.world).values())
    seen.clock.move(-3 * HOUR)
    assert {"impossible"} == set(states(seen.world).values())
    seen.clock.move(3 * HOUR)
    assert {"whole"} == set(states(seen.world).values())

    bury(seen.world, max(seen.ids), seen.clock.now() + HOUR)
    for _ in range(2):
        assert {"whole", "deleted"} == set(states(seen.world).values())
    seen.clock.move(HOUR)
    assert {"whole", "being_deleted"} == set(states(seen.world).values())

    record = seen.target.read("hotel/repository.json")
    seen.target.write("hotel/repository.json", [json.encode(json.decode(b"".join(record)) | {"id": "another"})])
    assert {"foreign"} == set(states(seen.world).values())


def test_whose_it_is_is_no_older_than_the_look(seen: Seen) -> None:
    """Where listings lag, too: what became another's is not deleted on the word of an old one."""

    class Lagging(Telling):
        def list(self, prefix: str, *, versions: bool = False) -> Listing:
            return old

    old = seen.target.list("hotel/")
    world = make_world(seen.folder, seen.clock, targets={"primary": Lagging(seen.target, silent)}, cache=MemoryCache())
    assert {"whole"} == set(states(world).values())
    record = json.decode(b"".join(seen.target.read("hotel/repository.json")))
    seen.target.write("hotel/repository.json", [json.encode(record | {"id": "another"})])

    assert {"foreign"} == set(states(world).values())
