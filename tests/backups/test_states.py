"""The table of states: one test a row, and what happens where rows meet."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.backups.catalogue import Seen, copy_of
from reconciler.backups.keeping import Hold
from reconciler.backups.layout import HOLD, INTENT, MANIFEST, Held, object_key, put_in_order
from reconciler.backups.manifest import Content, Manifest, StoredObject, check_inside, encode
from reconciler.errors import Corrupt
from reconciler.world.facts import Copy, Owner
from reconciler.world.ports import Stored, World
from reconciler.world.process import SystemProcess
from tests.backups.faking import MovedClock, bury, catalogue, claim_text, make_world, manifest_of, states, stranger, take
from tests.building import MINUTE, NOW, REPOSITORY

ORPHAN = "20251025T020000Z-3f9c2a"

PIECES = (
    "dump", "globals.json", "fingerprint.json", "toc.dat", "1.dat", "/", ".zst", ".age", ".", "..", "-", " ", "ü", "\n",
    "manifest.json", "tombstone-20251025T020000Z.json",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.text(max_size=12)
"""Near misses above all."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, MovedClock())


@pytest.fixture
def backup(world: World) -> str:
    return take(world, slot=NOW - 12 * MINUTE)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Of a backup that is gone."""
    world = make_world(tmp_path_factory.mktemp("named"), MovedClock())
    return manifest_of(world, take(world))


def put(world: World, backup: str, name: str, content: bytes) -> None:
    world.targets["primary"].write(object_key("hotel", backup, name), [content])


def drop(world: World, backup: str, name: str) -> None:
    world.targets["primary"].delete(object_key("hotel", backup, name))


def the_copy(world: World) -> Copy:
    (found,) = catalogue(world).copies
    return found


def dead(world: World) -> Owner:
    """An owner whose claim is proven to be over."""
    owner = world.process.begin()
    world.process.end(owner)
    return owner


class TestRows:
    def test_manifest_and_data_are_whole(self, world: World, backup: str) -> None:
        """A manifest whose objects all lie there with their sizes is a backup, and nothing else of it is left."""
        found = the_copy(world)

        assert ("whole", "", "none") == (found.state, found.why, found.writer)
        assert (NOW, NOW - 12 * MINUTE, "scheduled") == (found.instant, found.slot, found.kind)
        assert manifest_of(world, backup).stored_bytes == found.stored_bytes

    @pytest.mark.parametrize(("gone", "writer"), [(True, "gone"), (False, "alive")])
    def test_a_leftover_intent_takes_nothing_away(self, world: World, backup: str, gone: bool, writer: str) -> None:
        """Whole is whole, whoever's intent still lies there."""
        put(world, backup, INTENT, claim_text(dead(world) if gone else world.process.begin()))

        assert ("whole", writer) == (the_copy(world).state, the_copy(world).writer)

    def test_what_was_looked_at_before_is_seen_as_it_is_now(self, world: World, backup: str) -> None:
        """Descriptions of whole backups are kept: what comes to lie beside one, or in its place, is seen all the same."""
        first = the_copy(world)
        put(world, backup, HOLD, encode(Hold(who="Ana", why="tax", at=NOW)))
        held = the_copy(world)
        drop(world, backup, HOLD)
        (dump,) = manifest_of(world, backup).archive_objects()
        put(world, backup, dump.name, b"x" * dump.stored_bytes)
        other = the_copy(world)

        assert ("whole", "whole", "whole") == (first.state, held.state, other.state)
        assert ("", True, "") == (first.held, "tax" in held.held, other.held)
        assert first.content == held.content != other.content

    def test_a_living_writer_without_a_manifest_is_writing(self, world: World) -> None:
        """Its slot counts as taken."""
        put(world, ORPHAN, INTENT, claim_text(world.process.begin(), slot=NOW))
        put(world, ORPHAN, "dump.zst", b"half")

        assert ("being_written", NOW, "alive") == (the_copy(world).state, the_copy(world).slot, the_copy(world).writer)

    def test_a_dead_writer_without_a_manifest_left_debris(self, world: World) -> None:
        """Whatever data there is: no manifest ever was."""
        put(world, ORPHAN, INTENT, claim_text(dead(world)))
        put(world, ORPHAN, "dump.zst", b"half")

        assert "debris" == the_copy(world).state

    def test_missing_data_is_damage(self, world: World, backup: str) -> None:
        """A manifest alone is no restore point; it says what is missing."""
        drop(world, backup, "dump.zst")

        assert ("damaged", "dump.zst is missing") == (the_copy(world).state, the_copy(world).why)

    def test_data_of_another_size_is_damage(self, world: World, backup: str) -> None:
        """One byte is enough."""
        put(world, backup, "globals.json.zst", b"x")

        assert "damaged" == the_copy(world).state
        assert "globals.json.zst has 1 bytes instead of" in the_copy(world).why

    def test_data_alone_is_an_orphan(self, world: World) -> None:
        """Neither manifest nor intent: somebody else's doing, so not ours to remove."""
        put(world, ORPHAN, "dump.zst", b"all of it")

        assert ("orphan", 9) == (the_copy(world).state, the_copy(world).stored_bytes)

    def test_a_tombstone_that_is_due_later(self, world: World, backup: str) -> None:
        """Deleted, and can come back until then."""
        bury(world, backup, NOW + MINUTE)

        assert ("deleted", NOW + MINUTE, True) == (the_copy(world).state, the_copy(world).due, the_copy(world).has_tombstone)

    @pytest.mark.parametrize("lost", [[], ["manifest.json"], ["manifest.json", "dump.zst"]])
    def test_a_tombstone_that_is_due(self, world: World, backup: str, lost: list[str]) -> None:
        """Being deleted, however far that came; half gone is never whole."""
        bury(world, backup, NOW)
        for name in lost:
            drop(world, backup, name)

        assert "being_deleted" == the_copy(world).state

    def test_only_a_tombstone_is_left(self, world: World, backup: str) -> None:
        """Then there is no copy any more, and the tombstone still tells of it."""
        bury(world, backup, NOW)
        for name in ("manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"):
            drop(world, backup, name)

        assert () == catalogue(world).copies
        assert [backup] == [stone.id for stone in catalogue(world).tombstones]

    def test_of_another_repository_is_foreign(self, world: World, backup: str) -> None:
        """It is named, and does not count."""
        spoil(world, backup, repository="somebody-elses")

        assert ("foreign", "it belongs to repository somebody-elses") == (the_copy(world).state, the_copy(world).why)

    def test_of_a_newer_format_is_foreign(self, world: World, backup: str) -> None:
        """Refused by name of its format, even where the rest of it can't be understood."""
        put(world, backup, MANIFEST, b'{"format": 2, "everything": "else"}')

        assert "foreign" == the_copy(world).state
        assert "format 2" in the_copy(world).why

    @pytest.mark.parametrize(("ahead", "state"), [(5 * MINUTE, "whole"), (5 * MINUTE + timedelta(seconds=1), "impossible")])
    def test_an_instant_in_the_future(self, world: World, backup: str, ahead: timedelta, state: str) -> None:
        """Clocks may differ by five minutes, no more."""
        spoil(world, backup, instant=NOW + ahead)

        assert state == the_copy(world).state


