"""What operations do. Each may be done again from its beginning: the server may have been killed over it."""

from datetime import timedelta

from reconciler.errors import Refused
from reconciler.sandbox.neon import lsn as log
from reconciler.sandbox.neon.archive import take_base
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.clusters import Place
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.garbage import collect
from reconciler.sandbox.neon.grants import agree, open_hotel, prepare, take_away
from reconciler.sandbox.neon.records import Branch, Timeline
from reconciler.sandbox.neon.recovery import derive, forget, revive, stand_still, thaw
from reconciler.sandbox.neon.retention import trim
from reconciler.sandbox.neon.work import (
    ApplyConfig,
    ApplyStorageConfig,
    DropData,
    DropSnapshot,
    FinalizeRestore,
    MakeBranch,
    MakeRoot,
    RecoverBranch,
    RestoreBranch,
    StartCompute,
    SuspendCompute,
    TakeSnapshot,
    Target,
    VisitPast,
    Work,
)
from reconciler.sandbox.patience import wait_for

_LOG_ARRIVES_SECONDS = 30


def perform(engine: Engine, work: Work) -> None:  # noqa: PLR0912  # a table of what there is
    """Do it, whole. Raises ReconcilerError."""
    match work:
        case MakeRoot():
            _make_root(engine, work)
        case MakeBranch():
            _make_branch(engine, work)
        case RestoreBranch():
            _restore_branch(engine, work)
        case StartCompute():
            _start(engine, work.endpoint)
        case SuspendCompute():
            suspend(engine, work.endpoint)
        case ApplyConfig():
            _apply_config(engine, work)
        case ApplyStorageConfig():
            trim(engine)
        case DropData():
            _drop_data(engine, work)
        case RecoverBranch():
            _recover_branch(engine, work)
        case TakeSnapshot():
            _take_snapshot(engine, work)
        case DropSnapshot():
            _drop_snapshot(engine, work)
        case VisitPast():
            if engine.clusters.port(work.timeline) is None:
                target = _resolve(engine, work.source, work.target)
                stand_still(engine.clusters, work.timeline, engine.book.line(work.source), target)
        case FinalizeRestore():
            _finalize(engine, work)


def suspend(engine: Engine, endpoint_id: str) -> None:
    """The compute rests; its clients are gone."""
    endpoint = engine.book.state.endpoints.get(endpoint_id)
    if endpoint is None:
        return
    branch = engine.book.state.branches.get(endpoint.branch_id)
    if branch:
        engine.clusters.rest(branch.timeline)
    engine.book.edit(endpoint, state="idle", suspended_at=now(), updated_at=now())


def _start(engine: Engine, endpoint_id: str) -> None:
    endpoint = engine.book.endpoint(endpoint_id)
    engine.clusters.serve(engine.book.branch(endpoint.branch_id).timeline)
    engine.book.edit(endpoint, state="active", started_at=now(), updated_at=now(), last_active=now())


def _make_root(engine: Engine, work: MakeRoot) -> None:
    clusters, branch = engine.clusters, engine.book.branch(work.branch)
    place = clusters.make_root(branch.timeline)
    prepare(clusters, branch.timeline)
    agree(clusters, branch.timeline, branch)
    if work.with_hotel:
        open_hotel(clusters, branch.timeline, branch.databases[0].name)
    base = take_base(clusters, branch.timeline)
    # Its history begins with its first base: before, there was nothing of anybody's.
    born = Place(lsn=place.lsn, at=base.stopped)
    _settle(engine, branch, branch.timeline, None, born)
    engine.book.edit(engine.book.state.timelines[branch.timeline], bases=(base,))


def _make_branch(engine: Engine, work: MakeBranch) -> None:
    clusters, branch = engine.clusters, engine.book.branch(work.branch)
    if work.source in engine.book.state.snapshots:
        place = thaw(clusters, branch.timeline, work.source)
        branch = _settle(engine, branch, branch.timeline, None, place)
        base = take_base(clusters, branch.timeline)
        engine.book.edit(engine.book.state.timelines[branch.timeline], bases=(base,))
    else:
        target = _resolve(engine, work.source, work.target)
        place = derive(clusters, branch.timeline, engine.book.line(work.source), target)
        branch = _settle(engine, branch, branch.timeline, work.source, place)
        branch = engine.book.edit(branch, parent_lsn=log.written(target.lsn or place.lsn))
    if work.new_passwords:
        agree(clusters, branch.timeline, branch)
    if engine.book.endpoint_of(branch.id) is None:
        clusters.rest(branch.timeline)


def _restore_branch(engine: Engine, work: RestoreBranch) -> None:
    clusters, branch = engine.clusters, engine.book.branch(work.branch)
    if branch.timeline != work.timeline:
        target = _resolve(engine, work.source, work.target)
        place = derive(clusters, work.timeline, engine.book.line(work.source), target)
        with engine.book.changing() as state:
            clusters.rest(branch.timeline)
            for other in [each for each in state.branches.values() if each.timeline == branch.timeline and each.id != branch.id]:
                # Its old state, kept under another name.
                engine.book.edit(other, state="ready", state_changed_at=now())
            branch = _settle(engine, branch, work.timeline, work.source, place)
            engine.book.edit(branch, last_reset_at=now())
    if engine.book.endpoint_of(branch.id) is None:
        clusters.rest(work.timeline)
    collect(engine)


