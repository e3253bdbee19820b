"""Writing a backup: whatever fails, nothing of it is listed as whole, and nothing that was there is touched."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_bytes
from threading import Event as StopEvent
from threading import Thread

import msgspec
import pytest

from reconciler.backups import writer
from reconciler.backups.claim import SILENT_SECONDS, Claim, beating
from reconciler.backups.layout import INTENT, backup_root, object_key
from reconciler.backups.manifest import encode
from reconciler.backups.records import read_repository
from reconciler.backups.register import forget, registered
from reconciler.backups.writer import drafting, ensure_repository
from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump
from reconciler.errors import Conflict, Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.read_only import ReadOnly
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_target import S3Target
from reconciler.world.clock import SystemClock
from reconciler.world.events import Event
from reconciler.world.ports import Listing, Stored, Target, Upload, World
from reconciler.world.through import Through
from tests.backups.faking import (
    ROWS,
    Counting,
    FakeSource,
    Interrupted,
    MovedClock,
    Trouble,
    at_effect,
    bury,
    claim_text,
    content,
    files,
    make_world,
    manifest_of,
    states,
    stranger,
    take,
)
from tests.building import HOTEL, HOUR, NOW, policy, repository
from tests.servers.s3 import S3Server

WANT = policy(targets=("primary", "offsite"))
ALONE = policy(targets=("primary",))
"""No other target for a dump to land on."""


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def source(clock: MovedClock) -> FakeSource:
    return FakeSource(clock)


@pytest.fixture
def world(tmp_path: Path, clock: MovedClock, source: FakeSource) -> World:
    return make_world(tmp_path, clock, source)


@pytest.fixture
def older(world: World, clock: MovedClock) -> str:
    """A whole backup that was there before."""
    backup = take(world)
    clock.move(HOUR)
    return backup


def dump_again(world: World, older: str) -> None:
    repository = manifest_of(world, older).repository
    TakeDump(database="hotel", target="primary", slot=NOW, repository=repository, identity=HOTEL).perform(world, ALONE)


def copy_of(backup: str) -> CopyBackup:
    return CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite")


class TestFailures:
    @pytest.mark.parametrize("trouble", ["down", "at the start", "half-way", "just before the end"])
    def test_a_producer_that_dies(self, world: World, source: FakeSource, older: str, tmp_path: Path, trouble: Trouble) -> None:
        """At whatever point: the older backup is untouched, and no other file is there than before."""
        before = files(tmp_path)
        source.trouble = trouble

        with pytest.raises(Unreachable):
            dump_again(world, older)
        assert before == files(tmp_path)
        assert b"".join(ROWS) == content(world, older)

    def test_another_source_than_the_expected_one(self, world: World, source: FakeSource, older: str, tmp_path: Path) -> None:
        """Its bytes never get as far as a target."""
        before = files(tmp_path)
        source.identity = type(HOTEL)(provider="postgres", cluster="1", database="hotel")

        with pytest.raises(Conflict):
            dump_again(world, older)
        assert before == files(tmp_path)

    @pytest.mark.parametrize("number", range(18))
    @pytest.mark.parametrize("error", [Refused("quota"), Unreachable("no answer")])
    def test_a_target_that_fails_at_any_event(
        self, world: World, older: str, tmp_path: Path, number: int, error: ReconcilerError
    ) -> None:
        """Before an effect (it was refused) or after one (its answer was lost): what is left is either nothing or a backup."""

        def fail() -> None:
            raise error

        before = files(tmp_path)
        failing = make_world(tmp_path, world.clock, tell=at_effect(number, fail))
        failed = False
        try:
            dump_again(failing, older)
        except type(error):
            failed = True

        left = {backup: state for backup, state in states(world).items() if backup != older}
        # A renewal of the intent that fails is no failure yet: the one before still covers us.
        assert (failed and left == {}) or list(left.values()) == ["whole"]
        assert bool(left) == (before != files(tmp_path))
        assert b"".join(ROWS) == content(world, older)

    def test_a_target_that_refuses_everything_from_some_effect_on(
        self, world: World, clock: MovedClock, older: str, tmp_path: Path
    ) -> None:
        """What can't even be cleaned up is debris, for the next turn."""
        effects: list[Event] = []

        def fail(event: Event) -> None:
            effects.append(event)
            if len(effects) > 8:
                raise Unreachable("no answer")

        with pytest.raises(Unreachable):
            dump_again(make_world(tmp_path, clock, tell=fail, process=world.process), older)

        assert {"whole", "debris"} == set(states(world).values())
        assert "whole" == states(world)[older]

    def test_a_stop_in_the_middle(self, world: World, source: FakeSource, older: str, tmp_path: Path) -> None:
        """Ends between two chunks, and leaves nothing."""
        before = files(tmp_path)
        source.trouble = "waits for stop"
        failed: list[ReconcilerError] = []

        def dump() -> None:
            try:
                dump_again(world, older)
            except ReconcilerError as error:
                failed.append(error)

        thread = Thread(target=dump, daemon=True)
        thread.start()
        assert source.waiting.wait(30)
        source.stop.set()
        thread.join(30)

        assert [Stopped] == [type(error) for error in failed]
        assert before == files(tmp_path)

    def test_an_interrupt(self, world: World, clock: MovedClock, older: str, tmp_path: Path) -> None:
        """Ctrl-C is no reason to leave something behind."""
        before = files(tmp_path)

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dump_again(make_world(tmp_path, clock, tell=at_effect(7, interrupt)), older)
        assert before == files(tmp_path)


