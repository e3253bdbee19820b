"""Requests about branches."""

from datetime import datetime, timedelta

import msgspec

from reconciler.sandbox.neon import asked, limits, views
from reconciler.sandbox.neon.addresses import new_endpoint
from reconciler.sandbox.neon.book import Book, later, new_id, now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Action, Branch, Deletion, Role
from reconciler.sandbox.neon.refusals import Refusal, invalid, taken
from reconciler.sandbox.neon.retention import must_be_kept
from reconciler.sandbox.neon.views import Json
from reconciler.sandbox.neon.work import DropData, MakeBranch, RecoverBranch, RestoreBranch, StartCompute, Target, Work
from reconciler.world.clock import token

_LONGEST_LIFE = timedelta(days=30)


def create(engine: Engine, body: bytes) -> Json:
    """A branch of another at a place, with a compute if asked."""
    wanted = asked.read(body, asked.CreateBranch)
    book = engine.book
    with book.changing() as state:
        book.must_be_idle()
        parent = book.branch(wanted.branch.parent_id or state.project.default_branch)
        target = asked.target(lsn=wanted.branch.parent_lsn, timestamp=wanted.branch.parent_timestamp)
        _must_be_possible(engine, wanted, parent, target)
        made = _new_branch(wanted, parent, target)
        with_compute = bool(wanted.endpoints)
        endpoint = new_endpoint(engine, made.id, wanted.endpoints[0]) if with_compute else None
        book.put(made)
        work = MakeBranch(branch=made.id, source=parent.timeline, target=target, new_passwords=parent.protected)
        steps: list[tuple[Action, Work]] = [("create_branch", work)]
        if endpoint:
            book.put(endpoint)
            steps.append(("start_compute", StartCompute(endpoint=endpoint.id)))
        operations = book.schedule(*steps, branch=made.id, endpoint=endpoint.id if endpoint else None)
    if endpoint:
        engine.doors.open(endpoint.id, endpoint.port)
    answer = {
        "branch": views.branch(book, made),
        "endpoints": [views.endpoint(book, endpoint)] if endpoint else [],
        "operations": views.operations(book, operations),
        "roles": [views.role(role, of=made) for role in made.roles],
        "databases": [views.database(database, of=made) for database in made.databases],
    }
    if endpoint and len(made.roles) == 1 and len(made.databases) == 1:
        answer["connection_uris"] = [views.connection_details(endpoint, made.roles[0], made.databases[0].name)]
    return answer


def _must_be_possible(engine: Engine, wanted: asked.CreateBranch, parent: Branch, target: Target) -> None:
    book = engine.book
    if wanted.branch.init_source != "parent-data":
        raise invalid(f"init_source {wanted.branch.init_source!r} is not served by the sandbox")
    if len(wanted.endpoints) > 1 or any(endpoint.type != "read_write" for endpoint in wanted.endpoints):
        raise invalid("the sandbox serves one read_write endpoint a branch, and no read_only one")
    if parent.state == "init":
        raise invalid("branch not ready yet")
    if parent.expires_at:
        raise invalid(f"branch {parent.id} has an expiration and can't have children")
    if wanted.branch.name:
        _must_be_free(book, wanted.branch.name)
    limits.must_fit_branch(book, root=False, protected=wanted.branch.protected)
    must_be_kept(book, parent.timeline, target)
    _expiry(wanted.branch.expires_at)


def _new_branch(wanted: asked.CreateBranch, parent: Branch, target: Target) -> Branch:
    born, id_ = now(), new_id("br-")
    expires_at = _expiry(wanted.branch.expires_at)
    if expires_at and wanted.branch.protected:
        raise invalid("a protected branch can't have an expiration")
    return Branch(
        id=id_,
        name=wanted.branch.name or id_,
        timeline=f"tl-{token(8)}",
        created_at=born,
        updated_at=born,
        state_changed_at=born,
        parent_id=parent.id,
        parent_lsn=wanted.branch.parent_lsn,
        parent_timestamp=target.at,
        protected=wanted.branch.protected,
        expires_at=expires_at,
        ttl_seconds=int((expires_at - born).total_seconds()) if expires_at else None,
        annotation=wanted.annotation_value,
        # What was made after the instant is not there.
        roles=tuple(
            msgspec.structs.replace(role, password=token(12)) if parent.protected else role
            for role in parent.roles
            if target.at is None or role.created_at <= target.at
        ),
        databases=tuple(each for each in parent.databases if target.at is None or each.created_at <= target.at),
    )


