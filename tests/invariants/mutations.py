"""The rules, broken on purpose, one at a time: what each patch takes away is the reason why the rule is there."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from reconciler import apply, observe
from reconciler.backups import catalogue, claim, erase, fence, signing, tombstones, writer
from reconciler.backups.claim import Claim
from reconciler.backups.keeping import NO_HOLD, Freeze, change_freeze
from reconciler.backups.layout import is_tombstone, object_key
from reconciler.backups.manifest import Manifest, encode
from reconciler.backups.pipeline import read_checked
from reconciler.backups.signing import Signed, check_signature
from reconciler.backups.writer import Draft
from reconciler.duties import DUTIES, branches, copies, dumps, holding, keeping, leftovers, pitr, retention, snapshots
from reconciler.duties.branches import SweepBranch
from reconciler.duties.leftovers import FinishDeletion, SweepDebris
from reconciler.duties.pitr import ShortenWindow
from reconciler.duties.retention import PruneBackup
from reconciler.errors import Locked, Refused
from reconciler.planning import alarms, guard, objectives, planner
from reconciler.planning.allowance import Allowance
from reconciler.planning.plan import Due
from reconciler.planning.retention import keep as real_keep
from reconciler.policy.model import DatabasePolicy
from reconciler.rehearsal import verify as verifying
from reconciler.rehearsal.rehearse import Rehearsed
from reconciler.simulation import history, reconciling
from reconciler.simulation.history import ThroughBranch
from reconciler.simulation.source import SimulatedSource
from reconciler.simulation.target import SimulatedTarget
from reconciler.world.facts import Backup, Catalogue, Known, Observation, Observed, Tombstone
from reconciler.world.history import BranchFacts
from reconciler.world.history import use_of as real_use_of
from reconciler.world.ports import Custody, Signatures, Target, World
from tests.mutation import by_name


def readers_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    """Rule 12: who deletes does not look for pins."""
    for duty in (leftovers, retention):
        patch.setattr(duty, "give_way_to_readers", lambda world, home, *, database, backup: None)


def nothing_is_locked(patch: pytest.MonkeyPatch) -> None:
    """Rule 14: backups are written to a store that can lock them like anything else."""
    patch.setattr(writer, "custody_of", lambda target: Custody())


def a_lock_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """Rule 14: what the store keeps for now is no longer announced as deleted."""

    def forget(
        target: Target, database: str, stone: Tombstone, locked: Locked, *, now: datetime, signatures: Signatures
    ) -> datetime:
        erase.erase_tombstones(target, database, stone.id)
        return now

    patch.setattr(leftovers, "put_off", forget)


def much_may_go_at_once(patch: pytest.MonkeyPatch) -> None:
    """Rule 3 without its guard."""
    patch.setattr(guard, "allow", lambda have, now: Allowance(may_go=10**6, gone=frozenset()))


def debris_is_believed_in(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: a tombstone that says that there never was a backup is carried out beside its manifest."""
    for module in (catalogue, leftovers):
        patch.setattr(module, "refuse_denial", lambda stone, what, *, has_manifest: None)


