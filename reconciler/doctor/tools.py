"""Which pg_dump and pg_restore there are, and whether they fit the server. Judging is apart from looking."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from reconciler.doctor.report import Passed, Verdict
from reconciler.errors import Finding, Refused
from reconciler.postgres.client import Client, find, for_dump, for_restore

WHERE = "tools"


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """Client programs that run on this machine."""

    dump: tuple[Client, ...]
    restore: tuple[Client, ...]


def look(explicit: Path | None) -> Tools:
    """Asks each of them for its version; only those of that folder where the policy names one."""
    return Tools(dump=find("pg_dump", explicit), restore=find("pg_restore", explicit))


def judge(tools: Tools, server: int | None) -> list[Verdict]:
    """Against the server's major; None where nobody could tell it."""
    verdicts: list[Verdict] = [_there("pg_dump", tools.dump), _there("pg_restore", tools.restore)]
    if server is None or not tools.dump:
        return verdicts
    try:
        dumps = for_dump(tools.dump, server)
        verdicts.append(_fits(dumps, server))
        if tools.restore:
            restores = for_restore(tools.restore, archive=dumps.major, server=server)
            verdicts.append(Passed(where=WHERE, what=f"pg_restore {restores} reads what pg_dump {dumps.version} writes"))
    except Refused as error:
        verdicts.append(Finding(severity="error", where=WHERE, what=error.what, cure=error.cure))
    return verdicts


def _there(program: str, clients: Sequence[Client]) -> Verdict:
    if clients:
        return Passed(where=WHERE, what=f"{program} {', '.join(sorted({client.version for client in clients}))}")
    what = f"no {program} was found that runs on this machine"
    cure = "install PostgreSQL's clients, e.g. postgresql-client, or name their folder as client_bin"
    return Finding(severity="error", where=WHERE, what=what, cure=cure)


def _fits(client: Client, server: int) -> Verdict:
    if client.major == server:
        return Passed(where=WHERE, what=f"pg_dump {client} is of the server's major, {server}")
    what = f"PostgreSQL {server} is dumped by pg_dump {client}: what a newer one writes may not restore into that very server"
    return Finding(severity="warning", where=WHERE, what=what, cure=f"install postgresql-client-{server} beside it")
