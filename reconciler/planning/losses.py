"""What each loss would leave: the source's side, a target's, a key. Pure: nobody counts on what is Unknown."""

from datetime import datetime

from reconciler.planning.identity import disagreement
from reconciler.planning.objectives import newest_restore_point
from reconciler.planning.past import past, seen_history
from reconciler.planning.past import says as past_says
from reconciler.planning.plan import Loss
from reconciler.planning.text import age, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Observation, Unknown


def losses(want: DatabasePolicy, have: Observation, now: datetime) -> tuple[Loss, ...]:
    """The source's domain first, then those of the targets in the policy's order, then the keys."""
    names = dict.fromkeys((*want.dumps.targets, want.home))
    domains = dict.fromkeys(have.domains[name] for name in names if name in have.domains)
    lost = [have.source_domain, *(domain for domain in domains if domain != have.source_domain)]
    found = [_without(domain, want, have, now) for domain in lost if domain is not None]
    if want.recipients:
        found.append(_left("the age key", set(), want, have, now, history=True))
    return tuple(found)


def _without(domain: str, want: DatabasePolicy, have: Observation, now: datetime) -> Loss:
    within = {name for name in have.catalogues if have.domains[name] != domain}
    # A source whose domain nobody knows may be lost with anything.
    history = have.source_domain not in (None, domain)
    return _left(domain, within, want, have, now, history=history)


def _left(of: str, within: set[str], want: DatabasePolicy, have: Observation, now: datetime, *, history: bool) -> Loss:
    """Copies on the targets `within`, and the history if it is not lost."""
    facts, reach = (seen_history(have), past(want, have)) if history else (None, None)
    if facts is not None and reach is not None and not reach.is_empty:
        return Loss(of=of, leaves=reach.latest, says=past_says(facts, reach))
    newest = None if disagreement(have) else newest_restore_point(have, within)
    if newest is not None:
        on = [name for backup in have.backups() if backup.id == newest.id for name in backup.whole_on if name in within]
        old = age(now - newest.instant)
        return Loss(of=of, leaves=newest.instant, says=f"backup of {instant(newest.instant)}, {old} old, on {', '.join(on)}")
    unseen = sorted(within & set(have.unknown()))
    if history and isinstance(have.history, Unknown):
        unseen.append("the history")
    return Loss(of=of, leaves=None, says=f"nothing known: {', '.join(unseen)} unknown" if unseen else "nothing")
