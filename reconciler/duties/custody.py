"""What a store does by itself, and what it is kept from: rules that work against the retention, archives, append-only targets.

Nothing here is ever done: these are things that a person should know.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from reconciler.backups import layout
from reconciler.duties.retention import kept
from reconciler.errors import Finding
from reconciler.planning.plan import Due, Duty
from reconciler.planning.text import age, counted
from reconciler.policy.model import DatabasePolicy, Retention
from reconciler.policy.units import Span
from reconciler.world.facts import Copy, LifecycleRule, Observation

_DAYS: Mapping[str, int] = {"keep_daily": 1, "keep_weekly": 7, "keep_monthly": 31, "keep_yearly": 366}


def due(want: DatabasePolicy, have: Observation, now: datetime) -> Due:
    """Findings only."""
    findings: list[Finding] = []
    for target, catalogue in have.known().items():
        findings += _contradictions(want, target, catalogue.rules, now)
        findings += _archived(target, catalogue.copies)
    findings += _kept_there(want, have, now)
    return Due(findings=tuple(findings))


def _contradictions(want: DatabasePolicy, target: str, rules: tuple[LifecycleRule, ...], now: datetime) -> Iterator[Finding]:
    backups, repository = f"{layout.root(want.name)}backups/", layout.repository_key(want.name)
    for rule in sorted(rules, key=lambda rule: (rule.name, rule.does)):
        on_backups = backups.startswith(rule.prefix) or rule.prefix.startswith(backups)
        needed = _grace(want) if rule.does == "expires old versions of" else reach(want, now)
        if repository.startswith(rule.prefix) and rule.does != "expires old versions of":
            needed = None  # that record must be there, and readable, as long as any backup is
        if not on_backups or (needed is not None and rule.after >= needed):
            continue
        does = "moves to an archive class" if rule.does == "archives" else rule.does
        reached = f"what lies under {rule.prefix}" if rule.prefix else "everything"
        wanted = "for good" if needed is None else f"for {age(needed)}"
        what = f"the bucket's rule {rule.name!r} {does} {reached} after {rule.after.days} d, where this policy needs it {wanted}"
        yield Finding(severity="error", where=target, what=what, cure="remove the rule: the retention of this policy deletes")


def reach(want: DatabasePolicy, now: datetime) -> timedelta | None:
    """How long a backup lies there at most, as far as the retention tells: about, and with its grace. None: without end."""
    retention = want.dumps.retention
    spans = [span for rule in Retention.__struct_fields__ if rule != "grace" and (span := _span(want, rule, now)) is not None]
    return max(spans) + retention.grace if spans and retention is not None else None


def _span(want: DatabasePolicy, rule: str, now: datetime) -> timedelta | None:
    asked: int | Span | None = getattr(want.dumps.retention, rule, None)
    if asked is None:
        return None
    if isinstance(asked, Span):
        return timedelta(days=366 * asked.years + 31 * asked.months + asked.days, hours=asked.hours)
    if rule == "keep_last":
        return asked * want.slots().largest_gap(now, want.timezone)
    return asked * (timedelta(days=_DAYS[rule]) if rule in _DAYS else timedelta(hours=1))


def _grace(want: DatabasePolicy) -> timedelta:
    return (want.dumps.retention or Retention()).grace


def _archived(target: str, copies: tuple[Copy, ...]) -> Iterator[Finding]:
    """One warning for all of them: a rule that archives does so with every backup."""
    archived = sorted((copy for copy in copies if copy.archived), key=lambda copy: copy.id)
    if archived:
        newest = archived[-1]
        what = f"{counted(len(archived), 'backup')}, the newest {newest.id}, cannot be read at once: class {newest.archived}"
        cure = "before restoring one, bring it back from the archive class"
        yield Finding(severity="warning", where=target, what=what, cure=cure)


def _kept_there(want: DatabasePolicy, have: Observation, now: datetime) -> Iterator[Finding]:
    append_only = sorted(have.append_only())
    stays = kept(want, have, now) if append_only else {}
    for target in append_only:
        superfluous = [copy for copy in have.known()[target].copies if copy.id not in stays and copy.state not in _LEFT_ALONE]
        if superfluous:
            what = f"{counted(len(superfluous), 'backup')} that retention would remove stay there: it is append-only"
            yield Finding(severity="note", where=target, what=what)


_LEFT_ALONE = ("being_written", "hidden", "foreign", "orphan", "damaged", "impossible")
"""States that no retention removes on any other target either."""


DUTY = Duty(name="custody", lane="keep", due=due, actions=())
