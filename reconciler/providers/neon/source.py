"""A database at Neon: looked at through the API alone, and dumped through a branch made for it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from reconciler.errors import Conflict, ReconcilerError, Refused, Stopped
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.dump import Manners, open_dump
from reconciler.postgres.examination import Examination
from reconciler.postgres.failures import translated
from reconciler.postgres.session import session, time_limit
from reconciler.postgres.source import PostgresSource
from reconciler.providers.neon.answers import Branch, DatabasesAnswer
from reconciler.providers.neon.dumping import BranchDump, Point, Renamed
from reconciler.providers.neon.project import Listed, Login, NeonProject, Wanted
from reconciler.world.clock import token
from reconciler.world.facts import Identity, SourceFacts
from reconciler.world.history import branch_name
from reconciler.world.ports import AS_USUAL, DumpOptions

LIFE: Final = timedelta(hours=24)
"""After which Neon deletes a branch of ours that nobody deleted."""
EXAMINED_FOR: Final = timedelta(hours=1)
"""The life of a branch that is merely looked at."""
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
        # Listed, and not asked for by name: a name is no part of an address.
        listed = self._project.api.read(f"/branches/{branch.id}/databases", DatabasesAnswer, f"list databases of {branch.name}")
        if database not in {one.name for one in listed.databases}:
            raise Refused(
                f"neon {project.id}/{self._where.branch}: there is no database {database}", cure="correct source.database"
            )
        identity = Identity(provider="neon", cluster=f"{project.id}/{branch.id}", database=database)
        major = project.pg_version
        return SourceFacts(identity=identity, server_version=str(major), major=major, clock=clock), branch

    def branch(self) -> Branch:
        """The one that is protected. Raises Refused where there is none."""
        return self.among(self._project.branches(self._where.branch))

    def among(self, listed: Listed) -> Branch:
        """The same of those that were listed."""
        wanted = self._where.branch
        found = next((one for one in listed.branches if wanted in (one.name, one.id)), None)
        if found is None:
            raise Refused(f"neon {self._project.api.project}: there is no branch {wanted}", cure="correct source.branch")
        return found

    @contextmanager
    def dump(self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL) -> Iterator[Renamed]:
        """Through a branch of its own, which is deleted afterwards, whatever happened; or from the source's own compute.

        Raises Conflict for another identity.
        """
        seen, parent = self._look()
        if expect is not None and seen.identity != expect:
            cure = "correct the source; if it was moved on purpose, `reconcile adopt NAME`"
            raise Conflict(f"{seen.identity} is there, and expected was {expect}", cure=cure)
        if options.through == "source":
            endpoint = self._project.running(parent)
            address = self._project.address(parent, endpoint, self._where.login, changed=False)
            with open_dump(address, backup_id, None, self._manners, options) as dump:
                yield Renamed(dump, seen.identity)
            return
        point = self._point(parent)
        life = min(LONGEST_LIFE, max(LIFE, (options.max_duration or LIFE) + timedelta(hours=1)))
        # By Neon's clock, which is the one that ends it.
        wanted = self.wanted(backup_id, parent, expires=seen.clock + life, lsn=point.lsn)
        with (
            self.branched(backup_id, wanted) as (_, address),
            open_dump(address, backup_id, None, self._manners, options) as dump,
        ):
            yield BranchDump(dump, seen.identity, point)

    def wanted(
        self, use: str, parent: Branch, *, expires: datetime, lsn: str | None = None, instant: datetime | None = None
    ) -> Wanted:
        """A branch of ours for that purpose."""
        name = branch_name(self._where.name, use)
        return Wanted(name=name, mark=self._where.name, parent=parent, expires=expires, lsn=lsn, instant=instant)

    @contextmanager
    def branched(self, use: str, wanted: Wanted) -> Iterator[tuple[Branch, Conninfo]]:
        """Such a branch, and the way into it. It goes afterwards, whatever happened."""
        try:
            made = self._project.make(wanted)
            address = self._project.address(made, self._project.running(made), self._where.login, changed=wanted.parent.protected)
            yield made, address
        finally:
            # One that can't be deleted now is swept by a later turn, and else ends by itself: no reason to lose what was done.
            with suppress(ReconcilerError):
                self.drop(use)

    @property
    def client_bin(self) -> Path | None:
        """The folder that the policy names for pg_dump and pg_restore."""
        return self._manners.client_bin

    def examine(self) -> Examination:
        """What a dump will meet, looked at on a branch made for it: so the right to make one is tried, and nothing else waits."""
        seen, parent = self._look()
        use = f"{seen.clock:%Y%m%dT%H%M%SZ}-{token(3)}"
        with self.branched(use, self.wanted(use, parent, expires=seen.clock + EXAMINED_FOR)) as (_, address):
            return PostgresSource(address, self._manners).examine()

    def end_sessions(self, backup_id: str) -> int:
        """Delete the branch that a dump of that id left behind, and end its sessions on the source's compute, if that runs."""
        dropped, parent = 0, self.branch()
        # One that must stay, or that somebody's branch hangs on, keeps nothing else from going: the branches' duty tells of it.
        with suppress(Refused, Conflict):
            dropped = self.drop(backup_id)
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

    def drop(self, use: str) -> int:
        """Delete the branch that was made for this, also when we were asked to stop; 1 if it was there.

        Only one with our mark and exactly that name, neither a root nor default nor protected. Raises Refused for another.
        """
        try:
            return self._drop(self._project, use)
        except Stopped:
            return self._drop(self._tidying, use)

    def _drop(self, project: NeonProject, use: str) -> int:
        name = branch_name(self._where.name, use)

        def look() -> Branch | None:
            found = project.named(name)
            if found is None:
                return None
            branch, mark = found
            if mark != self._where.name or branch.parent_id is None or branch.default or branch.protected:
                cure = "look at it: it is not as we make them, and is left alone"
                raise Refused(f"neon {project.api.project}: branch {name} is not ours", cure=cure)
            return branch

        return int(project.delete(look))
