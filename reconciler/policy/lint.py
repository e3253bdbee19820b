"""What a policy promises and can't keep, or says and hardly means. Pure: the policy and an instant, nothing of the world."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import combinations, islice, takewhile

import msgspec

from reconciler.errors import Finding, Severity
from reconciler.policy.model import DatabasePolicy, Objectives, Policy
from reconciler.policy.nodes import Path, Places
from reconciler.policy.sites import ONE_PLACE_CURE, in_order, one_place, shared_sites
from reconciler.policy.timing import SHORTEST_DUMP, Steps, largest_wait
from reconciler.policy.units import format_duration

_Row = tuple[Severity, Path, str, str]


NOWHERE: Mapping[str, str] = {}


def lint(policy: Policy, places: Places, *, now: datetime, sites: Mapping[str, str] = NOWHERE) -> list[Finding]:
    """Errors and warnings, database by database, each with its place in the text. `sites`: target → where it lies."""
    rows: list[_Row] = []
    for database in policy.databases.values():
        rows += _schedule(database)
        rows += _never(database, now)
        rows += _objectives(database, now)
        rows += _partial(database)
        rows += _from(database)
        rows += _retention(database)
        rows += _verify(database)
        rows += _outside(database, policy)
        rows += _home(database, policy)
        rows += _signatures(database)
        rows += _one_place(database, sites)
    rows += _twins(policy)
    rows += _unused(policy)
    rows += _within_reach(policy)
    # What is wrong of a target is so for each database that uses it, and told once.
    once = dict.fromkeys(rows)
    return [Finding(severity=severity, where=places.of(path), what=what, cure=cure) for severity, path, what, cure in once]


def _schedule(database: DatabasePolicy) -> Iterator[_Row]:
    cron = database.dumps.schedule.cron
    for warning in cron.warnings() if cron is not None else ():
        yield "warning", _path(database, "dumps", "schedule"), warning, "`reconcile validate` prints when it fires"


def _never(database: DatabasePolicy, now: datetime) -> Iterator[_Row]:
    """What windows make impossible, and what they probably don't mean."""
    never, slots, path = database.dumps.never, database.slots(), _path(database, "dumps", "never")
    for window in never:
        if not window.whole_hours:
            what = f'"{window}" closes single minutes: each minute that it names, and no other'
            yield "warning", path, what, 'a window from 17:00 to 22:00 is "* 17-21 * * *"'
    wait = largest_wait(slots, never, now, database.timezone) if never else timedelta(0)
    if wait is None:
        yield "error", path, "no dump can ever start: the windows leave no time open", "leave times open"
        return
    rpos = [rpo for rpo, _ in _rpos(database)]
    gap = slots.largest_gap(now, database.timezone)
    # What the slots alone miss is said of the RPO itself.
    if rpos and gap < wait and gap <= min(rpos) <= wait:
        said, longest = format_duration(min(rpos)), format_duration(wait)
        what = f"an RPO of {said} is missed: with these windows, up to {longest} lie between the starts of two dumps"
        if wait == min(rpos):
            what = (
                f"an RPO of {said} leaves no time for the dump itself: with these windows, just as much lies between two starts"
            )
        yield "warning", path, what, "close less, or allow more"
    coming = list(takewhile(lambda slot: slot < now + timedelta(days=366), islice(slots.following(now, database.timezone), 400)))
    # A change of the clock moves one of them out of its window, which is no relief.
    if never and 10 * sum(database.closed_by(slot) is not None for slot in coming) > 9 * len(coming):
        what = f"nearly every slot of {database.dumps.schedule} lies in a window: each such dump waits until it is over"
        yield "warning", path, what, "schedule dumps for when they may start"


def _objectives(database: DatabasePolicy, now: datetime) -> Iterator[_Row]:
    for rpo, path in _rpos(database):
        yield from _rpo(database, rpo, path, now)


def _rpos(database: DatabasePolicy) -> Iterator[tuple[timedelta, Path]]:
    # Where the provider keeps a history, its instants meet that one, and not the schedule of dumps.
    if database.objectives.rpo is not None and database.history_site is None:
        yield database.objectives.rpo, _path(database, "objectives", "rpo")
    if database.objectives.disaster is not None:
        yield database.objectives.disaster.rpo, _path(database, "objectives", "disaster", "rpo")


def _rpo(database: DatabasePolicy, rpo: timedelta, path: Path, now: datetime) -> Iterator[_Row]:
    """A policy is wrong when every ordinary day misses the RPO; a night on which the clock goes back is only worth a word."""
    schedule = database.slots()
    if isinstance(schedule, Steps):
        if schedule.every + 2 * SHORTEST_DUMP > rpo:
            often = format_duration(schedule.every)
            yield (
                "error",
                path,
                f"{format_duration(rpo)} is less than auto can promise: it dumps every {often} at most",
                "allow more",
            )
        return
    usual, largest = schedule.largest_gap(now, "UTC"), schedule.largest_gap(now, database.timezone)
    said, cure = format_duration(rpo), f"dump more often than {database.dumps.schedule}, or allow more"
    if usual > rpo:
        yield "error", path, f"{said} can't be met: between two dumps lie up to {format_duration(usual)}", cure
    elif largest > rpo:
        what = (
            f"{said} is missed when the clock of {database.timezone} changes: two dumps are {format_duration(largest)} apart then"
        )
        yield "warning", path, what, cure
    elif largest == rpo:
        yield "warning", path, f"{said} is just the time between two dumps, and leaves none for the dump itself", cure


