"""Directory archives from the policy to the restored database: taken, copied, listed, fetched, restored, swept."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.end_to_end.conftest import Stand
from tests.postgres.processes import comes_true
from tests.servers.postgres import BINARIES

FORMAT = "dumps:\n      format: directory\n      jobs: 2\n      staging: {path: ./staging, most: 32MiB}"


@pytest.fixture
def directory(stand: Stand) -> Stand:
    stand.rewrite("dumps:", FORMAT)
    return stand


def test_taken_copied_and_listed(directory: Stand) -> None:
    """A file a table, each its own object on both targets, told with its table; nothing is left on this machine."""
    directory.run("apply", "--yes")

    (backup,) = directory.backups()
    manifest = directory.json("backups", "show", backup["id"])
    names = {stored["name"]: stored for stored in manifest["objects"]}
    assert manifest["archive"] == "directory"
    assert "dump/toc.dat.zst" in names
    assert "hotel.guests" in {stored.get("table") for stored in names.values()}
    every, files = directory.keys(), [name for name in names if name.startswith("dump/")]
    assert 2 * len(files) == sum(f"/{backup['id']}/dump/" in key for key in every)
    assert [] == list((directory.folder / "staging").iterdir())
    assert [] == directory.leftovers()


def test_fetched_and_restored_by_pg_restore(directory: Stand) -> None:
    """`fetch` gives one file that plain pg_restore reads, whatever the format."""
    directory.run("apply", "--yes")
    (backup,) = directory.backups()

    directory.run("backups", "fetch", backup["id"], "--output", "archive")

    url = _empty(directory, "fetched")
    argv = [str(BINARIES[18] / "pg_restore"), "--no-owner", f"--dbname={url}", "archive"]
    subprocess.run(argv, cwd=directory.folder, check=False, capture_output=True)
    assert _count(directory, "hotel", "guests") == _count(directory, "fetched", "guests") > 0


def _count(stand: Stand, database: str, table: str) -> int:
    with stand.connect(database) as session:
        return int(session.execute(f"SELECT count(*) FROM hotel.{table}").fetchall()[0][0])


def _empty(stand: Stand, name: str) -> str:
    with stand.connect() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return stand.admin_url.rpartition("/")[0] + f"/{name}"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("", "one session restores it, all or nothing; --jobs N is faster"),
        ("--jobs 1", ""),
        ("--jobs 2", ""),
        ("--jobs 2 --spool staging", ""),
        ("--spool staging", "sessions restore it, once all of it lies in"),
    ],
)
def test_restored(directory: Stand, how: str, says: str) -> None:
    """In one transaction from a stream; by several sessions as the files come, or from a folder that is gone afterwards.

    What is picked is told where it was not said.
    """
    directory.run("apply", "--yes")
    (backup,) = directory.backups()

    ran = directory.run("backups", "restore", backup["id"], "--into", _empty(directory, "restored"), *how.split())

    assert says in ran.stderr
    assert bool(says) == ("session" in ran.stderr)
    for table in ("guests", "rooms", "reservations"):
        assert _count(directory, "hotel", table) == _count(directory, "restored", table) > 0
    assert [] == list((directory.folder / "staging").iterdir())


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_one_table(directory: Stand, jobs: str) -> None:
    """With its rows, and nothing of the others."""
    directory.run("apply", "--yes")
    (backup,) = directory.backups()
    into = _empty(directory, "one")

    # As the archive has it, or as the policy writes one.
    table = {"1": "hotel.guests", "2": '"hotel"."guests"'}[jobs]
    words = ("--table", table, "--from", "primary", "--jobs", jobs)
    ran = directory.run("backups", "restore", backup["id"], "--into", into, *words)

    assert "restored" in ran.stdout
    assert [] == list((directory.folder / "staging").iterdir())
    assert _count(directory, "hotel", "guests") == _count(directory, "one", "guests") > 0
    with directory.connect("one") as session:
        found = session.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'hotel'::regnamespace"
        ).fetchall()
    assert [("guests",)] == found


def test_one_table_of_a_database_with_an_extension(directory: Stand) -> None:
    """What the table does without need not be there, and the database that it goes into stays what it is."""
    with directory.connect("hotel") as session:
        session.execute("ALTER DATABASE hotel SET work_mem = '7MB'")
        session.execute("ALTER DATABASE hotel CONNECTION LIMIT 50")
    directory.run("apply", "--yes")
    (backup,) = directory.backups()
    into = _empty(directory, "without_it")
    # No server here lacks an extension that another one has: it is the manifest that tells of one more.
    for manifest in (directory.folder / "disk").rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace('"hstore"', '"not_here"'))

    words = ("backups", "restore", backup["id"], "--from", "disk", "--into", into)
    whole = directory.run(*words, expect=1)
    directory.run(*words, "--table", "hotel.guests")

    assert "not_here" in whole.stderr
    assert _count(directory, "hotel", "guests") == _count(directory, "without_it", "guests") > 0
    with directory.connect("without_it") as session:
        found = session.execute(
            "SELECT datconnlimit, (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d "
            "WHERE datname = current_database()"
        ).fetchall()
    assert [(-1, 0)] == found


@pytest.mark.parametrize("level", ["hash", "toc", "restore"])
def test_verified(directory: Stand, level: str) -> None:
    """As any other backup."""
    directory.run("apply", "--yes")
    (backup,) = directory.backups()

    ran = directory.run("backups", "verify", backup["id"], "--level", level, "--target", "primary")

    assert "passed" in ran.stdout


def test_an_orphan_is_adopted(directory: Stand) -> None:
    """Its manifest lost, it is read and made a backup again; with a file lost too, it is not. Somebody's notes are left out."""
    directory.rewrite("targets: [primary, disk]", "targets: [disk]")
    directory.run("apply", "--yes")
    (backup,) = directory.backups()
    folder = next((directory.folder / "disk").rglob("manifest.json")).parent
    (folder / "manifest.json").unlink()
    file = next(path for path in (folder / "dump").iterdir() if path.name[0].isdigit())
    kept = file.read_bytes()

    file.unlink()
    refused = directory.run("backups", "adopt", backup["id"], expect=1)
    file.write_bytes(kept)
    stray = file.with_name(f"9999{file.name[file.name.index('.') :]}")
    stray.write_bytes(kept)
    strange = directory.run("backups", "adopt", backup["id"], expect=1)
    stray.unlink()
    file.with_name("notes.txt").write_text("somebody's own")
    directory.run("backups", "adopt", backup["id"])

    assert "has a file 9999.dat, which its table of contents does not name" in strange.stdout + strange.stderr
    assert "which its table of contents names" in refused.stdout + refused.stderr
    assert ["imported"] == [each["kind"] for each in directory.backups()]
    assert "hotel.guests" in {stored["table"] for stored in directory.json("backups", "show", backup["id"])["objects"]}
    directory.run("backups", "restore", backup["id"], "--into", _empty(directory, "adopted"))
    assert _count(directory, "hotel", "guests") == _count(directory, "adopted", "guests") > 0


