"""What of the provider's limits is near, before it hurts: branches, roots, snapshots, quotas, and what it refuses. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from reconciler.errors import Finding, Severity
from reconciler.planning.text import counted, instant
from reconciler.policy.model import DatabasePolicy
from reconciler.world.history import BranchFacts, HistoryFacts, use_of

NEAR_PERCENT = 80
ROOTS_NEEDED = 2
"""A restore in place keeps the old state as a root branch, and so does its undo."""
SOON = timedelta(days=2)


def near(want: DatabasePolicy, facts: HistoryFacts, now: datetime) -> Iterator[Finding]:
    """What a person should know, the worst of each kind."""
    limits = facts.limits
    strangers = _strangers(want, facts)
    roots = [branch for branch in facts.branches if branch.parent is None]
    manual = [snapshot for snapshot in facts.snapshots if snapshot.is_manual]
    spare = [branch for branch in roots if branch in strangers]
    worst: Severity
    for what, there, limit, needed, worst, cure in (
        ("branches", len(facts.branches), limits.branches, 1, "error", _tidy("branches", strangers)),
        ("root branches", len(roots), limits.roots, ROOTS_NEEDED, "error", _tidy("root branches", spare)),
        # Whether one more is wanted at all, the duty that takes them knows.
        ("snapshots by hand", len(manual), limits.snapshots, 1, "warning", "delete some that nobody needs"),
    ):
        if limit is not None and _is_near(there, limit, needed):
            said, severity = (f"no more {what}", worst) if there >= limit else (f"{what} run out", "warning")
            yield Finding(severity=severity, where=facts.project, what=f"{said}: {there} of {limit} are there", cure=cure)
    for quota in limits.quotas:
        share = 100 * quota.used / quota.limit if quota.limit > 0 else 0
        if share >= NEAR_PERCENT:
            worst = "error" if share >= 100 else "warning"
            what = f"{quota.name}: {share:.0f} % of the quota is used"
            yield Finding(severity=worst, where=facts.project, what=what, cure="raise it at the provider, or use less")
    yield from _of_the_branch(facts, now)


def threat(facts: HistoryFacts) -> str:
    """Why the history, though it is there, could not be used today; empty where it could."""
    limits = facts.limits
    roots = sum(branch.parent is None for branch in facts.branches)
    if limits.roots is not None and roots >= limits.roots:
        return f"no root branch is left ({roots} of {limits.roots}): a restore in place is refused"
    if limits.branches is not None and len(facts.branches) >= limits.branches:
        return f"no branch is left ({len(facts.branches)} of {limits.branches}): nothing can be opened"
    spent = next((quota for quota in limits.quotas if 0 < quota.limit <= quota.used), None)
    return f"the quota of {spent.name} is used up" if spent is not None else ""


def _is_near(there: int, limit: int, needed: int) -> bool:
    """`needed`: so many more may be wanted at once."""
    return there >= limit or limit - there < needed or 100 * there >= NEAR_PERCENT * limit


def _strangers(want: DatabasePolicy, facts: HistoryFacts) -> list[BranchFacts]:
    """Not ours, and not what anybody works with: the oldest first, as they are listed."""
    return [
        branch
        for branch in facts.branches
        if use_of(want.name, branch) is None
        and branch.id != facts.branch
        and not (branch.is_default or branch.is_protected)
        and branch.expires is None
    ]


def _tidy(what: str, strangers: Sequence[BranchFacts]) -> str:
    if not strangers:
        return f"a larger plan has more {what}"
    names = ", ".join(branch.name for branch in strangers[:3])
    more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
    return f"{counted(len(strangers), 'branch', 'branches')} without an end: {names}{more}; delete what nobody needs"


def _of_the_branch(facts: HistoryFacts, now: datetime) -> Iterator[Finding]:
    branch = facts.protected
    if branch.is_archived:
        what = f"branch {branch.name} is archived: whatever opens it first waits long"
        yield Finding(severity="warning", where=facts.project, what=what, cure="connect to it once before it is needed")
    for refused in branch.restricted:
        what = f"branch {branch.name}: the provider refuses to {refused}"
        yield Finding(severity="warning", where=facts.project, what=what, cure="wait; where it lasts, ask the provider")
    if branch.expires is not None:
        what = f"branch {branch.name} is the database's own, and is deleted {instant(branch.expires)}"
        yield Finding(severity="error", where=facts.project, what=what, cure="take its expiry away at the provider")
    if facts.maintenance is not None and now < facts.maintenance <= now + SOON:
        what = f"maintenance {instant(facts.maintenance)}: what runs then is restarted, a dump too"
        yield Finding(severity="note", where=facts.project, what=what)
