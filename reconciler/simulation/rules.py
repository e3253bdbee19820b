"""The rules that every single change is held against. Each says what is wrong, or nothing. Named after the page."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import islice, pairwise

from reconciler.backups.layout import instant_of
from reconciler.simulation.change import Change
from reconciler.simulation.truth import (
    SILENT,
    Brief,
    ClaimBrief,
    EvidenceBrief,
    FreezeBrief,
    Marked,
    Stone,
    is_of_backup,
    read,
    what_is_wrong,
)
from reconciler.world.facts import Backup, Known

CLOCKS = timedelta(seconds=120)
"""Clocks of a host and of a store that differ by a minute each way are still used."""
FRESH = timedelta(minutes=16)
REMEMBERED = timedelta(days=30)
DAY = timedelta(hours=24)
FLOOR = 2
ALARMING = timedelta(days=7)
NOTEWORTHY = 1000
"""Rows: a smaller table may be halved in any afternoon."""

Rule = Callable[[Change], Iterator[str]]


def only_its_own(change: Change) -> Iterator[str]:
    """Rule 4: nothing outside of its database's folders is touched."""
    shared = change.key == f".databases/{change.database}.json" or change.key.startswith(".windows/quiet-hotel/")
    if not change.key.startswith(f"{change.database}/") and not shared:
        yield f"{change}: it is not of {change.database}"
    passing = change.is_claim and (change.is_history or "/pins/" in change.key)
    if change.verb == "remove" and not change.backup and not passing:
        yield f"{change}: records are never removed"
    if change.verb == "remove" and change.backup and not is_of_backup(change.name):
        yield f"{change}: it is somebody's own"


def nothing_is_overwritten(change: Change) -> Iterator[str]:
    """Rule 8: writes are if-absent; claims alone are renewed, and freezes written again, that lose nothing by it."""
    if change.before is None or change.is_claim:
        return
    if change.name != "freeze.json" or change.backup:
        yield f"{change}: something is there already"
        return
    was, will = read(change.before.content, FreezeBrief), read(change.content, FreezeBrief)
    if will is None or will.lifted or (was is not None and not {*was.acknowledged} <= {*will.acknowledged}):
        yield f"{change}: a freeze is lifted by nobody, or what was acknowledged is forgotten"


def claims_pass_from_the_dead(change: Change) -> Iterator[str]:
    """Rule 8: what another living process claims is left to it."""
    if not change.is_claim or change.before is None or change.is_marker or change.is_history:
        return
    claim = read(change.before.content, ClaimBrief)
    silent = change.store.now() - change.before.stored.modified
    if claim is not None and change.truth.lives(claim) and not change.is_mine(claim) and silent < SILENT:
        yield f"{change}: its owner lives, and renewed it {silent.total_seconds():.0f} s ago"
    if claim is None and silent < SILENT and change.in_time:
        yield f"{change}: torn, and nobody watched it for long enough"


def intent_before_the_first_byte(change: Change) -> Iterator[str]:
    """§2: data and manifest come under an intent of their writer."""
    writes = bool(change.backup) and change.stone is None and change.name not in ("intent.json", "hold.json")
    if writes and change.in_time and not change.is_mine(change.folder.intent):
        yield f"{change}: there is no intent of its writer"


def a_manifest_tells_the_truth(change: Change) -> Iterator[str]:
    """Rules 5 and 9: whatever is listed as a backup is the dump, to the last byte, before its manifest is there."""
    if change.name != "manifest.json" or not change.backup:
        return
    said = read(change.content, Brief)
    if said is None or said.id != change.backup or said.database != change.database:
        yield f"{change}: no manifest of this backup"
        return
    whose = change.truth.repository(change.store, change.database)
    if whose is None or whose.id != said.repository:
        yield f"{change}: of another repository than the one that it lies in"
    # One that slept while others swept its work writes a manifest of nothing: it shows as damaged, or as nobody's.
    if not change.in_time and not change.folder.data:
        return
    if not change.truth.vouched_for(change.folder, change.content):
        yield f"{change}: it is not signed by a key that the policy pins"
    if whose is not None:
        # Somebody may have written another identity into the records: a copy is the dump that it was all the same.
        known = [whose.identity, change.truth.identity] if change.is_written_elsewhere else [whose.identity]
        wrongs = [tuple(what_is_wrong(change.folder, said, identity)) for identity in known]
        if all(wrongs):
            yield from (f"{change}: {wrong}" for wrong in wrongs[0])


