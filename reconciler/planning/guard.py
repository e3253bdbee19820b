"""What holds deletions back: things unknown, a wrong clock, an identity that isn't ours, and losing much at once."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.planning.plan import Blocked, Step
from reconciler.planning.text import age, counted
from reconciler.world.facts import Known, Observation, Unknown

WINDOW = timedelta(hours=24)
SHARE = 0.3
"""Of the backups that were there before the window, what may go within it. Ordinary policies need less; a slip takes more."""
SKEW = timedelta(seconds=60)
"""Beyond this, an age computed here is not to be trusted with a deletion."""

Reason = tuple[str, str, str]


def hold_back(steps: Iterable[Step], have: Observation, now: datetime) -> tuple[tuple[Step, ...], tuple[Blocked, ...]]:
    """The steps that may be done, and those that a rule blocks. Creations are never blocked here."""
    steps = tuple(steps)
    deletions = [step for step in steps if step.action.effect == "delete"]
    if not deletions:
        return steps, ()
    reason = _nothing_may_go(have)
    if reason is not None:
        by, why, cure = reason
        held = deletions
    else:
        held, by, why, cure = _losing(deletions, have, now)
    blocked = tuple(Blocked(step=step, by=by, why=why, cure=cure) for step in held)  # type: ignore[arg-type]  # literals from below
    return tuple(step for step in steps if step not in held), blocked


def _nothing_may_go(have: Observation) -> Reason | None:
    """Why no deletion at all may happen, or None."""
    unseen: dict[str, Unknown] = dict(have.unknown())
    if isinstance(have.source, Unknown):
        unseen["the source"] = have.source
    if unseen:
        return "unknown", f"{', '.join(unseen)} unknown", "; ".join(seen.cure for seen in unseen.values() if seen.cure)
    for name, seen in have.catalogues.items():
        if isinstance(seen, Known) and abs(seen.value.store_time - seen.at) > SKEW:
            skew = age(abs(seen.value.store_time - seen.at))
            return "clock", f"our clock and that of {name} differ by {skew}", "set the clock of this machine (NTP)"
    for name, catalogue in have.known().items():
        if catalogue.frozen:
            return "freeze", f"frozen on {name}: {catalogue.frozen}", ""
    impossible = [backup.id for backup in have.backups() if any(copy.state == "impossible" for copy in backup.copies.values())]
    if impossible:
        return (
            "impossible",
            f"{impossible[0]} is dated in the future",
            "find out whose clock was wrong; until then nothing is pruned",
        )
    return None


def _losing(deletions: list[Step], have: Observation, now: datetime) -> tuple[list[Step], str, str, str]:
    """All of this plan's losses are held back when they exceed what may go in a day: then a person looks."""
    losses = [step for step in deletions if step.action.loses]
    allowed, gone = allowance(have, now)
    if len(losses) <= max(0, allowed - gone):
        return [], "guard", "", ""
    already = f", {gone} already gone" if gone else ""
    why = f"would lose {counted(len(losses), 'backup')}, at most {allowed} in 24h may go{already}"
    return losses, "guard", why, "check the policy's retention; if this is meant, allow just these with --allow-destructive"


def allowance(have: Observation, now: datetime) -> tuple[int, int]:
    """How many backups may be lost in the 24 hours until now, and how many were: distinct ids, over all known targets."""
    since = now - WINDOW
    ids = {
        backup.id: backup.instant for backup in have.backups() if backup.state in ("whole", "deleted", "damaged", "being_deleted")
    }
    tombstones = {stone.id: stone.at for catalogue in have.known().values() for stone in catalogue.tombstones if stone.counts}
    gone = {key for key, at in tombstones.items() if at > since}
    born = {key for key, instant in ids.items() if instant > since}
    before = {key for key in ids if key not in born and not (key in tombstones and tombstones[key] <= since)}
    return len(born) + max(1, int(SHARE * len(before | (gone - born)))), len(gone)
