"""A database at Neon: looked at through the API alone, and dumped through a branch made for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Stopped
from reconciler.postgres.dump import Manners, PostgresDump, open_dump
from reconciler.postgres.failures import translated
from reconciler.postgres.session import session, time_limit
from reconciler.postgres.source import PostgresSource
from reconciler.providers.neon.answers import Branch
from reconciler.providers.neon.project import Login, NeonProject, Wanted
from reconciler.world.facts import Globals, Identity, SourceFacts
from reconciler.world.fingerprint import Fingerprint
from reconciler.world.history import branch_name
from reconciler.world.ports import AS_USUAL, DumpOptions

LIFE: Final = timedelta(hours=24)
"""After which Neon deletes a branch of ours that nobody deleted."""
LONGEST_LIFE: Final = timedelta(days=30)
"""Neon takes no later end."""
POINT = "SELECT clock_timestamp(), pg_current_wal_flush_lsn()::text"
"""In this order: what was committed before the instant lies before the position."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which database it is, and as whom it is read."""

    name: str
    """As the policy calls it: part of our branches' names."""
    branch: str
    """Its name or id."""
    login: Login


class Point(NamedTuple):
    """Where a branch begins. All that was committed before the instant is in it."""

    instant: datetime
    lsn: str | None


class SourceDump:
    """A dump of the source's own compute, told as one of what the API knows it as."""

    def __init__(self, inside: PostgresDump, identity: Identity) -> None:
        source = msgspec.structs.replace(inside.facts.source, identity=identity)
        self.facts = msgspec.structs.replace(inside.facts, source=source)
        self._inside = inside

    @property
    def globals(self) -> Globals:
        return self._inside.globals

    def chunks(self) -> Iterator[bytes]:
        """The archive, once."""
        return self._inside.chunks()

    @property
    def at_hand(self) -> str:
        return self._inside.at_hand

    def lsn_after(self) -> str | None:
        """The source's WAL position now."""
        return self._inside.lsn_after()

    def fingerprint(self) -> Fingerprint | None:
        """In the dump's own snapshot."""
        return self._inside.fingerprint()


class BranchDump(SourceDump):
    """A dump of a branch, told as one of what it was branched from, at the point where it was."""

    def __init__(self, inside: PostgresDump, identity: Identity, point: Point) -> None:
        super().__init__(inside, identity)
        self.facts = msgspec.structs.replace(self.facts, instant=point.instant, lsn_before=point.lsn or self.facts.lsn_before)

    def lsn_after(self) -> str | None:
        """The branch point: nothing of the source that came later can be in the dump."""
        return self.facts.lsn_before


class NeonSource:
    """Never written to. A compute is never woken to look at it."""

    def __init__(self, project: NeonProject, tidying: NeonProject, where: Where, manners: Manners) -> None:
        self._project = project
        self._tidying = tidying
        """The same project, for what must be done though we were asked to stop."""
        self._where = where
        self._manners = manners

    def facts(self) -> SourceFacts:
        """Identity, version and clock, in three requests. Raises Unreachable or Refused."""
        return self._look()[0]

    def _look(self) -> tuple[SourceFacts, Branch]:
        project, clock = self._project.look()
        branch, database = self.branch(), self._where.login.database
        try:
            self._project.api.get(f"/branches/{branch.id}/databases/{database}", f"look at database {database}")
        except Absent as error:
            what = f"neon {project.id}/{self._where.branch}: there is no database {database}"
            raise Refused(what, cure="correct source.database") from error
        identity = Identity(provider="neon", cluster=f"{project.id}/{branch.id}", database=database)
        major = project.pg_version
        return SourceFacts(identity=identity, server_version=str(major), major=major, clock=clock), branch

    def branch(self) -> Branch:
        """The one that is protected. Raises Refused where there is none."""
        wanted = self._where.branch
        found = next((one for one in self._project.branches(wanted).branches if wanted in (one.name, one.id)), None)
        if found is None:
            raise Refused(f"neon {self._project.api.project}: there is no branch {wanted}", cure="correct source.branch")
        return found

    @contextmanager
    def dump(
        self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL
    ) -> Iterator["BranchDump | SourceDump"]:
        """Through a branch of its own, which is deleted afterwards, whatever happened; or from the source's own compute.

        Raises Conflict for another identity.
        """
        seen, parent = self._look()
        if expect is not None and seen.identity != expect:
            cure = "correct the source; if it was moved on purpose: reconcile adopt"
            raise Conflict(f"{seen.identity} is there, and expected was {expect}", cure=cure)
        if options.through == "source":
            endpoint = self._project.running(parent)
            address = self._project.address(parent, endpoint, self._where.login, changed=False)
            with open_dump(address, backup_id, None, self._manners, options) as dump:
                yield SourceDump(dump, seen.identity)
            return
        point = self._point(parent)
        try:
            life = min(LONGEST_LIFE, max(LIFE, (options.max_duration or LIFE) + timedelta(hours=1)))
            name = branch_name(self._where.name, backup_id)
            # By Neon's clock, which is the one that ends it.
            wanted = Wanted(name=name, mark=self._where.name, parent=parent, expires=seen.clock + life, lsn=point.lsn)
            made = self._project.make(wanted)
            address = self._project.address(made, self._project.running(made), self._where.login, changed=parent.protected)
            with open_dump(address, backup_id, None, self._manners, options) as dump:
                yield BranchDump(dump, seen.identity, point)
        finally:
            # One that can't be deleted now is swept by a later turn, and else expires: no reason to lose the dump.
            with suppress(ReconcilerError):
                self._drop(backup_id)

    def end_sessions(self, backup_id: str) -> int:
        """Delete the branch that a dump of that id left behind, and end its sessions on the source's compute, if that runs."""
        dropped, parent = self._drop(backup_id), self.branch()
        endpoint, _ = self._project.endpoint(parent)
        if endpoint is None or endpoint.current_state != "active":
            return dropped
        address = self._project.address(parent, endpoint, self._where.login, changed=False)
        return dropped + PostgresSource(address, self._manners).end_sessions(backup_id)

    def _point(self, parent: Branch) -> Point:
        """Of a compute that runs, what it says; one that rests has written nothing since, and is left to rest."""
        started = self._manners.clock.now()
        endpoint, clock = self._project.endpoint(parent)
        if endpoint is None or endpoint.current_state == "idle":
            return Point(min(clock, started), None)
        conninfo = self._project.address(parent, endpoint, self._where.login, changed=False)
        with (
            session(conninfo, "reconciler/branch") as connection,
            translated(conninfo, "cannot read the WAL position of"),
            time_limit(connection),
        ):
            said, lsn = connection.execute(POINT).fetchall()[0]
        return Point(min(said.astimezone(UTC), started), lsn)

    def _drop(self, backup_id: str) -> int:
        """Only one with our mark, of exactly that name, that is neither a root nor default nor protected; 1 if it was there."""
        try:
            return self._drop_by(self._project, backup_id)
        except Stopped:
            return self._drop_by(self._tidying, backup_id)

    def _drop_by(self, project: NeonProject, backup_id: str) -> int:
        name = branch_name(self._where.name, backup_id)
        found = project.named(name)
        if found is None:
            return 0
        branch, mark = found
        if mark != self._where.name or branch.parent_id is None or branch.default or branch.protected:
            cure = "look at it: it is not as we make them, and is left alone"
            raise Refused(f"neon {project.api.project}: branch {name} is not ours", cure=cure)
        project.delete(branch)
        return 1
