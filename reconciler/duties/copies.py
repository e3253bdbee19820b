"""Copies: every kept backup on every target that the policy names, without touching the database again."""

from collections.abc import Sequence
from datetime import datetime

from reconciler.backups import layout
from reconciler.backups.evidence import share_if_possible
from reconciler.backups.fetch import places_of, read_signed
from reconciler.backups.keeping import keep_as_recorded, read_hold_record
from reconciler.backups.pins import pinned
from reconciler.backups.records import read_repository
from reconciler.backups.signing import Signed
from reconciler.backups.writer import Draft, copy_backup, drafting, ensure_repository
from reconciler.duties.holding import longest
from reconciler.duties.retention import kept
from reconciler.errors import Absent, Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.planning.plan import Action, Due, Duty, Shown, Step
from reconciler.planning.proof import refuted, sound_on
from reconciler.planning.text import instant, size
from reconciler.policy.model import DatabasePolicy
from reconciler.rehearsal.verify import confirm_damage
from reconciler.world.events import Moved
from reconciler.world.facts import Backup, Observation
from reconciler.world.ports import Target, World


class CopyBackup(Action, frozen=True, kw_only=True, tag="copy_backup"):
    """The same backup, on another target."""

    effect = "create"
    hooked = "copy"

    backup: str
    origin: str
    target: str
    held: str | None = None
    """The target whose hold comes along: the copy is held from its first instant on."""

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """Each part is checked on its way; a bad original is told and written down, never becomes a copy, and the next one is
        tried."""
        bad: list[Corrupt] = []
        for name in dict.fromkeys((self.origin, *want.dumps.targets)):
            if name == self.target:
                continue
            try:
                done = self._copy_from(world, want, world.targets[name])
            except _Spoilt as error:
                bad.append(self._written_down(world, want, name, error))
            except Corrupt as error:
                bad.append(error)
            except (Absent, Unreachable):
                # Whether others have one at all, nobody has looked.
                if not bad:
                    raise
            else:
                return "; ".join((done, *(f"not so {error.what}" for error in bad)))
        raise bad[0]

    def _copy_from(self, world: World, want: DatabasePolicy, origin: Target) -> str:
        target = world.targets[self.target]
        original = read_signed(origin, self.database, self.backup, world.signatures)
        manifest = original.manifest
        repository = read_repository(origin, layout.repository_key(self.database))
        if manifest.repository != repository.id:
            raise Corrupt(f"{origin.name}: the manifest of {self.backup} belongs to another repository")
        ensure_repository(target, self.database, repository)
        home = world.targets[want.home]
        with (
            pinned(world, home, origin, database=self.database, backup=self.backup, for_what=f"copy to {self.target}"),
            drafting(
                world, target, self.database, self.backup, kind=manifest.kind, slot=manifest.slot, repository=manifest.repository
            ) as draft,
        ):
            # Who tried before us may have slept for longer than its intent lasts, and been cut off when it tidied up.
            draft.sweep_unfinished()
            self._copy(world, draft, origin, original)
            # While the intent lies there: should we die now, who removes it asks the store as well.
            alone = keep_as_recorded(target, self.database, self.backup, world.clock.now())
        # What home has lost comes back to it with its backups.
        proofs, place = (origin, home) if self.target == want.home else (home, target)
        share_if_possible(proofs, place, self.database, manifest.repository)
        return "; ".join((f"{self.backup} from {origin.name} to {self.target}: {size(manifest.stored_bytes)}", *alone))

    def _hold(self, world: World) -> bytes | None:
        """As it says now. Where it can't be read, the copy is not kept waiting: the next turn that sees both brings it."""
        if self.held is None:
            return None
        try:
            record = read_hold_record(world.targets[self.held], layout.object_key(self.database, self.backup, layout.HOLD))
        except (Unreachable, Refused):
            return None
        return record.text if record.hold.says(world.clock.now()) else None

    def _copy(self, world: World, draft: Draft, origin: Target, original: Signed) -> None:
        def moved(count: int) -> None:
            world.tell(Moved(action=self.id, bytes=count))

        try:
            copy_backup(draft, origin, original, hold=self._hold(world), moved=moved)
        except Corrupt as bad:
            raise _Spoilt(bad.what, cure=bad.cure) from bad

    def _written_down(self, world: World, want: DatabasePolicy, origin: str, met: Corrupt) -> Corrupt:
        """As a verification does: unless it is, it would be met again each turn, and nothing be deleted."""
        try:
            evidence = confirm_damage(world, want, backup=self.backup, target=origin)
        except Stopped:
            raise
        except ReconcilerError:
            by_hand = f"`reconcile backups verify {self.backup} --target {origin} --level hash` writes that down"
            return Corrupt(met.what, cure=f"{by_hand}: then it counts for nothing, and is no longer copied")
        if evidence is None:
            return Corrupt(f"{met.what}; read once more, the original is sound", cure="the next turn copies it again")
        what = f"{met.what}; it is so when read once more, and this copy counts for nothing any more"
        return Corrupt(what, cure=f"look into it; deletions are frozen until `reconcile unfreeze {self.database}`")


class _Spoilt(Corrupt):
    """As they came, the bytes of an original are not those that were written."""


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Nothing is copied that retention does not keep or that a tombstone names."""
    known = have.known()
    going = {stone.id for catalogue in known.values() for stone in catalogue.tombstones if stone.counts}
    buried = {(target, stone.id) for target, catalogue in known.items() for stone in catalogue.tombstones}
    buried |= {(target, backup) for target, catalogue in known.items() for backup in catalogue.doubted}
    stays, bad = kept(want, have, now), refuted(have)
    steps = [
        _step(want, have, backup, target, sound=sound_on(backup, bad))
        for backup in have.backups()
        # Of copies that failed their verification none is made another: it would fail each time, and nothing else be deleted.
        if backup.id in stays and backup.id not in going and backup.state == "whole" and sound_on(backup, bad)
        for target in want.dumps.targets
        # Whatever lies there under this id, in whatever state, is not written over. A tombstone, even one that buried mere
        # debris, would condemn the copy that was put beside it.
        if target in known and target not in backup.copies and (target, backup.id) not in buried
    ]
    return Due(steps=tuple(steps))


def _step(want: DatabasePolicy, have: Observation, backup: Backup, target: str, *, sound: Sequence[str]) -> Step:
    origin = next(name for name in places_of(backup, want.dumps.targets, None) if name in sound)
    action = CopyBackup(database=have.database, backup=backup.id, origin=origin, target=target, held=longest(backup))
    shown = Shown(
        does="copy",
        to=f"{origin} → {target}",
        why=f"backup of {instant(backup.instant)}",
        counted="backup|backups",
        bytes=backup.stored_bytes,
    )
    return Step(action=action, shown=shown)


DUTY = Duty(name="copies", lane="keep", due=due, actions=(CopyBackup,))
