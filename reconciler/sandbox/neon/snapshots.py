"""Requests about snapshots and their schedule."""

from datetime import datetime

import msgspec

from reconciler.sandbox.neon import asked, limits, views
from reconciler.sandbox.neon.book import Book, new_id, now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Action, Branch, Operation, ScheduleItem, Snapshot
from reconciler.sandbox.neon.refusals import invalid, taken
from reconciler.sandbox.neon.retention import must_be_kept
from reconciler.sandbox.neon.views import Json
from reconciler.sandbox.neon.work import DropSnapshot, FinalizeRestore, MakeBranch, StartCompute, TakeSnapshot, Target, Work
from reconciler.world.clock import token

_FREQUENCIES = ("daily", "weekly", "monthly")
_LONGEST_KEPT_SECONDS = 3_024_000
"""35 days (Neon's documentation: cli/snapshots, 2026-09)."""
_RESTRICTED = "restore from snapshot on target branch is still ongoing"


def create(engine: Engine, branch_id: str, *, lsn: str, timestamp: str, name: str, expires_at: str) -> Json:
    """Of a root branch, at a place. All of it comes in the query string; a body is passed over, as Neon does."""
    expires = asked.instant(expires_at, field="expires_at") if expires_at else None
    snapshot, operations = take(
        engine, branch_id, asked.target(lsn=lsn, timestamp=timestamp), name=name, expires_at=expires, manual=True
    )
    return {"snapshot": views.snapshot(snapshot), "operations": views.operations(engine.book, operations)}


def take(
    engine: Engine, branch_id: str, target: Target, *, name: str, expires_at: datetime | None, manual: bool
) -> tuple[Snapshot, tuple[Operation, ...]]:
    """Schedule one. Raises Refusal."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        branch = book.branch(branch_id)
        _must_be_possible(book, branch, target, name, manual=manual)
        if expires_at and expires_at <= now():
            raise invalid("expires_at must be in the future")
        id_ = f"snap-quiet-hotel-{token(4)}"
        snapshot = book.put(
            Snapshot(
                id=id_,
                name=name or f"{branch.name} {id_}",
                branch_id=branch.id,
                created_at=now(),
                parent=branch.timeline,
                lsn=target.lsn,
                at=target.at,
                expires_at=expires_at,
                manual=manual,
                roles=branch.roles,
                databases=branch.databases,
            )
        )
        operations = book.schedule(("create_timeline", TakeSnapshot(snapshot=id_, target=target)), branch=branch.id)
    return snapshot, operations


def _must_be_possible(book: Book, branch: Branch, target: Target, name: str, *, manual: bool) -> None:
    if branch.parent_id is not None:
        raise invalid("snapshots are supported on root branches only")
    if branch.state != "ready":
        raise invalid("branch not ready yet")
    if target.at is not None and target.at > now():
        raise invalid("timestamp is in the future")
    if any(name == other.name for other in book.state.snapshots.values()):
        raise taken("snapshot", name)
    if manual:
        limits.must_fit_snapshot(book)
    must_be_kept(book, branch.timeline, target)


def listed(engine: Engine) -> Json:
    """All of the project."""
    return {"snapshots": [views.snapshot(snapshot) for snapshot in engine.book.state.snapshots.values()]}


def update(engine: Engine, id_: str, body: bytes) -> Json:
    """Rename it, let it expire or keep it."""
    wanted = asked.changes(asked.read(body, asked.UpdateSnapshot).snapshot)
    book = engine.book
    with book.changing() as state:
        snapshot = book.snapshot(id_)
        if any(wanted.get("name") == other.name for other in state.snapshots.values() if other.id != id_):
            raise taken("snapshot", wanted["name"])
        if wanted.get("expires_at"):
            wanted["expires_at"] = asked.instant(wanted["expires_at"], field="expires_at")
        snapshot = book.edit(snapshot, **wanted)
    return {"snapshot": views.snapshot(snapshot)}


def delete(engine: Engine, id_: str) -> Json:
    """For good."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        snapshot = book.snapshot(id_)
        book.drop(snapshot)
        operations = book.schedule(("delete_timeline", DropSnapshot(snapshot=id_)), branch=snapshot.branch_id)
    return {"operations": views.operations(book, operations)}