class TestSealing:
    def put_all(self, world: World, *, seal: bool = True) -> Iterator[writer.Draft]:
        with drafting(world, world.targets["primary"], "hotel", BACKUP, kind="manual", slot=None, repository="r") as draft:
            draft.put("dump.zst", [b"data"])
            yield draft
            if seal:
                draft.seal(b"{}")

    def test_an_intent_that_was_taken_away(self, world: World) -> None:
        """Somebody took us for dead and sweeps: no manifest is put over what they remove, and what is theirs is left to them."""
        theirs = claim_text(stranger())
        steps = self.put_all(world)
        next(steps)
        world.targets["primary"].write(object_key("hotel", BACKUP, INTENT), [theirs])

        with pytest.raises(Conflict, match="taken over by process 17 on elsewhere"):
            next(steps)
        assert {"intent.json", "dump.zst"} == names(world, BACKUP)

    def test_an_intent_that_goes_while_the_data_streams(self, world: World, clock: MovedClock) -> None:
        """We slept, and were swept as dead: no data lands behind the sweep, where nobody would look for it any more."""

        def chunks() -> Iterator[bytes]:
            yield b"first"
            clock.move(timedelta(seconds=SILENT_SECONDS))
            world.targets["primary"].delete(object_key("hotel", BACKUP, INTENT))
            yield b"last"

        with (
            pytest.raises(Conflict, match="taken away"),
            drafting(world, world.targets["primary"], "hotel", BACKUP, kind="manual", slot=None, repository="r") as draft,
        ):
            draft.put("dump.zst", chunks())
        assert set() == names(world, BACKUP)

    def test_a_machine_that_was_suspended_between_two_objects(self, world: World, clock: MovedClock) -> None:
        """Its next heartbeat is yet to come: a dump of hours goes on, unless somebody took the intent meanwhile."""
        steps = self.put_all(world)
        draft = next(steps)
        clock.suspend(HOUR)
        draft.put("globals.json.zst", [b"roles"])
        assert {"intent.json", "dump.zst", "globals.json.zst"} == names(world, BACKUP)

        clock.suspend(HOUR)
        world.targets["primary"].write(object_key("hotel", BACKUP, INTENT), [claim_text(stranger())])
        with pytest.raises(Conflict, match="taken over"):
            draft.put("fingerprint.json.zst", [b"marks"])
        with pytest.raises(Conflict, match="taken over"):
            next(steps)

    def test_an_intent_that_was_not_renewed_for_long(self, world: World, clock: MovedClock) -> None:
        """We slept, the store did not answer, and the next beat came through: all that we wrote goes, as it is nobody else's."""
        beats: list[Callable[[], None]] = []

        @contextmanager
        def heart(seconds: float, beat: Callable[[], None]) -> Iterator[None]:
            beats.append(beat)
            yield

        sleepy = Sleepy(world.targets["primary"], beats)
        world = msgspec.structs.replace(world, heart=heart, targets={"primary": sleepy})

        def chunks() -> Iterator[bytes]:
            yield b"first"
            clock.move(HOUR)
            sleepy.sleeps = True

        with (
            pytest.raises(Conflict, match="could not be renewed"),
            drafting(world, sleepy, "hotel", BACKUP, kind="manual", slot=None, repository="r") as draft,
        ):
            draft.put("dump.zst", chunks())
        assert set() == names(world, BACKUP)
        assert sleepy.listed, "what is unfinished was looked for"

    def test_an_intent_that_is_gone(self, world: World) -> None:
        """So was our data, perhaps: no manifest."""
        steps = self.put_all(world)
        next(steps)
        world.targets["primary"].delete(object_key("hotel", BACKUP, INTENT))

        with pytest.raises(Conflict, match="taken away"):
            next(steps)
        assert "manifest.json" not in names(world, BACKUP)

    def test_a_store_that_lost_the_answer_to_the_manifest(self, tmp_path: Path, clock: MovedClock) -> None:
        """After sealing was tried nothing is erased: it may be a backup, and here it is."""

        def lose(event: Event) -> None:
            if getattr(event, "key", "").endswith("manifest.json") and getattr(event, "phase", "") == "after":
                raise Unreachable("the answer was lost")

        with pytest.raises(Unreachable):
            take(make_world(tmp_path, clock, tell=lose))
        assert ["whole"] == list(states(make_world(tmp_path, clock)).values())