def _settle(engine: Engine, branch: Branch, timeline: str, parent: str | None, place: Place) -> Branch:
    """The new timeline is there: it is remembered, and the branch is ready on it."""
    with engine.book.changing():
        engine.book.put(Timeline(id=timeline, parent=parent, start=place.lsn, born=place.at))
        return engine.book.edit(
            branch,
            timeline=timeline,
            state="ready",
            state_changed_at=now(),
            updated_at=now(),
            size=engine.clusters.size(timeline),
        )


def _resolve(engine: Engine, timeline: str, target: Target) -> Target:
    """The target as recovery can find it: with more of the log on disk behind it. The head becomes a place."""
    clusters = engine.clusters
    end = None if clusters.port(timeline) else clusters.end(timeline)
    if end is not None and target.at is None and (target.lsn is None or target.lsn <= end):
        return Target(lsn=end if target.lsn is None else target.lsn)
    clusters.serve(timeline)
    try:
        return _resolve_running(engine, timeline, target)
    finally:
        if end is not None:
            clusters.rest(timeline)


def _resolve_running(engine: Engine, timeline: str, target: Target) -> Target:
    def arrived() -> Place | None:
        place = engine.clusters.now(timeline)
        return place if target.lsn is None or target.lsn <= place.lsn else None

    what = f"the log to reach {log.written(target.lsn or 0)}"
    place = wait_for(arrived, seconds=_LOG_ARRIVES_SECONDS, what=what)
    if target.lsn is not None:
        return target
    lagging = place.at - timedelta(seconds=engine.faults.lag())
    at = max(min(target.at or place.at, lagging), engine.book.state.timelines[timeline].born)
    return Target(at=at) if at < place.at else Target(lsn=place.lsn)


def _apply_config(engine: Engine, work: ApplyConfig) -> None:
    clusters, branch = engine.clusters, engine.book.branch(work.branch)
    clusters.serve(branch.timeline)
    take_away(clusters, branch.timeline, databases=work.drop_databases, roles=work.drop_roles)
    agree(clusters, branch.timeline, branch)
    endpoint = engine.book.endpoint_of(branch.id)
    if endpoint is None:
        clusters.rest(branch.timeline)
    elif endpoint.state != "active":
        _start(engine, endpoint.id)


def _drop_data(engine: Engine, work: DropData) -> None:
    branch = engine.book.state.branches.get(work.branch)
    if branch is None:
        return
    if branch.state == "init" or branch.timeline not in engine.book.state.timelines:
        # Never made: there is no log to bring it back from.
        engine.book.drop(branch)
    else:
        forget(engine.clusters, branch.timeline)
        if branch.deletion and branch.deletion.until <= now():
            engine.book.drop(branch)
    collect(engine)


def _recover_branch(engine: Engine, work: RecoverBranch) -> None:
    branch = engine.book.branch(work.branch)
    revive(engine.clusters, branch.timeline, engine.book.line(branch.timeline))
    engine.clusters.rest(branch.timeline)
    engine.book.edit(branch, state="ready", state_changed_at=now())


def _take_snapshot(engine: Engine, work: TakeSnapshot) -> None:
    clusters, snapshot = engine.clusters, engine.book.snapshot(work.snapshot)
    target = _resolve(engine, snapshot.parent, work.target)
    place = derive(clusters, snapshot.id, engine.book.line(snapshot.parent), target)
    clusters.rest(snapshot.id)
    engine.book.edit(snapshot, ready=True, lsn=target.lsn or place.lsn, size=clusters.size(snapshot.id))


def _drop_snapshot(engine: Engine, work: DropSnapshot) -> None:
    engine.clusters.drop(work.snapshot)


def _finalize(engine: Engine, work: FinalizeRestore) -> None:
    book = engine.book
    restored, replaced = book.branch(work.branch), book.state.branches.get(work.replaced)
    if replaced is None or replaced.deletion:
        raise Refused(f"branch {work.replaced} is gone")
    if restored.restore_status == "finalized":
        return
    for branch in (replaced, restored):
        engine.clusters.rest(branch.timeline)
    with book.changing():
        if own := book.endpoint_of(restored.id):
            engine.doors.close(own.id)
            book.drop(own)
        if endpoint := book.endpoint_of(replaced.id):
            book.edit(endpoint, branch_id=restored.id, state="idle", updated_at=now())
        book.edit(
            restored,
            name=replaced.name,
            protected=replaced.protected,
            schedule=replaced.schedule,
            restore_status="finalized",
            updated_at=now(),
        )
        book.edit(replaced, name=work.old_name, protected=False, schedule=(), updated_at=now())
        if book.state.project.default_branch == replaced.id:
            book.edit_project(default_branch=restored.id)