def restore(engine: Engine, id_: str, body: bytes) -> Json:
    """Into a new branch; at once in the place of the one that it is for, if asked."""
    wanted = asked.read(body, asked.RestoreSnapshot)
    book = engine.book
    with book.changing():
        book.must_be_idle()
        snapshot = book.snapshot(id_)
        replaced = book.branch(wanted.target_branch_id or snapshot.branch_id)
        if not snapshot.ready:
            raise invalid("snapshot not ready yet")
        limits.must_fit_branch(book, root=True)
        if wanted.name and any(branch.name == wanted.name for branch in book.branches()):
            raise taken("branch", wanted.name)
        made = book.put(_restored(snapshot, replaced, wanted.name))
        steps: list[tuple[Action, Work]] = [("create_branch", MakeBranch(branch=made.id, source=id_, target=Target()))]
        if wanted.finalize_restore:
            steps += _finalizing(book, made, replaced, None)
        operations = book.schedule(*steps, branch=made.id)
    return {"branch": views.branch(book, made), "operations": views.operations(book, operations)}


def _restored(snapshot: Snapshot, replaced: Branch, name: str | None) -> Branch:
    born, id_ = now(), new_id("br-")
    return Branch(
        id=id_,
        name=name or f"{replaced.name}_from_snapshot_{token(2)}",
        timeline=f"tl-{token(8)}",
        created_at=born,
        updated_at=born,
        state_changed_at=born,
        roles=snapshot.roles,
        databases=snapshot.databases,
        restored_from=snapshot.id,
        restored_as=replaced.id,
        restore_status="restored",
        restricted={"restore": _RESTRICTED},
    )


def finalize(engine: Engine, branch_id: str, body: bytes) -> Json:
    """The restored branch takes the place of the one it was restored for: its computes, its name, its schedule."""
    wanted = asked.read(body, asked.FinalizeRestore)
    book = engine.book
    with book.changing():
        book.must_be_idle()
        restored = book.branch(branch_id)
        if restored.restore_status != "restored" or restored.restored_as is None:
            raise invalid(f"branch {branch_id} was not restored from a snapshot, or is finalized already")
        replaced = book.branch(restored.restored_as)
        operations = book.schedule(*_finalizing(book, restored, replaced, wanted.name), branch=branch_id)
    return {"operations": views.operations(book, operations)}


def _finalizing(book: Book, restored: Branch, replaced: Branch, name: str | None) -> list[tuple[Action, Work]]:
    names = {branch.name for branch in book.branches()}
    numbered = (f"{replaced.name} (old{f' {number}' if number else ''})" for number in range(len(names) + 1))
    old_name = name or next(each for each in numbered if each not in names)
    if name in names:
        raise taken("branch", old_name)
    work = FinalizeRestore(branch=restored.id, replaced=replaced.id, old_name=old_name)
    steps: list[tuple[Action, Work]] = [("detach_parent_branch", work)]
    if endpoint := book.endpoint_of(replaced.id):
        steps.append(("start_compute", StartCompute(endpoint=endpoint.id)))
    return steps


def get_schedule(engine: Engine, branch_id: str) -> Json:
    """As it was put."""
    return {"schedule": [msgspec.to_builtins(item) for item in engine.book.branch(branch_id).schedule]}


def put_schedule(engine: Engine, branch_id: str, body: bytes) -> Json:
    """In place of all that was there; an empty one turns it off."""
    wanted = asked.read(body, asked.PutSchedule)
    with engine.book.changing():
        branch = engine.book.branch(branch_id)
        if branch.parent_id is not None:
            raise invalid("backup schedules are supported on root branches only")
        if limits.plan(engine.book).name == "free" and wanted.schedule:
            raise invalid("backup schedules are not part of this plan")
        for item in wanted.schedule:
            _must_be_schedulable(item)
        engine.book.edit(branch, schedule=wanted.schedule, updated_at=now())
    return {}


def _must_be_schedulable(item: ScheduleItem) -> None:
    if item.frequency not in _FREQUENCIES:
        raise invalid(f"frequency: {item.frequency!r} is none of {', '.join(_FREQUENCIES)}")
    if item.hour is None or not 0 <= item.hour <= 23:
        raise invalid("hour: 0 to 23 is required")
    if item.frequency != "daily" and (item.day is None or not 1 <= item.day <= (7 if item.frequency == "weekly" else 31)):
        raise invalid(f"day: 1 to {7 if item.frequency == 'weekly' else 31} is required with {item.frequency}")
    if item.retention_seconds is not None and not 3600 <= item.retention_seconds <= _LONGEST_KEPT_SECONDS:
        raise invalid(f"retention_seconds: 3600 to {_LONGEST_KEPT_SECONDS}")
