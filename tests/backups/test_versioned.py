"""Backups on a real store that keeps versions and locks them; what its keys may not do is refused by a proxy before it."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec import structs

from reconciler.backups.claim import Claim, ClaimRecord, Watch, take
from reconciler.backups.erase import erase
from reconciler.backups.layout import INTENT, MANIFEST, backup_root, object_key
from reconciler.backups.signing import new_pair
from reconciler.backups.tombstones import write_tombstone
from reconciler.backups.writer import drafting
from reconciler.duties import DUTIES
from reconciler.duties.copies import CopyBackup
from reconciler.duties.holding import HoldBackup, ReleaseBackup, SpreadHold
from reconciler.duties.leftovers import FinishDeletion, ForgetTombstone, SweepDebris
from reconciler.errors import Locked, Refused, Unreachable
from reconciler.planning.plan import Consent, Plan
from reconciler.policy.secret import Revealed
from reconciler.sandbox.patience import wait_for
from reconciler.targets.append_only import AppendOnly
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.s3_bucket import Bucket, make_client
from reconciler.targets.s3_custody import Lock, S3Custody
from reconciler.targets.s3_target import S3Target
from reconciler.turn import survey, turn
from reconciler.world.facts import Tombstone
from reconciler.world.ports import ABSENT, Custody, Signatures, Stored, Target, World
from reconciler.world.process import SystemProcess
from tests.backups.faking import (
    ROWS,
    MemoryCache,
    MovedClock,
    at_effect,
    bury,
    catalogue,
    content,
    make_world,
    states,
)
from tests.backups.faking import take as take_backup
from tests.building import DAY, HOUR, policy, retention
from tests.faults.proxy import Answer, FaultProxy
from tests.servers.s3 import S3Server

WANT = policy("0 * * * *", ("primary",), retention(grace="1h", keep_last=2))
BOTH = policy("0 * * * *", ("primary", "offsite"))
LEASE = "hotel/lease-keep.json"
DEBRIS = "20251025T020000Z-00dead"
DENIED = Answer(status=403, body=b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
BROKEN = Answer(status=503, body=b"<Error><Code>ServiceUnavailable</Code><Message>Not now.</Message></Error>")
LEGAL = 'held by ana: "legal 7"'
LONG = timedelta(hours=1)
KEY, PUBLIC = new_pair()
_, NEW_PUBLIC = new_pair()

Make = Callable[..., World]


@pytest.fixture
def clock() -> MovedClock:
    """Begins now: a store takes no lock that is over already."""
    return MovedClock(datetime.now(UTC))


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_server.port, http=True) as proxy:
        yield proxy


@pytest.fixture
def make(tmp_path: Path, s3_server: S3Server, proxy: FaultProxy, clock: MovedClock) -> Make:
    def make(*, retain: timedelta | None = None, bucket: str = "", through: Any = None, tell: Any = None) -> World:
        """A world whose one target is a bucket with versions, by which what is written is locked for so long."""
        name = bucket or s3_server.new_bucket(versioned=True, locked=retain is not None)
        access = s3_server.access(name, endpoint=(through or proxy).endpoint)
        reached = Bucket("primary", access, make_client("primary", access), prefix="", clock=clock, stop=Event())
        custody = S3Custody(reached, lock=Lock(mode="governance", retain=retain) if retain else None)
        target = S3Target(reached, domain="s3:test", custody=custody)
        return make_world(tmp_path, clock, targets={"primary": target}, **({"tell": tell} if tell else {}))

    return make


def versions(world: World, prefix: str) -> list[Stored]:
    return [item for item in world.targets["primary"].list(prefix, versions=True).items if item.key.startswith(prefix)]


def names(items: Iterable[Stored]) -> list[str]:
    return [item.key.rpartition("/")[2] for item in items]


def locked_until(world: World, server: S3Server, name: str) -> datetime | None:
    """Whether the one object of that name is locked, as the store has it."""
    (item,) = [item for item in versions(world, "hotel/") if item.key.endswith(name)]
    head = server.client().head_object(Bucket=world.targets["primary"].place.split("/")[2], Key=item.key)
    return head.get("ObjectLockRetainUntilDate")


def lease_on(target: Target, clock: MovedClock) -> Claim:
    record = ClaimRecord(owner=SystemProcess().begin(), counter=0, since=clock.now(), for_what="a test")
    return Claim(target, LEASE, record, clock)


def held(target: Target, clock: MovedClock, cache: MemoryCache | None = None) -> Claim:
    """A lease that was taken by all the rules."""
    claim = lease_on(target, clock)
    take(claim, Watch(clock, SystemProcess()), lambda _: True, cache=cache)
    return claim


def plan(world: World) -> Plan:
    return survey(world, WANT, DUTIES).plan


class TestHistory:
    def test_renewals_leave_no_versions(self, make: Make, clock: MovedClock) -> None:
        """A lease is one version while it is held, however often it was renewed, and one when it was given back."""
        world = make()
        claim = held(world.targets["primary"], clock)
        for _ in range(4):
            claim.renew()
        assert 1 == len(versions(world, LEASE))

        claim.give_back()
        assert 1 == len(versions(world, LEASE))

    def test_what_former_holders_left(self, make: Make, clock: MovedClock) -> None:
        """Whoever takes the lease next tidies up, and touches no other key."""
        world = make()
        for number in range(3):
            world.targets["primary"].write(LEASE, [b"torn %d" % number])
            world.targets["primary"].write(f"{LEASE}.x", [b"another's"])
        claim = lease_on(world.targets["primary"], clock)
        watch = Watch(clock, SystemProcess())

        take(claim, watch, lambda seconds: clock.wait(seconds, Event()))
        assert 1 == len([item for item in versions(world, LEASE) if item.key == LEASE])
        assert 3 == len(versions(world, f"{LEASE}.x"))

    def test_a_key_that_may_delete_no_versions(self, make: Make, clock: MovedClock, proxy: FaultProxy) -> None:
        """Tidying is done as far as it can be: the lease is held and renewed all the same."""
        world = make()
        proxy.on("DELETE", "versionId=", DENIED, times=-1)
        claim = held(world.targets["primary"], clock)
        clock.move(timedelta(seconds=50))
        claim.renew()
        clock.move(timedelta(seconds=50))

        claim.check()

    def test_a_backup_leaves_no_intent(self, make: Make) -> None:
        """No version of it, no marker."""
        world = make()
        backup = take_backup(world)

        assert ["dump.zst", "fingerprint.json.zst", "globals.json.zst", MANIFEST] == names(
            versions(world, backup_root("hotel", backup))
        )


class TestLocks:
    def test_what_belongs_to_a_backup_is_locked(self, make: Make, s3_server: S3Server, clock: MovedClock) -> None:
        """All to one instant; and nothing else is, since a lock on leases and their like would stop everything."""
        world = make(retain=LONG)
        turn(world, WANT, DUTIES, Consent())

        assert {"dump.zst", "fingerprint.json.zst", "globals.json.zst", MANIFEST, "lease-keep.json", "repository.json"} == set(
            names(versions(world, "hotel/"))
        )
        until = {
            locked_until(world, s3_server, name) for name in ("dump.zst", "fingerprint.json.zst", "globals.json.zst", MANIFEST)
        }
        assert [(clock.now() + LONG).replace(microsecond=0)] == list(until)
        assert {None} == {locked_until(world, s3_server, name) for name in ("lease-keep.json", "repository.json")}

    def test_a_deletion_that_is_due_before_the_lock_ends(self, make: Make, clock: MovedClock) -> None:
        """Kept until then, no failure; nothing of it is touched, nothing is tried before, and it can come back."""
        world = make(retain=LONG)
        backup = take_backup(world)
        bury(world, backup, clock.now())
        outcome = FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)

        assert "kept until" in outcome
        (copy,) = catalogue(world).copies
        assert "deleted" == copy.state
        assert copy.due is not None
        assert timedelta(0) <= copy.due - (clock.now() + LONG) < timedelta(seconds=2)
        # The first one too: the store alone knows when it came.
        assert [clock.now(), copy.due] == [stone.due for stone in catalogue(world).tombstones]
        assert "finish_deletion" not in {step.action.kind for step in plan(world).steps}
        assert b"".join(ROWS) == content(world, backup)

    def test_the_lock_ends(self, make: Make, s3_server: S3Server, clock: MovedClock) -> None:
        """Then it goes, with all that it held."""
        world = make(retain=LONG)
        backup = take_backup(world)
        bury(world, backup, clock.now())
        action = FinishDeletion(database="hotel", backup=backup, target="primary")
        assert "kept until" in action.perform(world, WANT)

        clock.move(LONG + timedelta(minutes=1))
        for item in versions(world, backup_root("hotel", backup)):
            if locked_until(world, s3_server, item.key) is not None:
                assert item.version is not None
                s3_server.shorten_lock(world.targets["primary"].place.split("/")[2], item.key, item.version)
        wait_for(lambda: "for good" in attempt(action, world), seconds=60, what="the lock to end")
        assert {"tombstone"} == {name[:9] for name in names(versions(world, backup_root("hotel", backup)))}

    def test_a_legal_hold_is_looked_at_again(self, make: Make, s3_server: S3Server, clock: MovedClock) -> None:
        """It tells no end, so the deletion waits a day."""
        world = make(retain=LONG)
        backup = take_backup(world)
        bury(world, backup, clock.now())
        bucket, key = world.targets["primary"].place.split("/")[2], object_key("hotel", backup, MANIFEST)
        s3_server.client().put_object_legal_hold(Bucket=bucket, Key=key, LegalHold={"Status": "ON"})

        assert "kept until" in FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
        (copy,) = catalogue(world).copies
        assert copy.due is not None
        assert timedelta(0) <= copy.due - (clock.now() + timedelta(days=1)) < timedelta(seconds=2)

    def test_a_hold_is_the_stores_own_too(self, make: Make, s3_server: S3Server) -> None:
        """Whoever else has the rights can't delete it either, until it is released; one that ends by itself is ours alone."""
        world = make(retain=LONG)
        backup, other = take_two(world)
        for _ in range(2):
            hold(backup).perform(world, WANT)
        hold(other, until=world.clock.now() + HOUR).perform(world, WANT)

        made_of = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"}
        assert made_of == held_by_store(world, s3_server, backup)
        assert set() == held_by_store(world, s3_server, other)
        release(backup).perform(world, WANT)
        assert set() == held_by_store(world, s3_server, backup)
        assert not {copy.id: copy.held for copy in catalogue(world).copies}[backup]

    def test_a_hold_that_the_store_refuses(self, make: Make, proxy: FaultProxy) -> None:
        """It holds for us, and says what is missing; what can't be released there stays held, and what isn't held there can."""
        world = make(retain=LONG)
        backup, other = take_two(world)
        hold(other).perform(world, WANT)
        proxy.on("PUT", "legal-hold", DENIED, times=-1)

        said = hold(backup).perform(world, WANT)
        assert "primary does not keep it by itself" in said
        assert "s3:PutObjectLegalHold" in said
        with pytest.raises(Refused, match="cannot release"):
            release(other).perform(world, WANT)
        release(backup).perform(world, WANT)
        assert {backup: False, other: True} == {copy.id: bool(copy.held) for copy in catalogue(world).copies}

    @pytest.mark.parametrize("until", [None, HOUR], ids=["without end", "for an hour"])
    def test_a_hold_that_comes_to_a_later_copy(
        self, make: Make, tmp_path: Path, s3_server: S3Server, until: timedelta | None
    ) -> None:
        """It is the store's own there as well, unless it ends by itself."""
        world, backup = held_elsewhere(make(retain=LONG), tmp_path, until=until)
        bring(backup).perform(world, WANT)

        made_of = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"}
        assert (set() if until else made_of) == held_by_store(world, s3_server, backup)
        assert [True] == [bool(copy.held) for copy in catalogue(world).copies]

    def test_a_hold_that_the_store_of_a_later_copy_refuses(self, make: Make, tmp_path: Path, proxy: FaultProxy) -> None:
        """It holds for us, and says what is missing."""
        world, backup = held_elsewhere(make(retain=LONG), tmp_path)
        proxy.on("PUT", "legal-hold", DENIED, times=-1)
        said = bring(backup).perform(world, WANT)

        assert "primary does not keep it by itself" in said
        assert "s3:PutObjectLegalHold" in said
        assert [True] == [bool(copy.held) for copy in catalogue(world).copies]

    def test_a_hold_of_which_only_half_arrived(self, make: Make, tmp_path: Path, proxy: FaultProxy, s3_server: S3Server) -> None:
        """The store's own comes first: as long as the record is not there, the next turn does both again."""
        world, backup = held_elsewhere(make(retain=LONG), tmp_path)
        proxy.on("PUT", "hold.json", DENIED, times=-1)
        with pytest.raises(Refused):
            bring(backup).perform(world, WANT)

        assert "manifest.json" in held_by_store(world, s3_server, backup)
        assert "spread_hold" in {step.action.kind for step in survey(world, BOTH, DUTIES).plan.steps}

    def test_a_hold_for_which_the_store_gave_no_answer(self, make: Make, proxy: FaultProxy, s3_server: S3Server) -> None:
        """It holds for us at once; the store is asked again by each turn until it answers, and then no more."""
        world = make(retain=LONG)
        backup = take_backup(world)
        proxy.on("PUT", "legal-hold", BROKEN, times=-1)
        assert "primary does not keep it by itself yet" in hold(backup).perform(world, WANT)
        assert [True] == [bool(copy.held) for copy in catalogue(world).copies]
        failed = [outcome.result for outcome in turn(world, WANT, DUTIES, Consent()).outcomes if outcome.does.startswith("hold")]
        assert ["failed"] == failed
        assert set() == held_by_store(world, s3_server, backup)

        proxy.forget()
        turn(world, WANT, DUTIES, Consent())
        made_of = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"}
        assert made_of == held_by_store(world, s3_server, backup)
        assert "spread_hold" not in {step.action.kind for step in plan(world).steps}
        assert [LEGAL] == [copy.held for copy in catalogue(world).copies if copy.id == backup]

    @pytest.mark.parametrize("comes", ["by name", "to a copy that lacks it", "with a copy"])
    def test_a_hold_that_the_store_refused(
        self, make: Make, tmp_path: Path, proxy: FaultProxy, s3_server: S3Server, *, clock: MovedClock, comes: str
    ) -> None:
        """It is asked for again once a day: after the right was given, the store keeps the backup too, and is asked no more."""
        world = make(retain=LONG)
        proxy.on("PUT", "legal-hold", DENIED, times=-1)
        world, backup, said = held_in_vain(world, tmp_path, comes)
        assert "s3:PutObjectLegalHold" in said
        assert "asked again after a day" in said
        assert [] == hold_again(world)

        clock.move(DAY)
        assert ["s3:PutObjectLegalHold" in again for again in hold_again(world)] == [True]
        assert [] == hold_again(world)
        assert set() == held_by_store(world, s3_server, backup)
        proxy.forget()
        clock.move(DAY)
        assert [backup in again for again in hold_again(world)] == [True]
        made_of = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst"}
        assert made_of == held_by_store(world, s3_server, backup)
        clock.move(DAY)
        assert [] == hold_again(world)

    def test_debris_that_is_locked(self, make: Make) -> None:
        """Its writer is seen to be gone at once; sweeping it is put off, and its slot is free."""
        world = make(retain=LONG)
        with pytest.raises(Unreachable):
            die_half_way(world)
        assert {DEBRIS: "debris"} == states(world)

        assert "is locked until" in SweepDebris(database="hotel", backup=DEBRIS, target="primary").perform(world, WANT)
        assert {"take_dump"} == {step.action.kind for step in plan(world).steps}
        assert catalogue(world).copies[0].slot is None


