"""Verifying copies in a world of bytes: what is evidence, what is none, and that the chain holds."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyrage
import pytest

from reconciler.backups import layout
from reconciler.backups.claim import Watch
from reconciler.backups.evidence import append
from reconciler.backups.manifest import encode
from reconciler.errors import Absent, Conflict, Corrupt, Unreachable
from reconciler.observe import observe
from reconciler.planning.proof import proven, refuted
from reconciler.policy.model import Age, Check, DatabasePolicy, Level
from reconciler.policy.recipient import Recipient
from reconciler.policy.secret import Revealed
from reconciler.rehearsal.verify import verify
from reconciler.targets.telling import Telling
from reconciler.world.evidence import Evidence, Fault
from reconciler.world.facts import DumpFacts, Filters, Globals, Observation
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import Blob, Stored, Target, World
from reconciler.world.scratch import Comparison, Contents, Inspection, Restoration
from tests.backups.faking import ROWS, MemoryCache, MovedClock, VersionedTarget, make_world, manifest_of, take
from tests.building import policy

WANT = policy(targets=("primary", "offsite"))


class Plain:
    """A scratch database that takes bytes for what they are."""

    place = "in memory"

    def __init__(self) -> None:
        self.restored = b""

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        self.restored = b"".join(chunks)
        return Contents(entries=1)

    @contextmanager
    def room(self, facts: DumpFacts, globals: Globals) -> Iterator["Plain"]:  # noqa: A002  the port's word
        yield self

    def restore(self, chunks: Iterable[bytes], *, raw_bytes: int) -> Restoration:
        self.restored = b"".join(chunks)
        return Restoration(did="restored", faults=(), left_out=())

    def compare(self, expected: Fingerprint) -> Comparison:
        return Comparison(did="compared", faults=(), notes=())

    def inspect(self) -> Inspection:
        return Inspection()

    def check(self, check: Check) -> Fault | None:
        return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return msgspec.structs.replace(make_world(tmp_path, MovedClock()), scratch=Plain())


def verified(world: World, backup: str, level: Level = "restore", *, want: DatabasePolicy = WANT) -> Evidence:
    return verify(world, want, backup=backup, target="primary", level=level)


def look(world: World) -> Observation:
    return observe(msgspec.structs.replace(world, cache=MemoryCache()), WANT, Watch(world.clock, world.process))


def path_of(world: World, backup: str, name: str) -> Path:
    """On the disk of the local target."""
    return Path(world.targets["primary"].place.removeprefix("local ")) / layout.object_key("hotel", backup, name)


def spoil(world: World, backup: str, change: Callable[[bytes], bytes], name: str = layout.DUMP) -> None:
    """Whoever can write to the disk."""
    key = layout.object_key("hotel", backup, name)
    with world.targets["primary"].read(key) as blob:
        content = b"".join(blob)
    world.targets["primary"].write(key, [change(content)])


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
def test_a_sound_copy(world: World, level: Level) -> None:
    """Every byte is read; only a restore proves it."""
    backup = take(world)

    evidence = verified(world, backup, level)

    assert (evidence.result, evidence.level, evidence.faults) == ("passed", level, ())
    assert level == "hash" or isinstance(world.scratch, Plain)
    assert level == "hash" or world.scratch.restored == b"".join(ROWS)  # type: ignore[attr-defined]  # it is Plain
    assert set(proven(look(world))) == ({backup} if level == "restore" else set())


def test_a_partial_one(world: World) -> None:
    """Its record tells, for when the backup is gone and the policy leaves nothing out any more."""
    partial = take(world, filters=Filters(exclude=("public.scratchpad",)))

    assert verified(world, partial).partial
    assert not verified(world, take(world, repository=manifest_of(world, partial).repository)).partial


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[: len(content) // 2],
        lambda content: content + b"more",
        lambda content: b"",
        lambda content: content[::-1],
    ],
    ids=["one bit", "truncated", "longer", "empty", "replaced"],
)
def test_a_spoilt_copy(world: World, level: Level, change: Callable[[bytes], bytes]) -> None:
    """It fails at each level, with the object's name, and counts for nothing."""
    backup = take(world)
    spoil(world, backup, change)

    evidence = verified(world, backup, level)

    assert evidence.result == "failed"
    assert "dump.zst" in evidence.faults[0].what
    assert proven(look(world)) == {}


