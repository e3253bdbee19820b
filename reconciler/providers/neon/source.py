"""A database at Neon: looked at through the API alone, and dumped through a branch made for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import certifi
import msgspec

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused
from reconciler.policy.secret import Revealed
from reconciler.postgres.conninfo import Conninfo, is_local
from reconciler.postgres.dump import Manners, PostgresDump, open_dump
from reconciler.postgres.failures import translated
from reconciler.postgres.session import session, time_limit
from reconciler.postgres.url import parse
from reconciler.providers.neon.api import Api, Json
from reconciler.world.facts import Globals, Identity, SourceFacts
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.ports import AS_USUAL, DumpOptions

LIFE: Final = timedelta(hours=24)
"""After which Neon deletes a branch of ours that nobody deleted."""
POINT = "SELECT clock_timestamp(), pg_current_wal_flush_lsn()::text"
"""In this order: what was committed before the instant lies before the position."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which database it is, and as whom it is read."""

    name: str
    """As the policy calls it: part of our branches' names."""
    branch: str
    """Its name or id."""
    database: str
    role: str
    password: Revealed | None = None


class Point(NamedTuple):
    """Where a branch begins. All that was committed before the instant is in it."""

    instant: datetime
    lsn: str | None


class BranchDump:
    """A dump of a branch, told as one of what it was branched from."""

    def __init__(self, inside: PostgresDump, identity: Identity, point: Point) -> None:
        source = msgspec.structs.replace(inside.facts.source, identity=identity)
        lsn = point.lsn or inside.facts.lsn_before
        self.facts = msgspec.structs.replace(inside.facts, source=source, instant=point.instant, lsn_before=lsn)
        self._inside = inside

    @property
    def globals(self) -> Globals:
        return self._inside.globals

    def chunks(self) -> Iterator[bytes]:
        """The archive, once."""
        return self._inside.chunks()

    def lsn_after(self) -> str | None:
        """The branch point: nothing of the source that came later can be in the dump."""
        return self.facts.lsn_before

    def fingerprint(self) -> Fingerprint | None:
        """Of the branch, in the dump's own snapshot."""
        return self._inside.fingerprint()