def take_two(world: World) -> tuple[str, str]:
    first, found = take_backup(world), catalogue(world).repository
    return first, take_backup(world, repository=found.id if found else None)


def hold(backup: str, *, until: datetime | None = None) -> HoldBackup:
    return HoldBackup(database="hotel", backup=backup, targets=("primary",), who="ana", why="legal 7", until=until)


def with_offsite(world: World, folder: Path) -> World:
    offsite = LocalTarget("offsite", folder / "offsite", clock=world.clock)
    return structs.replace(
        world, targets={**world.targets, "offsite": offsite}, domains={**world.domains, "offsite": "place:offsite"}
    )


def held_elsewhere(world: World, folder: Path, *, until: timedelta | None = None) -> tuple[World, str]:
    """A backup that was on another target when it was held, and was copied to the bucket later."""
    both = with_offsite(world, folder)
    backup = take_backup(both, "offsite")
    end = world.clock.now() + until if until else None
    HoldBackup(database="hotel", backup=backup, targets=("offsite",), who="ana", why="legal 7", until=end).perform(both, BOTH)
    CopyBackup(database="hotel", backup=backup, origin="offsite", target="primary").perform(both, BOTH)
    return both, backup


def held_in_vain(world: World, folder: Path, comes: str) -> tuple[World, str, str]:
    """And what was said of it."""
    if comes == "by name":
        backup = take_backup(world)
        return world, backup, hold(backup).perform(world, WANT)
    if comes == "to a copy that lacks it":
        both, backup = held_elsewhere(world, folder)
        return both, backup, bring(backup).perform(both, BOTH)
    both = with_offsite(world, folder)
    backup = take_backup(both, "offsite")
    HoldBackup(database="hotel", backup=backup, targets=("offsite",), who="ana", why="legal 7").perform(both, BOTH)
    copied = CopyBackup(database="hotel", backup=backup, origin="offsite", target="primary", held="offsite")
    return both, backup, copied.perform(both, BOTH)


