"""The official command line, from npm, against the sandbox."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.postgres.environment import child_environment
from tests.servers.neon import NeonServer
from tests.servers.npm import program

VERSION = "2.27.0"
Neonctl = Callable[..., Any]


@pytest.fixture
def neonctl(neon: NeonServer, tmp_path: Path) -> Neonctl:
    """Run it; what it says, as data where it can."""

    def run(*words: str, project: bool = True) -> Any:
        argv = [*program("neonctl", VERSION, "neonctl"), "--api-host", neon.api_host, "--no-analytics", *words]
        argv += ["--project-id", neon.project_id] if project else []
        environment = {**child_environment(None), "PATH": os.environ["PATH"], "HOME": str(tmp_path), "NEON_API_KEY": neon.api_key}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "json" in words else done.stdout.strip()

    return run


@pytest.fixture
def made(neon: NeonServer, neonctl: Neonctl) -> Iterator[str]:
    """A branch by its hand."""
    branch = neonctl("branches", "create", "--name", "by the official hand", "-o", "json")["branch"]["id"]
    neon.wait()
    yield str(branch)
    neon.discard(branch)


def test_knows_the_account_and_the_project(neon: NeonServer, neonctl: Neonctl) -> None:
    """Who am I, what is here."""
    me = neonctl("me", "-o", "json", project=False)
    listed = neonctl("projects", "list", "--org-id", "org-quiet-hotel-00000000", "-o", "json", project=False)
    operations = neonctl("operations", "list", "-o", "json")
    told = {each["id"] for each in neon.get("/operations", limit="1000")["operations"]}

    assert "sandbox" == me["login"]
    assert [neon.project_id] == [project["id"] for project in listed]
    assert operations
    assert {operation["id"] for operation in operations} <= told


def clock(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    """The database's, in the only form that it takes: to the millisecond, and what came before lies before it all the same."""
    form = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
    connection.execute("select pg_sleep(0.01)")
    (text,) = connection.execute("select to_char(clock_timestamp() at time zone 'utc', %s)", [form]).fetchone() or ("",)
    connection.execute("select pg_sleep(0.01)")
    return str(text)


def test_branches_as_its_manual_says(neon: NeonServer, neonctl: Neonctl, made: str) -> None:
    """Got, restored, renamed, deleted."""
    with neon.connect(made) as connection:
        connection.execute("create table rows as select 1 as number")
        at = clock(connection)
        connection.execute("insert into rows values (2)")

    got = neonctl("branches", "get", "by the official hand", "-o", "json")
    neonctl("branches", "restore", "by the official hand", f"^self@{at}", "--preserve-under-name", "kept")
    neon.wait()
    neonctl("branches", "rename", "kept", "kept indeed")

    assert made == got["id"]
    assert [(1,)] == neon.rows("select number from rows", made)
    (old,) = neon.get("/branches", search="kept indeed")["branches"]
    neonctl("branches", "delete", "kept indeed")
    neon.wait()
    assert 404 == neon.send("GET", f"/branches/{old['id']}").status_code


def test_connection_string_leads_in(neonctl: Neonctl, made: str) -> None:
    """To the branch, and at an instant to its past, in one."""
    login = ("--role-name", "hotel_owner", "--database-name", "hotel", "--ssl", "omit")

    with psycopg.connect(neonctl("connection-string", "by the official hand", *login), autocommit=True) as connection:
        connection.execute("create table news ()")
        at = clock(connection)
        connection.execute("drop table news")
    with psycopg.connect(neonctl("connection-string", f"by the official hand@{at}", *login)) as past:
        assert [] == past.execute("select from news").fetchall()
        assert (True,) == past.execute("select pg_is_in_recovery()").fetchone()
