"""What a target lets us do, by doing it in a corner of its own: every request that a backup, a lease or a pruning will make."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Final, TypeVar

from reconciler.doctor import clock
from reconciler.doctor.report import Verdict
from reconciler.doctor.scratch import OLD, sweep
from reconciler.doctor.trial import Step, Trial
from reconciler.errors import Absent, Conflict, Corrupt, Locked, ReconcilerError, Refused, Stopped
from reconciler.planning.text import age, counted
from reconciler.policy.model import DatabasePolicy
from reconciler.targets.conditions import honours_conditions
from reconciler.world.ports import Upload, World

T = TypeVar("T")

BLOCK: Final = bytes(range(256)) * 4096
"""1 MiB."""

SEVERAL_PARTS: Final = 9
"""Blocks: a stream longer than 8 MiB goes up in parts."""

PARTS_UNDER_WAY: Final = 17
"""Blocks: by then two parts of 8 MiB are complete, so that the upload has begun."""

ANOTHER_STORE: Final = "use another store: this one does not keep what S3 promises"


def examine_target(world: World, want: DatabasePolicy, name: str) -> list[Verdict]:
    """Everything that can be tried; nothing of it is left. Raises Stopped, having cleared up."""
    trial = Trial(world, want, name)
    try:
        for step in STEPS:
            if world.stop.is_set():
                raise Stopped(f"asked to stop while {name} was being examined")
            _take(trial, step)
            if trial.notes.silent:
                break
    finally:
        _clear(trial)
    return trial.notes.verdicts


def _take(trial: Trial, step: Step) -> None:
    if step.applies(trial) and trial.notes.attempt(lambda: _worked(trial, step)):
        trial.notes.passes(step.says)


def _worked(trial: Trial, step: Step) -> bool:
    """Not every store tells beforehand that it locks what is written; what it says then is no fault, but in a home."""
    try:
        return step.work(trial)
    except Locked as locked:
        trial.keeps, trial.put = locked.what, False
        if trial.is_home:
            trial.notes.finds("error", f"{locked.what}: no lease can be renewed there", "let `home` be another target")
        else:
            what = f"{locked.what}: from here on, tried is only what leaves nothing there"
            trial.notes.finds("note", what, "`reconcile backups take` tries the rest, for good")
        return False


def _clear(trial: Trial) -> None:
    """What can't be removed is told of, after and besides whatever else was found."""
    if not trial.begun:
        return
    try:
        trial.scratch.clear()
    except Stopped:
        raise
    except Locked:
        what = f"something of this trial stays in {trial.scratch.root} for as long as the store locks it"
        trial.notes.finds("note", what, "nothing: a later doctor removes it")
    except ReconcilerError as error:
        what = f"something of this trial may still lie in {trial.scratch.root}: {error.what}"
        cure = f"{error.cure or 'remove it by hand'}; a later doctor tries again once it is older than {age(OLD)}"
        trial.notes.finds("warning", what, cure)


def _list(trial: Trial) -> bool:
    before = trial.world.clock.now()
    listing = trial.target.list(trial.scratch.root)
    ahead = clock.offset(listing.store_time, before, trial.world.clock.now())
    trial.notes.add([clock.judge(trial.notes.where, ahead)])
    return True


def _versioning(trial: Trial) -> bool:
    trial.versioned = trial.target.versioned
    return True


def _rules(trial: Trial) -> bool:
    """What they say is the plan's to judge; a plan goes on without those that it may not see."""
    return _told(trial, trial.custody.lifecycle) is not None


def _told(trial: Trial, ask: Callable[[], T]) -> T | None:
    """What a store tells of itself; none of it is needed for a backup, so that a refusal is a warning."""
    try:
        return ask()
    except Refused as error:
        trial.notes.finds("warning", error.what, error.cure)
        return None


def _keeping(trial: Trial) -> bool:
    # In a tuple, since of a bucket that locks nothing the answer is None as well.
    asked = _told(trial, lambda: (trial.custody.default_retention(),))
    locked = asked[0] if asked else None
    if locked is not None:
        trial.keeps = f"the bucket locks whatever is written there for {age(locked)}"
        if trial.is_home:
            cure = "take the bucket's default retention away, or let `home` be another target"
            trial.notes.finds("error", f"{trial.keeps}: each renewal of the lease would stay", cure)
    elif trial.custody.append_only:
        trial.keeps = "it is append-only"
    if trial.keeps:
        what = f"{trial.keeps}: tried is only what leaves nothing there"
        trial.notes.finds("note", what, "`reconcile backups take` tries the rest, for good")
    return asked is not None and not trial.keeps


def _sweep(trial: Trial) -> bool:
    swept = sweep(trial.target, trial.database)
    if swept:
        trial.notes.finds("note", f"{counted(swept, 'leftover')} of a doctor that was killed removed")
    return not swept


def _put(trial: Trial) -> bool:
    trial.begun = True
    trial.scratch.write("put", [trial.content])
    trial.put = True
    return True


def _read(trial: Trial) -> bool:
    if trial.read(trial.scratch.key("put")) != trial.content:
        raise Corrupt("what was written is not what is read back", cure=ANOTHER_STORE)
    return True