def hold_again(world: World) -> list[str]:
    """What came of each hold that the next turn brings."""
    want = policy("0 * * * *", tuple(world.targets))
    steps = [step for step in survey(world, want, DUTIES).plan.steps if isinstance(step.action, SpreadHold)]
    return [step.action.perform(world, want) for step in steps]


def bring(backup: str) -> SpreadHold:
    return SpreadHold(database="hotel", backup=backup, origin="offsite", targets=("primary",))


def release(backup: str) -> ReleaseBackup:
    return ReleaseBackup(database="hotel", backup=backup, targets=("primary",))


def held_by_store(world: World, s3_server: S3Server, backup: str) -> set[str]:
    """Names of its objects that the store lets nobody delete."""
    client, bucket = s3_server.client(), world.targets["primary"].place.split("/")[2]
    heads = {item.key: client.head_object(Bucket=bucket, Key=item.key) for item in versions(world, backup_root("hotel", backup))}
    return {key.rpartition("/")[2] for key, head in heads.items() if head.get("ObjectLockLegalHoldStatus") == "ON"}


def die_half_way(world: World) -> None:
    """Its dump is there, and no manifest."""
    target = world.targets["primary"]
    with drafting(world, target, "hotel", DEBRIS, kind="scheduled", slot=None, repository="r") as draft:
        draft.put("dump.zst", [b"half"])
        raise Unreachable("pg_dump died half-way")


