"""Sessions of ours: opened with a limit, kept alive against a role's own time-outs, closed in any case."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.failures import translated

Session = psycopg.Connection[tuple[Any, ...]]

ANSWER_SECONDS = 60.0
"""For catalog queries, which take milliseconds; a server that is frozen, or a catalog that is locked, must not hold us."""
TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
"""Settings of a role or database that would end the session that holds the snapshot."""
SETTINGS: LiteralString = (
    "SET search_path = pg_catalog; SET standard_conforming_strings = on; SET quote_all_identifiers = off; "
    "SET DateStyle = ISO; SET IntervalStyle = postgres"
)
"""A function of somebody's schema must not stand for the server's own; and what we ask and what the server answers must be read
as they are meant, however a role or database has text, names and dates written."""
NOTICE_MILLISECONDS = "2000"
"""How soon a server notices that the client of a blocked query is gone (`client_connection_check_interval`, PostgreSQL 14)."""


@contextmanager
def session(conninfo: Conninfo, application_name: str) -> Iterator[Session]:
    """One autocommit session, closed at the end. Raises Unreachable or Refused; `connect_timeout` of the url counts per host."""
    with translated(conninfo, "cannot connect to"):
        connection: Session = psycopg.connect(**conninfo.for_session(application_name), autocommit=True)  # type: ignore[arg-type]  # libpq's names
    try:
        with time_limit(connection), translated(conninfo, "cannot prepare a session on"):
            connection.execute(SETTINGS)
        yield connection
    finally:
        with suppress(psycopg.Error):
            connection.close()


@contextmanager
def time_limit(connection: Session, seconds: float | None = None) -> Iterator[None]:
    """Cut the connection if the block takes more than that, a minute by default: whoever waits gets psycopg's error."""
    # A duplicate: should the session be closed meanwhile, its number may already be somebody else's.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        cutter = threading.Timer(ANSWER_SECONDS if seconds is None else seconds, _cut, args=(line,))
        cutter.daemon = True
        cutter.start()
        try:
            yield
        finally:
            cutter.cancel()


def unlimited(major: int) -> dict[str, str]:
    """The settings that switch off each time-out that a server of that major knows."""
    names = TIMEOUTS + (("transaction_timeout",) if major >= 17 else ())
    return dict.fromkeys(names, "0")


def apply_settings(connection: Session, settings: dict[str, str]) -> None:
    """Set them for the session, in one query: a server may be far away."""
    each = sql.SQL(", ").join(sql.SQL("set_config({}, {}, false)").format(*pair) for pair in settings.items())
    connection.execute(sql.SQL("SELECT {}").format(each))


def watches_clients(connection: Session) -> bool:
    """Whether the server can notice a vanished client in mid-query; switches it on where it can (no Windows can)."""
    try:
        apply_settings(connection, {"client_connection_check_interval": NOTICE_MILLISECONDS})
    except psycopg.errors.InvalidParameterValue:
        return False
    return True


def _cut(line: socket.socket) -> None:
    with suppress(OSError):  # already closed: the answer came at the last moment
        line.shutdown(socket.SHUT_RDWR)