def _shown(trial: Trial) -> bool:
    if trial.scratch.key("put") not in {item.key for item in trial.target.list(trial.scratch.root).items}:
        raise Refused("a listing does not show what was just written", cure=ANOTHER_STORE)
    return True


def _multipart(trial: Trial) -> bool:
    trial.scratch.write("parts", (BLOCK for _ in range(SEVERAL_PARTS)))
    with trial.target.read(trial.scratch.key("parts")) as blob:
        same = _digest(blob) == _digest(BLOCK for _ in range(SEVERAL_PARTS))
    if not same:
        raise Corrupt("a long stream is not read back as it was written", cure=ANOTHER_STORE)
    return True


def _digest(chunks: Iterable[bytes]) -> str:
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _unfinished(trial: Trial) -> bool:
    if not trial.custody.shows_unfinished:
        what = "the store shows nobody what was begun and never completed"
        trial.notes.finds("note", what, "nothing: it becomes no object, and the store drops it by itself")
        return False
    if trial.custody.append_only and trial.custody.drops_unfinished:
        what = "freeing what was begun and never completed takes the right to delete: not tried, since it is append-only"
        trial.notes.finds("note", what, "nothing: it becomes no object, and the store drops it by itself")
        return False
    seen: list[Upload] = []

    def watched() -> Iterator[bytes]:
        for _ in range(PARTS_UNDER_WAY):
            yield BLOCK
        seen.extend(trial.target.unfinished(trial.scratch.root))
        for upload in seen:
            trial.target.abort(upload)
        yield BLOCK

    # A lock is asked for when the write begins: the right to set one is tried without leaving what nobody could remove.
    until = trial.world.clock.now() + trial.custody.retain if trial.custody.retain else None
    trial.begun = True
    try:
        trial.scratch.write("aborted", watched(), keep_until=until)
    except Conflict:
        return True
    what = "an aborted write was completed all the same" if seen else "an unfinished write is not listed"
    raise Refused(what, cure="what a death leaves in this store can't be found: let it abort unfinished uploads by itself")


def _conditions(trial: Trial) -> bool:
    if honours_conditions(trial.target, trial.scratch.key("condition")):
        return True
    if trial.custody.single_writer:
        trial.notes.finds("note", "it ignores the condition of conditional writes", "run one reconciler at a time, as you said")
        return False
    what = "it takes conditional writes and ignores the condition" + (": the lease protects nothing" if trial.is_home else "")
    cure = "let `home` be another target, or use another store, or run one reconciler at a time and say `single_writer: true`"
    trial.notes.finds("error" if trial.is_home else "warning", what, cure)
    return False


def _overwrite(trial: Trial) -> bool:
    first = trial.scratch.write("etag", [b"1"])
    try:
        trial.scratch.write("etag", [b"2"], expect=first.etag)
    except Conflict as error:
        raise Refused(
            "it lets nobody write over an object by its ETag", cure="let `home` be another target: no lease could be renewed"
        ) from error
    if trial.read(trial.scratch.key("etag")) != b"2":
        raise Corrupt("after a write by ETag the old content is still read", cure=ANOTHER_STORE)
    return True


def _delete(trial: Trial) -> bool:
    trial.target.delete(trial.scratch.key("put"))
    try:
        trial.read(trial.scratch.key("put"))
    except Absent:
        # Where nothing was put only the right to delete was tried, and not every store looks at it then.
        return trial.put
    raise Refused("what was deleted can still be read", cure=ANOTHER_STORE)


def _versions(trial: Trial) -> bool:
    found = [item for item in trial.target.list(trial.scratch.key("put"), versions=True).items if item.version is not None]
    if not found:
        raise Refused("no versions are listed of an object that was written and deleted", cure=ANOTHER_STORE)
    for item in sorted(found, key=lambda item: item.marker):
        trial.target.delete(item.key, version=item.version)
    if trial.target.list(trial.scratch.key("put"), versions=True).items:
        raise Refused("versions that were deleted are still listed", cure=ANOTHER_STORE)
    return True


def _may_write(trial: Trial) -> bool:
    return not trial.keeps


def _has_object(trial: Trial) -> bool:
    return trial.put


def _may_begin(trial: Trial) -> bool:
    """A write that is aborted leaves nothing anywhere."""
    return trial.put or bool(trial.keeps)


STEPS: Final = (
    Step(says="list", work=_list),
    Step(says="ask whether it keeps versions", work=_versioning),
    Step(says="ask for its lifecycle rules", work=_rules),
    Step(says="nothing locks what is written", work=_keeping),
    Step(says="nothing was left by an earlier doctor", work=_sweep, applies=_may_write),
    Step(says="put", work=_put, applies=_may_write),
    Step(says="read back, equal", work=_read, applies=_has_object),
    Step(says="see it in a listing", work=_shown, applies=_has_object),
    Step(says="put in parts, read back, equal", work=_multipart, applies=_has_object),
    Step(says="find an unfinished write, and abort it", work=_unfinished, applies=_may_begin),
    Step(says="lose a conditional write that must lose", work=_conditions, applies=_has_object),
    Step(says="write over by ETag", work=_overwrite, applies=_has_object),
    Step(says="delete", work=_delete, applies=_may_write),
    Step(says="list versions, delete one by one", work=_versions, applies=lambda trial: trial.put and trial.versioned),
)
"""In this order: what fails early explains what would fail later."""
