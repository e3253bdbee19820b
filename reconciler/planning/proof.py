"""What evidence makes of each copy: proven, refuted, or neither. Pure."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from reconciler.policy.model import DatabasePolicy, Level
from reconciler.world.evidence import LEVELS, Chain, Evidence, joined
from reconciler.world.facts import Backup, Known, Observation


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Of one copy, as it lies there now."""

    last: Evidence | None = None
    proven: Evidence | None = None
    """By a restore that passed, and nothing since that speaks against it."""
    refuted: Evidence | None = None
    """By what failed, and nothing since that is as thorough and passed."""


UNTRIED = Standing()


def standings(have: Observation) -> Mapping[tuple[str, str], Standing]:
    """By target and backup. Evidence of another content of the copy says nothing of this one."""
    return have.once(_standings)


def _standings(have: Observation) -> Mapping[tuple[str, str], Standing]:
    is_known = isinstance(have.evidence, Known)
    records = have.evidence.value.records if isinstance(have.evidence, Known) else _elsewhere(have)
    if not records:
        return {}
    contents = {(target, copy.id): copy.content for target, seen in have.known().items() for copy in seen.copies}
    found: dict[tuple[str, str], Standing] = {}
    for record in records:
        copy = (record.target, record.backup)
        if contents.get(copy) == record.content:
            found[copy] = _after(found.get(copy, UNTRIED), record)
    # Whether home says more of it, nobody knows: others may lack its last records.
    return found if is_known else {copy: msgspec.structs.replace(one, proven=None) for copy, one in found.items()}


def _elsewhere(have: Observation) -> tuple[Evidence, ...]:
    """What the known targets say while home can't be seen: for what speaks against a copy."""
    return joined(Chain(), (seen.evidence for seen in have.known().values())).records


def _after(standing: Standing, record: Evidence) -> Standing:
    proven, refuted = standing.proven, standing.refuted
    if record.result == "failed":
        proven, refuted = None, record
    elif record.result == "passed":
        if refuted is not None and LEVELS.index(record.level) >= LEVELS.index(refuted.level):
            refuted = None
        proven = record if record.level == "restore" else proven
    return Standing(last=record, proven=proven, refuted=refuted)


def proven(have: Observation) -> Mapping[str, Evidence]:
    """Backups with a whole copy that was ever proven, by id, and the newest proof."""
    return have.once(_proven)


def _proven(have: Observation) -> Mapping[str, Evidence]:
    whole = {(target, backup.id) for backup in have.backups() for target in backup.whole_on}
    found: dict[str, Evidence] = {}
    for copy, standing in standings(have).items():
        if standing.proven is not None and copy in whole:
            last = found.get(copy[1])
            found[copy[1]] = standing.proven if last is None or standing.proven.finished > last.finished else last
    return found


def refuted(have: Observation) -> Mapping[tuple[str, str], Evidence]:
    """Copies that can't be restored, for all we know: they count for nothing, and are not touched."""
    return have.once(_refuted)


def _refuted(have: Observation) -> Mapping[tuple[str, str], Evidence]:
    return {copy: standing.refuted for copy, standing in standings(have).items() if standing.refuted is not None}


def sound(have: Observation) -> tuple[Backup, ...]:
    """All backups, newest first, without the copies that are refuted."""
    return have.once(_sound)


def _sound(have: Observation) -> tuple[Backup, ...]:
    bad = refuted(have)
    if not bad:
        return have.backups()
    left = (
        Backup(id=one.id, copies={target: copy for target, copy in one.copies.items() if (target, one.id) not in bad})
        for one in have.backups()
    )
    return tuple(backup for backup in left if backup.copies)


def sound_on(backup: Backup, bad: Mapping[tuple[str, str], Evidence]) -> tuple[str, ...]:
    """Targets with a whole copy that is not refuted."""
    return tuple(target for target in backup.whole_on if (target, backup.id) not in bad) if bad else backup.whole_on


def last_verified(want: DatabasePolicy, have: Observation, target: str, level: Level, now: datetime) -> Evidence | None:
    """The newest verification of that level or a more thorough one on a target, of whichever backup that holds what the policy
    asks for, whatever came of it; or one of a lower level that failed, for as long as nothing has taken that back.

    One that is dated ahead would keep all others from being made until then.
    """
    return max(_thorough(want, have, target, level, now), key=lambda one: one.finished, default=None)


def last_result(want: DatabasePolicy, have: Observation, target: str, level: Level, now: datetime) -> Evidence | None:
    """The newest of them that passed or failed: one that could tell nothing takes nothing back of what was found out."""
    telling = (one for one in _thorough(want, have, target, level, now) if one.result != "unproven")
    return max(telling, key=lambda one: one.finished, default=None)


def _thorough(want: DatabasePolicy, have: Observation, target: str, level: Level, now: datetime) -> list[Evidence]:
    """What a lesser look found bad is bad for every other one. That a part can be restored tells nothing of the whole."""
    if not isinstance(have.evidence, Known):
        return []
    bad = refuted(have).values()
    return [
        one
        for one in have.evidence.value.records
        if one.kind == "verification" and one.target == target and not one.is_ahead(now)
        if not one.partial or want.asks_for_a_part
        if LEVELS.index(one.level) >= LEVELS.index(level) or one in bad
    ]


def last_proof(want: DatabasePolicy, have: Observation, now: datetime) -> Evidence | None:
    """The newest one that still counts, of any whole copy of what the policy asks for."""
    fresh = [one for one in proven(have).values() if one.is_fresh(now) and (not one.partial or want.asks_for_a_part)]
    return max(fresh, key=lambda record: record.finished, default=None)
