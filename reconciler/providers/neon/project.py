"""What is done with a project at Neon: its branches found, made, reached and deleted. Each act may be met twice without harm."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final
from urllib.parse import quote

import certifi
import msgspec

from reconciler.errors import Absent, Conflict, Refused
from reconciler.policy.secret import Revealed
from reconciler.postgres.conninfo import Conninfo, is_local
from reconciler.postgres.url import parse
from reconciler.providers.neon.answers import (
    Account,
    Branch,
    BranchesAnswer,
    Endpoint,
    EndpointsAnswer,
    Project,
    ProjectAnswer,
    UriAnswer,
    read,
)
from reconciler.providers.neon.api import Api
from reconciler.world.history import MARK

PAGE: Final = 10_000
"""The most that Neon lists at once."""
INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """As whom which database is read."""

    role: str
    database: str
    password: Revealed | None = None
    """None: the one that Neon stores."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Branches, and what was noted of each when it was made."""

    branches: tuple[Branch, ...]
    marks: Mapping[str, str]
    """Branch's id → the value of our annotation."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A branch to be made."""

    name: str
    mark: str
    """The database that it is for, as the policy calls it."""
    parent: Branch
    expires: datetime
    lsn: str | None = None
    instant: datetime | None = None
    """Without both, its parent's head."""


