"""One check of the policy against a restored database: a single statement, read-only, limited, as a role that only reads."""

import hmac
from collections.abc import Sequence
from typing import Final

import psycopg

from reconciler.policy.model import Check
from reconciler.postgres.complaints import kind_of, shown
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.session import Session, session, time_limit
from reconciler.world.evidence import Fault
from reconciler.world.facts import Setting

SLACK_SECONDS: Final = 5.0
"""The server's own limit comes first; this is for one that does not answer any more."""
_OURS: Final = ("statement_timeout", "transaction_timeout", "default_transaction_read_only", "default_transaction_isolation")
"""Settings that a check has of its own, whatever the database's are."""
LONGEST_ANSWER: Final = 80
_UNASKABLE: Final = (psycopg.errors.SyntaxError, psycopg.errors.ReadOnlySqlTransaction)


def run_check(
    reader: Conninfo, check: Check, secret: str | None, settings: Sequence[Setting], *, excused: bool, short: bool
) -> Fault | None:
    """None when it is met. `secret`: what the answer must be, if it is one; `settings`: the database's own, as its users have.

    `excused`: something was left out, so that what misses it proves nothing; `short`: the restore missed it, and rows may.
    Raises Unreachable when the server went away.
    """
    blame = "unproven" if short else "failed"
    limit = check.timeout.total_seconds()
    with session(reader, "reconciler/check") as connection:
        _apply(connection, settings)
        try:
            with time_limit(connection, limit + SLACK_SECONDS):
                answer = _ask(connection, check.sql, int(limit * 1000))
        except psycopg.errors.QueryCanceled:
            return _fault(check, f"took longer than {limit:.0f} s", "unproven")
        except psycopg.Error as error:
            return _refusal(check, error, excused=excused)
        except _NoQuestion as error:
            return _fault(check, f"is no question that can be asked: {error}", "unproven")
        except ValueError as error:
            return _fault(check, str(error), blame)
    if secret is not None:
        same = hmac.compare_digest((answer or "").encode(), secret.encode())
        return None if same else _fault(check, "the answer is not the secret that it must be", blame)
    if check.expect is not None and check.expect.is_met_by(answer):
        return None
    said = "null" if answer is None else answer if len(answer) <= LONGEST_ANSWER else answer[:LONGEST_ANSWER] + "…"
    return _fault(check, f"answered {said}, expected {check.expect}", blame)


def _apply(connection: Session, settings: Sequence[Setting]) -> None:
    """As its users have it: a search_path above all. What this role may not set, it goes without."""
    connection.execute("RESET search_path")
    for setting in settings:
        if setting.role is None and setting.database and setting.name not in _OURS:
            try:
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (setting.name, setting.value))
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                continue


def _ask(connection: Session, statement: str, milliseconds: int) -> str | None:
    """The one value, as the server writes it. Raises ValueError for none, and for more than one."""
    connection.execute("BEGIN TRANSACTION READ ONLY")
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", (str(milliseconds),))
    # Prepared, since a plain query may hold several statements, the first of which could be COMMIT.
    cursor = connection.execute(statement.strip().rstrip(";").encode(), prepare=True)
    result = cursor.pgresult
    if result is None or cursor.description is None or result.nfields != 1:
        raise _NoQuestion("it does not answer with one column")
    if result.ntuples != 1:
        raise ValueError("does not answer with one row")
    value = result.get_value(0, 0)
    return None if value is None else value.decode("utf-8", "replace")


class _NoQuestion(ValueError):
    """It could be asked of no database: the policy is to blame, and no backup."""


def _refusal(check: Check, error: psycopg.Error, *, excused: bool) -> Fault:
    said = shown(error.diag.message_primary or str(error))
    if error.sqlstate is None or kind_of(said) == "no room":
        return _fault(check, f"the scratch server could not go on: {said}", "unproven")
    # Without a context it is the statement itself, and nothing that it calls.
    if isinstance(error, _UNASKABLE) and not error.diag.context:
        return _fault(check, f"is no question that can be asked: {said}", "unproven")
    if kind_of(said) == "missing" and excused:
        return _fault(check, f"misses something that is not here: {said}", "unproven")
    if isinstance(error, psycopg.errors.UndefinedTable) and "." not in said:
        said += " (no role's search_path holds here: does the check name its schema?)"
    return _fault(check, said, "failed")


def _fault(check: Check, what: str, result: str) -> Fault:
    return Fault(where=f"check {check.name}", what=what, result="failed" if result == "failed" else "unproven")