BACKUP = "20251025T020000Z-3f9c2a"


class Sleepy(Through):
    """Answers no renewal while it sleeps, and beats as soon as a write has failed. `listed`: unfinished writes were asked for."""

    def __init__(self, target: Target, beats: list[Callable[[], None]]) -> None:
        super().__init__(target)
        self._beats = beats
        self.sleeps = self.listed = False

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        if self.sleeps and key.endswith(INTENT):
            raise Unreachable("asleep")
        try:
            return super().write(key, chunks, expect=expect, keep_until=keep_until)
        except Conflict:
            self.sleeps = False
            self._beats[-1]()
            raise

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        self.listed = True
        return super().unfinished(prefix)


def names(world: World, backup: str, target: str = "primary") -> set[str]:
    root = backup_root("hotel", backup)
    return {item.key.removeprefix(root) for item in world.targets[target].list(root).items}


class Lagging(Through):
    """The first listing of a backup shows nothing of what was there before."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._known = {item.key for item in target.list("").items}

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        seen = super().list(prefix, versions=versions)
        if "/backups/" not in prefix:
            return seen
        late, self._known = self._known, set()
        return msgspec.structs.replace(seen, items=tuple(item for item in seen.items if item.key not in late))


def lagging(world: World) -> World:
    return msgspec.structs.replace(world, targets={**world.targets, "offsite": Lagging(world.targets["offsite"])})


class TestWhatIsThereAlready:
    def test_a_copy_that_another_completed_meanwhile(self, world: World, older: str, tmp_path: Path) -> None:
        """A plan of yesterday copies it again: the whole copy that is there stays whole."""
        copy_of(older).perform(world, WANT)
        before = files(tmp_path)

        with pytest.raises(Conflict, match="is there already"):
            copy_of(older).perform(world, WANT)
        assert before == files(tmp_path)
        assert b"".join(ROWS) == content(world, older, "offsite")

    def test_one_that_no_listing_shows_yet(self, world: World, older: str, tmp_path: Path) -> None:
        """A store may list what is there a little later than it gives it: the copy that was made a moment ago stays whole."""
        copy_of(older).perform(world, WANT)
        before = files(tmp_path)

        with pytest.raises(Conflict, match=r"manifest\.json is there already"):
            copy_of(older).perform(lagging(world), WANT)
        assert before == files(tmp_path)

    @pytest.mark.parametrize("name", ["globals.json.zst", "dump.zst"])
    def test_an_orphan_that_no_listing_shows_yet(self, world: World, older: str, name: str) -> None:
        """It is not ours to remove, whatever we wrote before we met it; that is."""
        offsite = world.targets["offsite"]
        offsite.write(object_key("hotel", older, name), [b"all that is left"])

        with pytest.raises(Conflict):
            copy_of(older).perform(lagging(world), WANT)
        assert {name} == names(world, older, "offsite")

    def test_a_copy_that_another_is_making(self, world: World, older: str) -> None:
        """Its intent and what it has written so far are its own."""
        offsite = world.targets["offsite"]
        offsite.write(object_key("hotel", older, INTENT), [claim_text(stranger())])
        offsite.write(object_key("hotel", older, "globals.json.zst"), [b"half"])

        with pytest.raises(Conflict):
            copy_of(older).perform(world, WANT)
        assert {"intent.json", "globals.json.zst"} == names(world, older, "offsite")

    def test_a_tombstone(self, world: World, older: str) -> None:
        """Nothing is put beside it, for it would be condemned."""
        bury(world, older, NOW + HOUR, "offsite")

        with pytest.raises(Conflict):
            copy_of(older).perform(world, WANT)
        assert {"tombstone-20251025T121200Z.json"} == names(world, older, "offsite")

    def test_what_people_laid_there(self, world: World, older: str) -> None:
        """It is no reason not to copy: each turn would fail, and delete nothing."""
        world.targets["offsite"].write(object_key("hotel", older, "notes.txt"), [b"mine"])

        copy_of(older).perform(world, WANT)
        assert b"".join(ROWS) == content(world, older, "offsite")
        assert "notes.txt" in names(world, older, "offsite")


class TestBeginning:
    def test_a_repository_that_was_begun(self, world: World, older: str) -> None:
        """Is looked at, and not written again: a write that is refused costs a store or a disk as much as one that is not."""
        begun = repository(id=manifest_of(world, older).repository)

        ensure_repository(ReadOnly(world.targets["primary"]), "hotel", begun)
        with pytest.raises(Conflict, match=f"of repository {begun.id}, not another"):
            ensure_repository(ReadOnly(world.targets["primary"]), "hotel", repository(id="another"))

    def test_one_of_another_source(self, world: World, older: str) -> None:
        """The plan says so where it sees it; a target that it could not see may turn out to be one when its turn comes."""
        begun = repository(id=manifest_of(world, older).repository)
        moved = msgspec.structs.replace(begun, identity=msgspec.structs.replace(begun.identity, cluster="1"))

        with pytest.raises(Conflict, match=f"of {begun.identity}, not of {moved.identity}"):
            ensure_repository(ReadOnly(world.targets["primary"]), "hotel", moved)

    def test_one_that_is_not_registered(self, world: World, older: str) -> None:
        """As after `forget`, or a death between the two writes: it is again."""
        primary = world.targets["primary"]
        forget(primary, "hotel")

        ensure_repository(primary, "hotel", repository(id=manifest_of(world, older).repository))
        assert ("hotel",) == registered(primary)

    @pytest.mark.parametrize("first", ["ours", "another"])
    def test_somebody_else_begins_meanwhile(self, world: World, first: str) -> None:
        """There is one, of whoever came first, and the other finds out."""
        primary = world.targets["primary"]
        meanwhile = Interrupted(primary, lambda: ensure_repository(primary, "hotel", repository(id=first)))

        with pytest.raises(Conflict, match="of repository another") if first == "another" else nullcontext():
            ensure_repository(meanwhile, "hotel", repository(id="ours"))
        assert first == read_repository(primary, "hotel/repository.json").id


class TestCopies:
    def test_a_copy_is_the_same_backup(self, world: World, older: str) -> None:
        """Byte for byte, the manifest too."""
        copy_of(older).perform(world, WANT)

        assert b"".join(ROWS) == content(world, older, "offsite")
        assert manifest_of(world, older) == manifest_of(world, older, "offsite")

    @pytest.mark.parametrize("name", ["dump.zst", "globals.json.zst"])
    def test_a_bad_original_never_becomes_a_copy(self, world: World, older: str, tmp_path: Path, name: str) -> None:
        """One flipped bit is enough; nothing is left of the attempt but the records of the repository and of what was found."""
        path = tmp_path / "primary" / object_key("hotel", older, name)
        spoilt = bytearray(path.read_bytes())
        spoilt[20] ^= 1
        path.write_bytes(spoilt)

        with pytest.raises(Corrupt, match=f"{name}, part 1 of 1"):
            copy_of(older).perform(world, WANT)
        left = {"hotel/repository.json", ".databases/hotel.json", ".reconciler/lock", "hotel/evidence/00000001.json"}
        assert left == files(tmp_path / "offsite")

    def test_a_target_of_another_repository(self, world: World, older: str, tmp_path: Path) -> None:
        """Two repositories never come to share a target."""
        world.targets["offsite"].write("hotel/repository.json", [encode(repository(id="another"))])
        before = files(tmp_path)

        with pytest.raises(Conflict, match="of repository another"):
            copy_of(older).perform(world, WANT)
        assert before == files(tmp_path)


def test_the_heartbeat_renews_while_a_dump_runs(tmp_path: Path, clock: MovedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that others watch moves as long as we live."""

    def quickly(claim: Claim, **_: object) -> object:
        return beating(claim, 0.001)

    source = FakeSource(clock, trouble="waits for stop")
    # Two threads meet at the target's lock: a moved clock would let its thirty seconds pass while the other one syncs.
    targets: dict[str, Target] = {name: LocalTarget(name, tmp_path / name, clock=SystemClock()) for name in WANT.dumps.targets}
    world = make_world(tmp_path, clock, source, targets=targets)
    monkeypatch.setattr(writer, "beating", quickly)
    counters: list[int] = []

    def watch() -> None:
        assert source.waiting.wait(30)
        (intent,) = (tmp_path / "primary").rglob(INTENT)
        while len(set(counters)) < 3:
            counters.append(counter_of(intent))
        source.stop.set()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    with pytest.raises(Stopped):
        TakeDump(database="hotel", target="primary", slot=None, repository=None, identity=HOTEL).perform(world, WANT)
    thread.join(30)

    assert sorted(counters) == counters
    assert 3 == len(set(counters))


