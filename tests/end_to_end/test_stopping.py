"""Ctrl-C and SIGTERM in the middle of everything that takes long: it ends within seconds, and leaves nothing half done."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from tests.end_to_end.conftest import Stand
from tests.faults.proxy import FaultProxy, Stall
from tests.postgres.processes import comes_true
from tests.servers.scratch import left_in, running_in, scratch_base

__all__ = ["scratch_base"]

SCHEMA = """
CREATE TABLE noise AS SELECT i, sha512(random()::text::bytea) AS v FROM generate_series(1, 200000) i;
CREATE FUNCTION slow(v int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(coalesce(nullif(current_setting('test.pause', true), ''), '120')::float); RETURN v; END $$;
SET test.pause = '0';
CREATE TABLE tired (v int CHECK (slow(v) = v));
INSERT INTO tired VALUES (1);
"""
"""Some MiB that no compression makes smaller, and a table that is filled slowly where nobody says otherwise."""
WITHIN_SECONDS = 30
"""Of the whole end, on a busy machine: what it waits for, a sleep or a network that stands still, would take minutes."""
SLOWLY = "dumps:\n      limits: {rate: 512KiB/s}"
DIRECTORY = "\n      format: directory\n      jobs: 2\n      staging: {path: ./staging, most: 32MiB}"

both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """A stand with a source of its own, and an empty database beside it."""

    stand: Stand
    source: str
    empty: str

    @property
    def urls(self) -> dict[str, str]:
        base = self.stand.admin_url.rpartition("/")[0]
        return {"SOURCE_URL": f"{base}/{self.source}", "INTO": f"{base}/{self.empty}"}

    def run(self, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        return self.stand.run(*words, expect=expect, **self.urls)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        return self.stand.begin(*words, "--log-format", "json", **self.urls)

    def whole_on(self) -> list[list[str]]:
        """Of each backup, which targets have it."""
        return [one["targets"] for one in self.listed() if one["state"] == "whole"]

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("backups", "list", "--format", "json").stdout)["backups"]
        return found

    def keys(self, holding: str) -> list[str]:
        """Of all objects on both targets."""
        found = self.stand.keys()
        return [key for key in found if holding in key]

    def uploads(self) -> int:
        """That were begun and not finished."""
        begun = self.stand.s3().list_multipart_uploads(Bucket=self.stand.status.s3.bucket).get("Uploads", [])
        return sum(upload["Key"].startswith(self.stand.prefix) for upload in begun)

    def sessions(self, like: str = "reconciler/%", *, where: str = "true") -> int:
        """Of ours in the two databases."""
        with psycopg.connect(self.stand.admin_url, autocommit=True) as admin:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY(%s) AND application_name LIKE %s AND " + where
            return int(admin.execute(query.encode(), ([self.source, self.empty], like)).fetchall()[0][0])

    def tables(self) -> int:
        """In the empty database."""
        with psycopg.connect(self.urls["INTO"], autocommit=True) as admin:
            return int(admin.execute("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384").fetchall()[0][0])


@pytest.fixture
def own(stand: Stand) -> Iterator[Own]:
    made = Own(stand=stand, source=f"source_{token_hex(4)}", empty=f"empty_{token_hex(4)}")
    with psycopg.connect(stand.admin_url, autocommit=True) as admin:
        for name in (made.source, made.empty):
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        with psycopg.connect(made.urls["SOURCE_URL"], autocommit=True) as source:
            source.execute(SCHEMA)
        yield made
    finally:
        with psycopg.connect(stand.admin_url, autocommit=True) as admin:
            for name in (made.source, made.empty):
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def until(running: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """Read the log until that event comes."""
    assert running.stderr is not None
    lines = []
    for line in running.stderr:
        lines.append(line)
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"no {event}: {''.join(lines)}")


def stopped(running: "subprocess.Popen[str]", number: signal.Signals) -> str:
    """What it says while it ends."""
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=WITHIN_SECONDS)
    assert running.returncode == 1, stdout + stderr
    assert "Traceback" not in stderr
    assert "stop" in stdout + stderr
    return stdout + stderr


@both
def test_a_dump(own: Own, number: signal.Signals) -> None:
    """Meanwhile the log said how it goes on. No debris is left, and the slot is taken by the next run."""
    own.stand.rewrite("[primary, disk]", "[disk, primary]")
    own.stand.rewrite("dumps:", SLOWLY)
    running = own.begin("apply", "--yes")
    progress = until(running, "progress")
    stopped(running, number)

    assert progress["bytes"] > 0
    assert "public.noise" == progress["at_hand"]
    assert [] == own.whole_on()
    assert [] == own.stand.leftovers()
    assert comes_true(lambda: own.sessions() == 0)
    own.stand.rewrite(SLOWLY, "dumps:")
    own.run("apply", "--yes")
    assert [["disk", "primary"]] == own.whole_on()


@both
@pytest.mark.parametrize("first", ["disk", "primary"])
def test_a_dump_of_the_directory_format(own: Own, number: signal.Signals, first: str) -> None:
    """Several sessions read, several files are under way, and some lie on this machine: nothing of all that is left."""
    own.stand.rewrite("[primary, disk]", f"[{first}]")
    own.stand.rewrite("dumps:", SLOWLY + DIRECTORY)
    running = own.begin("apply", "--yes")
    progress = until(running, "progress")
    stopped(running, number)

    assert progress["bytes"] > 0
    assert [] == own.whole_on()
    assert [] == own.stand.leftovers()
    assert [] == list((own.stand.folder / "staging").iterdir())
    assert comes_true(lambda: own.sessions() == 0)
    own.stand.rewrite(SLOWLY, "dumps:")
    own.run("apply", "--yes")
    assert [[first]] == own.whole_on()


@both
def test_an_upload_in_parts(own: Own, number: signal.Signals) -> None:
    """It is aborted."""
    own.stand.rewrite("dumps:", SLOWLY)
    running = own.begin("apply", "--yes")
    assert comes_true(lambda: own.uploads() == 1, seconds=60)
    stopped(running, number)

    assert 0 == own.uploads()
    assert [] == own.stand.leftovers()
    assert comes_true(lambda: own.sessions() == 0)


@both
@pytest.mark.parametrize(("first", "second"), [("primary", "disk"), ("disk", "primary")])
def test_a_copy(own: Own, number: signal.Signals, first: str, second: str) -> None:
    """The original stays, nothing of the copy does, and the next run makes it."""
    own.stand.rewrite("[primary, disk]", f"[{first}]")
    own.run("apply", "--yes")
    own.stand.rewrite(f"[{first}]", f"[{first}, {second}]")
    own.stand.rewrite("dumps:", SLOWLY)
    running = own.begin("apply", "--yes")
    until(running, "began")
    assert comes_true(lambda: own.keys("/intent.json") != [])
    stopped(running, number)

    assert [[first]] == own.whole_on()
    assert [] == own.stand.leftovers()
    own.stand.rewrite(SLOWLY, "dumps:")
    own.run("apply", "--yes")
    assert [["disk", "primary"]] == own.whole_on()


@both
def test_a_rehearsal(own: Own, scratch_base: Path, number: signal.Signals) -> None:
    """No server, no folder, no pin, and no word for or against the backup."""
    own.stand.rewrite("databases:\n", f"scratch: {{type: embedded, folder: {scratch_base}}}\ndatabases:\n")
    own.run("apply", "--yes")
    running = own.begin("backups", "verify", "--target", "disk")
    assert comes_true(lambda: any("COPY" in one for one in running_in(scratch_base)), seconds=60)
    stopped(running, number)

    assert comes_true(lambda: running_in(scratch_base) == [])
    assert [] == left_in(scratch_base)
    assert [] == own.keys("/pins/")
    assert [] == own.keys("/evidence/")


@both
def test_reading_from_a_network_that_stands_still(own: Own, number: signal.Signals) -> None:
    """Nobody waits for the rest of an answer: what stays is what a death leaves, and the next one clears it away."""
    own.run("apply", "--yes")
    with FaultProxy("127.0.0.1", own.stand.s3_port, http=True) as proxy:
        place = own.stand.policy.read_text()
        own.stand.through(f"http://127.0.0.1:{proxy.port}")
        proxy.on("GET", r"dump\.zst", Stall(after=100_000, side="down"))
        running = own.begin("backups", "verify", "--level", "hash", "--target", "primary")
        assert comes_true(lambda: any("dump.zst" in path for verb, path in proxy.seen if verb == "GET"), seconds=60)
        stopped(running, number)
    own.stand.policy.write_text(place)

    assert [] == own.keys("/evidence/")
    own.run("backups", "verify", "--level", "hash", "--target", "primary")
    own.run("apply", "--yes")
    assert [] == own.keys("/pins/")


@both
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_restore(own: Own, number: signal.Signals, jobs: str, tmp_path: Path) -> None:
    """Nothing of the archive stays, unless several jobs restored it; no session goes on in the database in either case."""
    own.run("apply", "--yes")
    backup = own.listed()[0]["id"]
    spool = tmp_path / "spool"
    spool.mkdir()
    several = ("--jobs", jobs, "--spool", str(spool)) if jobs != "1" else ()
    running = own.begin("backups", "restore", backup, "--into", "${INTO}", *several)
    assert comes_true(lambda: own.sessions("reconciler/restore", where="wait_event = 'PgSleep'") == 1, seconds=60)
    said = stopped(running, number)

    assert comes_true(lambda: own.sessions() == 0)
    assert 0 == own.tables() or jobs == "2"
    assert [] == own.keys("/pins/")
    assert [] == list(spool.iterdir())
    assert jobs == "1" or "part of it was restored: drop" in said
    assert ("the next run clears away" in said) == (jobs == "1")