class TestWhereRowsMeet:
    def test_the_later_of_two_tombstones_holds(self, world: World, backup: str) -> None:
        """Nothing goes before the last grace has passed."""
        bury(world, backup, NOW - MINUTE)
        bury(world, backup, NOW + MINUTE)

        assert ("deleted", NOW + MINUTE) == (the_copy(world).state, the_copy(world).due)

    @pytest.mark.parametrize("torn", [b"", b'{"id": "2025', b"\x00" * 300, b"[]", b'{"id": 1}'])
    def test_a_torn_tombstone_deletes_nothing(self, world: World, backup: str, torn: bytes) -> None:
        """Not even beside one that is due: what cannot be read may say later."""
        bury(world, backup, NOW - 9 * MINUTE)
        world.targets["primary"].write(bury(world, backup, NOW - MINUTE), [torn])

        assert "deleted" == the_copy(world).state

    def test_a_tombstone_that_speaks_of_another_deletes_nothing(self, world: World, backup: str) -> None:
        """Copied by hand from another id, it is as good as torn."""
        bury(world, backup, NOW - MINUTE, of=ORPHAN)

        assert "deleted" == the_copy(world).state
        assert () == catalogue(world).tombstones

    def test_a_tombstone_without_a_time_zone_deletes_nothing(self, world: World, backup: str) -> None:
        """An instant that can't be compared is unreadable, and blinds nobody to the rest of the catalogue."""
        key = bury(world, backup, NOW - MINUTE)
        stone = {"id": backup, "at": "2025-10-25T00:00:00", "due": "2025-10-25T00:00:00", "reason": "?"}
        world.targets["primary"].write(key, [msgspec.json.encode(stone)])

        assert "deleted" == the_copy(world).state

    def test_a_foreign_backup_with_a_due_tombstone_is_still_foreign(self, world: World, backup: str) -> None:
        """A deletion that another repository decided is not for us to carry out."""
        spoil(world, backup, repository="somebody-elses")
        bury(world, backup, NOW - MINUTE)

        assert "foreign" == the_copy(world).state

    def test_a_hold_is_seen_beside_a_due_tombstone(self, world: World, backup: str) -> None:
        """So that who plans can spare it."""
        put(world, backup, HOLD, b"{}")
        bury(world, backup, NOW - MINUTE)

        assert "being_deleted" == the_copy(world).state
        assert "hold.json is there, and cannot be read" in the_copy(world).held

    @pytest.mark.parametrize(
        ("until", "ends"), [(NOW + MINUTE, NOW + MINUTE), (None, None), (NOW, None)], ids=["later", "never", "ended"]
    )
    def test_a_hold_says_when_it_ends(self, world: World, backup: str, until: datetime | None, ends: datetime | None) -> None:
        """So that who plans can tell which lasts longest; one that is over is none."""
        put(world, backup, HOLD, encode(Hold(who="Ana", why="tax", at=NOW, until=until)))

        assert (until != NOW, ends) == (bool(the_copy(world).held), the_copy(world).held_until)

    def test_only_a_hold_is_left(self, world: World) -> None:
        """Reported, not removed."""
        put(world, ORPHAN, HOLD, b"{}")

        assert "orphan" == the_copy(world).state

    @pytest.mark.parametrize("text", [b"", b"{", claim_text(stranger())])
    def test_who_may_be_dead_is_taken_for_living_until_it_was_watched(self, world: World, text: bytes) -> None:
        """A torn intent and one of a foreign host prove nothing."""
        put(world, ORPHAN, INTENT, text)

        assert ("being_written", "undecided") == (the_copy(world).state, the_copy(world).writer)


