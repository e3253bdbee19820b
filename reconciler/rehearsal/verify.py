"""Verifying one copy of a backup, to the asked level: the result is evidence, written down and bound to that very content."""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from reconciler.backups import layout
from reconciler.backups.encryption import HEAD_BYTES, check_opens
from reconciler.backups.evidence import append, bring_back, content_of, share_if_possible
from reconciler.backups.fetch import archive, read_fingerprint, read_globals, read_manifest
from reconciler.backups.manifest import Manifest, StoredObject
from reconciler.backups.pins import pinned
from reconciler.backups.pipeline import Progress, read_checked
from reconciler.errors import Absent, Corrupt, NoKey, ReconcilerError, Refused, Stopped
from reconciler.policy.model import DatabasePolicy, Level
from reconciler.rehearsal.rehearse import Archive, Reading, Rehearsed, rehearse
from reconciler.world.evidence import Evidence, Fault, outcome
from reconciler.world.ports import Target, World, no_identities

UNSAID = timedelta(days=30)
"""For how long evidence counts where the policy says nothing."""


def verify(
    world: World, want: DatabasePolicy, *, backup: str, target: str, level: Level, moved: Progress = lambda _: None
) -> Evidence:
    """Reads the copy under a pin, and writes down what came of it: passed, failed, or unproven.

    Raises what keeps it from being read at all (Unreachable, Refused, Stopped, Conflict): then there is no evidence, and it is
    tried again. Raises Absent or Corrupt where there is no manifest to go by: then there is no such copy.
    """
    return _write_down(world, want, *_look(world, want, backup=backup, target=target, level=level, moved=moved))


def confirm_damage(world: World, want: DatabasePolicy, *, backup: str, target: str) -> Evidence | None:
    """For whoever met a copy's bytes as others than were written: reads them once more, and writes down that they are bad. None
    where they are not, since what spoilt them was on the way; that is no verification, and no key is looked for.

    Raises as `verify` does.
    """
    keyless = msgspec.structs.replace(world, identities=no_identities)
    copy, done = _look(keyless, want, backup=backup, target=target, level="hash", moved=lambda _: None)
    return _write_down(world, want, copy, done) if outcome(done.faults) == "failed" else None


def _look(
    world: World, want: DatabasePolicy, *, backup: str, target: str, level: Level, moved: Progress
) -> tuple["_Copy", Rehearsed]:
    origin, home = world.targets[target], world.targets[want.home]
    started, began = world.clock.now(), world.clock.monotonic()
    with pinned(world, home, origin, database=want.name, backup=backup, for_what=f"verify ({level})"):
        manifest = read_manifest(origin, want.name, backup, world.signatures)
        content = content_of((stored.name for stored in manifest.objects), _held(origin, want.name, backup))
        copy = _Copy(manifest=manifest, target=target, content=content, level=level, started=started)
        done = _examine(world, want, copy, moved)
    done.seconds["all"] = round(world.clock.monotonic() - began, 3)
    return copy, done


def _write_down(world: World, want: DatabasePolicy, copy: "_Copy", done: Rehearsed) -> Evidence:
    home, repository = world.targets[want.home], copy.manifest.repository
    others = [place for name, place in sorted(world.targets.items()) if name != want.home]
    bring_back(others, home, want.name, repository)
    evidence = append(home, want.name, _record(world, want, copy, done, world.clock.now()))
    for other in others:
        share_if_possible(home, other, want.name, repository)
    return evidence


def _held(origin: Target, database: str, backup: str) -> layout.Held:
    # As the catalogue lists them: what is bound to a content must mean the same there.
    items = origin.list(layout.backup_root(database, backup), versions=origin.versioned).items
    found = layout.put_in_order(database, items).backups
    if not found:
        raise Absent(f"{origin.name}: {backup} went away while it was verified")
    return found[0]


def _examine(world: World, want: DatabasePolicy, copy: "_Copy", moved: Progress) -> Rehearsed:
    """Never raises for what the copy is to blame for."""
    origin, manifest = world.targets[copy.target], copy.manifest
    done = Rehearsed(did=[], faults=[], left_out=[], seconds={})
    try:
        _beside(world, origin, manifest, done)
        if copy.level == "hash":
            _hash(world, origin, manifest, done, moved)
            return done
        chunks = Reading(archive(origin, manifest, world.identities, moved))
        if copy.level == "toc":
            _read_through(world, manifest, chunks, done)
            return done
        whole = Archive(
            facts=manifest.dump_facts(),
            globals=read_globals(origin, manifest, world.identities),
            chunks=chunks,
            raw_bytes=manifest.archive_raw_bytes,
            fingerprint=read_fingerprint(origin, manifest, world.identities),
        )
        rehearsed = rehearse(world.scratch, whole, want.checks, world.clock)
    except Corrupt as error:
        done.faults.append(Fault(where=manifest.id, what=error.what, result="failed"))
    except Absent as error:
        done.faults.append(Fault(where=manifest.id, what=f"is gone: {error.what}", result="failed"))
    except NoKey as error:
        done.faults.append(Fault(where=manifest.id, what=f"{error.what}; {error.cure}", result="unproven"))
    else:
        _join(done, rehearsed)
    return done


