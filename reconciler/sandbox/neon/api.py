"""Neon's API v2 over HTTP: the routes, the key, answers and refusals in the published form, and faults on demand."""

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from reconciler.sandbox.neon import access, branches, endpoints, projects, snapshots
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.faults import Fault
from reconciler.sandbox.neon.orders import FAULTS, STANDING
from reconciler.sandbox.neon.refusals import Refusal, invalid, not_found
from reconciler.world.clock import token

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

BASE = "/api/v2"
_PROJECT = "/projects/{project}"
_BRANCH = f"{_PROJECT}/branches/{{branch}}"
_LARGEST_PAGE = 10_000


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request, without HTTP."""

    engine: Engine
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """A part of the path."""
        return self.path[name]

    def text(self, name: str) -> str:
        """A word of the query string; empty when it isn't there."""
        return self.query.get(name, "")

    def flag(self, name: str) -> bool:
        """A flag of the query string."""
        return self.query.get(name, "") == "true"

    def number(self, name: str, *, otherwise: int, largest: int) -> int:
        """A number of the query string. Raises Refusal."""
        text = self.query.get(name) or str(otherwise)
        if not text.isdecimal() or not 1 <= int(text) <= largest:
            raise invalid(f"{name}: 1 to {largest}")
        return int(text)


Handler = Callable[[Call], "dict[str, Any] | None"]
"""The answer; None for 204, gone already. Raises Refusal."""

Served = tuple[str, str, int, Handler]
"""Method, path, status of success, and what is done."""

