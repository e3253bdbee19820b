"""What a key of Neon's API leads to, for who writes a first policy: projects, branches, databases. Asks, and changes nothing."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from threading import Event
from typing import Final

import msgspec

from reconciler.errors import Absent, Refused
from reconciler.policy.secret import Revealed
from reconciler.providers.neon.answers import DatabasesAnswer, OrganizationsAnswer, ProjectsAnswer
from reconciler.providers.neon.api import Api, WrongKey
from reconciler.providers.neon.project import NeonProject
from reconciler.world.endpoint import host_of, refuse_plain
from reconciler.world.ports import Clock

PAGE: Final = 400
"""The most projects that Neon lists at once."""
SHOWN: Final = 20


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beforehand. None: whatever there is one of."""

    project: str | None = None
    branch: str | None = None
    database: str | None = None
    role: str | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A database at Neon, as a policy names it."""

    project: str
    project_name: str
    branch: str
    database: str
    role: str
    window: timedelta
    """How much history the project keeps."""


def find(host: str, key: Revealed, asked: Asked, clock: Clock) -> Found:
    """The one database that is meant. Raises Refused where it is not there, or where there are several, which are named."""
    refuse_plain(host, host_of(host, "--api-host"), "--api-host")
    known = asked.project or _project(host, key, clock)
    neon = NeonProject(Api(host, key, known, clock=clock, stop=Event()), learn=lambda _: None)
    project, _ = neon.look()
    branches = neon.branches().branches
    if asked.branch is None:
        branch = next((branch for branch in branches if branch.default), None)
        if branch is None:
            raise Refused(f"neon {project.id}: no branch is the default one", cure="name one with --branch")
    else:
        fitting = {one.name: one for one in branches if asked.branch in (one.name, one.id)}
        branch = fitting[_one([*fitting], f"branches {asked.branch}", "--branch", [one.name for one in branches])]
    answer = neon.api.read(f"/branches/{branch.id}/databases", DatabasesAnswer, f"list the databases of {branch.name}")
    owners = {one.name: one.owner_name for one in answer.databases if asked.database in (None, one.name)}
    database = _one([*owners], "databases", "--source-database", [one.name for one in answer.databases])
    return Found(
        project=project.id,
        project_name=project.name,
        branch=branch.name,
        database=database,
        role=asked.role or owners[database],
        window=timedelta(seconds=project.history_retention_seconds),
    )


def _project(host: str, key: Revealed, clock: Clock) -> str:
    """The only one that the key knows, in whatever organization. A key of one project alone may not ask for it."""
    api = Api(host, key, "", clock=clock, stop=Event())
    try:
        found = _projects(api)
    except WrongKey:
        raise
    except (Absent, Refused) as error:
        raise Refused(error.what, cure="a key of one project can't list projects: name it with --project") from error
    return _one([*found], "projects", "--project", [f"{id_} ({name})" for id_, name in found.items()])


def _projects(api: Api) -> dict[str, str]:
    """Id → name. A personal key must say which organization it means; a key of an organization can't ask which there are."""
    try:
        answer = api.read_at("/users/me/organizations", OrganizationsAnswer, "list organizations")
        organizations = [one.id for one in answer.organizations]
    except WrongKey:
        raise
    except (Absent, Refused):
        organizations = []
    pages = [page for organization in organizations or [""] for page in _pages(api, organization)]
    missing = [project for page in pages for project in page.unavailable]
    if missing:
        raise Refused(f"neon: these projects can't be looked up just now: {', '.join(missing)}", cure="try again in a minute")
    return {project.id: project.name for page in pages for project in page.projects}


def _pages(api: Api, organization: str) -> Iterator[ProjectsAnswer]:
    query = {"limit": str(PAGE)} | ({"org_id": organization} if organization else {})
    while True:
        page = api.read_at("/projects", ProjectsAnswer, "list projects", **query)
        yield page
        cursor = page.pagination.cursor if page.pagination else None
        if not cursor or len(page.projects) < PAGE:
            return
        query["cursor"] = cursor


def _one(found: Sequence[str], what: str, option: str, there: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    names = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
    said = f"neon: there are {len(found)} {what}" if found else f"neon: there are no such {what}"
    raise Refused(said, cure=f"name one with {option}" + (f": {names}" if names else ""))
