"""Vouching for a backup that was taken before signatures were asked for. Only ever by name."""

from reconciler.backups import layout
from reconciler.backups.fetch import read_signed
from reconciler.backups.records import read_repository
from reconciler.backups.signing import sign, signing_key
from reconciler.errors import Refused
from reconciler.planning.plan import Action, Shown, Step
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Backup, Observation
from reconciler.world.ports import ABSENT, Signatures, World, custody_of


class SignBackup(Action, frozen=True, kw_only=True, tag="sign_backup"):
    """Sign its manifest where it lies, so that it counts again."""

    effect = "create"

    backup: str
    targets: tuple[str, ...]

    def perform(self, world: World, want: DatabasePolicy) -> str:
        """The manifest itself stays as it is. What carries a signature already, whosever it is, is refused."""
        key = signing_key(world.signatures)
        if key is None:
            raise Refused("the policy names no signing key", cure="`reconcile keys new --signing` makes one")
        for name in self.targets:
            target = world.targets[name]
            found = read_signed(target, self.database, self.backup, Signatures())
            if found.manifest.repository != read_repository(target, layout.repository_key(self.database)).id:
                raise Refused(f"{name}: {self.backup} belongs to another repository")
            retain = custody_of(target).retain
            target.write(
                layout.object_key(self.database, self.backup, layout.SIGNATURE),
                [sign(found.text, key)],
                expect=ABSENT,
                keep_until=world.clock.now() + retain if retain else None,
            )
        return f"{self.backup} on {', '.join(self.targets)}: signed"


def plan_sign(backup: Backup, have: Observation) -> Step:
    """Raises Refused where no copy is there that lacks a signature and nothing else."""
    where = tuple(name for name, copy in sorted(backup.copies.items()) if copy.is_unsigned)
    if not where:
        raise Refused(f"{backup.id} has no copy that waits for a signature", cure="`reconcile backups list` says what each is")
    return Step(
        action=SignBackup(database=have.database, backup=backup.id, targets=where), shown=Shown(does="sign", to=backup.id)
    )