def attempt(action: FinishDeletion, world: World) -> str:
    """What it says; a tombstone that was put off again is waited for as well."""
    try:
        return action.perform(world, WANT)
    except Refused:
        return ""


class TestHome:
    def test_a_bucket_that_locks_by_itself(self, make: Make, s3_server: S3Server, clock: MovedClock) -> None:
        """No lease is put there: each renewal would stay for days."""
        name = s3_server.new_bucket(locked=True)
        lock_by_default(s3_server, name)
        world = make(bucket=name)

        with pytest.raises(Refused, match="default retention locks all that is written for 3 d"):
            held(world.targets["primary"], clock)
        assert [] == versions(world, LEASE)

    def test_a_backup_on_such_a_bucket(self, make: Make, s3_server: S3Server) -> None:
        """It is whole; the intent that can't be removed is hidden, and nothing more is asked for."""
        name = s3_server.new_bucket(locked=True)
        lock_by_default(s3_server, name)
        world = make(bucket=name)
        backup = take_backup(world)

        assert ("whole", "none") == (catalogue(world).copies[0].state, catalogue(world).copies[0].writer)
        assert "remove_intent" not in {step.action.kind for step in plan(world).steps}
        assert INTENT in names(versions(world, backup_root("hotel", backup)))

    @pytest.mark.parametrize("careless_of", ["absence", "an ETag"])
    def test_a_store_that_ignores_conditions(self, tmp_path: Path, clock: MovedClock, careless_of: str) -> None:
        """A lease there would protect nothing; it is given back."""
        target = Careless("disk", tmp_path / "disk", clock=clock)
        target.careless_of = careless_of

        with pytest.raises(Refused, match="ignores the conditions") as caught:
            held(target, clock)
        assert "single_writer: true" in caught.value.cure
        target.careless_of = "nothing"
        held(target, clock)

    def test_a_single_writer(self, tmp_path: Path, clock: MovedClock) -> None:
        """Its owner vouches for it."""
        target = Careless("disk", tmp_path / "disk", clock=clock)
        target.careless_of = "absence"
        target.custody.single_writer = True

        held(target, clock).check()

    def test_a_store_that_proved_itself(self, tmp_path: Path, clock: MovedClock) -> None:
        """Is not asked to again."""
        target, cache = Careless("disk", tmp_path / "disk", clock=clock), MemoryCache()
        held(target, clock, cache).give_back()
        before = target.writes

        held(target, clock, cache)
        assert before + 1 == target.writes

    def test_a_real_store_keeps_its_word(self, make: Make, clock: MovedClock) -> None:
        """And the probe neither costs the lease nor leaves a version."""
        world = make()
        claim = held(world.targets["primary"], clock)

        claim.renew()
        claim.check()
        assert 1 == len(versions(world, LEASE))


