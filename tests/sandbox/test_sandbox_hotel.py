"""The hotel holds what a dump may stumble over, and comes back whole."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.status import Status

Sandbox = tuple[Path, Status]

KINDS = {
    "enum type": "select from pg_type where typtype = 'e'",
    "domain": "select from pg_type where typtype = 'd' and typnamespace = 'hotel'::regnamespace",
    "range and multirange column": (
        "select from pg_attribute join pg_type t on t.oid = atttypid having count(*) filter (where typtype in ('r', 'm')) > 3"
    ),
    "composite column": "select from pg_attribute where atttypid = 'hotel.address'::regtype",
    "identity column": "select from pg_attribute where attidentity = 'a'",
    "generated column": "select from pg_attribute where attgenerated = 's'",
    "partitioned table": "select from pg_class where relkind = 'p'",
    "materialized view": "select from pg_class where relkind = 'm' and relispopulated",
    "exclusion constraint": "select from pg_constraint where contype = 'x'",
    "row security, forced too": "select from pg_class where relrowsecurity and relforcerowsecurity",
    "policy": "select from pg_policy",
    "large object": "select from pg_largeobject_metadata",
    "trigger": "select from pg_trigger where not tgisinternal",
    "extension": "select from pg_extension where extname = 'citext'",
    "statistics": "select from pg_statistic_ext",
    "default privileges": "select from pg_default_acl",
    "column grant": "select from pg_attribute where attacl is not null and attrelid = 'hotel.guests'::regclass",
    "odd name": "select from pg_class where relname like '%\"%' and relname like '%\\%%'",
}


@pytest.mark.parametrize("kind", KINDS)
def test_hotel_has(sandbox: Sandbox, kind: str) -> None:
    """Every kind of object that matters to a dump is there."""
    _, stands = sandbox
    assert stands.postgres.admin_url is not None

    with psycopg.connect(stands.postgres.admin_url) as connection:
        found = connection.execute(KINDS[kind].encode()).fetchone()

    assert found is not None


def test_hotel_comes_back_whole(sandbox: Sandbox, tmp_path: Path) -> None:
    """Dumped by the backup role and restored by plain pg_restore, the text of both databases is the same."""
    _, stands = sandbox
    assert stands.postgres.admin_url is not None
    assert stands.postgres.url is not None
    back = stands.postgres.admin_url.removesuffix("hotel") + "back"
    with psycopg.connect(stands.postgres.admin_url, autocommit=True) as connection:
        connection.execute("create database back")

    _run("pg_dump", "-Fc", "--compress=none", f"--file={tmp_path / 'dump'}", "-d", stands.postgres.url)
    _run("pg_restore", "--exit-on-error", "-d", back, str(tmp_path / "dump"))

    original, restored = (_run("pg_dump", "--restrict-key=x", "-d", url) for url in (stands.postgres.admin_url, back))
    assert len(original) > 10_000_000
    assert original == restored


def _run(program: str, *arguments: str) -> str:
    return subprocess.run([str(postgres_binaries() / program), *arguments], capture_output=True, text=True, check=True).stdout
