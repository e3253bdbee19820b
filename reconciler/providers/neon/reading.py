"""Neon's answers, read as facts of a history; and what its plans allow, which no answer tells."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from reconciler.policy.firing import Firing
from reconciler.providers.neon.answers import Branch, Project, ScheduleItem, Snapshot
from reconciler.world.history import BranchFacts, Limits, Quota, SnapshotFacts

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PLANS: Final = {
    "free": Limits(window=6 * HOUR, branches=10, roots=3, snapshots=1, protected=0, has_schedules=False),
    "launch": Limits(window=7 * DAY, branches=5000, roots=5, snapshots=100, protected=2, has_schedules=True),
    "scale": Limits(window=30 * DAY, branches=5000, roots=25, snapshots=100, protected=5, has_schedules=True),
}
"""As of 2026-08 (Neon's documentation: introduction/plans, manage/branches, guides/backup-restore, guides/protected-branches)."""
OF_ANY_PLAN: Final = Limits(window=30 * DAY)
"""The API takes no longer window. More is not known of another plan, nor where the key may not ask: Neon's refusals tell."""


def limits_of(project: Project, branches: Iterable[Branch], plan: str) -> Limits:
    """What may be had, and what runs out. `plan` as Neon calls it, e.g. `launch_v3`; empty where the key may not ask."""
    known = PLANS.get(plan.partition("_")[0], OF_ANY_PLAN)
    return Limits(
        plan=plan,
        window=known.window,
        branches=known.branches,
        roots=known.roots,
        snapshots=known.snapshots,
        protected=known.protected,
        has_schedules=known.has_schedules,
        quotas=tuple(_quotas(project, max((branch.logical_size or 0 for branch in branches), default=0))),
    )


def _quotas(project: Project, largest: int) -> Iterator[Quota]:
    """Those that are set."""
    quota = project.settings.quota if project.settings else None
    rows: list[tuple[str, float, float]] = []
    if quota is not None:
        rows = [
            ("seconds of activity this month", project.active_time_seconds, quota.active_time_seconds),
            ("compute seconds this month", project.compute_time_seconds, quota.compute_time_seconds),
            ("bytes written this month", project.written_data_bytes, quota.written_data_bytes),
            ("bytes transferred this month", project.data_transfer_bytes, quota.data_transfer_bytes),
            ("bytes of the largest branch", largest, quota.logical_size_bytes),
        ]
    rows.append(("bytes that a branch may have", largest, project.branch_logical_size_limit_bytes))
    for name, used, limit in rows:
        if limit > 0:
            yield Quota(name=name, used=used, limit=limit)


def branch_facts(branch: Branch, mark: str | None) -> BranchFacts:
    """A branch; `mark`: the value of our annotation."""
    return BranchFacts(
        id=branch.id,
        name=branch.name,
        parent=branch.parent_id,
        created=branch.created_at,
        created_by=branch.created_by.name if branch.created_by else "",
        expires=branch.expires_at,
        bytes=branch.logical_size,
        is_default=branch.default,
        is_protected=branch.protected,
        is_archived=branch.current_state == "archived",
        restricted=tuple(f"{one.name}: {one.reason}" if one.reason else one.name for one in branch.restricted_actions),
        replaced=branch.restored_as,
        marked=mark,
    )


def snapshot_facts(snapshot: Snapshot) -> SnapshotFacts:
    """A snapshot."""
    return SnapshotFacts(
        id=snapshot.id,
        name=snapshot.name,
        branch=snapshot.source_branch_id or "",
        instant=snapshot.timestamp or snapshot.created_at,
        expires=snapshot.expires_at,
        is_manual=snapshot.manual,
        bytes=snapshot.full_size if snapshot.full_size is not None else snapshot.diff_size,
    )


def firing_of(item: ScheduleItem) -> Firing:
    """A line of the schedule, as read."""
    kept = None if item.retention_seconds is None else timedelta(seconds=item.retention_seconds)
    return Firing(frequency=item.frequency, hour=item.hour, day=item.day, month=item.month, retention=kept)


def scheduled(firing: Firing) -> ScheduleItem:
    """A line of the schedule, as written."""
    kept = None if firing.retention is None else int(firing.retention.total_seconds())
    return ScheduleItem(frequency=firing.frequency, hour=firing.hour, day=firing.day, month=firing.month, retention_seconds=kept)