def lock_by_default(server: S3Server, bucket: str) -> None:
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
    server.client().put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)


class Careless(LocalTarget):
    """A store that takes conditions of one kind and writes all the same."""

    def __init__(self, name: str, root: Path, *, clock: MovedClock) -> None:
        super().__init__(name, root, clock=clock)
        self.custody = Custody()
        self.careless_of = "nothing"
        self.writes = 0

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        kind = None if expect is None else "absence" if expect == ABSENT else "an ETag"
        stored = super().write(key, chunks, expect=None if kind == self.careless_of else expect)
        self.writes += 1
        return stored


class TestRights:
    @pytest.fixture
    def world(self, make: Make, proxy: FaultProxy) -> World:
        """Whose key may hide, and delete no version."""
        proxy.on("DELETE", "versionId=", DENIED, times=-1)
        return make()

    def test_a_backup(self, world: World) -> None:
        """It is whole, its intent is hidden, and the next turn has nothing to do for it."""
        turn(world, WANT, DUTIES, Consent())

        assert [("whole", "none")] == [(copy.state, copy.writer) for copy in catalogue(world).copies]
        assert () == plan(world).steps
        assert () == plan(world).findings

    def test_a_deletion(self, world: World, clock: MovedClock) -> None:
        """All of it is hidden, and explained: it is gone. Its tombstone can be hidden as well."""
        backup = take_backup(world)
        bury(world, backup, clock.now())
        said = FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert "for good" not in said
        assert "objects hidden" in said
        assert {} == states(world)

        ForgetTombstone(database="hotel", backup=backup, target="primary").perform(world, WANT)
        assert () == catalogue(world).tombstones
        assert MANIFEST in [item.key.rpartition("/")[2] for item in versions(world, backup_root("hotel", backup)) if item.size]

    def test_a_deletion_signed_by_a_key_that_is_pinned_no_more(self, world: World, clock: MovedClock) -> None:
        """Nothing explains it any more, as the page on signatures says, until the key is pinned again."""
        world = structs.replace(world, signatures=Signatures(public_keys=(PUBLIC,), signing_key=lambda: Revealed(KEY)))
        backup = take_backup(world)
        stone = Tombstone(id=backup, at=clock.now(), due=clock.now(), reason="not kept by retention")
        write_tombstone(world.targets["primary"], "hotel", stone, world.signatures)
        FinishDeletion(database="hotel", backup=backup, target="primary").perform(world, WANT)
        rotated = structs.replace(world, signatures=Signatures(public_keys=(NEW_PUBLIC,)))

        assert "hidden" == states(rotated)[backup]
        assert {} == states(structs.replace(world, signatures=Signatures(public_keys=(NEW_PUBLIC, PUBLIC))))

    def test_no_deletion_whatever(self, make: Make, proxy: FaultProxy) -> None:
        """The intent is given back, so that nobody has to find out whether its writer lives."""
        world = make()
        proxy.on("DELETE", "", DENIED, times=-1)
        take_backup(world)

        (copy,) = catalogue(world, watch=Watch(world.clock, Elsewhere())).copies
        assert ("whole", "gone") == (copy.state, copy.writer)


