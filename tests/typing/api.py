"""Typed uses of what a library user calls. Checked by mypy with all the rest, never run."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from reconciler.connect import KINDS
from reconciler.duties import DUTIES
from reconciler.planning.plan import Plan
from reconciler.planning.planner import plan
from reconciler.planning.retention import Kept, keep
from reconciler.policy.loading import load
from reconciler.policy.model import DatabasePolicy, Policy
from reconciler.world.facts import Observation

instants: Iterable[datetime] = [datetime(2026, 1, 1, tzinfo=UTC)]
kept: tuple[Kept, ...] = keep(instants, {"keep_last": 3, "keep_within": "7d"}, now=None, timezone="Europe/Madrid")
policy: Policy = load(b"version: 1\n", KINDS, path=Path("backup-policy.yaml"))
reasons: tuple[str, ...] = kept[0].reasons


def plans(want: DatabasePolicy, have: Observation, now: datetime) -> Plan:
    """Planning needs no world."""
    return plan(DUTIES, want, have, now, policy_digest=policy.digest)
