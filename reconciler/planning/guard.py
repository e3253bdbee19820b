"""What holds deletions back: things unknown, a wrong clock, a freeze, an impossible date, and losing much at once."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from reconciler.errors import Finding
from reconciler.planning.alarms import alarm
from reconciler.planning.allowance import PERCENT, SKEW, WINDOW, allow, given_up, goes_at
from reconciler.planning.identity import elsewhere, moved_cure, repository_id
from reconciler.planning.plan import Blocked, Rule, Step
from reconciler.planning.text import age, counted, instant
from reconciler.world.facts import Known, Observation, Unknown
from reconciler.world.history import slot_of

FRESH = timedelta(minutes=15)
"""No deletion rests on what was seen longer ago: a turn looks for minutes at most, unless its machine slept meanwhile."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something may not go."""

    by: Rule
    why: str
    cure: str = ""


def hold_back(steps: Iterable[Step], have: Observation, now: datetime) -> tuple[tuple[Step, ...], tuple[Blocked, ...]]:
    """The steps that may be done, and those that a rule blocks. Creations are never blocked here."""
    steps = tuple(steps)
    deletions = [step for step in steps if step.action.effect == "delete"]
    if not deletions:
        return steps, ()
    if reason := _nothing_may_go(have, now):
        blocked = [_blocked(step, reason) for step in deletions]
    else:
        blocked = [_blocked(step, _FOR_GOOD) for step in deletions if step.action.destroys]
        losses = [step for step in deletions if step.action.loses is not None]
        if reason := _losing(losses, have, now):
            blocked += [_blocked(step, reason) for step in losses]
        blocked += _removed_too_soon(deletions, have, now)
        lost = [step for step in deletions if step.action.loses_snapshot is not None]
        if reason := _losing_snapshots(lost, have, now):
            blocked += [_blocked(step, reason) for step in lost]
    ids = {held.step.action.id for held in blocked}
    return tuple(step for step in steps if step.action.id not in ids), tuple(blocked)


def _blocked(step: Step, reason: Reason) -> Blocked:
    return Blocked(step=step, by=reason.by, why=reason.why, cure=reason.cure)


def findings(have: Observation, now: datetime) -> tuple[Finding, ...]:
    """What holds back any deletion and no duty speaks of: said also while there is nothing to delete."""
    clocks = (Finding(severity="error", where=name, what=why, cure=cure) for name, why, cure in _skewed(have))
    freezes = (Finding(severity="warning", where=name, what=why, cure=_freeze_cure(have)) for name, why in _frozen(have))
    moved = elsewhere(have, now)
    others = (Finding(severity="warning", where=have.database, what=moved, cure=moved_cure(have.database)),) if moved else ()
    return (*clocks, *freezes, *others)


_FOR_GOOD = Reason(by="guard", why="what goes by it never comes back", cure="check the policy")

IMPOSSIBLE_CURE = "find out whose clock was wrong; nothing is deleted while it is there"
_CLOCK_CURE = "set the clock of this machine (NTP); nothing is deleted meanwhile"
_SOURCE_CLOCK_CURE = "set the one that is wrong (NTP); nothing is deleted meanwhile"


def _freeze_cure(have: Observation) -> str:
    return f"look into the reason, then `reconcile unfreeze {have.database}`; nothing is deleted meanwhile"


def _nothing_may_go(have: Observation, now: datetime) -> Reason | None:
    """Why no deletion at all may happen, or None."""
    unseen: dict[str, Unknown] = dict(have.unknown())
    if isinstance(have.source, Unknown):
        unseen["the source"] = have.source
    if unseen:
        cures = dict.fromkeys(seen.cure for seen in unseen.values() if seen.cure)
        return Reason(by="unknown", why=f"{', '.join(unseen)} unknown", cure="; ".join(cures))
    for name, why in _stale(have, now):
        return Reason(by="unknown", why=f"{name} was {why}", cure="plan again")
    for _, why, cure in _skewed(have):
        return Reason(by="clock", why=why, cure=cure)
    for name, why in _frozen(have):
        return Reason(by="freeze", why=f"{name}: {why}", cure=_freeze_cure(have))
    # The freeze that this asks for may not have been written yet, or could not be.
    if why := alarm(have, now):
        return Reason(by="freeze", why=why, cure=_freeze_cure(have))
    if why := elsewhere(have, now):
        return Reason(by="identity", why=why, cure=moved_cure(have.database))
    impossible = [backup.id for backup in have.backups() if any(copy.state == "impossible" for copy in backup.copies.values())]
    if impossible:
        return Reason(by="impossible", why=f"{impossible[0]} is dated in the future", cure=IMPOSSIBLE_CURE)
    return None


