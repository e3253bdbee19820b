"""Every page of a restored database, and every entry of its indexes, looked at by pg_amcheck."""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from reconciler.postgres import client
from reconciler.postgres.child import Child
from reconciler.postgres.complaints import kind_of, shown
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.dump import Manners
from reconciler.postgres.failures import first_error
from reconciler.postgres.flow import Watch, read_blocks
from reconciler.postgres.session import Session, unlimited
from reconciler.world.evidence import Fault

WHERE: Final = "pg_amcheck"
MOST_FAULTS: Final = 20
"""A disk that goes bad spoils every page; nobody reads more of it."""
SCHEMA: LiteralString = """
SELECT n.nspname, string_agg(d.objid::regprocedure::text, ', ')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass
WHERE e.extname = 'amcheck' GROUP BY 1
"""
"""Where the extension lies, and its functions as SQL names them."""
_CHECKED: Final = re.compile(r'((?:heap table|btree index) )"[^."]+\.(.*)"(.*):')
"""The line over each complaint: what was checked (with its database, which is ours), and the spot."""


def refusal(admin: Session, tools: client.Client, owner: str) -> str:
    """Make the extension, and let the owner use it; why that can't be, where the program or the extension is not there."""
    if not os.access(tools.folder / "pg_amcheck", os.X_OK):
        return f"no pg_amcheck of version {tools.version} is in {tools.folder}"
    try:
        if not admin.execute(SCHEMA).fetchall():  # else what is verified has it, and it was made with its other extensions
            admin.execute("CREATE SCHEMA reconciler_amcheck")
            admin.execute("CREATE EXTENSION amcheck WITH SCHEMA reconciler_amcheck")
        schema, functions = admin.execute(SCHEMA).fetchall()[0]
        to = sql.Identifier(owner)
        admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), to))
        admin.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(functions), to))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return f"the scratch server can't have the extension amcheck: {shown(error.diag.message_primary or '')}"
    return ""


def damages(tools: client.Client, owner: Conninfo, manners: Manners, *, name: str, major: int) -> tuple[Fault, ...]:
    """Heap and index pages, and that every index finds every row: run by the owner, since indexes call functions.

    `major` is the server's. What is damaged has failed; what could not be looked at is unproven, with the reason.
    """
    # Its own options name databases by patterns: how to get there is said by variables.
    argv = [str(tools.folder / "pg_amcheck"), "--no-password", "--heapallindexed", owner.database]
    child = Child(argv, environment=owner.for_environment(name, unlimited(major)))
    watch = Watch(manners.clock, manners.stop, None, "checking pages")
    try:
        said = b"".join(read_blocks(child.stream, watch)).decode("utf-8", "replace")
        code = child.finish(watch.check)
    finally:
        child.end()
    found = tuple(_told(said))
    if code not in (0, 2):
        why = shown(first_error(child.complaints)) or "it said nothing"
        found += (Fault(where=WHERE, what=f"could not look (exit code {code}): {why}", result="unproven"),)
    elif code and not found:
        found = (Fault(where=WHERE, what=f"exit code {code}, without a word that we know", result="failed"),)
    return _first(found)


def _first(found: Sequence[Fault]) -> tuple[Fault, ...]:
    """The worst come first."""
    ordered = sorted(found, key=lambda fault: fault.result != "failed")
    shown_ones, rest = ordered[:MOST_FAULTS], ordered[MOST_FAULTS:]
    return (*shown_ones, *(Fault(where=WHERE, what=f"and {len(rest)} more", result=one.result) for one in rest[:1]))


def _told(said: str) -> Iterator[Fault]:
    """One for each thing that it complains of. It exits alike for damage and for a query that could not be run."""
    checked = ""
    for line in said.splitlines():
        if header := _CHECKED.fullmatch(line):
            checked = "".join(header.groups())
        elif checked and line.strip():
            yield _fault(checked, line.strip())
            checked = ""  # what follows is its detail


def _fault(checked: str, line: str) -> Fault:
    error = line.removeprefix("ERROR:").strip()
    if error != line and kind_of(error) in ("no room", "forbidden"):
        return Fault(where=WHERE, what=f"{checked} could not be looked at: {shown(error)}", result="unproven")
    return Fault(where=WHERE, what=f"{checked}: {shown(error)}", result="failed")