class TestManifestsThatLie:
    @pytest.mark.parametrize(
        "text", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": 1}', b'{"format": 1, "x": ' + b"[" * 100_000, b"x" * 20_000_000]
    )
    def test_garbage_is_damage(self, world: World, backup: str, text: bytes) -> None:
        """Whatever calls itself a manifest: one bad one neither fills memory nor hides the others."""
        other = take(world, slot=NOW, repository=manifest_of(world, backup).repository)
        put(world, backup, MANIFEST, text)

        assert {backup: "damaged", other: "whole"} == states(world)

    @pytest.mark.parametrize(
        "lie",
        [
            {"id": ORPHAN},
            {"database": "../reservas"},
            {"stored_bytes": 1},
            {"objects": ()},
        ],
    )
    def test_a_manifest_that_does_not_add_up_is_damage(self, world: World, backup: str, lie: dict[str, object]) -> None:
        """Of another id, of another database, of other sizes, of nothing: nothing rests on it."""
        spoil(world, backup, **lie)

        assert "damaged" == the_copy(world).state

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "globals.json.zst", "manifest.json", "intent.json"])
    def test_object_names_that_lead_elsewhere_are_damage(self, world: World, backup: str, name: str) -> None:
        """An object lies beside its manifest, once, and is none of our records."""
        kept = manifest_of(world, backup)
        (dump, *others) = kept.objects
        spoil(world, backup, objects=(msgspec.structs.replace(dump, name=name), *others))

        assert "damaged" == the_copy(world).state

    @pytest.mark.parametrize("sizes", [(-5, 5), (1 << 40,)])
    def test_part_sizes_that_no_part_has_are_damage(self, world: World, backup: str, sizes: tuple[int, ...]) -> None:
        """They would be read into memory before they are checked."""
        kept = manifest_of(world, backup)
        (dump, roles, _) = kept.objects
        parts = tuple(msgspec.structs.replace(dump.parts[0], size=size) for size in sizes)
        lying = msgspec.structs.replace(dump, parts=parts, stored_bytes=sum(sizes))
        spoil(world, backup, objects=(lying, roles), stored_bytes=roles.stored_bytes + sum(sizes))

        assert "damaged" == the_copy(world).state
        assert "is missing" not in the_copy(world).why
        assert "instead of" not in the_copy(world).why

    def test_an_instant_without_a_zone_is_damage(self, world: World, backup: str) -> None:
        """It can't be compared with any other."""
        text = encode(manifest_of(world, backup)).replace(
            b'"instant": "2025-10-25T11:12:00Z"', b'"instant": "2025-10-25T11:12:00"'
        )
        put(world, backup, MANIFEST, text)

        assert "damaged" == the_copy(world).state

    def test_unknown_fields_are_let_through(self, world: World, backup: str) -> None:
        """A later program of the same format may say more."""
        text = encode(manifest_of(world, backup)).replace(b'"format": 1,', b'"format": 1, "signed_by": "somebody",')
        put(world, backup, MANIFEST, text)

        assert "whole" == the_copy(world).state


