"""What lies on the targets that should not, or not for long: debris, deletions that are due, unfinished writes, damage. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from reconciler.backups import layout
from reconciler.doctor.report import Passed, Verdict
from reconciler.duties.leftovers import DUTY, SweepDebris
from reconciler.errors import Finding, Severity
from reconciler.planning.plan import Plan, Step
from reconciler.planning.text import counted, instant
from reconciler.world.facts import Observation
from reconciler.world.ports import Upload

STUCK: Final = timedelta(hours=1)
"""A write that nobody claims to be doing, begun longer ago, is nobody's."""


def judge(have: Observation, plan: Plan, *, uploads: Mapping[str, Sequence[Upload]], chosen: Sequence[str]) -> list[Verdict]:
    """Of the chosen targets, as far as they could be seen, and of the database as a whole; the rest is told by `unseen`."""
    verdicts: list[Verdict] = [finding for finding in plan.findings if finding.where == have.database]
    known = have.known()
    sweeping = [step for step in (*plan.steps, *(held.step for held in plan.blocked)) if isinstance(step.action, DUTY.actions)]
    for name in (name for name in chosen if name in known):
        found = [finding for finding in plan.findings if finding.where == name]
        found += _to_do(name, [step for step in sweeping if getattr(step.action, "target", None) == name])
        found += _stuck(name, have, uploads.get(name, ()), known[name].store_time)
        wrong = [finding for finding in found if finding.severity != "note"]
        verdicts += found if wrong else [Passed(where=name, what="nothing is left over"), *found]
    return verdicts


def unseen(have: Observation, chosen: Sequence[str], *, told: Sequence[str]) -> list[Verdict]:
    """Catalogues that could not be read, but for those targets that were told to be ill already."""
    return [
        Finding(severity="error", where=name, what=seen.reason, cure=seen.cure)
        for name, seen in have.unknown().items()
        if name in chosen and name not in told
    ]


def _to_do(name: str, steps: Sequence[Step]) -> list[Finding]:
    """What the next apply clears away by itself."""
    found = []
    for does in dict.fromkeys(step.shown.does for step in steps):
        alike = [step for step in steps if step.shown.does == does]
        what = f"{does}: {len(alike)} to do, e.g. {alike[-1].shown.why}"
        severity: Severity = "warning" if isinstance(alike[0].action, SweepDebris) else "note"
        found.append(Finding(severity=severity, where=name, what=what, cure="run `reconcile apply`, or wait for the next one"))
    return found


def _stuck(name: str, have: Observation, uploads: Sequence[Upload], store_time: datetime) -> list[Finding]:
    """Unfinished writes of no backup that is being written, and of no debris: those are swept with it."""
    cared_for = {
        f"{layout.backup_root(have.database, copy.id)}"
        for copy in have.known()[name].copies
        if copy.state in ("being_written", "debris")
    }
    stuck = [
        upload
        for upload in uploads
        if upload.begun <= store_time - STUCK and not any(upload.key.startswith(root) for root in cared_for)
    ]
    if not stuck:
        return []
    first = min(stuck, key=lambda upload: upload.begun)
    what = f"{counted(len(stuck), 'unfinished write')} hold space; the oldest, of {first.key}, was begun {instant(first.begun)}"
    cure = "abort them: a bucket's lifecycle rule does, and in a folder they lie in .reconciler/unfinished"
    return [Finding(severity="warning", where=name, what=what, cure=cure)]
