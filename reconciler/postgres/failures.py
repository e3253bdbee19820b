"""From the words of libpq, psycopg and pg_dump to our kinds of error. None of them passes unread and unredacted."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.postgres.conninfo import Conninfo

SHOWN_CHARACTERS = 300
PROGRAM = re.compile(r"^pg_(?:dump|restore|amcheck): ")
QUOTED = re.compile(r'"[^"]*"')
PASSING = (
    "server closed the connection", "terminating connection", "could not receive data", "could not send data",
    "no connection to the server", "connection has been closed unexpectedly", "Connection refused", "Connection reset",
    "timeout expired", "could not translate host name", "is starting up", "is shutting down", "in recovery mode",
    "SSL SYSCALL error", "connection to server was lost", "the connection is lost", "connection is bad",
    "failed to resolve host", "connection to server at", "connection to server on", "connection failed",
    "connection timeout", "unexpected eof", "snapshot", "not yet accepting connections", "Name or service not known",
    "lock timeout",
)  # fmt: skip
"""Signs that the server, the way to it or our snapshot's session is gone: worth another try."""
CROWDED = ("too many clients", "too many connections", "connection slots are reserved")
"""Signs that no free place is left on the server."""
CURES = (
    (r"authentication failed|no password supplied|not permitted to log in", "check user and password in the url"),
    (r'role "?.*"? does not exist', "create the role, or correct the user in the url"),
    (r'database "?.*"? does not exist', "create the database, or correct its name in the url"),
    (r"no pg_hba\.conf entry", "let this machine in, in the server's pg_hba.conf"),
    (r"does not support SSL", "switch TLS on in the server, or choose another sslmode in the url"),
    (r"root certificate|certificate verify|server certificate", "give the authority's certificate as sslrootcert in the url"),
    (r"bad value for|^invalid \w+ value|bad: invalid", "correct that parameter in the url"),
    (r"invalid connection option", "install a newer client, or leave that parameter out of the url"),
    (r"server version mismatch", "install the client of the server's major, or name its folder as client_bin"),
    (r"must be able to SET ROLE|must be member", "GRANT that role to the one that restores, and try again, or add --no-roles"),
    (r"permission denied to create extension", "have it made in the database by somebody who may, and try again"),
    (r"must be superuser|must be owner", "restore as a superuser, or as a role that may"),
    (r"extension \".*\" is not available|could not open extension control file", "install that extension on the server"),
    (r"row-level security policy for table", "dump as the tables' owner, or give the role BYPASSRLS"),
    (r"already exists", "restore into an empty database"),
    (r"permission denied", "grant the role what it lacks"),
    (r"No space left on device", "make room on that disk"),
    (r"out of shared memory", "set max_locks_per_transaction higher in the server, and restart it"),
)  # fmt: skip
RETRY_STATES = ("08", "53", "57P", "55P03", "57014", "40", "25P03", "25P04", "57P05")
"""SQLSTATE classes that pass by themselves: connection, resources, shutdown, lock, cancel, serialization, idle time-outs."""


@contextmanager
def translated(conninfo: Conninfo, doing: str) -> Iterator[None]:
    """Let psycopg's errors leave as ours. `doing` begins the sentence, e.g. `cannot read roles of`."""
    try:
        yield
    except psycopg.Error as error:
        failure = from_psycopg(error, conninfo, doing)
        # A cause that holds a secret is dropped: it is printed with the chain. Raised outside, so that no context keeps it.
        cause = error if conninfo.redact(str(error)) == str(error) else None
    else:
        return
    raise failure from cause


def from_psycopg(error: psycopg.Error, conninfo: Conninfo, doing: str) -> ReconcilerError:
    """The kind by SQLSTATE where the server gave one (its words may be in any language), else by libpq's words."""
    said = error.diag.message_primary or str(error)
    if error.sqlstate is None:
        return from_words(said, conninfo, doing)
    sentence = _sentence(said, conninfo, doing)
    return Unreachable(sentence) if error.sqlstate.startswith(RETRY_STATES) else Refused(sentence, cure=_cure(said))


def from_words(said: str, conninfo: Conninfo, doing: str) -> ReconcilerError:
    """The kind by the words alone: of libpq, which has no SQLSTATE for a failed connection, and of client programs."""
    sentence = _sentence(said, conninfo, doing)
    cure = _cure(said)
    if cure:
        return Refused(sentence, cure=cure)
    unnamed = QUOTED.sub("", said)  # a table may be called like a sign
    if any(sign in unnamed for sign in CROWDED):
        cure = "let the role and the server have more connections, or ask for fewer jobs"
        return Unreachable(sentence, cure=cure)
    if any(sign in unnamed for sign in PASSING):
        return Unreachable(sentence, cure="check that the server is up and can be reached from here")
    return Refused(sentence)


def first_error(complaints: str) -> str:
    """The line of a client program's stderr that says why, with its detail. Never the command: its text may hold a password."""
    lines = [PROGRAM.sub("", line) for line in complaints.splitlines()]
    start = next((index for index, line in enumerate(lines) if line.startswith(("error:", "fatal:"))), 0)
    detail = [line for line in lines[start + 1 : start + 2] if line.startswith("detail:")]
    return " ".join(line.removeprefix("error: ").removeprefix("detail: ") for line in lines[start : start + 1] + detail)


def _cure(said: str) -> str:
    return next((cure for pattern, cure in CURES if re.search(pattern, said)), "")


def _sentence(said: str, conninfo: Conninfo, doing: str) -> str:
    words = " ".join(conninfo.redact(said).split())
    shown = words if len(words) <= SHOWN_CHARACTERS else words[:SHOWN_CHARACTERS] + "…"
    return f"{doing} {conninfo.place}: {shown}"