def spoil(world: World, backup: str, **fields: object) -> None:
    """Let its manifest say something else."""
    change: Callable[..., Manifest] = msgspec.structs.replace
    put(world, backup, MANIFEST, encode(change(manifest_of(world, backup), **fields)))


class TestListings:
    def stored(self, name: str, *, latest: bool = True, marker: bool = False) -> Stored:
        return Stored(key=f"hotel/{name}", size=1, etag="x", modified=NOW, version="v", latest=latest, marker=marker)

    def test_a_marker_hides_the_versions_below_it(self) -> None:
        """The manifest below is not there for us, and that it is hidden is known."""
        root = f"backups/{ORPHAN}"
        order = put_in_order(
            "hotel",
            [
                self.stored(f"{root}/dump.zst"),
                self.stored(f"{root}/manifest.json", marker=True),
                self.stored(f"{root}/manifest.json", latest=False),
            ],
        )

        (held,) = order.backups
        assert (["dump.zst"], ("manifest.json",)) == (list(held.objects), held.hidden)

    @pytest.mark.parametrize("objects", [{}, {"dump.zst": 7}, {"dump.zst": 7, "intent.json": 7}])
    def test_a_hidden_manifest_is_an_incident(self, objects: dict[str, int]) -> None:
        """No tombstone explains it, so somebody else deleted it: neither debris nor an orphan, whatever else lies there."""
        listed = {name: self.stored(name) for name in objects}
        seen = Seen(held=Held(id=ORPHAN, objects=listed, hidden=(MANIFEST,), hidden_since=NOW), writer_gone=True)
        found = copy_of(seen, None, NOW)

        assert found is not None
        assert "hidden" == found.state

    def test_what_the_layout_does_not_know_is_a_stray(self) -> None:
        """Reported under its key; nothing else is."""
        known = [
            "repository.json",
            "lease-keep.json",
            "lease-prove.json",
            "freeze.json",
            "pins/20251025T020000Z-3f9c2a-00ff.json",
            "evidence/00000001.json",
        ]
        strays = [
            "notes.txt",
            "pins/x.json",
            "backups/readme",
            "backups/20251399T020000Z-3f9c2a/dump.zst",
            "backups/20251025T020000Z-XYZ/a",
            "backups/20251025T020000Z-3f9c2a/notes.txt",
            "backups/20251025T020000Z-3f9c2a/dump.zst.bak",
            "backups/20251025T020000Z-3f9c2a/extra/dump.zst",
            "backups/20251025T020000Z-3f9c2a/dump/below/1.dat.zst",
        ]
        order = put_in_order("hotel", [self.stored(name) for name in [*known, *strays]])

        assert [f"hotel/{name}" for name in strays] == list(order.strays)
        assert () == order.backups