def a_thief_sets_the_pace(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: what tombstones gave up today goes at once, however many came."""
    patch.setattr(guard, "_removed_too_soon", lambda deletions, have, now: ())


def tombstones_date_themselves(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: whoever dates his back is neither counted in today's losses, nor waits for the grace that he tells."""
    for module in (catalogue, leftovers):
        patch.setattr(module, "as_met", lambda stone, arrived, signatures: stone)
    patch.setattr(catalogue, "arrival", lambda items: datetime.min.replace(tzinfo=UTC))


def anybody_gives_up_what_is_signed(patch: pytest.MonkeyPatch) -> None:
    """§2: a tombstone needs no signature, whatever the policy pins."""
    patch.setattr(tombstones, "check", lambda *_: None)


def nothing_is_held_back(patch: pytest.MonkeyPatch) -> None:
    """Rules 1, 3, 13 and §5 together."""
    patch.setattr(planner, "hold_back", lambda steps, have, now: (tuple(steps), ()))


def the_unseen_holds_nothing_back(patch: pytest.MonkeyPatch) -> None:
    """Rule 1: deletions rest on what happened to answer."""
    patch.setattr(Observation, "unknown", lambda self: {})
    patch.setattr(guard, "Unknown", type(None))


def no_answer_is_an_empty_catalogue(patch: pytest.MonkeyPatch) -> None:
    """Rule 1: Unknown taken for absent."""

    really = observe._look

    def look(world: World, read: Callable[[], Any]) -> Observed[Any]:
        seen = really(world, read)
        if isinstance(seen, Known) or getattr(read, "__name__", "") == "facts":
            return seen
        return Known(Catalogue(repository=None, copies=(), tombstones=(), store_time=seen.at), seen.at)

    patch.setattr(observe, "_look", look)


def old_looks_are_good_enough(patch: pytest.MonkeyPatch) -> None:
    """Rule 1: freshness, in the plan and at each effect."""
    patch.setattr(guard, "FRESH", timedelta(days=9))
    patch.setattr(apply, "FRESH", timedelta(days=9))


def wrong_clocks_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """§5: whatever our clock says."""
    patch.setattr(guard, "_skewed", lambda have: iter(()))


def a_freeze_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    """Rule 13: neither the plan heeds it, nor who deletes at the last moment."""
    patch.setattr(guard, "_frozen", lambda have, *_: iter(()))
    patch.setattr(apply, "refuse_frozen", lambda home, database, now: None)


def a_hold_does_not_travel(patch: pytest.MonkeyPatch) -> None:
    """Rule 12: it stays on the target on which it was put."""
    patch.setattr(holding, "_is_there", lambda copy: False)


def what_alarms_stops_nothing(patch: pytest.MonkeyPatch) -> None:
    """Rule 13: deletions go on, whatever was found out."""
    patch.setattr(guard, "alarm", lambda have, now: "")
    patch.setattr(keeping, "alarm", lambda have, now: "")


def lost_rows_alarm_nobody(patch: pytest.MonkeyPatch) -> None:
    """Rule 13: a table that lost most of its rows is no reason to stop."""
    patch.setattr(alarms, "suspicious", lambda have, now: ())


def failures_alarm_nobody(patch: pytest.MonkeyPatch) -> None:
    """Rule 13: neither is a verification that failed."""
    patch.setattr(alarms, "refuted", lambda have: {})


def acknowledgements_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Rule 13: a new freeze knows nothing of what people looked at before."""

    def forgetful(target: Target, database: str, change: Callable[[Freeze], Freeze]) -> None:
        change_freeze(target, database, lambda before: msgspec.structs.replace(change(before), acknowledged=()))

    patch.setattr(keeping, "change_freeze", forgetful)


def partial_backups_count(patch: pytest.MonkeyPatch) -> None:
    """Rule 11: one that lacks tables meets the objective, and takes the place of one that holds the whole."""
    copy_of = catalogue.copy_of

    def whole(seen: Any, repository: Any, now: datetime) -> Any:
        copy = copy_of(seen, repository, now)
        return None if copy is None else msgspec.structs.replace(copy, partial=False)

    patch.setattr(catalogue, "copy_of", whole)


def partial_backups_take_places(patch: pytest.MonkeyPatch) -> None:
    """Rule 11: retention alone takes them for whole ones."""
    patch.setattr(Backup, "partial", property(lambda self: False))


def anybody_may_write_manifests(patch: pytest.MonkeyPatch) -> None:
    """§2: a manifest counts without a signature of a key that is pinned."""
    patch.setattr(catalogue, "check_signature", lambda *_: None)


def any_key_will_do(patch: pytest.MonkeyPatch) -> None:
    """§2: a signature counts if it holds, whoever made it."""

    def check(manifest: bytes, signature: bytes | None, signatures: Signatures, what: str) -> None:
        said = msgspec.json.decode(signature, type=signing.Signature).public_key if signature and b"key" in signature else ""
        return check_signature(manifest, signature, msgspec.structs.replace(signatures, public_keys=(said,)), what)

    patch.setattr(catalogue, "check_signature", check)


def the_signature_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    """§2: one of another manifest will do."""
    patch.setattr(signing, "_holds", lambda manifest, found: True)


def new_backups_are_not_signed(patch: pytest.MonkeyPatch) -> None:
    """§2: where keys are pinned, nobody would trust them."""
    patch.setattr(writer, "sign", lambda text, key: None)


def copies_leave_the_signature(patch: pytest.MonkeyPatch) -> None:
    """§2: a copy is foreign where it lies."""

    def copy(draft: Draft, origin: Target, original: Signed, *, moved: Any) -> None:
        copy_backup(draft, origin, msgspec.structs.replace(original, signature=None), moved=moved)

    copy_backup = writer.copy_backup
    patch.setattr(copies, "copy_backup", copy)


def the_future_is_possible(patch: pytest.MonkeyPatch) -> None:
    """§2: a backup of next year counts as the newest."""
    patch.setattr(catalogue, "AHEAD", timedelta(days=4000))


def holds_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    """Rule 12, at all three places that look at a hold."""
    for module in (retention, erase):
        patch.setattr(module, "read_hold", lambda *_: "")
    patch.setattr(catalogue, "hold_at", lambda *_: NO_HOLD)


def no_floor(patch: pytest.MonkeyPatch) -> None:
    """Rule 2: retention alone decides."""
    patch.setattr(retention, "FLOOR", 0)


def the_proven_may_go(patch: pytest.MonkeyPatch) -> None:
    """Rule 2: that something was proven lets the two newest go, and keeps nothing itself."""
    patch.setattr(retention, "min_verified_of", lambda want: 0)


def what_was_read_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Rule 9: a restore passes without its bytes being looked at."""
    passed = Rehearsed(did=[], faults=[], left_out=[], seconds={})
    patch.setattr(verifying, "_examine", lambda world, want, copy, moved: passed)


def the_last_good_ones_are_removed(patch: pytest.MonkeyPatch) -> None:
    """Rule 2: a deletion once decided is carried out, whatever happened since."""
    patch.setattr(leftovers, "FLOOR", 0)


def retention_forgets_one(patch: pytest.MonkeyPatch) -> None:
    """Rule 12: the oldest that a rule keeps is let go."""
    keep = real_keep
    patch.setattr(retention, "keep", lambda *args, **options: keep(*args, **options)[:-1])


def every_kind_is_pruned(patch: pytest.MonkeyPatch) -> None:
    """Rule 12: what was taken by hand is treated as scheduled, in the plan and when it is done."""
    patch.setattr(Backup, "kind", property(lambda self: "scheduled"))
    patch.setattr(PruneBackup, "_refuse_kept", lambda *_: None)


def no_grace(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: tombstones are due at once."""
    patch.setattr(retention, "grace_of", lambda want: timedelta(0))


def grace_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: whatever has a tombstone is removed now."""
    dying = catalogue._dying
    patch.setattr(catalogue, "_dying", lambda seen, now: dying(seen, now + timedelta(days=30)))
    finish = FinishDeletion.perform

    def perform(self: FinishDeletion, world: World, want: DatabasePolicy) -> str:
        return finish(self, msgspec.structs.replace(world, clock=_Ahead(world.clock)), want)

    patch.setattr(FinishDeletion, "perform", perform)


class _Ahead:
    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def now(self) -> datetime:
        now: datetime = self._clock.now()
        return now + timedelta(days=30)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


def tombstones_are_forgotten_early(patch: pytest.MonkeyPatch) -> None:
    """§2: they go with what they buried."""
    patch.setattr(leftovers, "REMEMBERED", timedelta(0))


def slots_of_the_deleted_are_free(patch: pytest.MonkeyPatch) -> None:
    """§5: a tombstone's slot does not count."""

    def newest_slot(want: DatabasePolicy, have: Observation, now: datetime) -> datetime | None:
        slots = [copy.slot for one in have.known().values() for copy in one.copies if copy.state in dumps._DONE]
        return max((slot for slot in slots if slot is not None and slot <= now), default=None)

    patch.setattr(dumps, "newest_slot", newest_slot)


def slots_that_lie_ahead_are_done(patch: pytest.MonkeyPatch) -> None:
    """§5: what a wrong clock named stops all dumps until then."""
    newest_slot = dumps.newest_slot
    patch.setattr(dumps, "newest_slot", lambda want, have, now: newest_slot(want, have, now + timedelta(days=900)))
    patch.setattr(dumps, "_undisputed", lambda have, now: now)


def our_clock_alone_names_slots(patch: pytest.MonkeyPatch) -> None:
    """§5: slots of the future are taken today, and count as done when they come."""
    patch.setattr(dumps, "_undisputed", lambda have, now: now)


def the_lease_is_not_taken(patch: pytest.MonkeyPatch) -> None:
    """Rule 8: everybody believes to hold it."""
    patch.setattr(apply, "take", lambda *_, **__: None)
    patch.setattr(Claim, "check", lambda self: None)


def the_lease_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Rule 8: who slept goes on deleting."""
    patch.setattr(fence.Fenced, "around", lambda self, verb, key: nullcontext())


def claims_are_written_over(patch: pytest.MonkeyPatch) -> None:
    """Rule 8: renewals without their condition take the claim back from whoever took it over."""

    def write(self: Claim, expect: str) -> None:
        began = self._clock.elapsed()
        self._etag = self.target.write(self.key, [encode(self.record)]).etag
        self._covered_until = began + claim.COVERED_SECONDS

    patch.setattr(Claim, "write", write)


def the_silent_are_dead_at_once(patch: pytest.MonkeyPatch) -> None:
    """Rule 8: five seconds without a heartbeat."""
    patch.setattr(claim, "SILENT_SECONDS", 5.0)


def writes_are_not_conditional(patch: pytest.MonkeyPatch) -> None:
    """Rule 8: if-absent is not asked for."""
    for module in (writer, tombstones):
        patch.setattr(module, "ABSENT", None)


def the_manifest_comes_first(patch: pytest.MonkeyPatch) -> None:
    """§2: a copy is sealed, and then filled."""

    def copy_backup(draft: Draft, origin: Target, original: Signed, *, moved: Any) -> None:
        draft.seal(original.text, original.signature)
        for stored in original.manifest.objects:
            draft.put(stored.name, read_checked(origin, original.manifest, stored))

    patch.setattr(copies, "copy_backup", copy_backup)


def copies_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Rule 9: a damaged original becomes a copy."""

    def unchecked(target: Target, manifest: Manifest, stored: Any, **_: Any) -> Iterator[bytes]:
        return iter(target.read(object_key(manifest.database, manifest.id, stored.name)))

    patch.setattr(writer, "read_checked", unchecked)


def the_manifest_goes_last(patch: pytest.MonkeyPatch) -> None:
    """§2: something half gone is still listed as a backup."""
    rank = erase._rank
    patch.setattr(erase, "_rank", lambda item: (-rank(item)[0], *rank(item)[1:]))


def a_seal_without_an_answer_is_withdrawn(patch: pytest.MonkeyPatch) -> None:
    """§2: a backup whose writer does not know that it is one is erased by it."""
    patch.setattr(Draft, "sealing", property(lambda self: False, lambda self, value: None), raising=False)


def what_lies_beside_goes_too(patch: pytest.MonkeyPatch) -> None:
    """Rule 4: a backup's folder is emptied, whoever's the things in it are."""
    patch.setattr(erase, "_is_doomed", lambda name: not is_tombstone(name))


def debris_is_swept_unseen(patch: pytest.MonkeyPatch) -> None:
    """§2: everything that is being written counts as debris."""
    patch.setattr(catalogue, "_without_manifest", lambda seen: ("debris", "it has no manifest"))
    patch.setattr(SweepDebris, "_take_over", lambda *_: None)


def the_foreign_is_ours(patch: pytest.MonkeyPatch) -> None:
    """§1 and rule 4: another repository's backups count."""
    copy_of = catalogue.copy_of
    patch.setattr(catalogue, "copy_of", lambda seen, repository, now: copy_of(seen, None, now))


def whose_folder_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    """§1: the source is another one, and nobody cares."""
    patch.setattr(planner, "disagreement", lambda have: None)


def the_damaged_counts(patch: pytest.MonkeyPatch) -> None:
    """§2: a backup is whole if its manifest says so."""
    patch.setattr(catalogue, "_with_valid_manifest", lambda manifest, data, now: ("whole", ""))


def anything_meets_the_objective(patch: pytest.MonkeyPatch) -> None:
    """Rule 1: what is damaged or deleted is a restore point."""

    def newest(have: Observation, within: set[str]) -> Any:
        return max((one for each in have.backups() for one in each.copies.values()), key=lambda one: one.instant, default=None)

    patch.setattr(objectives, "newest_restore_point", newest)


def the_condemned_is_copied(patch: pytest.MonkeyPatch) -> None:
    """Rule 12: what is being deleted on one target goes on to the others."""

    def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
        seen = {
            name: Known(msgspec.structs.replace(one.value, tombstones=()), one.at) if isinstance(one, Known) else one
            for name, one in have.catalogues.items()
        }
        return copies.due(want, msgspec.structs.replace(have, catalogues=seen), now)

    mutant = msgspec.structs.replace(copies.DUTY, due=due)
    patch.setattr(reconciling, "DUTIES", tuple(mutant if duty is copies.DUTY else duty for duty in DUTIES))


def sessions_are_left(patch: pytest.MonkeyPatch) -> None:
    """Rule 5: a dead dump's session stays."""
    patch.setattr(SimulatedSource, "end_sessions", lambda self, backup: 0)


def uploads_are_left(patch: pytest.MonkeyPatch) -> None:
    """Rule 5: what was begun is never aborted."""
    patch.setattr(SimulatedTarget, "unfinished", lambda self, prefix: ())


def a_denied_manifest_is_foreign(patch: pytest.MonkeyPatch) -> None:
    """Rule 1: one that we may not read is taken for another's, and the rest is deleted by."""
    patch.setattr(catalogue, "NewerFormat", Refused)


MUTATIONS = by_name(
    readers_are_overlooked,
    nothing_is_locked,
    a_lock_is_given_up,
    much_may_go_at_once,
    debris_is_believed_in,
    a_thief_sets_the_pace,
    tombstones_date_themselves,
    anybody_gives_up_what_is_signed,
    nothing_is_held_back,
    the_unseen_holds_nothing_back,
    no_answer_is_an_empty_catalogue,
    old_looks_are_good_enough,
    wrong_clocks_are_trusted,
    a_freeze_is_overlooked,
    a_hold_does_not_travel,
    what_alarms_stops_nothing,
    lost_rows_alarm_nobody,
    failures_alarm_nobody,
    acknowledgements_are_forgotten,
    partial_backups_count,
    partial_backups_take_places,
    anybody_may_write_manifests,
    any_key_will_do,
    the_signature_is_not_compared,
    new_backups_are_not_signed,
    copies_leave_the_signature,
    the_future_is_possible,
    holds_are_overlooked,
    no_floor,
    the_proven_may_go,
    what_was_read_is_not_compared,
    the_last_good_ones_are_removed,
    retention_forgets_one,
    every_kind_is_pruned,
    no_grace,
    grace_is_not_waited_for,
    tombstones_are_forgotten_early,
    slots_of_the_deleted_are_free,
    slots_that_lie_ahead_are_done,
    our_clock_alone_names_slots,
    the_lease_is_not_taken,
    the_lease_is_not_checked,
    claims_are_written_over,
    the_silent_are_dead_at_once,
    writes_are_not_conditional,
    the_manifest_comes_first,
    copies_are_not_checked,
    the_manifest_goes_last,
    a_seal_without_an_answer_is_withdrawn,
    what_lies_beside_goes_too,
    debris_is_swept_unseen,
    the_foreign_is_ours,
    whose_folder_does_not_matter,
    the_damaged_counts,
    anything_meets_the_objective,
    the_condemned_is_copied,
    sessions_are_left,
    uploads_are_left,
    a_denied_manifest_is_foreign,
)


def a_window_is_shortened_unasked(patch: pytest.MonkeyPatch) -> None:
    """Rule 3: what a window loses never comes back."""
    patch.setattr(ShortenWindow, "destroys", False)


def changes_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """§1: a window that was widened a moment ago is taken for one that always was."""
    patch.setattr(pitr, "recorded", lambda *_, **__: nullcontext())


def every_branch_is_ours(patch: pytest.MonkeyPatch) -> None:
    """Rule 4: neither name nor annotation is looked at."""
    patch.setattr(branches, "use_of", lambda database, branch: branch.name if branch.parent else None)
    patch.setattr(SweepBranch, "_refuse_used", lambda *_: None)


def a_name_like_ours_is_enough(patch: pytest.MonkeyPatch) -> None:
    """Rule 4: people name branches as they like."""

    def use_of(database: str, branch: BranchFacts) -> str | None:
        return real_use_of(database, msgspec.structs.replace(branch, marked=database))

    patch.setattr(branches, "use_of", use_of)


def branches_are_left(patch: pytest.MonkeyPatch) -> None:
    """Rule 5: what a death left stays until its end, and what has none for ever."""
    patch.setattr(branches, "_sweeps", lambda *_: ())
    patch.setattr(ThroughBranch, "end_sessions", SimulatedSource.end_sessions)
    patch.setattr(history, "LIFE", timedelta(days=300))


def schedules_are_taken_over(patch: pytest.MonkeyPatch) -> None:
    """What somebody made by hand is ours to replace."""
    patch.setattr(snapshots, "words", lambda schedule: "")
    patch.setattr(snapshots, "_holds", lambda *_: True)


def age_takes_the_last_snapshots(patch: pytest.MonkeyPatch) -> None:
    """Rule 2: retention alone decides."""
    patch.setattr(snapshots, "FLOOR", 0)


def snapshots_of_anybody_are_pruned(patch: pytest.MonkeyPatch) -> None:
    """Rule 4: whatever is old goes."""
    patch.setattr(snapshots, "_ours", lambda database, repository, facts: list(facts.snapshots)[::-1])


def every_turn_takes_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """§5: nobody looks for which slots there is one."""
    patch.setattr(snapshots, "slot_of", lambda *_: datetime.min.replace(tzinfo=UTC))
    patch.setattr(snapshots, "snapshot_name", lambda database, repository, slot: f"reconciler-{database}-{next(_NUMBERS)}")


_NUMBERS = iter(range(1_000_000))

OF_HISTORY = by_name(
    a_window_is_shortened_unasked,
    changes_are_not_recorded,
    every_branch_is_ours,
    a_name_like_ours_is_enough,
    branches_are_left,
    schedules_are_taken_over,
    age_takes_the_last_snapshots,
    snapshots_of_anybody_are_pruned,
    every_turn_takes_a_snapshot,
)
"""Noticed in worlds whose provider keeps a history."""