def test_an_object_that_is_gone(world: World) -> None:
    """That is no trouble of the target's."""
    backup = take(world)
    world.targets["primary"].delete(layout.object_key("hotel", backup, layout.GLOBALS))

    assert verified(world, backup, "hash").result == "failed"


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
def test_a_manifest_that_lies(world: World, level: Level) -> None:
    """Of hashes that add up and are not those of the bytes; one that does not add up is no manifest, and there is no evidence."""
    backup = take(world)
    spoil(world, backup, lambda text: text.replace(b'"sha256": "', b'"sha256": "0', 1), layout.MANIFEST)
    assert verified(world, backup, level).result == "failed"

    spoil(world, backup, lambda text: text.replace(b'"stored_bytes": ', b'"stored_bytes": 1', 1), layout.MANIFEST)
    with pytest.raises(Corrupt, match="add up"):
        verified(world, backup)


def test_replaced_after_it_was_proven(world: World) -> None:
    """Evidence speaks of the bytes that it read: the same bytes written anew are another copy, which nothing proves."""
    backup = take(world)
    verified(world, backup)
    assert set(proven(look(world))) == {backup}

    spoil(world, backup, lambda content: content)

    assert proven(look(world)) == {}


def test_refuted_and_mended(world: World) -> None:
    """What failed stays so until the same level passes; what is less thorough takes nothing back."""
    backup = take(world)
    refusing = Plain()
    invalid = Fault(where="index i", what="was left invalid", result="failed")
    refusing.inspect = lambda: Inspection(faults=(invalid,))  # type: ignore[method-assign]
    verified(msgspec.structs.replace(world, scratch=refusing), backup)
    verified(world, backup, "hash")
    assert set(refuted(look(world))) == {("primary", backup)}

    verified(world, backup)

    assert refuted(look(world)) == {}
    assert set(proven(look(world))) == {backup}


def encrypted_to(world: World, identity: pyrage.x25519.Identity) -> tuple[DatabasePolicy, World]:
    recipient = Recipient.parse(str(identity.to_public()))
    return msgspec.structs.replace(WANT, encryption=Age(age_recipients=(recipient,))), world


def sealed(world: World) -> tuple[DatabasePolicy, str, World]:
    """The policy, an encrypted backup, and the world of whoever has its key."""
    from reconciler.duties.dumps import TakeDump
    from tests.building import HOTEL

    key = pyrage.x25519.Identity.generate()
    want, world = encrypted_to(world, key)
    TakeDump(database="hotel", target="primary", slot=None, repository=None, identity=HOTEL).perform(world, want)
    (backup,) = [one.id for one in look(world).backups()]
    return want, backup, msgspec.structs.replace(world, identities=lambda: (Revealed(str(key)),))


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ((Revealed(str(pyrage.x25519.Identity.generate())),), "is encrypted to none of the keys at hand"),
        ((), "the policy names no key"),
    ],
    ids=["another's", "none"],
)
def test_a_key_that_is_not_at_hand(world: World, level: Level, keys: tuple[Revealed, ...], why: str) -> None:
    """Unproven at each level, not fine and not bad."""
    want, backup, owner = sealed(world)
    stranger = msgspec.structs.replace(world, identities=lambda: keys)

    evidence = verified(stranger, backup, level, want=want)

    assert ("unproven", [("unproven", backup)]) == (evidence.result, [(one.result, one.where) for one in evidence.faults])
    assert why in evidence.faults[0].what
    assert not refuted(look(world))
    assert not proven(look(world))
    assert verified(owner, backup, level, want=want).result == "passed"


def test_hashes_without_the_key(world: World) -> None:
    """What can be told is told: all was read and compared. Damage is damage, without the key too."""
    want, backup, _ = sealed(world)

    evidence = verified(world, backup, "hash", want=want)

    assert evidence.did[-1].startswith("compared ")
    assert "has the bytes that its manifest names, and nobody here can decrypt them" in evidence.faults[0].what
    spoil(world, backup, lambda content: content[:-1] + bytes([content[-1] ^ 1]), layout.DUMP + layout.AGE)
    assert verified(world, backup, "hash", want=want).result == "failed"