def verified_is_earned(change: Change) -> Iterator[str]:
    """Rule 9: only what is the dump, to the last byte, was ever restored."""
    record = read(change.content, EvidenceBrief) if "/evidence/" in change.key else None
    if record is None or record.result != "passed" or not change.is_calm or not change.in_time:
        return
    if change.is_written_elsewhere:
        return  # a copy of what was said once says nothing of today
    if not change.truth.holds(record, change.database):
        yield f"{change}: {record.backup} on {record.target} passed, and is spoilt"


def evidence_is_copied_as_it_is(change: Change) -> Iterator[str]:
    """Rule 9: records are made on home; what lies on another target is one of them, under its number, byte for byte."""
    if "/evidence/" in change.key and change.store.name != change.turn.want.home:
        if not change.is_written_elsewhere:
            yield f"{change}: no other target has this record"
        before = read(change.content, EvidenceBrief)
        if before is not None and before.before is not None and not change.follows(before.before):
            yield f"{change}: the record that it names as the one before it is not there"


def unknown_is_not_absent(change: Change) -> Iterator[str]:
    """Rule 1: a deletion rests on everything being Known, and lately."""
    have = change.turn.have
    if have is None:
        yield f"{change}: without having looked"
        return
    for name, seen in {**have.catalogues, "source": have.source}.items():
        # What arrives late was decided on by an earlier look.
        if not isinstance(seen, Known) and change.in_time:
            yield f"{change}: {name} is unknown"
        elif isinstance(seen, Known) and change.in_time and change.now - seen.at > FRESH and change.is_calm:
            yield f"{change}: {name} was seen {change.now - seen.at} ago"
    if set(have.catalogues) != set(change.turn.want.dumps.targets) | {change.turn.want.home}:
        yield f"{change}: not all targets were asked"


def clocks_agree(change: Change) -> Iterator[str]:
    """§5: nothing is destroyed under a clock that differs from a store's."""
    if not change.is_calm:
        return
    for name in change.turn.want.dumps.targets:
        apart = abs(change.truth.stores[name].now() - change.now)
        if apart > timedelta(seconds=70):
            yield f"{change}: its clock and that of {name} are {apart} apart"


def under_the_lease(change: Change) -> Iterator[str]:
    """Rule 8: who deletes holds the lease."""
    if not change.in_time:
        return
    held = change.truth.stores[change.turn.want.home].current(f"{change.database}/lease-keep.json")
    if held is None or not change.is_mine(read(held.content, ClaimBrief)):
        yield f"{change}: it does not hold the lease"


def nothing_goes_meanwhile(change: Change) -> Iterator[str]:
    """Rules 12 and 13, §2: a hold keeps one backup, a freeze and a date in the future keep all."""
    if not change.is_calm:
        return
    for name in change.turn.want.dumps.targets:
        store = change.truth.stores[name]
        freeze = store.current(f"{change.database}/freeze.json")
        if freeze is not None and not (read(freeze.content, FreezeBrief) or FreezeBrief()).lifted:
            yield f"{change}: {name} is frozen"
        if store.current(f"{change.database}/backups/{change.backup}/hold.json") and not change.is_of_failed_copy:
            yield f"{change}: it is on hold on {name}"
        now = change.now - CLOCKS
        for folder in change.truth.folders(store, change.database).values():
            ahead = folder.manifest is not None and folder.manifest.instant > now
            if ahead and change.truth.state(folder, change.database, now) == "impossible":
                yield f"{change}: {folder.id} on {name} is dated in the future"


def what_is_held_stays(change: Change) -> Iterator[str]:
    """Rule 12: a hold has come to every copy: none goes before people release it, whichever targets the policy names by then."""
    held = (change.store.name, change.backup) in change.ledger.held
    if held and change.is_calm and change.in_time:
        yield f"{change}: people hold it, and nobody released it"


