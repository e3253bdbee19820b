"""Which backups are copied where."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from reconciler.duties import DUTIES, copies, keeping
from reconciler.duties.copies import CopyBackup
from reconciler.duties.retention import kept
from reconciler.errors import Corrupt, Stopped, Unreachable
from reconciler.planning.plan import Consent
from reconciler.planning.proof import refuted
from reconciler.policy.model import DatabasePolicy
from reconciler.targets.unusable import UnusableTarget
from reconciler.turn import survey, turn
from reconciler.world.facts import Observation
from reconciler.world.ports import Blob, World
from reconciler.world.through import Through
from tests.backups.faking import MovedClock, make_world, take
from tests.backups.faking import catalogue as catalogue_of
from tests.building import (
    DAY,
    HOUR,
    NOW,
    catalogue,
    copy,
    daily,
    evidence,
    observation,
    policy,
    retention,
    tombstone,
    unknown,
    utc,
)
from tests.drawn import observations, policies

TODAY = utc("2025-10-25 02:00")
THREE = ("primary", "offsite", "vault")


class FlipsOnce(Through):
    """The first dump that is read comes with another bit; each time after that as it lies there."""

    flips = True

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        """As it does."""
        blob = self.inside.read(key, start=start, version=version)
        if not self.flips or not key.endswith("/dump.zst"):
            return blob
        self.flips = False
        return Blob(blob.stored, (bytes([chunk[0] ^ 1]) + chunk[1:] for chunk in blob))


def asked(want: DatabasePolicy, have: Observation) -> list[CopyBackup]:
    return [step.action for step in copies.due(want, have, NOW).steps if isinstance(step.action, CopyBackup)]


def test_backup_that_one_target_lacks() -> None:
    """A kept backup comes to every target of the policy, from the first that has it."""
    one = copy(TODAY)
    have = observation(primary=catalogue([one]), offsite=catalogue([one]), vault=catalogue())

    assert [("primary", "vault")] == [(action.origin, action.target) for action in asked(policy(targets=THREE), have)]


def test_first_target_has_a_bad_copy() -> None:
    """A copy is made of a whole one; the damaged one is not written over."""
    one = copy(TODAY)
    damaged = msgspec.structs.replace(one, state="damaged")
    have = observation(primary=catalogue([damaged]), offsite=catalogue([one]), vault=catalogue())

    assert [("offsite", "vault")] == [(action.origin, action.target) for action in asked(policy(targets=THREE), have)]


def test_a_copy_that_failed_its_verification() -> None:
    """It is no original: where there is another, that one is, and else nothing is copied, and nothing fails for its sake."""
    one = msgspec.structs.replace(copy(TODAY), content="its bytes")
    failed = evidence(one, "failed", level="hash")
    both = observation(evidence=[failed], primary=catalogue([one]), offsite=catalogue([one]), vault=catalogue())
    alone = observation(evidence=[failed], primary=catalogue([one]), vault=catalogue())

    assert [("offsite", "vault")] == [(action.origin, action.target) for action in asked(policy(targets=THREE), both)]
    assert [] == asked(policy(targets=("primary", "vault")), alone)


def rot(folder: Path, backup: str) -> bytes:
    """One bit of its dump; what was there before."""
    dump = folder / "hotel" / "backups" / backup / "dump.zst"
    content = dump.read_bytes()
    dump.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return content


def refuted_in(world: World, want: DatabasePolicy) -> list[tuple[str, str]]:
    return list(refuted(survey(world, want, DUTIES).have))


def test_a_rotten_original_is_written_down_and_stops_nothing_any_more(tmp_path: Path) -> None:
    """As a verification would: deletions are frozen in that very turn, the next fails at nothing, and they wait for a person
    alone."""
    clock = MovedClock()
    world = make_world(tmp_path, clock, names=("primary",))
    backup = take(world)
    rot(tmp_path / "primary", backup)
    both, want = make_world(tmp_path, clock), policy("0 0 1 1 *", ("primary", "offsite"), retention(keep_last=2))
    failed, frozen = turn(both, want, (copies.DUTY, keeping.DUTY), Consent()).outcomes

    assert ("failed", "done") == (failed.result, frozen.result)
    assert "counts for nothing any more" in failed.says
    assert "`reconcile unfreeze hotel`" in failed.cure
    assert [("primary", backup)] == refuted_in(both, want)
    assert f"{backup} on primary failed its verification" in catalogue_of(both).frozen
    assert () == turn(both, want, (copies.DUTY, keeping.DUTY), Consent()).outcomes


def test_a_rotten_original_that_cannot_be_written_down(tmp_path: Path) -> None:
    """Where evidence lies can't be reached: the outcome says how to do it by hand."""
    clock = MovedClock()
    world = make_world(tmp_path, clock, names=("offsite",))
    backup = take(world, "offsite")
    rot(tmp_path / "offsite", backup)
    three, want = make_world(tmp_path, clock, names=("home", "offsite", "vault")), policy(targets=("offsite", "vault"))
    want = msgspec.structs.replace(want, home="home")
    gone = UnusableTarget("home", Unreachable("no route to host"))
    without = msgspec.structs.replace(three, targets={**three.targets, "home": gone})

    with pytest.raises(Corrupt) as failed:
        CopyBackup(database="hotel", backup=backup, origin="offsite", target="vault").perform(without, want)

    assert f"reconcile backups verify {backup} --target offsite --level hash" in failed.value.cure
    assert [] == refuted_in(three, want)


