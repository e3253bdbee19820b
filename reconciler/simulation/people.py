"""What people do to a world between two turns, for good and for bad; and how they mend it in the end."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec

from reconciler.backups.layout import instant_of
from reconciler.backups.manifest import encode
from reconciler.policy.relation import Relation
from reconciler.policy.secret import Revealed
from reconciler.simulation.faults import SPELLS, Spell, SpellKind
from reconciler.simulation.host import SimulatedCache
from reconciler.simulation.kept import PROJECT_DEEDS, mend
from reconciler.simulation.project import Project
from reconciler.simulation.signing import HIS, OURS, signed
from reconciler.simulation.source import HOTEL
from reconciler.simulation.stage import HOUR, SCHEDULES, Stage, policy, retentions
from reconciler.simulation.store import Store
from reconciler.simulation.truth import Folder, what_is_wrong
from reconciler.world.facts import Tombstone


def meddle(stage: Stage) -> None:
    """One of the things that happen."""
    if stage.project is not None and stage.chance.happens(0.5):
        _meddle_with_project(stage, stage.project)
        return
    # Where backups are verified and signed, what that is for happens more often.
    more = [data_rots] * 4 * (stage.verify is not None) + [a_thief_writes] * 2 * stage.signed
    names = [*DEEDS, *(deed.__name__ for deed in more)]
    name = stage.chance.choice(names)
    if DEEDS[name](stage):
        stage.ledger.meddle()
        stage.ledger.note(f"people: {name}")
        stage.faults.counted[name] += 1


def _meddle_with_project(stage: Stage, project: Project) -> None:
    name = stage.chance.choice(list(PROJECT_DEEDS))
    if PROJECT_DEEDS[name](project, stage.chance):
        stage.ledger.meddle()
        stage.ledger.note(f"people: {name}")
        stage.faults.counted[name] += 1


def a_place_fails(stage: Stage) -> bool:
    """A target, the source or its history is out of reach for a while, or the key's rights are gone."""
    place = stage.chance.choice([*stage.stores, "source", *(["history"] if stage.project else [])])
    kind: SpellKind = stage.chance.choice(SPELLS)
    until = stage.timeline.seconds + stage.chance.uniform(0.1, 3) * SCHEDULES[stage.schedule]
    stage.faults.begin_spell(place, Spell(kind=kind, until=until))
    return True


def a_clock_is_wrong(stage: Stage) -> bool:
    """Of a host: by minutes, by hours, by days; or it is set right."""
    host = stage.chance.choice(stage.hosts)
    host.offset = stage.chance.choice((0.0, 0.0, 90.0, -90.0, 7 * HOUR, -7 * HOUR, 80 * HOUR, -80 * HOUR))
    return True


def an_object_is_deleted(stage: Stage) -> bool:
    """By hand, in one store."""
    folder = _some(stage)
    if folder is None or not folder.visible:
        return False
    name = stage.chance.choice(sorted(folder.visible))
    folder.store.remove(_key(stage, folder, name), None, by=None)
    return True


def a_backup_is_deleted(stage: Stage) -> bool:
    """As `backups delete` would: a tombstone on each target."""
    folder = _some(stage)
    if folder is None or folder.manifest is None:
        return False
    now = stage.timeline.now().replace(microsecond=0)
    due = now + timedelta(hours=stage.chance.choice((0, 1)))
    _bury(stage, folder, Tombstone(id=folder.id, at=now, due=due, slot=folder.manifest.slot, reason="asked for"), OURS)
    stage.ledger.asked.add(folder.id)
    return True


def _bury(stage: Stage, folder: Folder, stone: Tombstone, key: Revealed) -> None:
    """On each target that has it; signed with that key, where signatures are asked for."""
    text = encode(stone)
    if stage.signed:
        text = msgspec.json.encode({**msgspec.json.decode(text), "signature": msgspec.json.decode(signed(text, key))})
    for store in stage.stores.values():
        if store.current(_key(stage, folder, "manifest.json")):
            store.put(_key(stage, folder, f"tombstone-{stone.due:%Y%m%dT%H%M%SZ}.json"), text, expect=None, by=None)


def the_newest_is_deleted(stage: Stage) -> bool:
    """Without grace: only its tombstone tells later that its slot was done."""
    folders = [folder for folder in _folders(stage) if folder.manifest is not None]
    newest = max(folders, key=lambda folder: folder.id, default=None)
    if newest is None or newest.manifest is None:
        return False
    now = stage.timeline.now().replace(microsecond=0)
    _bury(stage, newest, Tombstone(id=newest.id, at=now, due=now, slot=newest.manifest.slot, reason="asked for"), OURS)
    stage.ledger.asked.add(newest.id)
    return True


