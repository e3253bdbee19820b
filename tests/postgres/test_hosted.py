"""What a host keeps for itself in a database: named in the dump's facts, and left out of every restore."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest

from reconciler.backups.manifest import restore_by_hand
from reconciler.postgres.client import find, for_dump
from reconciler.postgres.contents import listing
from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.spool import Spool
from tests.postgres.taking import Taken, put, take
from tests.servers.postgres import BINARIES, Server

Open = Callable[[str], PostgresSource]
GRANTS = """
ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin IN SCHEMA public GRANT ALL ON SEQUENCES TO neon_superuser WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE cloud_administrator GRANT SELECT ON TABLES TO PUBLIC;
CREATE TABLE guests AS SELECT 1 AS id;
"""
"""As Neon has them; and another role's, which is nobody's host."""
ENTRIES = (
    "DEFAULT ACL public DEFAULT PRIVILEGES FOR SEQUENCES cloud_admin",
    "DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES cloud_admin",
)
OTHERS = "DEFAULT ACL - DEFAULT PRIVILEGES FOR TABLES cloud_administrator"
ROLES = "DROP ROLE IF EXISTS cloud_admin; DROP ROLE IF EXISTS neon_superuser; DROP ROLE IF EXISTS cloud_administrator"


@pytest.fixture
def hosted(postgres18: Server, open_source: Open) -> Iterator[Taken]:
    """A dump whose host is gone, with all of its roles but the one that owns nothing of it."""
    postgres18.execute("CREATE ROLE cloud_admin SUPERUSER; CREATE ROLE neon_superuser; CREATE ROLE cloud_administrator")
    name = postgres18.new_database(GRANTS)
    taken = take(open_source(postgres18.url(name)))
    postgres18.execute(f"DROP DATABASE {name}")
    postgres18.execute(ROLES)
    yield taken
    postgres18.execute(ROLES)


@pytest.fixture
def target(postgres18: Server) -> Iterator[str]:
    """An empty database of nobody in particular."""
    name = postgres18.new_database(options="TEMPLATE template0")
    yield name
    postgres18.execute(f"DROP DATABASE {name}")


def grants(server: Server, database: str) -> list[tuple[object, ...]]:
    """Of what is made later, by whom."""
    return server.execute("SELECT pg_get_userbyid(defaclrole)::text FROM pg_default_acl", database)


def test_they_are_named(hosted: Taken, manners: Manners) -> None:
    """Just as the archive's table of contents has them; another role's are not the host's."""
    listed, _ = listing(for_dump(find("pg_restore", None), 18), hosted.chunks, manners)

    assert ENTRIES == hosted.facts.hosted
    assert {*ENTRIES, OTHERS} == {f"{entry.kind} {entry.rest}" for entry in listed.entries if entry.kind == "DEFAULT ACL"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_they_are_left_out_of_a_restore(hosted: Taken, postgres18: Server, target: str, manners: Manners, jobs: int) -> None:
    """Named too; and no superuser comes to be who was the host's."""
    folder = Path(tempfile.gettempdir())
    spool = Spool(jobs=jobs, folder=folder, raw_bytes=sum(map(len, hosted.chunks)), cure="") if jobs > 1 else None

    restored = put(postgres18.url(target), hosted, manners, by_jobs=spool)

    assert 3 == sum("Neon's own role" in says for says in restored.left_out)
    assert "cloud_admin" not in restored.roles_created
    assert [("cloud_administrator",)] == grants(postgres18, target)
    assert [(1,)] == postgres18.execute("SELECT id FROM guests", target)


@pytest.mark.skipif(which("zstd") is None, reason="zstd is not on this machine; `apt install zstd`")
def test_the_line_that_a_manifest_has_for_it(hosted: Taken, postgres18: Server, target: str, tmp_path: Path) -> None:
    """Run as it stands, with the real programs."""
    subprocess.run(["zstd", "-q", "-o", "dump.zst"], input=b"".join(hosted.chunks), cwd=tmp_path, check=True)  # noqa: S607
    postgres18.execute("CREATE ROLE cloud_administrator")
    line = restore_by_hand(encrypted=False, hosted=hosted.facts.hosted).replace("DATABASE", f"'{postgres18.url(target)}'")

    environment = {**os.environ, "PATH": f"{BINARIES[18]}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=environment, check=True)  # noqa: S607

    assert [("cloud_administrator",)] == grants(postgres18, target)
    assert [(1,)] == postgres18.execute("SELECT id FROM guests", target)