class Elsewhere(SystemProcess):
    """A process of another host: it can prove nothing of anybody."""

    def is_gone(self, owner: object) -> bool | None:
        return None


def test_an_append_only_target(tmp_path: Path, clock: MovedClock) -> None:
    """Backups come and stay there, whole; they are pruned elsewhere, nothing fails, and the plan becomes empty."""
    want = policy("0 * * * *", ("primary", "vault"), retention(grace="0s", keep_last=2))
    vault = AppendOnly(LocalTarget("vault", tmp_path / "vault", clock=clock))
    primary = LocalTarget("primary", tmp_path / "primary", clock=clock)
    world = make_world(tmp_path, clock, targets={"primary": primary, "vault": vault})
    for _ in range(5):
        assert {"done"} == {outcome.result for outcome in turn(world, want, DUTIES, Consent()).outcomes}
        clock.move(HOUR)
    clock.move(-HOUR)
    turn(world, want, DUTIES, Consent())

    assert (2, 5) == (len(states(world, "primary")), len(states(world, "vault")))
    assert {"whole"} == set(states(world, "vault").values())
    after = survey(world, want, DUTIES).plan
    assert () == after.steps
    assert ["3 backups that retention would remove stay there: it is append-only"] == [found.what for found in after.findings]


class TestHidden:
    def test_a_marker_that_nobody_explains(self, make: Make) -> None:
        """Reported, and left as it is: the versions below are the backup."""
        world = make()
        backup = take_backup(world)
        world.targets["primary"].delete(object_key("hotel", backup, MANIFEST))
        before = versions(world, backup_root("hotel", backup))
        outcomes = turn(world, WANT, DUTIES, Consent()).outcomes

        assert "hidden" == states(world)[backup]
        assert [f"backup {backup} is hidden"] == [found.what.partition(":")[0] for found in plan(world).findings]
        assert before == versions(world, backup_root("hotel", backup))
        assert {"take dump → primary"} == {outcome.does for outcome in outcomes}

    def test_a_marker_that_hides_nothing(self, make: Make) -> None:
        """What lay below it is gone for good, by a rule of the store's or by hand: no incident, and no backup."""
        world = make()
        backup = take_backup(world)
        for item in versions(world, backup_root("hotel", backup)):
            world.targets["primary"].delete(item.key)
            world.targets["primary"].delete(item.key, version=item.version)

        assert 4 == len(versions(world, backup_root("hotel", backup)))
        assert {} == states(world)