def counter_of(intent: Path) -> int:
    return int(json.loads(intent.read_bytes())["counter"])


def test_a_copy_inside_one_store(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prefixes of one bucket: the dump's bytes are copied by the store, checked by it, and read by nobody."""
    monkeypatch.setattr("reconciler.backups.pipeline.PART_BYTES", 5 << 20)
    access, clock = s3_server.access(s3_server.new_bucket()), SystemClock()
    rows = [token_bytes(1 << 20) for _ in range(11)]

    def prefix(name: str) -> S3Target:
        bucket = Bucket(name, access, s3_server.careful_client, prefix=f"{name}/", clock=clock, stop=StopEvent())
        return S3Target(bucket, domain="s3:test")

    targets = {name: Counting(prefix(name)) for name in ("primary", "offsite")}
    world = make_world(tmp_path, clock, FakeSource(clock, rows), targets=targets)
    backup = take(world)
    copy_of(backup).perform(world, WANT)

    assert not [key for key in targets["primary"].keys_read if key.endswith("dump.zst")]
    assert b"".join(rows) == content(world, backup, "offsite")
    assert "whole" == states(world, "offsite")[backup]


def test_what_somebody_left_on_its_way_there(s3_server: S3Server, tmp_path: Path) -> None:
    """A writer that slept for longer than its intent lasts, and could not abort: the copy that is made after all sweeps it."""
    access, clock = s3_server.access(s3_server.new_bucket()), SystemClock()
    bucket = Bucket("offsite", access, s3_server.careful_client, prefix="offsite/", clock=clock, stop=StopEvent())
    offsite = S3Target(bucket, domain="s3:test")
    world = make_world(
        tmp_path, clock, targets={"primary": LocalTarget("primary", tmp_path / "primary", clock=clock), "offsite": offsite}
    )
    backup = take(world)
    for key in (object_key("hotel", backup, "dump.zst"), object_key("hotel", "20251025T020000Z-3f9c2a", "dump.zst")):
        bucket.client.create_multipart_upload(**bucket.at(key))

    copy_of(backup).perform(world, WANT)

    assert [object_key("hotel", "20251025T020000Z-3f9c2a", "dump.zst")] == [upload.key for upload in offsite.unfinished("")]
    assert "whole" == states(world, "offsite")[backup]