def holds_are_passed_on(change: Change) -> Iterator[str]:
    """Rule 12: only people hold a backup; what they said is brought to its other copies as it is, and to nothing else."""
    if change.name != "hold.json" or not change.backup:
        return
    if not change.is_written_elsewhere:
        yield f"{change}: nobody said so"
    if change.is_calm and change.in_time and "manifest.json" not in change.folder.visible and not change.is_own_draft:
        yield f"{change}: there is no backup"


def nothing_goes_under_a_reader(change: Change) -> Iterator[str]:
    """Rule 12: whoever pinned a backup before its tombstone was there reads it to the end."""
    condemned = change.ledger.condemned.get(change.backup)
    home = change.truth.stores[change.turn.want.home]
    if change.verb != "remove" or condemned is None or home.lag_seconds:
        return
    for key, since in change.ledger.pinned.items():
        held = home.current(key) if key.startswith(f"{change.database}/pins/{change.backup}-") and since < condemned else None
        claim = read(held.content, ClaimBrief) if held is not None else None
        if change.truth.lives(claim) and not change.is_mine(claim):
            yield f"{change}: it is being read by a process that pinned it before ({key})"


def nothing_of_another_source(change: Change) -> Iterator[str]:
    """§1: where a target's folder was begun for another source, nothing of it is destroyed."""
    if not change.is_calm:
        return
    found = [change.truth.repository(change.truth.stores[name], change.database) for name in change.turn.want.dumps.targets]
    if len({whose.id for whose in found if whose}) > 1 or any(
        whose.identity != change.truth.identity for whose in found if whose
    ):
        yield f"{change}: the targets are of several repositories, or of another source"


def only_what_stays_is_copied(change: Change) -> Iterator[str]:
    """Rule 12: nothing is copied that a tombstone names."""
    begins = change.name == "intent.json" and change.before is None
    if not begins or not _is_copy(change) or not change.is_calm or not _as_seen(change):
        return
    if _is_condemned(change, change.backup) or change.folder.tombstones:
        yield f"{change}: a tombstone names it"


def as_the_table_says(change: Change) -> Iterator[str]:
    """§2: only what is being deleted or debris is removed, the manifest first; what is ours and nothing else."""
    if change.verb != "remove":
        return
    state = change.truth.state(change.folder, change.database, change.now + CLOCKS)
    allowed = ("being_deleted", "debris", "being_written", "gone")
    if state == "foreign" and change.backup in change.ledger.tampered:
        return  # Somebody hid the manifest that says so.
    meanwhile = state == "deleted" and _was_put_off(change)
    if state not in allowed and not meanwhile and not (state in ("damaged", "deleted") and not change.is_calm):
        yield f"{change}: it is {state}"
    if change.name != "manifest.json" and "manifest.json" in change.folder.visible:
        yield f"{change}: data goes while its manifest is there"


def grace_has_passed(change: Change) -> Iterator[str]:
    """Rule 3: what was a backup comes back until its tombstone is due."""
    if change.name != "manifest.json" or not change.backup or change.is_marker:
        return
    stones = change.folder.tombstones
    if not stones:
        yield f"{change}: no tombstone announced it"
    if _was_put_off(change):
        return
    # What a thief laid beside a good one a moment ago, a listing that lags does not show yet.
    seen = [stone for stone in stones if stone is not None] if change.store.lag_seconds else stones
    for stone in seen or stones:
        if stone is None or stone.due > change.truth.stores[change.store.name].now() + CLOCKS:
            yield f"{change}: its grace has not passed" if stone else f"{change}: its tombstone is torn"


def _was_put_off(change: Change) -> bool:
    """Whether it was due, and while its request was under way somebody else put it off, whom a lock had stopped."""
    now, stones = change.truth.stores[change.store.name].now() + CLOCKS, change.folder.tombstones
    due = {stone.at for stone in stones if stone is not None and stone.due <= now}
    return bool(due) and not change.in_time and all(stone is not None and stone.at in due for stone in stones)


def what_can_be_locked_is(change: Change) -> Iterator[str]:
    """Rule 14: what a backup is made of is kept from everybody's deletion, where the store can."""
    lasts = change.name in ("manifest.json", "manifest.sig") or change.name.endswith(".zst")
    if change.store.locks and change.backup and lasts and change.until is None:
        yield f"{change}: it is not locked"