ROUTES: tuple[Served, ...] = (
    ("GET", "/users/me", 200, lambda it: projects.me(it.engine)),
    ("GET", "/users/me/organizations", 200, lambda it: projects.organizations(it.engine)),
    ("GET", "/organizations/{organization}", 200, lambda it: projects.organization(it.engine, it["organization"])),
    ("GET", "/projects", 200, lambda it: projects.listed(it.engine, search=it.text("search"), org_id=it.text("org_id"))),
    ("GET", "/projects/shared", 200, lambda _: projects.shared()),
    ("GET", _PROJECT, 200, lambda it: projects.get(it.engine)),
    ("PATCH", _PROJECT, 200, lambda it: projects.update(it.engine, it.body)),
    (
        "GET",
        f"{_PROJECT}/operations",
        200,
        lambda it: projects.list_operations(
            it.engine, limit=it.number("limit", otherwise=100, largest=1000), cursor=it.text("cursor")
        ),
    ),
    ("GET", f"{_PROJECT}/operations/{{operation}}", 200, lambda it: projects.get_operation(it.engine, it["operation"])),
    (
        "GET",
        f"{_PROJECT}/connection_uri",
        200,
        lambda it: access.connection_uri(
            it.engine,
            branch_id=it.text("branch_id"),
            endpoint_id=it.text("endpoint_id"),
            database=it.text("database_name"),
            role=it.text("role_name"),
            pooled=it.flag("pooled"),
        ),
    ),
    (
        "GET",
        f"{_PROJECT}/branches",
        200,
        lambda it: branches.listed(
            it.engine,
            search=it.text("search"),
            limit=it.number("limit", otherwise=_LARGEST_PAGE, largest=_LARGEST_PAGE),
            cursor=it.text("cursor"),
            include_deleted=it.flag("include_deleted"),
        ),
    ),
    ("GET", f"{_PROJECT}/branches/count", 200, lambda it: branches.count(it.engine, search=it.text("search"))),
    ("POST", f"{_PROJECT}/branches", 201, lambda it: branches.create(it.engine, it.body)),
    ("GET", _BRANCH, 200, lambda it: branches.get(it.engine, it["branch"])),
    ("PATCH", _BRANCH, 200, lambda it: branches.update(it.engine, it["branch"], it.body)),
    ("DELETE", _BRANCH, 200, lambda it: branches.delete(it.engine, it["branch"], hard=it.flag("hard_delete"))),
    ("POST", f"{_BRANCH}/recover", 200, lambda it: branches.recover(it.engine, it["branch"])),
    ("POST", f"{_BRANCH}/restore", 200, lambda it: branches.restore(it.engine, it["branch"], it.body)),
    ("POST", f"{_BRANCH}/set_as_default", 200, lambda it: branches.set_as_default(it.engine, it["branch"])),
    ("POST", f"{_BRANCH}/finalize_restore", 200, lambda it: snapshots.finalize(it.engine, it["branch"], it.body)),
    ("GET", f"{_BRANCH}/endpoints", 200, lambda it: branches.endpoints(it.engine, it["branch"])),
    ("GET", f"{_BRANCH}/roles", 200, lambda it: access.list_roles(it.engine, it["branch"])),
    ("POST", f"{_BRANCH}/roles", 201, lambda it: access.create_role(it.engine, it["branch"], it.body)),
    ("GET", f"{_BRANCH}/roles/{{role}}", 200, lambda it: access.get_role(it.engine, it["branch"], it["role"])),
    ("DELETE", f"{_BRANCH}/roles/{{role}}", 200, lambda it: access.delete_role(it.engine, it["branch"], it["role"])),
    (
        "GET",
        f"{_BRANCH}/roles/{{role}}/reveal_password",
        200,
        lambda it: access.reveal_password(it.engine, it["branch"], it["role"]),
    ),
    (
        "POST",
        f"{_BRANCH}/roles/{{role}}/reset_password",
        200,
        lambda it: access.reset_password(it.engine, it["branch"], it["role"]),
    ),
    ("GET", f"{_BRANCH}/databases", 200, lambda it: access.list_databases(it.engine, it["branch"])),
    ("POST", f"{_BRANCH}/databases", 201, lambda it: access.create_database(it.engine, it["branch"], it.body)),
    ("GET", f"{_BRANCH}/databases/{{database}}", 200, lambda it: access.get_database(it.engine, it["branch"], it["database"])),
    (
        "PATCH",
        f"{_BRANCH}/databases/{{database}}",
        200,
        lambda it: access.update_database(it.engine, it["branch"], it["database"], it.body),
    ),
    (
        "DELETE",
        f"{_BRANCH}/databases/{{database}}",
        200,
        lambda it: access.delete_database(it.engine, it["branch"], it["database"]),
    ),
    ("GET", f"{_BRANCH}/backup_schedule", 200, lambda it: snapshots.get_schedule(it.engine, it["branch"])),
    ("PUT", f"{_BRANCH}/backup_schedule", 200, lambda it: snapshots.put_schedule(it.engine, it["branch"], it.body)),
    (
        "POST",
        f"{_BRANCH}/snapshot",
        200,
        lambda it: snapshots.create(
            it.engine,
            it["branch"],
            lsn=it.text("lsn"),
            timestamp=it.text("timestamp"),
            name=it.text("name"),
            expires_at=it.text("expires_at"),
        ),
    ),
    ("GET", f"{_PROJECT}/snapshots", 200, lambda it: snapshots.listed(it.engine)),
    ("PATCH", f"{_PROJECT}/snapshots/{{snapshot}}", 200, lambda it: snapshots.update(it.engine, it["snapshot"], it.body)),
    ("DELETE", f"{_PROJECT}/snapshots/{{snapshot}}", 202, lambda it: snapshots.delete(it.engine, it["snapshot"])),
    ("POST", f"{_PROJECT}/snapshots/{{snapshot}}/restore", 200, lambda it: snapshots.restore(it.engine, it["snapshot"], it.body)),
    ("GET", f"{_PROJECT}/endpoints", 200, lambda it: endpoints.listed(it.engine)),
    ("POST", f"{_PROJECT}/endpoints", 201, lambda it: endpoints.create(it.engine, it.body)),
    ("GET", f"{_PROJECT}/endpoints/{{endpoint}}", 200, lambda it: endpoints.get(it.engine, it["endpoint"])),
    ("PATCH", f"{_PROJECT}/endpoints/{{endpoint}}", 200, lambda it: endpoints.update(it.engine, it["endpoint"], it.body)),
    ("DELETE", f"{_PROJECT}/endpoints/{{endpoint}}", 200, lambda it: endpoints.delete(it.engine, it["endpoint"])),
    ("POST", f"{_PROJECT}/endpoints/{{endpoint}}/start", 200, lambda it: endpoints.start(it.engine, it["endpoint"])),
    ("POST", f"{_PROJECT}/endpoints/{{endpoint}}/suspend", 200, lambda it: endpoints.suspend(it.engine, it["endpoint"])),
    ("POST", f"{_PROJECT}/endpoints/{{endpoint}}/restart", 200, lambda it: endpoints.restart(it.engine, it["endpoint"])),
)
"""What is served of Neon's API."""