def test_asked_to_stop_while_a_rotten_original_is_read_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a stop, which nobody is to do anything about, and no damage that could not be written down."""
    clock = MovedClock()
    backup = take(make_world(tmp_path, clock, names=("primary",)))
    rot(tmp_path / "primary", backup)

    def stopped(*_: object, **__: object) -> None:
        raise Stopped("asked to stop")

    monkeypatch.setattr(copies, "confirm_damage", stopped)
    copy = CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite")
    with pytest.raises(Stopped):
        copy.perform(make_world(tmp_path, clock), policy("0 0 1 1 *", ("primary", "offsite")))


def test_an_original_that_is_spoilt_on_its_way_alone(tmp_path: Path) -> None:
    """Read once more it is sound: nothing is said against it, and the next turn copies it."""
    clock = MovedClock()
    world = make_world(tmp_path, clock, names=("primary",))
    take(world)
    both, want = make_world(tmp_path, clock), policy("0 0 1 1 *", ("primary", "offsite"))
    spoilt = FlipsOnce(both.targets["primary"])
    (failed,) = turn(
        msgspec.structs.replace(both, targets={**both.targets, "primary": spoilt}), want, (copies.DUTY,), Consent()
    ).outcomes

    assert "failed" == failed.result
    assert "read once more, the original is sound" in failed.says
    assert [] == refuted_in(both, want)
    assert () == catalogue_of(both).evidence.records
    assert ["done"] == [outcome.result for outcome in turn(both, want, (copies.DUTY,), Consent()).outcomes]


def test_another_original_is_taken_for_a_rotten_one(tmp_path: Path) -> None:
    """The rotten one is told and written down; the copy is made all the same."""
    clock = MovedClock()
    world = make_world(tmp_path, clock, names=("primary", "offsite"))
    backup = take(world)
    CopyBackup(database="hotel", backup=backup, origin="primary", target="offsite").perform(world, policy(targets=THREE))
    content = rot(tmp_path / "primary", backup)
    three, want = make_world(tmp_path, clock, names=THREE), policy("0 0 1 1 *", THREE, retention(keep_last=2))
    (done,) = turn(three, want, (copies.DUTY,), Consent()).outcomes

    assert "done" == done.result
    assert "from offsite to vault" in done.says
    assert "not so primary" in done.says
    assert content == (tmp_path / "vault" / "hotel" / "backups" / backup / "dump.zst").read_bytes()
    assert [("primary", backup)] == refuted_in(three, want)


def test_target_that_the_policy_does_not_name() -> None:
    """The home target of records is no target of dumps."""
    have = observation(primary=catalogue([copy(TODAY)]), home=catalogue())

    assert [] == asked(policy(), have)


def test_target_is_down() -> None:
    """What can't be seen gets no copy: it may be there."""
    have = observation(primary=catalogue([copy(TODAY)]), offsite=unknown())

    assert [] == asked(policy(targets=("primary", "offsite")), have)


def test_backup_that_retention_drops() -> None:
    """Nothing travels that would be pruned at once."""
    have = observation(primary=catalogue(daily(5, TODAY)), offsite=catalogue())
    want = policy(targets=("primary", "offsite"), keep=retention(keep_last=3))

    assert {one.id for one in daily(3, TODAY)} == {action.backup for action in asked(want, have)}


def test_backup_that_another_target_buried() -> None:
    """What a tombstone names anywhere is not spread again."""
    one = copy(TODAY)
    have = observation(primary=catalogue([one]), offsite=catalogue(tombstones=[tombstone(one, NOW - HOUR)]), vault=catalogue())

    assert [] == asked(policy(targets=THREE), have)


def test_target_whose_debris_of_it_was_swept() -> None:
    """A tombstone that buried debris would condemn a copy put beside it: it is forgotten first, elsewhere it hinders nothing."""
    one = copy(TODAY)
    swept = catalogue(tombstones=[tombstone(one, NOW - HOUR, grace=0 * DAY, counts=False)])
    have = observation(primary=catalogue([one]), offsite=swept, vault=catalogue())

    assert ["vault"] == [action.target for action in asked(policy(targets=THREE), have)]


def test_manual_and_held_ones() -> None:
    """What stays for another reason than retention is copied too."""
    manual, held = copy(TODAY - 9 * DAY, kind="manual", slot=None), copy(TODAY - 8 * DAY, held="legal")
    have = observation(primary=catalogue([*daily(3, TODAY), manual, held]), offsite=catalogue(daily(3, TODAY)))
    want = policy(targets=("primary", "offsite"), keep=retention(keep_last=3))

    assert {manual.id, held.id} == {action.backup for action in asked(want, have)}


@given(policies(), observations())
@settings(max_examples=80, deadline=None)
def test_copies_in_any_world(want: DatabasePolicy, have: Observation) -> None:
    """Only kept, whole, unburied backups travel, from a whole copy to where nothing lies under their id."""
    backups = {backup.id: backup for backup in have.backups()}
    stays = kept(want, have, NOW)
    buried = {stone.id for seen in have.known().values() for stone in seen.tombstones}

    for action in asked(want, have):
        assert action.backup in stays.keys() - buried
        assert "whole" == backups[action.backup].copies[action.origin].state
        assert action.target in have.known()
        assert action.target not in backups[action.backup].copies
