"""Two ways to a scratch database: a throw-away server of our own, or a database made on a server that the policy names."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from reconciler.errors import Refused
from reconciler.policy.model import Check
from reconciler.policy.secret import Surroundings
from reconciler.postgres import catalog, client, hostile
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.contents import read_through
from reconciler.postgres.dump import Manners
from reconciler.postgres.failures import translated
from reconciler.postgres.room import MADE_FOR, NAME, PostgresRoom, furnished, tools_for
from reconciler.postgres.session import Session, apply_settings, session, time_limit, unlimited
from reconciler.postgres.throwaway import choose, throwaway
from reconciler.world.clock import token
from reconciler.world.facts import DumpFacts, Globals, Identity, SourceFacts
from reconciler.world.scratch import Contents

DATABASE: Final = "rehearsal"
PREFIX: Final = "reconciler_scratch_"
OURS: LiteralString = "SELECT datname FROM pg_database WHERE datname ~ '^reconciler_scratch_[0-9a-f]+$' ORDER BY 1"
NOT_CUT_OFF: Final = "cutting the scratch server off from the network, which this system did not do for us"
ANY: Final = "reconciler_scratch"
"""The lock's name that each rehearsal holds together with the others."""
MEETING_PLACES: LiteralString = """
SELECT datname FROM pg_database WHERE datname IN ('postgres', 'template1') AND datallowconn ORDER BY datname
"""
IS_SUPERUSER: LiteralString = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
OUR_ROLES: LiteralString = """
SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = %s ORDER BY 1
"""

Reveal = Callable[[Check], str | None]
Sources = Callable[[], Sequence[Identity]]
"""Every source of the policy. Raises Refused where one can't be told."""


def revealing(database: str, surroundings: Surroundings) -> Reveal:
    """What the answer of a check must be, where it is a secret. The function raises Refused where that is not to be found."""

    def reveal(check: Check) -> str | None:
        if check.expect_secret is None:
            return None
        return check.expect_secret.reveal(surroundings, field=f"databases.{database}.checks.{check.name}").expose()

    return reveal


def _contents(chunks: Iterable[bytes], facts: DumpFacts, manners: Manners) -> Contents:
    tools = tools_for(manners.client_bin, facts, client.major_of(facts.client_version))
    return Contents(entries=len(read_through(tools, chunks, manners).entries))


class EmbeddedScratch:
    """A throw-away server for each rehearsal, of the source's major where there is one."""

    def __init__(self, base: Path, manners: Manners, reveal: Reveal, *, server_bin: Path | None = None) -> None:
        self.place = f"a throw-away PostgreSQL in {base}"
        self._base, self._manners, self._reveal, self._server_bin = base, manners, reveal, server_bin

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        """Read to its last byte."""
        return _contents(chunks, facts, self._manners)

    @contextmanager
    def room(self, facts: DumpFacts, globals: Globals) -> Iterator[PostgresRoom]:  # noqa: A002  the port's word
        """A server that is gone when the body ends, however it ends."""
        programs = choose(client.find("postgres", self._server_bin), facts.source.major)
        tools = tools_for(self._manners.client_bin, facts, programs.major)
        with (
            throwaway(self._base, programs, self._manners) as server,
            furnished(server.admin, facts, globals, database=DATABASE, place=server.place) as keys,
        ):
            yield PostgresRoom(
                keys,
                facts,
                globals,
                tools,
                self._manners,
                place=server.place,
                reveal=self._reveal,
                folder=server.folder,
                lacks=() if server.is_cut_off else (NOT_CUT_OFF,),
            )