class GoesAway(Telling):
    """Answers for a manifest, and not for a dump."""

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        if key.endswith(layout.DUMP):
            raise Unreachable("primary: no answer")
        return super().read(key, start=start, version=version)


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
def test_a_target_that_does_not_answer(world: World, level: Level) -> None:
    """Nothing can be said of the copy, so nothing is written down, and its pin is gone."""
    backup = take(world)
    away: dict[str, Target] = {**world.targets, "primary": GoesAway(world.targets["primary"], lambda _: None)}

    with pytest.raises(Unreachable, match="no answer"):
        verified(msgspec.structs.replace(world, targets=away), backup, level)

    assert records(world) == []
    assert list(world.targets["primary"].list("hotel/pins/").items) == []


def records(world: World) -> list[str]:
    return [item.key for item in world.targets["primary"].list(layout.evidence_root("hotel")).items]


def test_the_chain(world: World) -> None:
    """Each names the one before it."""
    backup = take(world)
    for _ in range(3):
        verified(world, backup, "hash")

    chain = look(world).evidence.value  # type: ignore[union-attr]  # it is Known
    assert [one.sequence for one in chain.records] == [1, 2, 3]
    assert chain.faults == ()


@pytest.mark.parametrize("number", [1, 2])
def test_a_record_that_was_taken_out_or_changed(world: World, number: int) -> None:
    """The next one tells; what can be read counts."""
    backup = take(world)
    for _ in range(3):
        verified(world, backup, "hash")
    home, key = world.targets["primary"], layout.evidence_key("hotel", number)

    home.delete(key)
    assert "does not follow" in " ".join(look(world).evidence.value.faults)  # type: ignore[union-attr]
    home.write(key, [b"{"])
    assert "cannot be read" in " ".join(look(world).evidence.value.faults)  # type: ignore[union-attr]


def test_two_that_write_at_once(world: World) -> None:
    """The chain can't fork: who was second writes the next one, after the first."""
    backup = take(world)
    verified(world, backup, "hash")
    template = look(world).evidence.value.records[0]  # type: ignore[union-attr]
    home = world.targets["primary"]
    raced: list[int] = []

    def make(sequence: int, before: str | None) -> Evidence:
        record = msgspec.structs.replace(template, sequence=sequence, before=before)
        if not raced:
            raced.append(sequence)
            append(
                home, "hotel", lambda number, hashed: msgspec.structs.replace(template, sequence=number, before=hashed, name="x")
            )
        return record

    assert append(home, "hotel", make).sequence == 3
    assert look(world).evidence.value.faults == ()  # type: ignore[union-attr]


class LosesAnswers(Telling):
    """Stores what it is given, and says that somebody was first."""

    def write(self, key: str, chunks: Iterable[bytes], **options: object) -> Stored:
        stored = super().write(key, chunks, **options)  # type: ignore[arg-type]  # passed on as they are
        if "/evidence/" in key:
            raise Conflict(f"{key} is there already")
        return stored


def test_a_lost_answer(world: World) -> None:
    """What is there already and is ours is one record, not two."""
    backup = take(world)
    deaf: dict[str, Target] = {**world.targets, "primary": LosesAnswers(world.targets["primary"], lambda _: None)}

    verified(msgspec.structs.replace(world, targets=deaf), backup, "hash")

    assert len(records(world)) == 1


def test_no_such_backup(world: World) -> None:
    """There is nothing to write evidence of."""
    take(world)

    with pytest.raises(Absent):
        verified(world, "20250101T020000Z-3f9c2a")
    assert records(world) == []


def test_it_holds_no_secret(world: World) -> None:
    """What opened the backup is not in what is said of it."""
    want, backup, owner = sealed(world)
    text = encode(verified(owner, backup, want=want))

    assert b'"result": "passed"' in text
    assert owner.identities()[0].expose().encode() not in text


@pytest.mark.parametrize("result", ["passed", "failed"])
def test_on_a_store_that_keeps_versions(tmp_path: Path, result: str) -> None:
    """What was found out of a copy is found again by the catalogue, good or bad."""
    clock = MovedClock()
    store = VersionedTarget("primary", clock)
    world = msgspec.structs.replace(make_world(tmp_path, clock, targets={"primary": store}), scratch=Plain())
    backup = take(world)
    if result == "failed":
        key = layout.object_key("hotel", backup, "dump.zst")
        (size,) = (item.size for item in store.list(key).items)
        store.delete(key)
        store.write(key, [bytes(size)])
    found = verified(world, backup, want=policy(targets=("primary",)))

    assert found.result == result
    assert ({backup} if result == "passed" else set()) == set(proven(look(world)))
    assert ({("primary", backup)} if result == "failed" else set()) == set(refuted(look(world)))