class TestNames:
    """Which objects a manifest may name, and which the listing takes for a backup's own."""

    @given(name=NAMES, content=st.sampled_from(get_args(Content)))
    def test_what_a_manifest_may_name_is_of_the_backup(self, manifest: Manifest, name: str, content: Content) -> None:
        """And what is of the backup, and no record about it, a manifest may name."""
        held = put_in_order("hotel", [Stored(key=f"hotel/backups/{ORPHAN}/{name}", size=1, etag="x", modified=NOW)]).backups
        is_data = bool(held) and name in held[0].data
        is_file = content in ("data", "toc")

        assert (is_data and name.startswith("dump/") == is_file) == may_name(manifest, name, content)

    @pytest.mark.parametrize(
        "name", ["manifest.json", "hold.json", "notes.txt", "dump/..zst", "dump/1.dat", "dump/../dump.zst", ""]
    )
    def test_no_manifest_names(self, manifest: Manifest, name: str) -> None:
        """Whatever it says that it holds."""
        assert [] == [content for content in get_args(Content) if may_name(manifest, name, content)]


def may_name(manifest: Manifest, name: str, content: Content) -> bool:
    """Whatever else may be wrong with it."""
    named = StoredObject(name=name, content=content, stored_bytes=0, sha256="", raw_bytes=0, parts=())
    try:
        check_inside(msgspec.structs.replace(manifest, objects=(named,), stored_bytes=0))
    except Corrupt as error:
        return "which no backup has" not in str(error)
    return True


class TestProofs:
    def test_the_repository_is_told(self, world: World, backup: str) -> None:
        """With the id that each manifest repeats."""
        found = catalogue(world).repository

        assert found is not None
        assert manifest_of(world, backup).repository == found.id
        assert REPOSITORY != found.id

    @pytest.mark.parametrize("text", [b'{"reason": "a verification failed"}', b"", b"{"])
    def test_any_freeze_counts(self, world: World, backup: str, text: bytes) -> None:
        """A torn one too."""
        world.targets["primary"].write("hotel/freeze.json", [text])

        assert "" != catalogue(world).frozen

    def test_strays_are_told_and_left(self, world: World, backup: str) -> None:
        """A file that somebody put there is there afterwards."""
        world.targets["primary"].write("hotel/backups/notes.txt", [b"remember the milk"])

        assert ("hotel/backups/notes.txt",) == catalogue(world).strays

    def test_processes_of_this_machine_are_told_apart(self) -> None:
        """The fixture's proof of death is a real one."""
        process = SystemProcess()
        owner = process.begin()

        assert process.is_gone(owner) is False
        process.end(owner)
        assert process.is_gone(owner) is True
