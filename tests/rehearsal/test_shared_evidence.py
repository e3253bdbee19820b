"""Evidence on all targets: losing home loses no proof, and nothing that is missing makes one."""

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.backups.claim import Watch
from reconciler.backups.evidence import share
from reconciler.duties.copies import CopyBackup
from reconciler.errors import Unreachable
from reconciler.observe import observe
from reconciler.planning.proof import last_proof, proven, refuted
from reconciler.policy.model import DatabasePolicy
from reconciler.rehearsal.verify import verify
from reconciler.targets.unusable import UnusableTarget
from reconciler.world.evidence import Evidence
from reconciler.world.facts import Known, Observation, Unknown
from reconciler.world.ports import Custody, Stored, Target, World
from reconciler.world.through import Through
from tests.backups.faking import MemoryCache, MovedClock, make_world, take
from tests.building import DAY, policy
from tests.rehearsal.test_verifying import Plain

WANT = policy(targets=("primary", "offsite"))
MOVED = policy(targets=("offsite", "primary"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return msgspec.structs.replace(make_world(tmp_path, MovedClock()), scratch=Plain())


def look(world: World, want: DatabasePolicy = WANT) -> Observation:
    return observe(msgspec.structs.replace(world, cache=MemoryCache()), want, Watch(world.clock, world.process))


def records(world: World, target: str) -> dict[str, bytes]:
    place = world.targets[target]
    return {item.key: b"".join(place.read(item.key)) for item in place.list(layout.evidence_root("hotel")).items}


def verified(world: World, backup: str, *, target: str = "primary", want: DatabasePolicy = WANT) -> Evidence:
    return verify(world, want, backup=backup, target=target, level="restore")


def copied(world: World, backup: str, origin: str = "primary", target: str = "offsite") -> None:
    CopyBackup(database="hotel", backup=backup, origin=origin, target=target).perform(world, WANT)


def spoilt(world: World, backup: str, target: str = "offsite") -> None:
    """Under the same ETag: a disk that rots tells nobody."""
    folder = Path(world.targets[target].place.removeprefix("local "))
    path = folder / layout.object_key("hotel", backup, layout.DUMP)
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    import os

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def lost(world: World, target: str, below: str = "") -> None:
    """The disk was replaced by an empty one; or somebody removed a folder there."""
    folder = Path(world.targets[target].place.removeprefix("local ")) / below
    shutil.rmtree(folder)
    folder.mkdir()


def out_of_reach(world: World, *names: str) -> World:
    gone: dict[str, Target] = {name: UnusableTarget(name, Unreachable("no route to host")) for name in names}
    return msgspec.structs.replace(world, targets={**world.targets, **gone})


def test_each_record_lies_everywhere(world: World) -> None:
    """After a copy, and after each verification: byte for byte, under the same numbers."""
    first = take(world)
    verified(out_of_reach(world, "offsite"), first)
    assert {} == records(world, "offsite")

    copied(world, first)
    assert records(world, "primary") == records(world, "offsite") != {}

    verified(world, first, target="offsite")
    assert records(world, "primary") == records(world, "offsite")
    assert ["hotel/evidence/00000001.json", "hotel/evidence/00000002.json"] == list(records(world, "offsite"))


def test_home_moved(world: World) -> None:
    """Proofs count, and the next record goes on behind the last one."""
    backup = take(world)
    copied(world, backup)
    verified(world, backup, target="offsite")

    have = look(world, MOVED)
    assert {backup} == set(proven(have))

    assert 2 == verified(world, backup, target="offsite", want=MOVED).sequence
    assert isinstance((seen := look(world, MOVED).evidence), Known)
    assert ((), 2) == (seen.value.faults, len(seen.value.records))


def test_home_was_replaced_by_an_empty_disk(world: World) -> None:
    """What another target knows counts at once, and comes back to it with the next verification."""
    backup = take(world)
    copied(world, backup)
    verified(world, backup, target="offsite")
    before = records(world, "offsite")
    lost(world, "primary")

    assert {backup} == set(proven(look(world)))

    assert 2 == verified(world, backup, target="offsite").sequence
    assert before.items() < records(world, "primary").items()
    assert records(world, "primary") == records(world, "offsite")


def test_records_come_back_with_the_backups(world: World) -> None:
    """A copy that is made anew on home brings them along."""
    backup = take(world)
    copied(world, backup)
    verified(world, backup, target="offsite")
    lost(world, "primary")

    copied(world, backup, "offsite", "primary")

    assert records(world, "offsite") == records(world, "primary") != {}


def test_home_lost_its_last_records(world: World) -> None:
    """A failure that somebody removed there is known elsewhere: what failed does not pass for proven again."""
    backup = take(world)
    copied(world, backup)
    verified(world, backup, target="offsite")
    spoilt(world, backup)
    assert "failed" == verified(world, backup, target="offsite").result
    world.targets["primary"].delete(layout.evidence_key("hotel", 2))

    have = look(world)
    assert ({}, [("offsite", backup)]) == (proven(have), list(refuted(have)))


def test_home_is_out_of_reach(world: World) -> None:
    """Nobody knows what it says last: nothing is proven meanwhile, and what failed stays so."""
    backup = take(world)
    copied(world, backup)
    verified(world, backup)
    spoilt(world, backup)
    verified(world, backup, target="offsite")

    have = look(out_of_reach(world, "primary"))
    assert isinstance(have.evidence, Unknown)
    assert ({}, None, [("offsite", backup)]) == (proven(have), last_proof(WANT, have, world.clock.now()), list(refuted(have)))


def test_another_chain(world: World) -> None:
    """Nothing is written over; of what home does not know, a failure counts and a proof does not."""
    backup = take(world)
    copied(world, backup)
    verified(out_of_reach(world, "offsite"), backup, target="primary")
    spoilt(world, backup)
    kept = records(world, "primary")
    lost(world, "primary", "hotel/evidence")
    verified(world, backup, target="offsite")
    lost(world, "primary", "hotel/evidence")
    for key, text in kept.items():
        world.targets["primary"].write(key, [text])
    other = records(world, "offsite")
    assert other.keys() == kept.keys()
    assert other != kept

    repository = look(world).known()["primary"].repository
    assert repository is not None
    assert 0 == share(world.targets["primary"], world.targets["offsite"], "hotel", repository.id)
    have = look(world)
    assert (other, [("offsite", backup)]) == (records(world, "offsite"), list(refuted(have)))
    assert {backup} == set(proven(have))


def test_of_another_repository(world: World) -> None:
    """What lies there of somebody else proves nothing of ours, and is not copied."""
    backup = take(world)
    verified(world, backup)
    copied(world, backup)

    assert 0 == share(world.targets["primary"], world.targets["offsite"], "hotel", "another")
    lost(world, "offsite", "hotel/evidence")
    assert 0 == share(world.targets["primary"], world.targets["offsite"], "hotel", "another")
    assert {} == records(world, "offsite")


def test_a_target_out_of_reach_takes_nothing_away(world: World) -> None:
    """The record is home's; the other one gets it after the next copy or verification."""
    backup = take(world)
    copied(world, backup)

    assert "passed" == verified(out_of_reach(world, "offsite"), backup).result
    assert {} == records(world, "offsite")

    verified(world, backup)
    assert 2 == len(records(world, "offsite"))


class Locking(Through):
    """Remembers how long what is written is to be kept."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.until: list[datetime | None] = []

    @property
    def custody(self) -> Custody:
        """Of a store that can lock."""
        return Days()

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        self.until.append(keep_until)
        return super().write(key, chunks, expect=expect)


class Days(Custody):
    retain = 5 * DAY


def test_a_record_that_finishes_in_a_thousand_years(world: World) -> None:
    """Whoever may write can date one as he likes: its copy is locked for no longer than what is written now."""
    backup = take(world)
    copied(world, backup)
    record = verified(out_of_reach(world, "offsite"), backup)
    forged = msgspec.structs.replace(record, finished=record.finished + 365_000 * DAY)
    world.targets["primary"].write(layout.evidence_key("hotel", 1), [msgspec.json.encode(forged)])
    vault = Locking(world.targets["offsite"])

    assert 1 == share(world.targets["primary"], vault, "hotel", record.repository)
    assert [world.clock.now() + 5 * DAY] == vault.until
