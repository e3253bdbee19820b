"""Whether what is encrypted can be read back here, and what is signed here is trusted: both are tried, on a few bytes."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Final

from reconciler.backups.encryption import opens
from reconciler.backups.signing import check_signature, sign, signing_key
from reconciler.doctor.report import Notes, Verdict
from reconciler.errors import NoKey, Refused, Severity
from reconciler.planning.text import counted
from reconciler.policy.model import Age, DatabasePolicy, Level
from reconciler.policy.secret import Revealed
from reconciler.world.facts import Backup, Observation
from reconciler.world.ports import Signatures, World

WHERE: Final = "keys"
_PROBE: Final = b"signed by reconcile doctor, and by nobody else"


def examine_keys(want: DatabasePolicy, world: World, have: Observation) -> list[Verdict]:
    """Nothing where backups are neither encrypted nor signed, or where the policy reads nothing back and names no identity."""
    notes = Notes(WHERE)
    if isinstance(want.encryption, Age):
        _encryption(want, want.encryption, world, have, notes)
    elif locked := [backup for backups in _locked(have).values() for backup in backups]:
        what = f"{counted(len(locked), 'encrypted backup')}, and a policy that says encryption: none can't read any back"
        cure = "name their age_recipients and age_identity under encryption, for as long as one of them is kept"
        notes.finds("warning", what, cure)
    if world.signatures.public_keys:
        _signing(world.signatures, named=want.signatures is not None and want.signatures.signing_key is not None, notes=notes)
    return notes.verdicts


def _encryption(want: DatabasePolicy, encryption: Age, world: World, have: Observation, notes: Notes) -> None:
    level = want.dumps.verify.level if want.dumps.verify is not None else "hash"
    if encryption.age_identity is None:
        if want.dumps.verify is not None:
            _nameless(level, notes)
        return
    # Who only takes backups needs no identity, though one policy serves all machines.
    severity: Severity = "error" if level != "hash" else "warning"
    try:
        identities = world.identities()
        opened = cache(partial(opens, identities))
        current = [recipient for recipient in want.recipients if opened(recipient)]
    except Refused as error:
        notes.finds(severity, f"no backup can be read back here: {error.what}", error.cure)
        return
    if current:
        notes.passes(f"the identities at hand open what {len(current)} of {counted(len(want.recipients), 'recipient')} lock")
    else:
        what = "the identities at hand open nothing of what the policy's recipients lock: no new backup could be read back here"
        notes.finds(
            "error", what, "add an identity of one of them to encryption.age_identity, or its recipient to age_recipients"
        )
    _old_ones(_locked(have), opened, notes)


def _nameless(level: Level, notes: Notes) -> None:
    cure = "name the identity of one recipient as encryption.age_identity, or verify on another machine, which has it"
    if level == "hash":
        what = "dumps.verify compares bytes that nobody here can decrypt, since the policy names no identity: they stay unproven"
        notes.finds("warning", what, cure)
    else:
        notes.finds("error", f"dumps.verify asks for level {level}, which decrypts, and the policy names no identity", cure)


def _old_ones(locked: Mapping[tuple[str, ...], Sequence[Backup]], opened: Callable[[str], bool], notes: Notes) -> None:
    """An identity that was taken out of the file while backups are kept that need it."""
    for recipients, backups in locked.items():
        if notes.attempt(lambda: any(opened(recipient) for recipient in recipients)) is not False:  # noqa: B023  called at once
            continue
        newest = max(backups, key=lambda backup: backup.instant)
        what = (
            f"{counted(len(backups), 'backup')}, the newest {newest.id}, can't be read back: encrypted to {', '.join(recipients)}"
        )
        notes.finds("error", what, "add the old identity to encryption.age_identity, beside the new one")


def _locked(have: Observation) -> dict[tuple[str, ...], list[Backup]]:
    """Whole encrypted backups, by whom they are encrypted to."""
    found: dict[tuple[str, ...], list[Backup]] = {}
    for backup in have.backups():
        recipients = next((copy.recipients for copy in backup.copies.values() if copy.state == "whole"), ())
        if recipients:
            found.setdefault(recipients, []).append(backup)
    return found


def _signing(signatures: Signatures, *, named: bool, notes: Notes) -> None:
    if not named:
        cure = "name signatures.signing_key, unless this policy is only read and restored with"
        notes.finds("warning", "keys are pinned, and the policy names none that signs: no backup can be taken or deleted", cure)
        return
    if notes.attempt(lambda: _try_signing(signatures, signing_key(signatures))):
        notes.passes("the signing key's public half is pinned, and what it signs is trusted")


def _try_signing(signatures: Signatures, key: Revealed | None) -> bool:
    if key is None:
        raise NoKey("no key is there to sign with")
    check_signature(_PROBE, sign(_PROBE, key), signatures, "a probe")
    return True