def listed(engine: Engine, *, search: str, limit: int, cursor: str, include_deleted: bool) -> Json:
    """A page of the branches, newest first."""
    book = engine.book
    found = [
        branch
        for branch in sorted(book.state.branches.values(), key=lambda each: (each.created_at, each.id), reverse=True)
        if (include_deleted or not branch.deletion) and (search in branch.name or search in branch.id)
    ]
    begin = next((index + 1 for index, branch in enumerate(found) if branch.id == cursor), 0)
    page = found[begin : begin + limit]
    answer: Json = {
        "branches": [views.branch(book, branch) for branch in page],
        "annotations": {branch.id: views.annotation(branch) for branch in page if branch.annotation},
    }
    if begin + limit < len(found):
        answer["pagination"] = {"next": page[-1].id, "sort_by": "created_at", "sort_order": "DESC"}
    return answer


def count(engine: Engine, *, search: str) -> Json:
    """How many there are."""
    return {"count": sum(search in branch.name or search in branch.id for branch in engine.book.branches())}


def get(engine: Engine, id_: str) -> Json:
    """One, with its annotation."""
    branch = engine.book.branch(id_)
    return {"branch": views.branch(engine.book, branch), "annotation": views.annotation(branch)}


def update(engine: Engine, id_: str, body: bytes) -> Json:
    """Rename, protect, let expire."""
    wanted = asked.changes(asked.read(body, asked.UpdateBranch).branch)
    book = engine.book
    with book.changing():
        book.must_be_idle()
        branch = book.branch(id_)
        if "name" in wanted and wanted["name"] != branch.name:
            _must_be_free(book, wanted["name"])
        if wanted.get("protected") and not branch.protected:
            limits.must_fit_protected(book)
        if "expires_at" in wanted:
            expires_at = _expiry(wanted["expires_at"])
            wanted["expires_at"] = expires_at
            wanted["ttl_seconds"] = int((expires_at - now()).total_seconds()) if expires_at else None
        branch = msgspec.structs.replace(branch, **wanted, updated_at=now())
        if branch.expires_at and (branch.protected or _is_default(book, branch) or book.children(branch.id)):
            raise invalid("a protected branch, the default branch, or one with children can't have an expiration")
        book.put(branch)
    return {"branch": views.branch(book, branch), "operations": []}


def delete(engine: Engine, id_: str, *, hard: bool, method: str = "user") -> Json | None:
    """For good, or so that it can be had back for some days. None when it was gone already."""
    book = engine.book
    with book.changing() as state:
        found = state.branches.get(id_)
        if found is None or (found.deletion and not hard):
            return None
        book.must_be_idle()
        _must_be_deletable(book, found)
        until = now() if hard else later(state.project.recovery_seconds)
        deletion = Deletion(at=now(), until=until, method="ttl" if method == "ttl" else "user")
        branch = book.edit(found, deletion=deletion, updated_at=now())
        endpoint = book.endpoint_of(id_)
        if endpoint:
            endpoint = book.edit(endpoint, state="idle", suspended_at=now())
            if hard:
                book.drop(endpoint)
        operations = book.schedule(("delete_timeline" if hard else "timeline_archive", DropData(branch=id_)), branch=id_)
    if endpoint:
        engine.doors.close(endpoint.id)
    return {"branch": views.branch(book, branch), "operations": views.operations(book, operations)}


def _must_be_deletable(book: Book, branch: Branch) -> None:
    if _is_default(book, branch):
        raise invalid("cannot delete the project's default branch")
    if branch.protected:
        raise invalid("cannot delete a protected branch")
    if book.children(branch.id):
        raise invalid("cannot delete branch that has children")
    if branch.kept:
        raise invalid("cannot delete the backup of a branch that was restored from another branch")
    if branch.parent_id is None and branch.id == _first_root(book):
        raise invalid("cannot delete a project's root branch")