class TestErasing:
    @pytest.mark.parametrize("number", range(10))
    def test_killed_anywhere(self, make: Make, clock: MovedClock, number: int) -> None:
        """Never whole again, and the next attempt leaves nothing but the tombstone: no version, no marker."""
        world = make()
        backup = take_backup(world)
        manifest = object_key("hotel", backup, MANIFEST)
        target = world.targets["primary"]
        with target.read(manifest) as blob:
            target.write(manifest, [b"".join(blob)])
        target.delete(manifest)
        bury(world, backup, clock.now())
        bucket = target.place.split("/")[2]

        def die() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            erase(make(bucket=bucket, tell=at_effect(number, die)).targets["primary"], "hotel", backup, now=clock.now())
        assert "being_deleted" == states(world).get(backup, "being_deleted")
        erase(target, "hotel", backup, now=clock.now())
        assert {"tombstone"} == {name[:9] for name in names(versions(world, backup_root("hotel", backup)))}

    def test_a_lock_on_the_manifest_saves_the_rest(self, make: Make, clock: MovedClock) -> None:
        """Nothing is gone while the first thing that would go is locked."""
        world = make(retain=LONG)
        backup = take_backup(world)
        before = versions(world, backup_root("hotel", backup))

        with pytest.raises(Locked):
            erase(world.targets["primary"], "hotel", backup, now=clock.now())
        assert before == versions(world, backup_root("hotel", backup))