class NeonProject:
    """One project. Asks the API alone."""

    def __init__(self, api: Api, *, learn: Callable[[str], None]) -> None:
        """`learn`: told each address that holds a password."""
        self.api: Final = api
        self._learn = learn

    def fenced(self, check: Callable[[], object]) -> "NeonProject":
        """The same, whose changes go out only where `check` raises nothing."""
        return NeonProject(self.api.fenced(check), learn=self._learn)

    def look(self) -> tuple[Project, datetime]:
        """The project, and Neon's own clock. Raises Refused where the key knows no such project."""
        try:
            answer = self.api.get("", "look at the project")
        except Absent as error:
            raise Refused(error.what, cure="correct source.project, or use an API key of that project") from error
        found = read(answer, ProjectAnswer, f"neon {self.api.project}: cannot look at the project")
        return found.project, self.api.time_of(answer)

    def plan(self, project: Project) -> str:
        """Of the account that pays, as Neon calls it; empty where the key may not ask."""
        path = f"/organizations/{project.org_id}" if project.org_id else "/users/me"
        with suppress(Absent, Refused):
            return self.api.read_at(path, Account, "ask for the plan").plan
        return ""

    def branches(self, search: str = "") -> Listed:
        """All whose name or id holds that, every page of them, oldest first."""
        found: dict[str, Branch] = {}
        marks: dict[str, str] = {}
        cursor = ""
        while True:
            query = {"limit": str(PAGE)} | ({"search": search} if search else {}) | ({"cursor": cursor} if cursor else {})
            page = self.api.read("/branches", BranchesAnswer, "list branches", **query)
            found |= {branch.id: branch for branch in page.branches}
            marks |= {id_: note.value[MARK] for id_, note in page.annotations.items() if MARK in note.value}
            cursor = (page.pagination.next if page.pagination else None) or ""
            if not cursor or not page.branches:
                ordered = sorted(found.values(), key=lambda branch: (branch.created_at, branch.id))
                return Listed(branches=tuple(ordered), marks=marks)

    def named(self, name: str) -> tuple[Branch, str | None] | None:
        """The branch of exactly that name, and its mark."""
        listed = self.branches(name)
        found = next((branch for branch in listed.branches if branch.name == name), None)
        return None if found is None else (found, listed.marks.get(found.id))

    def make(self, wanted: Wanted) -> Branch:
        """Made once, with its end and our mark in one request, and ready. One whose answer was lost is found by its name.

        Raises Conflict where another's branch has the name.
        """
        branch = {"parent_id": wanted.parent.id, "name": wanted.name, "expires_at": wanted.expires.strftime(INSTANT)}
        if wanted.lsn is not None:
            branch["parent_lsn"] = wanted.lsn
        elif wanted.instant is not None:
            branch["parent_timestamp"] = written(wanted.instant)
        body = {"branch": branch, "endpoints": [{"type": "read_write"}], "annotation_value": {MARK: wanted.mark}}
        doing, asked = f"make branch {wanted.name}", []

        def attempt() -> Branch:
            found = self._ours(wanted)
            if found is None:
                asked.append(True)
                self._create(wanted, body, doing, was_asked=len(asked) > 1)
                # Just after it was made, it need not be found yet.
                found = self.api.until(lambda: self._ours(wanted), doing)
            elif asked:
                self.api.settle(found.id, doing)
            return found

        made = self.api.persist(attempt)
        return made if made.is_ready else self.api.until(lambda: self._ready(wanted), doing)

    def _create(self, wanted: Wanted, body: Mapping[str, object], doing: str, *, was_asked: bool) -> None:
        try:
            self.api.change("POST", "/branches", doing, body=body)
        except (Conflict, Refused) as error:
            # An earlier attempt of ours, whose answer was lost, may have arrived meanwhile: the name is taken then.
            if not (was_asked and (isinstance(error, Conflict) or self.named(wanted.name))):
                raise

    def _ours(self, wanted: Wanted) -> Branch | None:
        found = self.named(wanted.name)
        if found is None:
            return None
        branch, mark = found
        if mark != wanted.mark or branch.parent_id != wanted.parent.id or branch.default or branch.protected:
            what = f"neon {self.api.project}: there is a branch {wanted.name} already, which is not ours"
            raise Conflict(what, cure="look at it, and rename it: that name is kept for this program")
        return branch

    def _ready(self, wanted: Wanted) -> Branch | None:
        found = self._ours(wanted)
        return found if found is not None and found.is_ready else None

    def delete(self, look: Callable[[], Branch | None]) -> bool:
        """What `look` finds, for good, with its compute; whether there was any. One that is gone already is fine.

        `look` is asked before each attempt, and raises where that branch must stay.
        """
        seen: list[Branch] = []

        def attempt() -> None:
            branch = look()
            if branch is None:
                return
            seen.append(branch)
            doing, query = f"delete branch {branch.name}", {"hard_delete": "true"}
            with suppress(Absent):
                self.api.change("DELETE", f"/branches/{branch.id}", doing, query=query, still=look)

        self.api.persist(attempt)
        return bool(seen)

    def endpoint(self, branch: Branch) -> tuple[Endpoint | None, datetime]:
        """The compute that writes there, and Neon's clock."""
        answer = self.api.get(f"/branches/{branch.id}/endpoints", f"look at the computes of {branch.name}")
        found = read(answer, EndpointsAnswer, f"neon {self.api.project}: cannot look at computes").endpoints
        own = (one for one in found if one.type == "read_write" and one.branch_id == branch.id)
        return next(own, None), self.api.time_of(answer)

    def running(self, branch: Branch) -> Endpoint:
        """Its compute, once it is there; connecting wakes it."""

        def look() -> Endpoint | None:
            found, _ = self.api.soon(lambda: self.endpoint(branch))
            return found if found is not None and found.current_state != "init" and not found.pending_state else None

        return self.api.until(look, f"start the compute of {branch.name}")

    def address(self, branch: Branch, endpoint: Endpoint, login: Login, *, changed: bool) -> Conninfo:
        """The direct host of that very compute. `changed`: the branch has passwords of its own, as a protected one's children do.

        Raises Refused where Neon stores no password and none is given, or where the address leads elsewhere.
        """
        if login.password is not None and not changed:
            host = f"postgresql://{endpoint.host}/{quote(login.database, safe='')}"
            found = parse(host, field=f"the host of {branch.name}'s compute")
            found = found.as_role(login.role, login.password.expose(), login.database)
        else:
            found = self._given(branch, endpoint, login)
        return found if all(map(is_local, found.hosts)) else found.verified(certifi.where())

    def _given(self, branch: Branch, endpoint: Endpoint, login: Login) -> Conninfo:
        """As Neon gives it, with the password that it stores."""
        asked = {"branch_id": branch.id, "endpoint_id": endpoint.id, "database_name": login.database, "role_name": login.role}
        doing = f"ask how {login.role} connects"
        try:
            uri = self.api.soon(lambda: self.api.read("/connection_uri", UriAnswer, doing, pooled="false", **asked)).uri
        except Absent as error:
            cure = "correct source.role and source.database: both must be there at Neon"
            raise Refused(f"neon {self.api.project}/{branch.name}: {login.role} can't be looked up", cure=cure) from error
        self._learn(uri)
        found = parse(uri, field=f"the address that Neon gives for {branch.name}")
        if endpoint.host not in found.addresses:
            what = f"neon {self.api.project}: the address that is given for {branch.name} is not that of its compute"
            raise Refused(what, cure="nothing was read; look at the branch's computes at Neon")
        return found


def written(instant: datetime) -> str:
    """As Neon takes it: milliseconds. What is finer is cut off, so that nothing later is in it."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
