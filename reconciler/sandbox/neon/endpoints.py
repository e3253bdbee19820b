"""Requests about computes, and the waking of one by who connects."""

import msgspec

from reconciler.errors import Unreachable
from reconciler.sandbox.neon import asked, views
from reconciler.sandbox.neon.addresses import new_endpoint
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Endpoint, Operation
from reconciler.sandbox.neon.refusals import Refusal, invalid
from reconciler.sandbox.neon.views import Json
from reconciler.sandbox.neon.work import StartCompute, SuspendCompute

_WAKING_SECONDS = 120


def create(engine: Engine, body: bytes) -> Json:
    """A compute for a branch that has none."""
    wanted = asked.read(body, asked.CreateEndpoint).endpoint
    book = engine.book
    with book.changing():
        book.must_be_idle()
        branch = book.branch(wanted.branch_id)
        if wanted.type != "read_write":
            raise invalid("the sandbox serves no read_only endpoints")
        if book.endpoint_of(branch.id):
            raise invalid("read_write endpoint already exists", code="ENDPOINTS_LIMIT_EXCEEDED")
        endpoint = book.put(new_endpoint(engine, branch.id, wanted))
        operations = book.schedule(("start_compute", StartCompute(endpoint=endpoint.id)), branch=branch.id, endpoint=endpoint.id)
    engine.doors.open(endpoint.id, endpoint.port)
    return _answer(engine, endpoint, operations)


def listed(engine: Engine) -> Json:
    """All of the project, but those of deleted branches."""
    living = {branch.id for branch in engine.book.branches()}
    found = [endpoint for endpoint in engine.book.state.endpoints.values() if endpoint.branch_id in living]
    return {"endpoints": [views.endpoint(engine.book, endpoint) for endpoint in found]}


def get(engine: Engine, id_: str) -> Json:
    """One."""
    return {"endpoint": views.endpoint(engine.book, engine.book.endpoint(id_))}


def update(engine: Engine, id_: str, body: bytes) -> Json:
    """Change its settings."""
    wanted = asked.changes(asked.read(body, asked.UpdateEndpoint).endpoint)
    names = {"autoscaling_limit_min_cu": "min_cu", "autoscaling_limit_max_cu": "max_cu"}
    book = engine.book
    with book.changing():
        book.must_be_idle()
        endpoint = book.edit(
            book.endpoint(id_), **{names.get(name, name): value for name, value in wanted.items()}, updated_at=now()
        )
        operations: tuple[Operation, ...] = ()
        if endpoint.disabled and endpoint.state == "active":
            operations = _suspend(engine, endpoint)
    return _answer(engine, endpoint, operations)


def delete(engine: Engine, id_: str) -> Json | None:
    """The compute and its address; its branch stays. None when it was gone already."""
    book = engine.book
    with book.changing() as state:
        endpoint = state.endpoints.get(id_)
        if endpoint is None:
            return None
        book.must_be_idle()
        branch = book.branch(endpoint.branch_id)
        if branch.protected:
            raise invalid("cannot delete the compute of a protected branch")
        if "delete-rw-endpoint" in branch.restricted:
            raise invalid(branch.restricted["delete-rw-endpoint"])
        operations = _suspend(engine, endpoint)
    book.wait(lambda: not any(book.state.operations[each.id].is_open for each in operations), seconds=_WAKING_SECONDS)
    engine.doors.close(id_)
    book.drop(endpoint)
    return _answer(engine, msgspec.structs.replace(endpoint, state="idle"), operations)


def start(engine: Engine, id_: str) -> Json:
    """Wake it."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        endpoint = book.endpoint(id_)
        operations = book.schedule(("start_compute", StartCompute(endpoint=id_)), branch=endpoint.branch_id, endpoint=id_)
    return _answer(engine, endpoint, operations)


def suspend(engine: Engine, id_: str) -> Json:
    """Put it to rest."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        endpoint = book.endpoint(id_)
        operations = _suspend(engine, endpoint)
    return _answer(engine, endpoint, operations)


def restart(engine: Engine, id_: str) -> Json:
    """Both."""
    book = engine.book
    with book.changing():
        book.must_be_idle()
        endpoint = book.endpoint(id_)
        operations = book.schedule(
            ("suspend_compute", SuspendCompute(endpoint=id_)),
            ("start_compute", StartCompute(endpoint=id_)),
            branch=endpoint.branch_id,
            endpoint=id_,
        )
    return _answer(engine, endpoint, operations)


def wake(engine: Engine, id_: str) -> int:
    """See that it runs, for somebody who connects; its PostgreSQL's port. Raises Refusal, Unreachable."""
    book = engine.book
    endpoint = book.endpoint(id_)
    if endpoint.disabled:
        raise Refusal(422, "endpoint is disabled. Enable it using Neon API and retry.")
    branch = book.branch(endpoint.branch_id)
    if endpoint.state == "active" and (port := engine.clusters.port(branch.timeline)):
        return port
    with book.changing():
        (operation,) = book.schedule(("start_compute", StartCompute(endpoint=id_)), branch=endpoint.branch_id, endpoint=id_)
    book.wait(lambda: not book.state.operations[operation.id].is_open, seconds=_WAKING_SECONDS)
    port = engine.clusters.port(book.branch(book.endpoint(id_).branch_id).timeline)
    if port is None:
        raise Unreachable(f"couldn't wake compute {id_}: {book.state.operations[operation.id].error or 'it takes too long'}")
    return port


def _suspend(engine: Engine, endpoint: Endpoint) -> tuple[Operation, ...]:
    return engine.book.schedule(
        ("suspend_compute", SuspendCompute(endpoint=endpoint.id)), branch=endpoint.branch_id, endpoint=endpoint.id
    )


def _answer(engine: Engine, endpoint: Endpoint, operations: tuple[Operation, ...]) -> Json:
    return {"endpoint": views.endpoint(engine.book, endpoint), "operations": views.operations(engine.book, operations)}