def tombstones_stay(change: Change) -> Iterator[str]:
    """§2: as long as anything of the id is left anywhere, and 30 days."""
    if not change.name.startswith("tombstone-") or change.is_marker or not change.backup:
        return
    if change.ledger.buried.get((change.store.name, change.key)) is change.by and "manifest.json" in change.folder.visible:
        return  # It gives way to a reader that it met.
    if change.store.lag_seconds:
        return  # What a listing does not show yet is met by the next turn.
    held = change.before
    stone = read(held.content, Stone) if held else None
    if stone is not None and any(other is not None and other.due > stone.due for other in change.folder.tombstones):
        return  # A lock put the deletion off: a later one says so.
    if any(not name.startswith("tombstone-") for name in change.folder.visible):
        yield f"{change}: there is still something that it condemns"
    if stone is not None and stone.counts and stone.due + REMEMBERED > change.store.now() + CLOCKS:
        yield f"{change}: it is due since {stone.due:%d %b %H:%M} only"


def the_last_good_ones_stay(change: Change) -> Iterator[str]:
    """Rules 2 and 11: one that was proven, or two whole ones, are left when one goes. Partial ones are none."""
    stone = change.sentence
    condemns = stone is not None and stone.counts
    removes = change.verb == "remove" and change.name == "manifest.json" and bool(change.backup)
    if not (condemns or removes) or not change.is_calm or not change.in_time or change.is_own_draft:
        return
    # A tombstone is one of several for all its copies; a removal is of one that is condemned already.
    names = change.turn.want.dumps.targets
    left = {key for key, one in change.truth.whole(change.database, names, change.now).items() if not one.partial}
    if removes and any(change.truth.stores[name].lag_seconds for name in names):
        # A tombstone that a listing does not show yet can't be known of; but then the id has another copy, that can come back.
        left |= change.truth.recoverable(change.database, names, but=change.folder)
    left -= {change.backup} if condemns else set()
    home = change.truth.stores[change.turn.want.home]
    proven = {record.backup for record in change.truth.proven(home, change.database)} & left
    given_up = change.folder.manifest
    if given_up is not None and given_up.partial:
        return
    if len(left) < FLOOR and not proven and change.backup in change.ledger.births:
        yield f"{change}: {len(left)} would be left"


def what_alarms_stops_all(change: Change) -> Iterator[str]:
    """Rule 13: where a copy failed, or half of the rows are gone, nothing is destroyed until a person has looked."""
    have = change.turn.have
    if not change.is_calm or have is None:
        return
    looked_at = {name for seen in have.known().values() for name in seen.acknowledged}
    lies = {(target, copy.id, copy.content) for target, seen in have.known().items() for copy in seen.copies}
    records = have.evidence.value.records if isinstance(have.evidence, Known) else ()
    last = {(one.target, one.backup, one.content): one for one in records if one.result != "unproven"}
    for copy, record in last.items():
        # All that this world does is restore: what passed later has read as much.
        if record.result == "failed" and copy in lies and f"evidence {record.sequence}" not in looked_at:
            yield f"{change}: {record.backup} failed on {record.target}, and nobody has looked"
    whole = [one for one in have.backups() if one.whole_on and not one.partial]
    for newer, older in islice(pairwise(whole), 1):
        rows, before = _rows(change, newer), _rows(change, older)
        if rows is None or before is None or newer.id in looked_at or newer.instant < change.now - ALARMING:
            continue
        if before >= NOTEWORTHY and 2 * rows < before:
            yield f"{change}: {newer.id} has {rows} rows, {older.id} had {before}, and nobody has looked"


def _rows(change: Change, backup: Backup) -> int | None:
    """By the summary of its fingerprint."""
    texts = (
        change.truth.stores[name].current(f"{change.database}/backups/{backup.id}/manifest.json") for name in backup.whole_on
    )
    marks = (read(held.content, Marked) for held in texts if held is not None)
    return next((one.fingerprint.large.get("public.commits") for one in marks if one and one.fingerprint), None)


