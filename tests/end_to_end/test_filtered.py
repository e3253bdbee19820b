"""What is left out by name, what is taken of the data, and under whose name it comes back, as a user meets them."""

from collections.abc import Iterator
from secrets import token_hex

import psycopg
import pytest
from psycopg import sql

from tests.end_to_end.conftest import Stand


@pytest.fixture
def filtered(stand: Stand) -> Iterator[Stand]:
    """Without objectives, and leaving out a table that the backup's role may not even read."""
    url = stand.admin_url.rpartition("/")[0] + "/hotel"
    stand.rewrite("    dumps:\n", "    dumps:\n      exclude: [public.scratchpad]\n")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.scratchpad (v int)")
        yield stand
        connection.execute("DROP TABLE public.scratchpad")


def without_objectives(stand: Stand) -> None:
    stand.rewrite("    objectives: {rpo: 26h, disaster: {rpo: 26h}}\n", "")


def test_a_partial_backup_says_so_everywhere(filtered: Stand) -> None:
    """In the plan, the manifest, the list and the status; validate refuses objectives beside it."""
    refused = filtered.run("validate", expect=1)
    without_objectives(filtered)
    filtered.run("validate")
    planned = filtered.run("plan")
    filtered.run("apply", "--yes")
    (backup,) = filtered.backups()
    (status,) = filtered.json("status")["databases"]
    manifest = filtered.json("backups", "show", backup["id"])

    assert "dumps.exclude leaves whole tables out" in refused.stdout
    assert "without public.scratchpad: partial, and no restore point" in planned.stdout
    assert backup["partial"] is True
    assert "scheduled, partial" in filtered.run("backups", "list").stdout
    assert (None, 1) == (status["newest"], status["partial"])
    assert ["public.scratchpad"] == manifest["filters"]["exclude"]


def test_a_partial_orphan_stays_partial(filtered: Stand) -> None:
    """Though its manifest, which said so, is lost: an adopted one must not pass for the whole."""
    without_objectives(filtered)
    filtered.rewrite("targets: [primary, disk]", "targets: [disk]")
    filtered.run("apply", "--yes")
    (backup,) = filtered.backups()
    next((filtered.folder / "disk").rglob("manifest.json")).unlink()
    filtered.run("backups", "adopt", backup["id"])
    (adopted,) = filtered.backups()

    assert ("imported", True) == (adopted["kind"], adopted["partial"])


def test_a_name_that_is_not_there_is_a_fault(stand: Stand) -> None:
    """The dump is refused with the name, the field and the cure, and nothing is left behind."""
    stand.rewrite("      targets: [primary", "      exclude_data: [public.no_such_table]\n      targets: [primary")

    ran = stand.run("apply", "--yes", expect=1)

    assert "dumps.exclude_data names public.no_such_table, which" in ran.stdout + ran.stderr
    assert "remove it from dumps.exclude_data" in ran.stdout + ran.stderr
    assert [] == stand.leftovers()


def test_the_fingerprint_is_told(stand: Stand) -> None:
    """What was covered is in the outcome of the dump and in what `show` says; the object lies beside the dump on each target."""
    stand.rewrite("      targets: [primary", "      fingerprint: checksums\n      targets: [primary")
    applied = stand.run("apply", "--yes")
    (backup,) = stand.backups()
    shown = stand.run("backups", "show", backup["id"])
    stored = stand.keys()

    with psycopg.connect(stand.source_url) as connection:
        query = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
        count = connection.execute(query).fetchall()[0][0]
    assert 0 < count
    assert f"checksums of {count} table" in applied.stdout
    assert f"fingerprint: checksums of {count} table" in shown.stderr
    assert 2 == sum(key.endswith("/fingerprint.json.zst") for key in stored)


def test_another_role_owns_what_is_restored(stand: Stand) -> None:
    """What one role owned and was granted is the other's; a slip is told before anything is done."""
    stand.run("apply", "--yes")
    (backup,) = stand.backups()
    base = stand.admin_url.rpartition("/")[0]
    name = f"mapped_{token_hex(4)}"
    with psycopg.connect(base + "/hotel", autocommit=True) as admin:
        query = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384 LIMIT 1"
        owner = admin.execute(query).fetchall()[0][0]
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    into = ("--into", f"{base}/{name}")
    slip = stand.run("backups", "restore", backup["id"], *into, "--map-role", f"{owner}={name}x", expect=1)
    stand.run("backups", "restore", backup["id"], *into, "--map-role", f"{owner}={name}", "--no-roles", expect=1)
    stand.run("backups", "restore", backup["id"], *into, "--map-role", f"{owner}={name}")
    with psycopg.connect(f"{base}/{name}", autocommit=True) as admin:
        query = "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
        owners = {row[0] for row in admin.execute(query)}
    with psycopg.connect(base + "/hotel", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    assert f"no role {name}x to map {owner} to" in slip.stderr
    assert name in owners
    assert owner not in owners