def test_an_encrypted_orphan_is_adopted(directory: Stand) -> None:
    """With the key; no table is named beside it."""
    recipient = directory.run("keys", "new", "--age", "--out", "key.txt").stdout.strip()
    directory.rewrite("encryption: none", f"encryption: {{age_recipients: [{recipient}], age_identity: {{file: key.txt}}}}")
    directory.rewrite("targets: [primary, disk]", "targets: [disk]")
    directory.run("apply", "--yes")
    (backup,) = directory.backups()
    next((directory.folder / "disk").rglob("manifest.json")).unlink()

    directory.run("backups", "adopt", backup["id"])

    assert {None} == {stored["table"] for stored in directory.json("backups", "show", backup["id"])["objects"]}
    into = _empty(directory, "adopted_with_key")
    directory.run("backups", "restore", backup["id"], "--into", into, "--table", "hotel.guests")
    assert _count(directory, "hotel", "guests") == _count(directory, "adopted_with_key", "guests") > 0


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not on this machine; `apt install zstd`")
def test_restored_by_hand(directory: Stand) -> None:
    """The very line that the manifest prints, with the real programs, on the files as they lie on the disk."""
    directory.run("apply", "--yes")
    (backup,) = directory.backups()
    folder = next((directory.folder / "disk").rglob("manifest.json")).parent
    manifest = directory.json("backups", "show", backup["id"])
    line = manifest["restore_by_hand"].replace("DATABASE", f"'{_empty(directory, 'by_hand')}'")
    path = f"{BINARIES[18]}:{os.environ['PATH']}"

    subprocess.run(["/bin/bash", "-c", line], cwd=folder, check=True, env={**os.environ, "PATH": path}, capture_output=True)

    assert _count(directory, "hotel", "guests") == _count(directory, "by_hand", "guests") > 0


@pytest.mark.skipif(None in map(shutil.which, ("age", "zstd")), reason="not on this machine: `apt install age zstd`")
def test_an_encrypted_one_by_hand(directory: Stand) -> None:
    """Each file is encrypted by itself and tells no table's name; the line that the manifest prints needs nothing of ours."""
    recipient = directory.run("keys", "new", "--age", "--out", "key.txt").stdout.strip()
    directory.rewrite("encryption: none", f"encryption: {{age_recipients: [{recipient}]}}")
    directory.run("apply", "--yes")
    folder = next((directory.folder / "disk").rglob("manifest.json")).parent
    manifest = directory.json("backups", "show", directory.backups()[0]["id"])
    into = _empty(directory, "opened_by_hand")
    line = manifest["restore_by_hand"].replace("DATABASE", f"'{into}'").replace("KEY_FILE", str(directory.folder / "key.txt"))
    path = f"{BINARIES[18]}:{os.environ['PATH']}"

    subprocess.run(["/bin/bash", "-c", line], cwd=folder, check=True, env={**os.environ, "PATH": path}, capture_output=True)

    assert {".age"} == {stored["name"][-4:] for stored in manifest["objects"]}
    assert {None} == {stored["table"] for stored in manifest["objects"]}
    assert _count(directory, "hotel", "guests") == _count(directory, "opened_by_hand", "guests") > 0


def test_what_only_a_restore_knows(directory: Stand) -> None:
    """One table can't be fetched into a file: that is said, and not passed over."""
    ran = directory.run("backups", "fetch", "2025", "--output", "archive", "--table", "hotel.guests", expect=1)

    assert "--table is for `backups restore`" in ran.stderr


def test_killed_while_it_dumps(directory: Stand) -> None:
    """What a kill -9 leaves on this machine is gone with the next turn, and the slot is taken then."""
    with directory.connect() as holder:
        holder.execute("BEGIN; LOCK TABLE hotel.reservations IN ACCESS EXCLUSIVE MODE")
        running = directory.begin("apply", "--yes")
        assert comes_true(lambda: any((directory.folder / "staging").glob("reconciler-*/archive")))
        os.kill(running.pid, signal.SIGKILL)
        running.communicate(timeout=60)
    left = list((directory.folder / "staging").iterdir())
    assert len(left) == 1

    directory.run("apply", "--yes")

    assert [] == list((directory.folder / "staging").iterdir())
    assert 1 == len(directory.backups())