def _stale(have: Observation, now: datetime) -> Iterator[tuple[str, str]]:
    kept = [] if have.history is None else [("the history", have.history)]
    for name, seen in [*sorted(have.catalogues.items()), ("the source", have.source), *kept]:
        if now - seen.at > FRESH:
            yield name, f"seen {age(now - seen.at)} ago"


def _skewed(have: Observation) -> Iterator[tuple[str, str, str]]:
    """Whose clock is not as ours, why that is so, and the cure."""
    for name, seen in sorted(have.catalogues.items()):
        if isinstance(seen, Known) and abs(seen.value.store_time - seen.at) > SKEW:
            yield name, f"our clock and that of {name} differ by {age(abs(seen.value.store_time - seen.at))}", _CLOCK_CURE
    kept, source = have.history, have.source
    if isinstance(kept, Known) and abs(kept.value.clock - kept.at) > SKEW:
        what = f"our clock and the provider's differ by {age(abs(kept.value.clock - kept.at))}"
        yield kept.value.project, what, _CLOCK_CURE
    # Where the targets lie on this machine, no other clock tells that ours is wrong. A provider's is the source's, too.
    if kept is None and isinstance(source, Known) and abs(source.value.clock - source.at) > SKEW:
        apart = age(abs(source.value.clock - source.at))
        yield "source", f"our clock and that of the source differ by {apart}", _SOURCE_CLOCK_CURE


def _frozen(have: Observation) -> Iterator[tuple[str, str]]:
    for name, catalogue in have.known().items():
        if catalogue.frozen:
            yield name, f"deletions are frozen: {catalogue.frozen}"


def _losing(losses: Sequence[Step], have: Observation, now: datetime) -> Reason | None:
    """All of this plan's losses are held back when they exceed what may go in a day: then a person looks."""
    if not losses:
        return None
    allowance = allow(have, now)
    gone = len(allowance.gone)
    # A prune that a death cut short is planned again: what one target already counts as gone is no second loss. Where more is
    # gone than may go, it may be another's tombstone there, which lets nothing go here.
    more = {step.action.loses for step in losses} - allowance.gone
    if len(more) + gone <= allowance.may_go:
        return None
    already = f", {gone} already gone" if gone and more else ""
    what = f"would lose {counted(len(more), 'backup')}" if more else f"{counted(gone, 'backup')} gone already"
    why = f"{what}, at most {allowance.may_go} in 24h may go{already}"
    return Reason(by="guard", why=why, cure="check the policy's retention" if more else _UNDELETE_CURE)


def _removed_too_soon(deletions: Sequence[Step], have: Observation, now: datetime) -> Iterator[Blocked]:
    """Tombstones may be another's work: what is given up all at once goes no faster than a day's losses may."""
    unproven = {key for catalogue in have.known().values() for key in catalogue.came} & given_up(have).keys()
    for step in deletions:
        backup = step.action.removes
        if backup is None or backup not in unproven or (at := goes_at(have, backup)) <= now:
            continue
        why = f"many were given up at once, and go day by day: this one {instant(at)}"
        yield _blocked(step, Reason(by="guard", why=why, cure=_UNDELETE_CURE))


_UNDELETE_CURE = "`reconcile backups undelete ID` brings back what nobody meant to delete"


def _losing_snapshots(losses: Sequence[Step], have: Observation, now: datetime) -> Reason | None:
    """The same rule for snapshots that we took at the provider: nothing brings one back."""
    if not losses or not isinstance(have.history, Known):
        return None
    since = now - WINDOW
    gone = {
        change.was
        for catalogue in have.known().values()
        for change in catalogue.changes
        if change.what == "snapshot" and change.at > since
    }
    facts, repository = have.history.value, repository_id(have) or ""
    # Those of others are no share of ours, however alike their names are.
    ours = {
        one.name: one.instant
        for one in facts.snapshots
        if one.branch == facts.branch and slot_of(have.database, repository, one) is not None
    }
    born = sum(since < at <= now + SKEW for at in ours.values())
    may_go = born + max(1, PERCENT * (len(ours.keys() | gone) - born) // 100)
    more = {step.action.loses_snapshot for step in losses} - gone
    if not more or len(more) + len(gone) <= may_go:
        return None
    already = f", {len(gone)} already gone" if gone else ""
    why = f"would lose {counted(len(more), 'snapshot')}, at most {may_go} in 24h may go{already}"
    return Reason(by="guard", why=why, cure="check snapshots.retain in the policy")