def recover(engine: Engine, id_: str) -> Json:
    """Bring a deleted one back, with its compute, at rest."""
    book = engine.book
    with book.changing() as state:
        book.must_be_idle()
        found = state.branches.get(id_)
        if found is None or not found.deletion or found.deletion.until <= now():
            raise Refusal(404, f"branch {id_} is not recoverable")
        _must_be_free(book, found.name)
        limits.must_fit_branch(book, root=found.parent_id is None)
        branch = book.edit(found, deletion=None, expires_at=None, ttl_seconds=None, state="init", updated_at=now())
        endpoint = book.endpoint_of(id_)
        book.schedule(("timeline_unarchive", RecoverBranch(branch=id_)), branch=id_)
    if endpoint:
        engine.doors.open(endpoint.id, endpoint.port)
    return {"branch": views.branch(book, branch), "endpoints": [views.endpoint(book, endpoint)] if endpoint else []}


def restore(engine: Engine, id_: str, body: bytes) -> Json:
    """Put a branch to where a branch was; what it held stays under another name, if asked."""
    wanted = asked.read(body, asked.RestoreBranch)
    book = engine.book
    with book.changing():
        book.must_be_idle()
        branch, source = book.branch(id_), book.branch(wanted.source_branch_id)
        target = asked.target(lsn=wanted.source_lsn, timestamp=wanted.source_timestamp)
        _must_be_restorable(book, branch, source, target, wanted.preserve_under_name)
        must_be_kept(book, source.timeline, target)
        if wanted.preserve_under_name:
            _preserve(book, branch, wanted.preserve_under_name, kept=source.id != branch.id)
        branch = book.edit(branch, state="resetting", state_changed_at=now(), updated_at=now(), roles=_roles_at(source, target))
        endpoint = book.endpoint_of(id_)
        work = RestoreBranch(branch=id_, timeline=f"tl-{token(8)}", source=source.timeline, target=target)
        steps: list[tuple[Action, Work]] = [("create_branch", work)]
        if endpoint:
            steps.append(("start_compute", StartCompute(endpoint=endpoint.id)))
        operations = book.schedule(*steps, branch=id_, endpoint=endpoint.id if endpoint else None)
    return {"branch": views.branch(book, branch), "operations": views.operations(book, operations)}


def _must_be_restorable(book: Book, branch: Branch, source: Branch, target: Target, preserve: str) -> None:
    if "restore" in branch.restricted or "restore" in source.restricted:
        raise invalid("restore from snapshot on target branch is still ongoing")
    if "init" in {branch.state, source.state}:
        raise invalid("branch not ready yet")
    if source.id == branch.id and target == Target():
        raise invalid("source_timestamp or source_lsn is required to restore a branch to its own past")
    if not preserve and (source.id == branch.id or book.children(branch.id)):
        raise invalid("preserve_under_name is required")
    if preserve:
        _must_be_free(book, preserve)
        limits.must_fit_branch(book, root=True)


def _preserve(book: Book, branch: Branch, name: str, *, kept: bool) -> None:
    """Its old state becomes a root of its own, without a compute, and its children become that one's."""
    old = Branch(
        id=new_id("br-"),
        name=name,
        timeline=branch.timeline,
        created_at=now(),
        updated_at=now(),
        state_changed_at=now(),
        roles=branch.roles,
        databases=branch.databases,
        size=branch.size,
        kept=kept,
    )
    for child in book.children(branch.id):
        book.edit(child, parent_id=old.id)
    book.put(old)


def _roles_at(source: Branch, target: Target) -> tuple[Role, ...]:
    return tuple(role for role in source.roles if target.at is None or role.created_at <= target.at)


def set_as_default(engine: Engine, id_: str) -> Json:
    """Move the flag, and nothing else."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        branch = book.branch(id_)
        if branch.expires_at:
            raise invalid("a branch with an expiration can't be the default branch")
        book.edit_project(default_branch=id_)
    return {"branch": views.branch(book, branch), "operations": []}


def endpoints(engine: Engine, id_: str) -> Json:
    """Its computes."""
    branch = engine.book.branch(id_)
    found = engine.book.endpoint_of(branch.id)
    return {"endpoints": [views.endpoint(engine.book, found)] if found else []}


def _must_be_free(book: Book, name: str) -> None:
    if any(branch.name == name for branch in book.branches()):
        raise taken("branch", name)


def _is_default(book: Book, branch: Branch) -> bool:
    return branch.id == book.state.project.default_branch


def _first_root(book: Book) -> str:
    return next((branch.id for branch in book.state.branches.values() if branch.parent_id is None), "")


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = asked.instant(text, field="expires_at").replace(microsecond=0)
    if not now() < found <= now() + _LONGEST_LIFE:
        raise invalid("expires_at must be in the future, 30 days ahead at most")
    return found
