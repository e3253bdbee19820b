"""Requests about roles, databases, and how to get in."""

import msgspec

from reconciler.sandbox.neon import asked, views
from reconciler.sandbox.neon.book import now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Branch, Database, Operation, Role
from reconciler.sandbox.neon.refusals import Refusal, invalid, not_found, taken
from reconciler.sandbox.neon.views import Json
from reconciler.sandbox.neon.work import ApplyConfig
from reconciler.world.clock import token


def list_roles(engine: Engine, branch_id: str) -> Json:
    """Those made by the API."""
    branch = engine.book.branch(branch_id)
    return {"roles": [views.role(role, of=branch) for role in branch.roles]}


def get_role(engine: Engine, branch_id: str, name: str) -> Json:
    """One."""
    branch = engine.book.branch(branch_id)
    return {"role": views.role(_role(branch, name), of=branch)}


def create_role(engine: Engine, branch_id: str, body: bytes) -> Json:
    """With a password that is told now. The compute is woken for it."""
    wanted = asked.read(body, asked.CreateRole).role
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        if any(role.name == wanted.name for role in branch.roles):
            raise taken("role", wanted.name)
        made = Role(name=wanted.name, password=token(12), created_at=now(), updated_at=now(), no_login=wanted.no_login)
        branch = engine.book.edit(branch, roles=(*branch.roles, made))
        operations = _apply(engine, branch)
    return {"role": views.role(made, of=branch, password=True), "operations": views.operations(engine.book, operations)}


def delete_role(engine: Engine, branch_id: str, name: str) -> Json | None:
    """None when it was gone already."""
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        found = next((role for role in branch.roles if role.name == name), None)
        if found is None:
            return None
        if any(database.owner == name for database in branch.databases):
            raise invalid(f"role {name} owns a database")
        branch = engine.book.edit(branch, roles=tuple(role for role in branch.roles if role.name != name))
        operations = _apply(engine, branch, ApplyConfig(branch=branch.id, drop_roles=(name,)))
    return {"role": views.role(found, of=branch), "operations": views.operations(engine.book, operations)}


def reveal_password(engine: Engine, branch_id: str, name: str) -> Json:
    """It is stored."""
    return {"password": _role(engine.book.branch(branch_id), name).password}


def reset_password(engine: Engine, branch_id: str, name: str) -> Json:
    """A new one, told now."""
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        made = msgspec.structs.replace(_role(branch, name), password=token(12), updated_at=now())
        branch = engine.book.edit(branch, roles=tuple(made if role.name == name else role for role in branch.roles))
        operations = _apply(engine, branch)
    return {"role": views.role(made, of=branch, password=True), "operations": views.operations(engine.book, operations)}


def list_databases(engine: Engine, branch_id: str) -> Json:
    """Those made by the API."""
    branch = engine.book.branch(branch_id)
    return {"databases": [views.database(database, of=branch) for database in branch.databases]}


def get_database(engine: Engine, branch_id: str, name: str) -> Json:
    """One."""
    branch = engine.book.branch(branch_id)
    return {"database": views.database(_database(branch, name), of=branch)}


def create_database(engine: Engine, branch_id: str, body: bytes) -> Json:
    """The compute is woken for it."""
    wanted = asked.read(body, asked.CreateDatabase).database
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        if any(database.name == wanted.name for database in branch.databases):
            raise taken("database", wanted.name)
        _role(branch, wanted.owner_name)
        others = [each.id for other in engine.book.state.branches.values() for each in other.databases]
        made = Database(
            id=max(others, default=0) + 1, name=wanted.name, owner=wanted.owner_name, created_at=now(), updated_at=now()
        )
        branch = engine.book.edit(branch, databases=(*branch.databases, made))
        operations = _apply(engine, branch)
    return {"database": views.database(made, of=branch), "operations": views.operations(engine.book, operations)}


def update_database(engine: Engine, branch_id: str, name: str, body: bytes) -> Json:
    """A new owner."""
    wanted = asked.changes(asked.read(body, asked.UpdateDatabase).database)
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        owner = _role(branch, wanted.get("owner_name", _database(branch, name).owner)).name
        made = msgspec.structs.replace(_database(branch, name), owner=owner, updated_at=now())
        branch = engine.book.edit(branch, databases=tuple(made if each.name == name else each for each in branch.databases))
        operations = _apply(engine, branch)
    return {"database": views.database(made, of=branch), "operations": views.operations(engine.book, operations)}


def delete_database(engine: Engine, branch_id: str, name: str) -> Json | None:
    """None when it was gone already."""
    with engine.book.changing():
        branch = _changeable(engine, branch_id)
        found = next((database for database in branch.databases if database.name == name), None)
        if found is None:
            return None
        branch = engine.book.edit(branch, databases=tuple(each for each in branch.databases if each.name != name))
        operations = _apply(engine, branch, ApplyConfig(branch=branch.id, drop_databases=(name,)))
    return {"database": views.database(found, of=branch), "operations": views.operations(engine.book, operations)}


def connection_uri(engine: Engine, *, branch_id: str, endpoint_id: str, database: str, role: str, pooled: bool) -> Json:
    """How that role gets into that database; of the default branch where none is named."""
    book = engine.book
    named = book.endpoint(endpoint_id).branch_id if endpoint_id else ""
    branch = book.branch(branch_id or named or book.state.project.default_branch)
    endpoint = book.endpoint_of(branch.id)
    if endpoint is None:
        raise Refusal(404, f"branch {branch.id} has no endpoint", code="ENDPOINT_NOT_FOUND")
    _database(branch, database)
    return {"uri": views.connection_uri(endpoint, _role(branch, role), database, pooled=pooled)}


def _changeable(engine: Engine, branch_id: str) -> Branch:
    branch = engine.book.branch(branch_id)
    engine.book.must_be_idle()
    if branch.state != "ready":
        raise invalid("branch not ready yet")
    return branch


def _apply(engine: Engine, branch: Branch, work: ApplyConfig | None = None) -> tuple[Operation, ...]:
    endpoint = engine.book.endpoint_of(branch.id)
    return engine.book.schedule(
        ("apply_config", work or ApplyConfig(branch=branch.id)), branch=branch.id, endpoint=endpoint.id if endpoint else None
    )


def _role(branch: Branch, name: str) -> Role:
    if found := next((role for role in branch.roles if role.name == name), None):
        return found
    raise not_found("role", name)


def _database(branch: Branch, name: str) -> Database:
    if found := next((database for database in branch.databases if database.name == name), None):
        return found
    raise not_found("database", name)