class NeonSource:
    """Never written to. A compute is never woken to look at it."""

    def __init__(self, api: Api, tidying: Api, where: Where, manners: Manners) -> None:
        self._api = api
        self._tidying = tidying
        """The same project, for what must be done though we were asked to stop."""
        self._where = where
        self._manners = manners

    def facts(self) -> SourceFacts:
        """Identity, version and clock, in three requests. Raises Unreachable or Refused."""
        return self._look()[0]

    def _look(self) -> tuple[SourceFacts, Json]:
        project, branch, database = self._api.project, self._where.branch, self._where.database
        try:
            answer = self._api.get("", "look at the project")
        except Absent as error:
            raise Refused(error.what, cure="correct source.project, or use an API key of that project") from error
        major = int(answer.json()["project"]["pg_version"])
        found = next((one for one in self._api.branches(branch) if branch in (one["name"], one["id"])), None)
        if found is None:
            raise Refused(f"neon {project}: there is no branch {branch}", cure="correct source.branch")
        try:
            self._api.get(f"/branches/{found['id']}/databases/{database}", f"look at database {database}")
        except Absent as error:
            raise Refused(f"neon {project}/{branch}: there is no database {database}", cure="correct source.database") from error
        identity = Identity(provider="neon", cluster=f"{project}/{found['id']}", database=database)
        clock = self._api.clock_of(answer)
        return SourceFacts(identity=identity, server_version=str(major), major=major, clock=clock), found

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[BranchDump]:
        """Through a branch of its own, which is deleted afterwards, whatever happened. Raises Conflict for another identity."""
        seen, parent = self._look()
        if expect is not None and seen.identity != expect:
            cure = "correct the source; if it was moved on purpose: reconcile adopt"
            raise Conflict(f"{seen.identity} is there, and expected was {expect}", cure=cure)
        point = self._point(parent)
        try:
            made = self._branch(parent, self._name(backup_id), point, options)
            address = self._address(made, changed=bool(parent.get("protected")))
            with open_dump(address, backup_id, None, self._manners, options) as dump:
                yield BranchDump(dump, seen.identity, point)
        finally:
            # One that can't be deleted now is swept by a later turn, and else expires: no reason to lose the dump.
            with suppress(ReconcilerError):
                self._drop(backup_id, parent)

    def end_sessions(self, backup_id: str) -> int:
        """Delete the branch that a dump of that id left behind, and so its sessions; 1 if it was there."""
        return self._drop(backup_id, self._look()[1])

    def _name(self, backup_id: str) -> str:
        return f"reconciler-{self._where.name}-{backup_id}"

    def _endpoint(self, branch: Json) -> tuple[Json | None, datetime]:
        """The compute that writes there, and Neon's clock."""
        answer = self._api.get(f"/branches/{branch['id']}/endpoints", "look at computes")
        clock = self._api.clock_of(answer)
        found = (one for one in answer.json()["endpoints"] if one["type"] == "read_write" and one["branch_id"] == branch["id"])
        return next(found, None), clock

    def _point(self, parent: Json) -> Point:
        """Of a compute that runs, what it says; one that rests has written nothing since, and is left to rest."""
        started = self._manners.clock.now()
        endpoint, clock = self._endpoint(parent)
        if endpoint is None or endpoint["current_state"] == "idle":
            return Point(min(clock, started), None)
        conninfo = self._conninfo(parent, endpoint, changed=False)
        with (
            session(conninfo, "reconciler/branch") as connection,
            translated(conninfo, "cannot read the WAL position of"),
            time_limit(connection),
        ):
            said, lsn = connection.execute(POINT).fetchall()[0]
        return Point(min(said.astimezone(UTC), started), lsn)

    def _branch(self, parent: Json, name: str, point: Point, options: DumpOptions) -> Json:
        """Made once, and ready. One whose answer was lost is found by its name."""
        life = max(LIFE, (options.max_duration or LIFE) + timedelta(hours=1))
        expires = (self._manners.clock.now() + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = {"parent_id": parent["id"], "name": name, "expires_at": expires}
        wanted |= {"parent_lsn": point.lsn} if point.lsn else {}
        body = {"branch": wanted, "endpoints": [{"type": "read_write"}]}

        def attempt() -> Json:
            found = self._api.named(name)
            if found is None:
                with suppress(Conflict):  # it was made meanwhile, by an earlier attempt of ours
                    self._api.change("POST", "/branches", f"make branch {name}", body=body)
                # Just after it was made, it need not be found yet.
                found = self._api.until(lambda: self._api.named(name), f"making branch {name}")
            return found

        self._api.persist(attempt)

        def ready() -> Json | None:
            found = self._api.named(name)
            return found if found is not None and found["current_state"] == "ready" and not found.get("pending_state") else None

        return self._api.until(ready, f"making branch {name}")

    def _address(self, made: Json, *, changed: bool) -> Conninfo:
        """Of the compute of our branch, once it runs."""

        def running() -> Json | None:
            endpoint, _ = self._endpoint(made)
            up = endpoint is not None and endpoint["current_state"] != "init" and not endpoint.get("pending_state")
            return endpoint if up else None

        return self._conninfo(made, self._api.until(running, f"starting {made['name']}"), changed=changed)

    def _conninfo(self, branch: Json, endpoint: Json, *, changed: bool) -> Conninfo:
        """The direct host. `changed`: the branch has passwords of its own, as children of a protected one do."""
        asked = {"branch_id": branch["id"], "endpoint_id": endpoint["id"], "database_name": self._where.database}
        role = self._where.role
        answer = self._api.read("/connection_uri", f"ask how {role} connects", role_name=role, pooled="false", **asked)
        found = parse(answer["uri"], field=f"the address that Neon gives for {branch['name']}")
        if self._where.password is not None and not changed:
            found = found.as_role(role, self._where.password.expose(), self._where.database)
        return found if all(map(is_local, found.hosts)) else found.verified(certifi.where())

    def _drop(self, backup_id: str, parent: Json) -> int:
        """Only a child of the source's branch, of exactly that name, that is neither default nor protected."""
        api, name = self._tidying, self._name(backup_id)
        found = api.named(name)
        if found is None:
            return 0
        if found.get("parent_id") != parent["id"] or found.get("default") or found.get("protected"):
            cure = "look at it: it is not as we make them, and is left alone"
            raise Refused(f"neon {api.project}: branch {name} is not ours", cure=cure)

        def attempt() -> Json:
            with suppress(Absent):
                api.change("DELETE", f"/branches/{found['id']}", f"delete branch {name}", hard_delete="true")
            return {}

        api.persist(attempt)
        return 1