def data_rots(stage: Stage) -> bool:
    """Bytes change where they lie, their number with it or not."""
    found = _folders(stage)
    # Where backups are verified, it is the newest that are.
    folder = _some(stage) if stage.verify is None or not found else max(found, key=lambda one: one.id)
    if folder is None or not folder.data:
        return False
    name = stage.chance.choice(sorted(folder.data))
    content = folder.data[name].content
    rotten = content[:-1] if stage.chance.happens(0.5) else bytes(byte ^ 1 for byte in content)
    folder.store.put(_key(stage, folder, name), rotten, expect=None, by=None)
    return True


def a_record_is_torn(stage: Stage) -> bool:
    """A manifest, an intent, a tombstone or the lease is half of itself, or empty."""
    store = stage.chance.choice(list(stage.stores.values()))
    keys = [
        key for key in sorted(store.objects) if key.endswith((".json", ".sig")) and store.current(key) and "repository" not in key
    ]
    if not keys:
        return False
    key = stage.chance.choice(keys)
    held = store.current(key)
    content = held.content[: len(held.content) // 2] if held and stage.chance.happens(0.7) else b""
    store.put(key, content, expect=None, by=None)
    return True


def a_date_in_the_future(stage: Stage) -> bool:
    """A whole backup, by all appearances, of next year."""
    return _forge(stage, lambda text: {**text, "instant": f"{stage.timeline.now() + timedelta(days=300):%Y-%m-%dT%H:%M:%SZ}"})


def a_foreign_backup(stage: Stage) -> bool:
    """A thief puts a backup of another repository into our folder, dated now."""
    return _forge(
        stage, lambda text: {**text, "repository": "00ff00ff00ff00ff", "instant": f"{stage.timeline.now():%Y-%m-%dT%H:%M:%SZ}"}
    )


def a_thief_writes(stage: Stage) -> bool:
    """He has the bucket's rights and not the key: tombstones; where keys are pinned, a backup of now, or another manifest."""
    folder = _some(stage)
    if folder is None or folder.manifest is None:
        return False
    if not stage.signed or stage.thieving.happens(0.5):
        return _give_up(stage)
    old = folder.visible["manifest.json"].content
    text = msgspec.json.decode(old) | {"labels": {"by": "thief"}}
    backup = folder.id
    if stage.chance.happens(0.5):
        now = stage.timeline.now()
        backup = f"{now:%Y%m%dT%H%M%SZ}-{stage.chance.token(3)}"
        text |= {"id": backup, "instant": f"{now:%Y-%m-%dT%H:%M:%SZ}", "slot": f"{now:%Y-%m-%dT%H:00:00Z}"}
    manifest = msgspec.json.encode(text)
    signature = stage.chance.choice((b"", signed(old), signed(manifest, HIS), b"{}"))
    for name, held in folder.data.items():
        if backup != folder.id:
            folder.store.put(f"{stage.want.name}/backups/{backup}/{name}", held.content, expect=None, by=None)
    _put_manifest(stage, folder.store, backup, manifest, signature)
    return True


def _give_up(stage: Stage) -> bool:
    """Most of what is there, as if retention had done it today or long ago, or as if long ago it had been swept as debris."""
    chance = stage.thieving
    now = stage.timeline.now()
    at = (now - timedelta(hours=chance.choice((0, 2, 30 * 24)))).replace(microsecond=0)
    due = at + timedelta(hours=chance.choice((0, 1)))
    # Which no rule counts as a loss.
    counts = due > at or at > now - timedelta(days=1)
    there = {folder.id for folder in _folders(stage)}
    born = sum(instant_of(backup) > now - timedelta(hours=25) for backup in there)
    may_go = born + max(1, len(there) * 30 // 100)
    for folder in _folders(stage):
        if folder.manifest is not None and chance.happens(0.8):
            stone = Tombstone(id=folder.id, at=at, due=due, slot=folder.manifest.slot, reason="given up", counts=counts)
            _bury(stage, folder, stone, HIS)
            known = stage.ledger.planted.get(folder.id)
            # Of several tombstones the latest tells: the instant that it names, or the coming of the first.
            if known is None or at > known[0]:
                stage.ledger.planted[folder.id] = now, may_go
    return True


def rows_are_lost(stage: Stage) -> bool:
    """Most of what the database held: only the older backups have it."""
    stage.database.lost += stage.database.commits() * 7 // 10
    return True


def somebody_looks_into_it(stage: Stage) -> bool:
    """What froze by itself, and lifts the freeze."""
    look_into_freezes(stage)
    return True


def a_backup_by_hand(stage: Stage) -> bool:
    """As `backups take` makes one: kept for ever, or for a few hours."""
    now = stage.timeline.now()
    ends = f"{now + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}" if stage.chance.happens(0.5) else None
    said = {"kind": "manual", "slot": None, "instant": f"{now:%Y-%m-%dT%H:%M:%SZ}", "keep_until": ends}
    return _forge(stage, lambda text: {**text, **said})


def a_stray(stage: Stage) -> bool:
    """Something that no layout knows, beside a backup's own too."""
    store = stage.chance.choice(list(stage.stores.values()))
    key = stage.chance.choice(("hotel/readme.txt", "hotel/backups/notes.txt", "reservas/backups/x/manifest.json", "elsewhere"))
    store.put(key, b"mine", expect=None, by=None)
    for backup in stage.truth.folders(store, "hotel"):
        store.put(f"hotel/backups/{backup}/notes.txt", b"mine", expect=None, by=None)
    return True


def another_repository(stage: Stage) -> bool:
    """A thief, or a clone of the policy, claims the whole folder."""
    store = stage.chance.choice(list(stage.stores.values()))
    held = store.current("hotel/repository.json")
    if held is None:
        return False
    text = msgspec.json.decode(held.content)
    if stage.chance.happens(0.5):
        text["id"] = "00ff00ff00ff00ff"
    else:
        text["identity"]["cluster"] = "1"
    store.put("hotel/repository.json", msgspec.json.encode(text), expect=None, by=None)
    return True


def a_hold(stage: Stage) -> bool:
    """One backup must stay, or may go again."""
    folder = _some(stage)
    if folder is None:
        return False
    key = _key(stage, folder, "hold.json")
    if "hold.json" in folder.visible:
        # Everywhere: a copy that was left with its own would bring it back to the others.
        for store in stage.stores.values():
            if store.current(key):
                store.remove(key, None, by=None)
    elif folder.manifest is not None:
        folder.store.put(key, b'{"reason": "legal"}', expect=None, by=None)
    return True


def a_freeze(stage: Stage) -> bool:
    """Nothing is destroyed for a while."""
    store = stage.stores[stage.want.home]
    if store.current("hotel/freeze.json"):
        store.remove("hotel/freeze.json", None, by=None)
    else:
        store.put("hotel/freeze.json", b'{"reason": "looking into something"}', expect=None, by=None)
    return True


def the_policy_is_edited(stage: Stage) -> bool:
    """Another schedule, another retention, fewer targets or more."""
    chance = stage.chance
    names = list(stage.stores)
    targets = stage.want.dumps.targets
    exclude: tuple[Relation, ...] = ()
    match chance.choice(("retention", "retention", "schedule", "targets", "filters")):
        case "retention":
            pass
        case "filters":
            exclude = (Relation("public", "audit"),)
        case "schedule":
            stage.schedule = chance.choice(list(SCHEDULES))
        case _:
            targets = (names[0], *chance.sample(names[1:], chance.randint(0, len(names) - 1)))
    stage.want = policy(stage.schedule, targets, chance.choice(retentions()), stage.verify, exclude)
    return True


def the_database_is_renamed(stage: Stage) -> bool:
    """Its old folder is left behind, or found again."""
    stage.want = msgspec.structs.replace(stage.want, name="annex" if stage.want.name == "hotel" else "hotel")
    return True


def a_machine_restarts(stage: Stage) -> bool:
    """All that ran on it is gone."""
    host = stage.chance.choice(stage.hosts)
    for process in list(host.processes.values()):
        process.end_all()
    host.boot = f"boot-{stage.chance.token(3)}"
    return True


def a_cache_is_emptied(stage: Stage) -> bool:
    """It may be, at any time."""
    stage.chance.choice(stage.hosts).cache = SimulatedCache()
    return True


DEEDS: Mapping[str, Callable[[Stage], bool]] = {
    deed.__name__: deed
    for deed in (
        a_place_fails,
        a_clock_is_wrong,
        an_object_is_deleted,
        a_backup_is_deleted,
        the_newest_is_deleted,
        data_rots,
        a_record_is_torn,
        a_date_in_the_future,
        a_foreign_backup,
        a_thief_writes,
        rows_are_lost,
        somebody_looks_into_it,
        a_backup_by_hand,
        a_stray,
        another_repository,
        a_hold,
        a_freeze,
        the_policy_is_edited,
        the_database_is_renamed,
        a_machine_restarts,
        a_cache_is_emptied,
    )
}


def heal(stage: Stage) -> None:
    """Faults end, clocks are set, freezes and holds are lifted, the name is as it was, and what is not ours is taken away."""
    stage.mended = True
    stage.faults.end()
    stage.ledger.meddle()
    stage.ledger.note("people: everything is mended")
    whole = msgspec.structs.replace(stage.want.dumps, exclude=())
    stage.want = msgspec.structs.replace(stage.want, name="hotel", dumps=whole)
    if stage.project is not None:
        mend(stage.project, stage.keeper.made)
    for host in stage.hosts:
        host.offset = 0.0
    stage.timeline.sleep(stage.timeline.seconds + 60)
    for store in stage.stores.values():
        store.lag_seconds = 0.0
        for key in [key for key in store.objects if key.endswith(("hold.json", "freeze.json"))]:
            store.remove(key, None, by=None)
        _mend_repository(stage, store)
        for folder in stage.truth.folders(store, "hotel").values():
            state = stage.truth.state(folder, "hotel", stage.timeline.now())
            # Whoever has read that a verification failed takes away what is spoilt.
            spoilt = folder.manifest is not None and any(what_is_wrong(folder, folder.manifest, stage.truth.identity))
            if state == "impossible" or (spoilt and stage.verify is not None):
                _take_away(stage, folder)


def look_into_freezes(stage: Stage) -> None:
    """What froze by itself is looked at, found in order, and lifted: after all that happened, dumps may well have shrunk."""
    database = stage.want.name
    records = max(sum(key.startswith(f"{database}/evidence/") for key in store.objects) for store in stage.stores.values())
    for store in stage.stores.values():
        if store.current(f"{database}/freeze.json"):
            seen = [*sorted(stage.truth.folders(store, database)), *(f"evidence {one + 1}" for one in range(records))]
            lifted = {"who": "people", "why": "", "lifted": True, "acknowledged": seen}
            store.put(f"{database}/freeze.json", msgspec.json.encode(lifted), expect=None, by=None)


def _mend_repository(stage: Stage, store: Store) -> None:
    """It says again what a reconciler wrote there first; what was written last, where a thief named it before all were begun."""
    written = [text for (_, key), text in stage.ledger.repositories.items() if key == "hotel/repository.json"]
    original = stage.ledger.repositories.get((store.name, "hotel/repository.json"))
    if original is not None and _id_of(original) != _id_of(written[-1]):
        original = written[-1]
    held = store.current("hotel/repository.json")
    if original is not None and (held is None or held.content != original):
        store.put("hotel/repository.json", original, expect=None, by=None)


def _id_of(repository: bytes) -> object:
    return msgspec.json.decode(repository)["id"]


def _take_away(stage: Stage, folder: Folder) -> None:
    for name in folder.visible:
        folder.store.remove(_key(stage, folder, name), None, by=None)
        folder.store.wipe(_key(stage, folder, name))


def _forge(stage: Stage, change: Callable[[dict[str, object]], dict[str, object]]) -> bool:
    """A copy of a backup under a new id, with its manifest changed."""
    folder = _some(stage)
    if folder is None or folder.manifest is None:
        return False
    now = stage.timeline.now()
    backup = f"{now:%Y%m%dT%H%M%SZ}-{stage.chance.token(3)}"
    text = change(msgspec.json.decode(folder.visible["manifest.json"].content))
    text["id"] = backup
    for name, held in folder.data.items():
        folder.store.put(f"{stage.want.name}/backups/{backup}/{name}", held.content, expect=None, by=None)
    manifest = msgspec.json.encode(text)
    _put_manifest(stage, folder.store, backup, manifest, signed(manifest) if stage.signed else b"")
    return True


def _put_manifest(stage: Stage, store: Store, backup: str, manifest: bytes, signature: bytes) -> None:
    """With no signature beside it, where that is empty and none was there."""
    root = f"{stage.want.name}/backups/{backup}"
    if signature:
        store.put(f"{root}/manifest.sig", signature, expect=None, by=None)
    store.put(f"{root}/manifest.json", manifest, expect=None, by=None)


def _folders(stage: Stage) -> list[Folder]:
    found: list[Folder] = []
    for store in stage.stores.values():
        folders = stage.truth.folders(store, stage.want.name)
        found += [folders[key] for key in sorted(folders)]
    return found


def _some(stage: Stage) -> Folder | None:
    folders = _folders(stage)
    return stage.chance.choice(folders) if folders else None


def _key(stage: Stage, folder: Folder, name: str) -> str:
    return f"{stage.want.name}/backups/{folder.id}/{name}"


__all__ = ["DEEDS", "HOTEL", "heal", "look_into_freezes", "meddle"]
