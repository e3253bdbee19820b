"""What stays in memory from one look to the next: as long as nothing changed that it rests on, and no longer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from reconciler.backups.gists import Gists, gist_of
from reconciler.backups.layout import FEW, SEEN, object_key, put_in_order, tombstone_key
from reconciler.backups.manifest import SMALL_BYTES, Manifest, _remembered, check_inside, decode, decode_again, encode
from reconciler.backups.signing import Signature, new_pair
from reconciler.backups.tombstones import write_tombstone
from reconciler.errors import Corrupt
from reconciler.policy.secret import Revealed
from reconciler.targets.local_target import LocalTarget
from reconciler.world.facts import Tombstone
from reconciler.world.ports import Signatures, Stored, World
from tests.backups.faking import Counting, MemoryCache, MovedClock, catalogue, make_world, manifest_of, states, take
from tests.building import DAY, NOW

KEY, PUBLIC = new_pair()
OTHER_KEY, OTHER_PUBLIC = new_pair()
OURS = Signatures(public_keys=(PUBLIC,), signing_key=lambda: Revealed(KEY))
OTHERS = Signatures(public_keys=(OTHER_PUBLIC,), signing_key=lambda: Revealed(OTHER_KEY))


class Condemned:
    """A world with one signed backup under one signed tombstone, looked at before."""

    def __init__(self, folder: Path) -> None:
        clock = MovedClock()
        self.target = Counting(LocalTarget("primary", folder / "primary", clock=clock))
        self.cache = MemoryCache()
        self.world = structs.replace(
            make_world(folder, clock, targets={"primary": self.target}, cache=self.cache), signatures=OURS
        )
        self.backup = take(self.world)
        self.stone = Tombstone(id=self.backup, at=NOW, due=NOW + DAY, reason="not kept by retention")
        write_tombstone(self.target, "hotel", self.stone, OURS)
        assert {self.backup: "deleted"} == states(self.world)
        self.target.keys_read.clear()

    def key(self, name: str) -> str:
        return object_key("hotel", self.backup, name)

    def seen_by(self, **change: object) -> World:
        replace: Callable[..., World] = structs.replace
        return replace(self.world, **change)


@pytest.fixture
def condemned(tmp_path: Path) -> Condemned:
    return Condemned(tmp_path)


class TestALook:
    def test_is_remembered(self, condemned: Condemned) -> None:
        """Neither the target nor the cache is asked again for what was read and checked."""
        condemned.cache.texts = dict.fromkeys(condemned.cache.texts, b"")

        assert (condemned.stone,) == catalogue(condemned.world).tombstones
        assert [] == [key for key in condemned.target.keys_read if "/backups/" in key]

    def test_with_other_keys_pinned(self, condemned: Condemned) -> None:
        """What our key vouched for, theirs does not."""
        found = catalogue(condemned.seen_by(signatures=OTHERS))

        assert () == found.tombstones
        assert ["foreign"] == [copy.state for copy in found.copies]

    def test_with_no_keys_pinned(self, condemned: Condemned) -> None:
        """And what is seen so is nothing to those who pin one."""
        write_tombstone(condemned.target, "hotel", structs.replace(condemned.stone, due=NOW + 2 * DAY), OTHERS)

        for _ in range(2):
            assert 2 == len(catalogue(condemned.seen_by(signatures=Signatures())).tombstones)
            assert (condemned.stone,) == catalogue(condemned.world).tombstones

    def test_by_way_of_another_cache(self, condemned: Condemned) -> None:
        """It knows nothing: all is read."""
        catalogue(condemned.seen_by(cache=MemoryCache()))

        assert tombstone_key("hotel", condemned.backup, condemned.stone.due) in condemned.target.keys_read

    @pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
    def test_of_what_was_written_over(self, condemned: Condemned, name: str) -> None:
        """Another content is listed as another one, as large as it may be."""
        text = b"".join(condemned.target.read(condemned.key(name)))
        condemned.target.write(condemned.key(name), [bytes([text[0] ^ 1]) + text[1:]])

        assert "whole" not in states(condemned.world).values()
        (copy,) = catalogue(condemned.world).copies
        assert "" != copy.why != "not kept by retention; can come back until 2025-10-26 03:00Z"

    def test_of_a_tombstone_that_was_written_over(self, condemned: Condemned) -> None:
        """It is not believed any more."""
        key = tombstone_key("hotel", condemned.backup, condemned.stone.due)
        text = b"".join(condemned.target.read(key))
        condemned.target.write(key, [text.replace(b"not kept", b"not KEPT")])

        assert () == catalogue(condemned.world).tombstones

    def test_of_what_can_t_be_believed(self, condemned: Condemned) -> None:
        """It is read each time: who put it there may have been understood wrongly."""
        write_tombstone(condemned.target, "hotel", structs.replace(condemned.stone, due=NOW + 2 * DAY), OTHERS)
        catalogue(condemned.world)
        condemned.target.keys_read.clear()
        catalogue(condemned.world)

        assert tombstone_key("hotel", condemned.backup, NOW + 2 * DAY) in condemned.target.keys_read


class TestARecord:
    def test_of_other_bytes_or_of_another_kind(self) -> None:
        """Each is what it is."""
        text = b'{"id": "a", "at": "2025-10-25T00:00:00Z", "due": "2025-10-25T00:00:00Z", "reason": "first"}'

        assert "first" == decode_again(text, Tombstone, "it").reason
        assert "later" == decode_again(text.replace(b"first", b"later"), Tombstone, "it").reason
        with pytest.raises(Corrupt, match="it cannot be read"):
            decode_again(text, Signature, "it")

    def test_that_is_torn(self) -> None:
        """Each time, and told of by the name that it is asked for by."""
        for name in ("one", "other"):
            with pytest.raises(Corrupt, match=f"{name} cannot be read"):
                decode_again(b"{", Tombstone, name)

    def test_that_is_large(self) -> None:
        """Is read each time: thousands that are remembered with their bytes would fill the memory."""
        stone = Tombstone(id="a", at=NOW, due=NOW, reason="r" * SMALL_BYTES)
        before = _remembered.cache_info().currsize

        assert stone == decode_again(encode(stone), Tombstone, "it")
        assert before == _remembered.cache_info().currsize

    def test_of_another_backup(self, tmp_path: Path) -> None:
        """A manifest that was read is refused all the same where it lies under another id."""
        world = make_world(tmp_path, MovedClock())
        text = encode(manifest_of(world, take(world)))

        with pytest.raises(Corrupt, match="says that it is of"):
            decode(text, backup="20251020T020000Z-3f9c2a")

    def test_that_lies_after_a_change(self, tmp_path: Path) -> None:
        """What was reckoned of a manifest is not told of one that was made from it."""
        world = make_world(tmp_path, MovedClock())
        manifest: Manifest = manifest_of(world, take(world))
        check_inside(manifest)

        with pytest.raises(Corrupt, match="does not add up"):
            check_inside(structs.replace(manifest, stored_bytes=manifest.stored_bytes + 1))


class TestAListing:
    def stored(self, backup: str, **change: object) -> Stored:
        make: Callable[..., Stored] = Stored
        said = {"key": f"hotel/backups/{backup}/dump.zst", "size": 1, "etag": "x", "modified": NOW}
        return make(**(said | change))

    @pytest.mark.parametrize(
        "change", [{"size": 2}, {"etag": "y"}, {"version": "v"}, {"archive": "GLACIER"}, {"modified": NOW + DAY}]
    )
    def test_that_says_something_else(self, change: dict[str, object]) -> None:
        """Of one object of a backup: it is another holding."""
        backup = "20251020T020000Z-3f9c2a"
        (first,) = put_in_order("hotel", [self.stored(backup)]).backups
        (other,) = put_in_order("hotel", [self.stored(backup, **change)]).backups
        (again,) = put_in_order("hotel", [self.stored(backup)]).backups

        assert first is again
        assert first is not other
        assert [self.stored(backup, **change)] == list(other.objects.values())

    def test_that_is_the_same(self) -> None:
        """It is put in order once; for another database, or of very many objects, it is not taken from memory."""
        items = [self.stored("20251020T020000Z-3f9c2a")]
        many = [self.stored("20251020T020000Z-3f9c2a", key=f"hotel/{number}") for number in range(FEW + 1)]

        assert put_in_order("hotel", items) is put_in_order("hotel", tuple(items))
        assert ("hotel/backups/20251020T020000Z-3f9c2a/dump.zst",) == put_in_order("hote", items).strays
        assert put_in_order("hotel", many) is not put_in_order("hotel", many)

    def test_of_very_many(self) -> None:
        """As many stay in memory as are said to, whatever is listed."""
        from reconciler.backups.layout import _held

        put_in_order("hotel", [self.stored(f"20251020T020000Z-{number:06x}") for number in range(SEEN + 10)])

        assert SEEN == _held.cache_info().currsize


def test_two_caches_that_hold_the_same_text(tmp_path: Path) -> None:
    """What one learns of a month, the other does not know by it."""
    world = make_world(tmp_path, MovedClock())
    first = take(world)
    second = take(world, repository=manifest_of(world, first).repository)
    held = {one.id: one for one in put_in_order("hotel", world.targets["primary"].list("hotel/").items).backups}
    caches = MemoryCache(), MemoryCache()
    for cache in caches:
        learn(cache, world, held[first].id, held[first].objects["manifest.json"])
    knowing = learn(caches[0], world, held[second].id, held[second].objects["manifest.json"])
    other = Gists(caches[1], "a place", held.values())

    assert knowing.get(second, held[second].objects["manifest.json"]) is not None
    assert other.get(first, held[first].objects["manifest.json"]) is not None
    assert other.get(second, held[second].objects["manifest.json"]) is None


def learn(cache: MemoryCache, world: World, backup: str, stored: Stored) -> Gists:
    """That cache knows the manifest from now on."""
    items = world.targets["primary"].list("hotel/").items
    gists = Gists(cache, "a place", put_in_order("hotel", items).backups)
    gists.put(gist_of(manifest_of(world, backup), stored))
    gists.keep()
    return gists