def much_at_once_is_held_back(change: Change) -> Iterator[str]:
    """Rule 3: in a day go at most as many as came, and 30 % of those that were there."""
    stone = change.sentence
    if stone is None or not stone.counts or change.backup in change.ledger.losses or change.backup in change.ledger.asked:
        return
    lost, may_go = change.ledger.may_go(change.ledger.timeline.now(), DAY, 2 * CLOCKS)
    if lost + 1 > may_go + 1:
        yield f"{change}: {lost} are lost already in a day, and {may_go} may be"


def what_a_thief_gives_up_goes_slowly(change: Change) -> Iterator[str]:
    """Rule 3: tombstones that he dates as he likes take no more a day, from when they came, than may go; unsigned ones none."""
    ledger = change.ledger
    removes = change.name == "manifest.json" and bool(change.backup) and not change.is_marker
    if not removes or change.backup not in ledger.planted or change.backup in ledger.asked | ledger.losses.keys():
        return
    came, may_go = ledger.planted[change.backup]
    days = (ledger.timeline.now() + CLOCKS - came) // DAY + 1
    # Where people took the last trace of one away, nothing tells any more that it went.
    alike = {backup for backup in ledger.stolen if ledger.planted[backup][0] == came and _is_told_of(change, backup)}
    stolen = alike | {change.backup}
    if change.truth.pinned:
        yield f"{change}: no key that the policy pins signed its tombstone"
    elif len(stolen) > days * (may_go + 1):
        yield f"{change}: {len(stolen)} of a thief's go in {days} days, and {may_go} may in each"


def _is_told_of(change: Change, backup: str) -> bool:
    return any(change.truth.folder(store, change.database, backup).tombstones for store in change.truth.stores.values())


def retention_keeps(change: Change) -> Iterator[str]:
    """Rule 12: scheduled ones only, and none that a rule of the policy keeps; others when their own time is over."""
    stone = change.sentence
    if stone is None or not stone.counts or not change.is_calm or not change.in_time:
        return
    manifest = change.folder.manifest
    if manifest is None:
        yield f"{change}: it is no backup there"
        return
    if manifest.kind != "scheduled":
        if manifest.keep_until is None or manifest.keep_until > change.now:
            yield f"{change}: it is {manifest.kind}, and its time is not over"
        return
    if stone.due < stone.at + _grace(change):
        yield f"{change}: without its grace"
    kept = keeps(change)
    if change.backup in kept:
        yield f"{change}: retention keeps it ({kept[change.backup]})"


def keeps(change: Change) -> Mapping[str, str]:
    """The two plain rules, counted once more: by what is whole in truth. A partial one takes no other's place."""
    whole = change.truth.whole(change.database, change.turn.want.dumps.targets, change.now)
    alike = {key: one for key, one in whole.items() if one.kind == "scheduled" and not _is_condemned(change, key)}
    parts = ({key: one for key, one in alike.items() if one.partial == partial} for partial in (False, True))
    return {key: why for part in parts for key, why in _kept_of(change, part).items()}


def _kept_of(change: Change, alike: Mapping[str, Brief]) -> Mapping[str, str]:
    rules = change.turn.want.dumps.retention
    found = sorted(((one.instant, key) for key, one in alike.items()), reverse=True)
    if rules is None or not (rules.keep_last or rules.keep_daily or rules.keep_hourly):
        return {key: "no rules" for _, key in found}
    kept = {key: "keep_last" for _, key in found[: rules.keep_last or 0]}
    for count, form in ((rules.keep_daily, "%Y-%m-%d"), (rules.keep_hourly, "%Y-%m-%d %H")):
        newest: dict[str, str] = {}
        for at, key in found:
            newest.setdefault(at.strftime(form), key)
        kept |= dict.fromkeys(list(newest.values())[: count or 0], "keep_daily or keep_hourly")
    return kept


