"""Requests about the one project, its operations, and whose it is."""

from datetime import timedelta

from reconciler.sandbox.neon import asked, limits, views
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.orders import Standing
from reconciler.sandbox.neon.records import Operation
from reconciler.sandbox.neon.refusals import invalid, not_found
from reconciler.sandbox.neon.views import Json
from reconciler.sandbox.neon.work import ApplyStorageConfig


def listed(engine: Engine, *, search: str, org_id: str) -> Json:
    """All one of them."""
    project = engine.book.state.project
    is_asked_for = (search in project.name or search in project.id) and org_id in {"", views.ORGANIZATION}
    found = [views.project(engine.book, listed=True)] if is_asked_for else []
    return {"projects": found, "applications": {}, "integrations": {}, "pagination": {"cursor": project.id}}


def shared() -> Json:
    """What others share with this account: nothing."""
    return {"projects": []}


def get(engine: Engine) -> Json:
    """The project."""
    return {"project": views.project(engine.book)}


def update(engine: Engine, body: bytes) -> Json:
    """Rename it, or set its window: what falls out of that is gone, and widening it brings nothing back."""
    wanted = asked.changes(asked.read(body, asked.UpdateProject).project)
    book = engine.book
    with book.changing() as state:
        book.must_be_idle()
        operations: tuple[Operation, ...] = ()
        if (window := wanted.get("history_retention_seconds")) is not None:
            if window > limits.plan(book).window_seconds:
                raise invalid(f"history_retention_seconds: the plan's limit is {limits.plan(book).window_seconds}")
            old = now() - timedelta(seconds=state.project.history_retention_seconds)
            wanted["reaches_back_to"] = max(state.project.reaches_back_to, old)
            operations = book.schedule(("apply_storage_config", ApplyStorageConfig()))
        book.edit_project(**wanted)
    return {"project": views.project(book), "operations": views.operations(book, operations)}


def list_operations(engine: Engine, *, limit: int, cursor: str) -> Json:
    """A page of them, newest first; the cursor is the id of the last one seen."""
    book = engine.book
    newest = list(reversed(book.state.operations.values()))
    begin = next((index + 1 for index, each in enumerate(newest) if each.id == cursor), 0)
    page = newest[begin : begin + limit]
    answer: Json = {"operations": views.operations(book, page)}
    if page:
        answer["pagination"] = {"cursor": page[-1].id}
    return answer


def get_operation(engine: Engine, id_: str) -> Json:
    """One."""
    if found := engine.book.state.operations.get(id_):
        return {"operation": views.operation(engine.book, found)}
    raise not_found("operation", id_)


def me(engine: Engine) -> Json:
    """Whose the key is."""
    allowed = limits.plan(engine.book)
    return views.user(branches_limit=allowed.branches, plan=allowed.name)


def organizations(engine: Engine) -> Json:
    """The one organization."""
    return {"organizations": [organization(engine, views.ORGANIZATION)]}


def organization(engine: Engine, id_: str) -> Json:
    """One."""
    if id_ != views.ORGANIZATION:
        raise not_found("organization", id_)
    return views.organization(plan=limits.plan(engine.book).name)


def standing(engine: Engine) -> Standing:
    """How it stands, for who started it."""
    state = engine.book.state
    main = state.branches[state.project.default_branch]
    endpoint = engine.book.endpoint_of(main.id)
    first = next(iter(state.operations.values()), None)
    return Standing(
        project_id=state.project.id,
        is_made=main.state != "init",
        failed=first.error or "" if first and main.state == "init" and first.status == "failed" else "",
        main_url=views.connection_uri(endpoint, main.roles[0], main.databases[0].name) if endpoint else "",
    )