def _partial(database: DatabasePolicy) -> Iterator[_Row]:
    """What leaves whole tables out is no backup of the database."""
    key = "include" if database.dumps.include else "exclude"
    if not getattr(database.dumps, key) or database.objectives == Objectives():
        return
    what = f"can't be met: dumps.{key} leaves whole tables out, and such a backup is no restore point"
    cure = "leave rows out with dumps.exclude_data, or back the rest up as a database of its own name without objectives"
    yield "error", _path(database, "objectives"), what, cure


def _from(database: DatabasePolicy) -> Iterator[_Row]:
    """Only who keeps a history has branches."""
    if database.dumps.from_ == "branch" and database.history_site is None:
        what = "its provider has no branches: it is the source itself that is dumped"
        yield "error", _path(database, "dumps", "from"), what, "leave dumps.from out"


def _retention(database: DatabasePolicy) -> Iterator[_Row]:
    retention = database.dumps.retention
    rules = [] if retention is None else [rule for rule in retention.__struct_fields__ if rule not in ("grace", "min_verified")]
    if all(getattr(retention, rule) is None for rule in rules):
        cure = "say what to keep, as retention: {keep_last: 3, keep_daily: 30}"
        yield "warning", _path(database, "dumps", "retention"), "no rule: every backup is kept, and storage only grows", cure


def _outside(database: DatabasePolicy, policy: Policy) -> Iterator[_Row]:
    source = getattr(database.source, "domain", None)
    if database.history_site is not None:
        # All that a provider keeps fails together with it, whatever else of it is said.
        source = source or str(database.source.__struct_config__.tag)
        yield from _only_inside(database, policy, source)
    if database.objectives.disaster is None or not isinstance(source, str):
        return
    if all(getattr(policy.targets[name], "domain", None) == source for name in database.dumps.targets):
        what = f"every target fails together with the source ({source}): no copy would be left"
        yield "error", _path(database, "objectives", "disaster"), what, "add a target in another domain to dumps.targets"


def _only_inside(database: DatabasePolicy, policy: Policy, source: str) -> Iterator[_Row]:
    if database.objectives.disaster is not None:
        return
    if all(getattr(policy.targets[name], "domain", None) == source for name in database.dumps.targets):
        what = f"when {source} is lost, nothing is left: the history and every target fail together with it"
        yield "warning", _path(database, "dumps", "targets"), what, "add a target in another domain"
    elif database.objectives.rpo is not None:
        what = f"the history meets the RPO, and fails together with {source}: nothing is promised for that day"
        yield (
            "warning",
            _path(database, "objectives"),
            what,
            "add objectives.disaster: {rpo: …}, which copies elsewhere must meet",
        )


def _within_reach(policy: Policy) -> Iterator[_Row]:
    """Who takes this machine's keys must not be able to take every copy too. One warning: its cure is one target for all."""
    bare = [
        database.name
        for database in policy.databases.values()
        if not any(_is_beyond_reach(policy.targets[name]) for name in database.dumps.targets)
    ]
    if bare:
        what = f"whoever takes over this machine can delete every copy of {', '.join(bare)}: none is locked or append-only"
        cure = "set object_lock on a target, or append_only and give it keys that can't delete"
        yield "warning", ("targets",), what, cure


def _signatures(database: DatabasePolicy) -> Iterator[_Row]:
    if database.signatures is not None and database.signatures.signing_key is None:
        cure = "name signing_key, unless this policy is only read and restored with"
        yield "warning", _path(database, "signatures"), "keys are pinned, and none signs: no backup can be taken or deleted", cure


def _home(database: DatabasePolicy, policy: Policy) -> Iterator[_Row]:
    if getattr(policy.targets[database.home], "append_only", False):
        what = f"{database.home} is append_only, and leases, pins and tombstones of home come and go"
        yield "error", _path(database, "home"), what, "name another target as home, or the first of dumps.targets"
    elif why := getattr(policy.targets[database.home], "costly_home", ""):
        cure = "name another target as home, or the first of dumps.targets"
        yield "warning", _path(database, "home"), f"{database.home} is a poor home: {why}", cure


def _verify(database: DatabasePolicy) -> Iterator[_Row]:
    rule = database.dumps.verify
    if rule is not None and rule.expires is not None and rule.expires < rule.every:
        what = f"it counts for {rule.expires} only, and the next verification comes after {rule.every}: nothing is proven between"
        yield "warning", _path(database, "dumps", "verify", "expires"), what, "let it count for longer, or verify more often"


def _one_place(database: DatabasePolicy, sites: Mapping[str, str]) -> Iterator[_Row]:
    """A second copy in the same folder or bucket is none."""
    for name, first in shared_sites(in_order(database), sites).items():
        yield "error", ("targets", name), one_place(first), ONE_PLACE_CURE


def _is_beyond_reach(target: msgspec.Struct) -> bool:
    return bool(getattr(target, "append_only", False) or getattr(target, "object_lock", None))


def _twins(policy: Policy) -> Iterator[_Row]:
    for one, other in combinations(policy.databases.values(), 2):
        shared = [target for target in other.dumps.targets if one.source == other.source and target in one.dumps.targets]
        if shared:
            what = f"has the very source of {one.name}, and both dump to {', '.join(shared)}"
            yield "warning", _path(other, "source"), what, "one of them is enough, unless their schedules differ on purpose"


def _unused(policy: Policy) -> Iterator[_Row]:
    used = {target for database in policy.databases.values() for target in database.dumps.targets}
    for name in policy.targets:
        if name not in used:
            yield "warning", ("targets", name), "no database dumps to it", "name it in dumps.targets, or remove it"


def _path(database: DatabasePolicy, *steps: str) -> Path:
    return ("databases", database.name, *steps)