class ServerScratch:
    """A database made for each rehearsal on a server that is there for that, and dropped afterwards."""

    def __init__(self, admin: Conninfo, manners: Manners, reveal: Reveal, sources: Sources) -> None:
        self.place = admin.place
        self._admin, self._manners, self._reveal, self._sources = admin, manners, reveal, sources

    def contents(self, chunks: Iterable[bytes], facts: DumpFacts) -> Contents:
        """Read to its last byte."""
        return _contents(chunks, facts, self._manners)

    @contextmanager
    def room(self, facts: DumpFacts, globals: Globals) -> Iterator[PostgresRoom]:  # noqa: A002  the port's word
        """A lock held by a session of ours tells that it is in use; what nobody holds is dropped by the next."""
        name = PREFIX + token(6)
        meeting = self._admin.in_database(self._meeting_place())
        with session(meeting, NAME) as connection:
            with translated(meeting, "cannot prepare a rehearsal on"), time_limit(connection):
                apply_settings(connection, unlimited(connection.info.server_version // 10000))
                server = catalog.source_facts(connection)
            self._check(connection, server, facts)
            with translated(meeting, "cannot prepare a rehearsal on"), time_limit(connection):
                _sweep(connection)
                _claim(connection, name)
            tools = tools_for(self._manners.client_bin, facts, server.major)
            try:
                with furnished(self._admin, facts, globals, database=name, place=self.place) as keys:
                    yield PostgresRoom(keys, facts, globals, tools, self._manners, place=self.place, reveal=self._reveal)
            finally:
                with translated(meeting, "cannot drop the scratch database on"), time_limit(connection):
                    _drop(connection, name)
                    _drop_shared(connection)

    def _meeting_place(self) -> str:
        """The database in which all rehearsals of a server lock, whichever their urls name: a lock belongs to one database."""
        with session(self._admin, NAME) as connection, translated(self._admin, "cannot look at"), time_limit(connection):
            found = connection.execute(MEETING_PLACES).fetchall()
        if not found:
            what = f"{self.place} has neither of the databases postgres and template1, where rehearsals meet"
            raise Refused(what, cure="CREATE DATABASE postgres;")
        place: str = found[0][0]
        return place

    def _check(self, connection: Session, server: SourceFacts, facts: DumpFacts) -> None:
        """Raises Refused for a server that no rehearsal may use, and for one that it can't."""
        with translated(self._admin, "cannot look at"), time_limit(connection):
            is_superuser = connection.execute(IS_SUPERUSER).fetchall() == [(True,)]
        if not is_superuser:
            raise Refused(
                f"{self.place} needs a superuser, to make extensions and to take every right from what is restored",
                cure="name a server of its own under `scratch:`, with its superuser's url",
            )
        if server.major < facts.source.major:
            raise Refused(
                f"{self.place} is PostgreSQL {server.major}, older than the backup's {facts.source.major}",
                cure="name a newer server under `scratch:`",
            )
        # The backup's own first: others must be asked.
        _refuse_server_of((facts.source.identity,), server, self.place)
        _refuse_server_of(self._sources(), server, self.place)


def _refuse_server_of(sources: Sequence[Identity], server: SourceFacts, place: str) -> None:
    for source in (source for source in sources if source.cluster == server.identity.cluster):
        what = f"{place} is the server of the source {source.database}: nothing is restored there"
        raise Refused(what, cure="name another server under `scratch:`")


def _claim(connection: Session, name: str) -> None:
    """And that some rehearsal is going on: whoever drops what they share waits for nobody to say so, and keeps us waiting."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    connection.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", (ANY,))


def _sweep(connection: Session) -> None:
    """Drop what those left who died: a lock goes with its session."""
    for (name,) in connection.execute(OURS).fetchall():
        free = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchall()[0][0]
        if free:
            _drop(connection, name)
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def _drop(connection: Session, name: str) -> None:
    """The database with whoever is in it, then its roles. Met twice, it is the same."""
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    _drop_roles(connection, MADE_FOR + name)


def _drop_shared(connection: Session) -> None:
    """What rehearsals share, unless another one is going on: the last to end drops it."""
    connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", (ANY,))
    if connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (ANY,)).fetchall()[0][0]:
        _drop_roles(connection, hostile.SHARED)
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (ANY,))


def _drop_roles(connection: Session, mark: str) -> None:
    for (role,) in connection.execute(OUR_ROLES, (mark,)).fetchall():
        # One that somebody else has come to use meanwhile stays: it has no rights.
        with suppress(psycopg.errors.DependentObjectsStillExist):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