def _join(done: Rehearsed, more: Rehearsed) -> None:
    done.did += more.did
    done.faults += more.faults
    done.left_out += more.left_out
    done.seconds |= more.seconds
    done.where = more.where


def _beside(world: World, origin: Target, manifest: Manifest, done: Rehearsed) -> None:
    """All objects but the archive, which is read last and once."""
    archived = manifest.archive_objects()
    beside = [stored for stored in manifest.objects if stored not in archived]
    for stored in beside:
        _compare(world, origin, manifest, stored, lambda _: None)
    # Of a single part's the two hashes are one; of several, only `hash` reads for the sake of the second.
    for stored in archived:
        if len(stored.parts) == 1 and stored.parts[0].sha256 != stored.sha256:
            raise Corrupt(f"the manifest of {manifest.id} names two hashes for the same bytes of {stored.name}")
    done.did.append(f"compared {len(beside)} objects beside the archive with their hashes")


def _hash(world: World, origin: Target, manifest: Manifest, done: Rehearsed, moved: Progress) -> None:
    before, parts = 0, 0
    locked: Refused | None = None
    for stored in manifest.archive_objects():
        head = _compare(world, origin, manifest, stored, lambda count, before=before: moved(before + count))  # type: ignore[misc]  # mypy can't infer a default
        before, parts = before + stored.stored_bytes, parts + len(stored.parts)
        locked = locked or _locked(world, origin, manifest, stored, head)
    done.did.append(f"compared {before} bytes of the archive with their {parts} hashes")
    if locked is not None:
        what = f"has the bytes that its manifest names, and nobody here can decrypt them: {locked.what}; {locked.cure}"
        done.faults.append(Fault(where=manifest.id, what=what, result="unproven"))


def _locked(world: World, origin: Target, manifest: Manifest, stored: StoredObject, head: bytes) -> Refused | None:
    """Why it can't be decrypted here, for all that its head tells."""
    if not stored.is_encrypted:
        return None
    try:
        check_opens(world.identities(), head, f"{origin.name}: {stored.name} of {manifest.id}")
    except Refused as error:  # a key that can't be read, too, opens nothing
        return error
    return None


def _compare(world: World, origin: Target, manifest: Manifest, stored: StoredObject, moved: Progress) -> bytes:
    """Part by part, and the whole; its head. Raises Corrupt."""
    whole, head = sha256(), bytearray()
    for part in read_checked(origin, manifest, stored, moved=moved):
        _heed(world)
        whole.update(part)
        head += part[: HEAD_BYTES - len(head)]
    if whole.hexdigest() != stored.sha256:
        raise Corrupt(f"{origin.name}: {stored.name} of {manifest.id} has another hash than its manifest says")
    return bytes(head)


def _read_through(world: World, manifest: Manifest, chunks: Reading, done: Rehearsed) -> None:
    try:
        contents = world.scratch.contents(chunks, manifest.dump_facts())
    except (Corrupt, Stopped):
        raise
    except ReconcilerError as error:
        if error is chunks.error:
            raise
        done.faults.append(Fault(where="scratch", what=f"{error.what}; {error.cure}", result="unproven"))
    else:
        done.did.append(f"read the archive through: {contents.entries} entries in its table of contents")


def _heed(world: World) -> None:
    if world.stop.is_set():
        raise Stopped("asked to stop")


class _Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified."""

    manifest: Manifest
    target: str
    content: str
    level: Level
    started: datetime


def _record(
    world: World, want: DatabasePolicy, copy: _Copy, done: Rehearsed, finished: datetime
) -> Callable[[int, str | None], Evidence]:
    manifest = copy.manifest
    return lambda sequence, before: Evidence(
        sequence=sequence,
        before=before,
        kind="verification",
        database=want.name,
        repository=manifest.repository,
        backup=manifest.id,
        target=copy.target,
        content=copy.content,
        sha256=manifest.archive_sha256,
        instant=manifest.instant,
        partial=manifest.filters.partial,
        level=copy.level,
        result=outcome(done.faults),
        started=copy.started,
        finished=finished,
        expires=finished + lasts(want),
        did=tuple(done.did),
        faults=tuple(done.faults),
        left_out=tuple(done.left_out),
        seconds=done.seconds,
        where=done.where,
        policy=world.policy_digest,
        git_commit=world.git_commit,
    )


def lasts(want: DatabasePolicy) -> timedelta:
    """For how long evidence of this database counts: one verification may be missed."""
    rule = want.dumps.verify
    if rule is None:
        return UNSAID
    return rule.expires if rule.expires is not None else 2 * rule.every