def application(engine: Engine, key: str) -> "Starlette":
    """The whole API."""
    from starlette.applications import Starlette

    served = [_route(engine, key, (method, BASE + path, status, handler)) for method, path, status, handler in ROUTES]
    served += [_route(engine, key, one) for one in _ADMIN]
    return Starlette(routes=served, exception_handlers={404: _nothing_here, 405: _nothing_here})


def _route(engine: Engine, key: str, served: Served) -> "Route":
    from starlette.concurrency import run_in_threadpool
    from starlette.routing import Route

    method, path, status, handler = served

    async def answer(request: "Request") -> "Response":
        call = Call(
            engine=engine,
            path={name: str(value) for name, value in request.path_params.items()},
            query=dict(request.query_params),
            body=await request.body(),
        )

        def handle() -> "dict[str, Any] | None":
            _must_know_the_key(request.headers.get("authorization", ""), key)
            if call.path.get("project", engine.book.state.project.id) != engine.book.state.project.id:
                raise not_found("project", call.path["project"])
            return handler(call)

        try:
            said = await run_in_threadpool(handle)
        except Refusal as refusal:
            return refused(refusal)
        return _response(204 if said is None else status, said)

    return Route(path, answer, methods=[method])


def refused(refusal: Refusal) -> "Response":
    """The answer in the published form."""
    body = {"request_id": token(16), "code": refusal.code, "message": refusal.message}
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return _response(refusal.status, body, headers)


def _response(status: int, body: "dict[str, Any] | None", headers: Mapping[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    content = b"" if body is None else msgspec.json.encode(body)
    return Response(content, status_code=status, headers=dict(headers or {}), media_type="application/json")


async def _nothing_here(request: "Request", error: Exception) -> "Response":
    return refused(Refusal(404, f"the sandbox does not serve {request.method} {request.url.path}", code="NOT_SERVED"))


def _must_know_the_key(header: str, key: str) -> None:
    kind, _, given = header.partition(" ")
    if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), key.encode()):
        raise Refusal(401, "supplied credentials do not pass authentication")


def _order(call: Call) -> dict[str, Any]:
    try:
        fault = msgspec.json.decode(call.body, type=Fault)
    except msgspec.DecodeError as error:
        raise invalid(str(error)) from error
    call.engine.faults.order(fault)
    return {"faults": [msgspec.to_builtins(fault) for fault in call.engine.faults.ordered()]}


def _clear(call: Call) -> dict[str, Any]:
    call.engine.faults.clear()
    return {"faults": []}


_ADMIN: tuple[Served, ...] = (
    ("GET", FAULTS, 200, lambda it: {"faults": [msgspec.to_builtins(fault) for fault in it.engine.faults.ordered()]}),
    ("GET", STANDING, 200, lambda it: msgspec.to_builtins(projects.standing(it.engine))),
    ("POST", FAULTS, 200, _order),
    ("DELETE", FAULTS, 200, _clear),
)
"""What is no part of Neon's API."""
