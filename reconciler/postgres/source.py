"""A PostgreSQL database as a source of backups."""

from contextlib import AbstractContextManager
from pathlib import Path

from reconciler.postgres import catalog
from reconciler.postgres.client import check_supported
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.dump import Manners, PostgresDump, open_dump
from reconciler.postgres.examination import Examination, look
from reconciler.postgres.failures import translated
from reconciler.postgres.session import session, time_limit
from reconciler.world.facts import Identity, SourceFacts
from reconciler.world.ports import AS_USUAL, DumpOptions

OBSERVER = "reconciler/observe"
END_SESSIONS = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = %s AND usename = session_user AND pid <> pg_backend_pid()
"""


class PostgresSource:
    """Never written to; each method opens its own session."""

    def __init__(self, conninfo: Conninfo, manners: Manners) -> None:
        self._conninfo = conninfo
        self._manners = manners

    def facts(self) -> SourceFacts:
        """Identity, version and clock, in one short connection. Raises Unreachable or Refused."""
        with (
            session(self._conninfo, OBSERVER) as connection,
            translated(self._conninfo, "cannot look at"),
            time_limit(connection),
        ):
            facts = catalog.source_facts(connection)
        check_supported(facts.major, self._conninfo.place)
        return facts

    @property
    def client_bin(self) -> Path | None:
        """The folder that the policy names for pg_dump and pg_restore."""
        return self._manners.client_bin

    def examine(self) -> Examination:
        """What a dump will meet there, in one connection. Raises Unreachable or Refused."""
        with (
            session(self._conninfo, OBSERVER) as connection,
            translated(self._conninfo, "cannot examine"),
            time_limit(connection),
        ):
            return look(connection, self._conninfo.place)

    def dump(
        self, backup_id: str, *, expect: Identity | None, options: DumpOptions = AS_USUAL
    ) -> AbstractContextManager[PostgresDump]:
        """A snapshot under `application_name=reconciler/{backup_id}`. Raises Conflict if the identity is not the expected one."""
        return open_dump(self._conninfo, backup_id, expect, self._manners, options)

    def end_sessions(self, backup_id: str) -> int:
        """End this role's sessions that a dump of that id left behind; how many there were."""
        with (
            session(self._conninfo, OBSERVER) as connection,
            translated(self._conninfo, "cannot end sessions on"),
            time_limit(connection),
        ):
            ended: int = connection.execute(END_SESSIONS, (f"reconciler/{backup_id}",)).fetchall()[0][0]
        return ended
