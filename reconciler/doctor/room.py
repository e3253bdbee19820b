"""Whether a folder as a target has room for what comes next. Only local targets tell how much is left."""

import os
import shutil
from pathlib import Path

from reconciler.doctor.report import Passed, Verdict
from reconciler.errors import Finding, Severity, Unreachable
from reconciler.planning.text import size
from reconciler.policy.model import Policy
from reconciler.targets.local import LocalSettings, folder_of
from reconciler.world.facts import Observation


def folder(policy: Policy, target: str) -> Path | None:
    """The folder that a local target writes to; None for any other kind."""
    settings = policy.targets[target]
    return folder_of(settings, policy.path.resolve().parent) if isinstance(settings, LocalSettings) else None


def free_bytes(path: Path) -> int:
    """What is free on its file system for us; the folder itself need not be there yet. Raises Unreachable."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        return shutil.disk_usage(there).free
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable(
            f"cannot ask for the free space of {there}: {why}", cure="see whether the disk is in order and mounted"
        ) from error


def newest_bytes(have: Observation) -> int | None:
    """The stored size of the newest whole backup: the best guess of the next one's."""
    return next((backup.stored_bytes for backup in have.backups() if backup.state == "whole"), None)


def judge(where: str, free: int, newest: int | None) -> Verdict:
    """Room for two more is fine, for one is a warning, for less an error: what is pruned stays until its grace is over."""
    if newest is None:
        return Passed(where=where, what=f"{size(free)} free; no backup yet to compare with")
    if free >= 2 * newest:
        return Passed(where=where, what=f"{size(free)} free, the newest backup has {size(newest)}")
    severity: Severity = "warning" if free >= newest else "error"
    what = f"only {size(free)} free, and the newest backup has {size(newest)}"
    return Finding(severity=severity, where=where, what=what, cure="free space on this file system, or shorten the retention")