def a_slot_is_done_once(change: Change) -> Iterator[str]:
    """§5: the newest slot, where nothing names it yet; never one of yesterday."""
    begins = change.name == "intent.json" and change.before is None
    claim = read(change.content, ClaimBrief) if begins else None
    if claim is None or claim.kind != "scheduled" or claim.slot is None or _is_copy(change):
        return
    want = change.turn.want
    # When it was begun, as its id says: a slot that came between that and this write is the next dump's.
    begun = min(instant_of(change.backup), change.ledger.timeline.now())
    # What was decided lately when work on it began is carried out, on the next target too where one does not take it.
    decided = change.turn.decided
    if decided is not None and (change.turn.began or begun) - decided <= FRESH:
        begun = min(begun, decided)
    # By whose clock it was decided, the newest may not have come yet.
    newest = want.slots().latest(begun - CLOCKS, want.timezone)
    if newest is not None and change.in_time and claim.slot < newest - timedelta(hours=1):
        yield f"{change}: for slot {claim.slot}, though {newest} is the newest"
    have = change.turn.have
    # An intent whose answer was lost may arrive once the dump has landed on the next target.
    if have is None or not change.is_calm or not change.in_time or not _as_seen(change):
        return
    found = [
        (name, folder)
        for name in have.known()
        for folder in change.truth.folders(change.truth.stores[name], change.database).values()
    ]
    # What lacks tables is no backup of the whole, where that is asked for.
    parts = {folder.id for _, folder in found if folder.manifest is not None and folder.manifest.partial}
    for name, folder in found:
        if folder.id not in parts or want.asks_for_a_part:
            state = change.truth.state(folder, change.database, change.now)
            done = folder.manifest.slot if folder.manifest and state in ("whole", "deleted", "damaged") else None
            stones = [stone.slot for stone in folder.tombstones if stone and stone.counts and state != "foreign"]
            if claim.slot in (done, *stones):
                yield f"{change}: slot {claim.slot} is done by {folder.id} on {name}"


def _is_copy(change: Change) -> bool:
    """It is a backup already, somewhere."""
    key = f"{change.database}/backups/{change.backup}/manifest.json"
    return any(store.current(key) for store in change.truth.stores.values())


def _as_seen(change: Change) -> bool:
    """No store was changed since it was listed."""
    listed = change.turn.reach.listed
    stores = [change.truth.stores[name] for name in change.turn.want.dumps.targets]
    return all(listed.get(store.name) == store.changes and not store.lag_seconds for store in stores)


def _is_condemned(change: Change, backup: str) -> bool:
    """By a tombstone that counts (or is torn), on any target: one of mere debris condemns what lies beside it alone."""
    stores = (change.truth.stores[name] for name in change.turn.want.dumps.targets)
    stones = (stone for store in stores for stone in change.truth.folder(store, change.database, backup).tombstones)
    return any(stone is None or stone.counts for stone in stones)


def _grace(change: Change) -> timedelta:
    rules = change.turn.want.dumps.retention
    return rules.grace if rules is not None else timedelta(days=7)


OF_ANY: tuple[Rule, ...] = (only_its_own, claims_pass_from_the_dead, the_last_good_ones_stay)
OF_WRITES: tuple[Rule, ...] = (
    nothing_is_overwritten,
    intent_before_the_first_byte,
    a_manifest_tells_the_truth,
    verified_is_earned,
    evidence_is_copied_as_it_is,
    holds_are_passed_on,
    only_what_stays_is_copied,
    what_can_be_locked_is,
    a_slot_is_done_once,
)
OF_REMOVALS: tuple[Rule, ...] = (grace_has_passed, tombstones_stay, what_a_thief_gives_up_goes_slowly)
OF_SENTENCES: tuple[Rule, ...] = (much_at_once_is_held_back, retention_keeps)
OF_DESTROYING: tuple[Rule, ...] = (
    unknown_is_not_absent,
    clocks_agree,
    under_the_lease,
    nothing_goes_meanwhile,
    what_is_held_stays,
    nothing_goes_under_a_reader,
    nothing_of_another_source,
    as_the_table_says,
    what_alarms_stops_all,
)


def rules_of(change: Change) -> tuple[Rule, ...]:
    """Those that may have something to say of it."""
    rules = OF_ANY + (OF_WRITES if change.verb == "write" else OF_REMOVALS)
    if change.sentence is not None:
        rules += OF_SENTENCES
    return rules + OF_DESTROYING if change.destroys and not change.is_own_draft else rules
