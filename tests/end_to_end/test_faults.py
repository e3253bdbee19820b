"""Faults of the source, the store, the disk and the clock: told, harmless, and healed by the next turn."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import Event as StopEvent
from typing import Any

import pytest
from psycopg import sql

from reconciler.connect import KINDS, Means, connect
from reconciler.duties import DUTIES
from reconciler.planning.plan import Consent
from reconciler.policy.loading import read
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.sandbox.patience import wait_for
from reconciler.targets import s3_bucket
from reconciler.turn import turn
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.pool import ThreadPool
from reconciler.world.process import SystemProcess
from tests.end_to_end.conftest import Stand
from tests.end_to_end.test_stopping import SLOWLY
from tests.faults.proxy import Answer, Cut, Drop, Fault, FaultProxy, FromThenOn, Redate, Stall

FOR_EVER = 10_000
BUSY = Answer(status=503, headers=("Retry-After: 3600",))
"""Asks for so much patience that the program leaves it to its next run: nobody waits for the end of trying again."""
PASSWORD = "made-up"


@pytest.fixture
def store(stand: Stand) -> Iterator[FaultProxy]:
    """Before the bucket."""
    with FaultProxy("127.0.0.1", stand.s3_port, http=True) as proxy:
        stand.through(proxy.endpoint)
        yield proxy


@pytest.fixture
def source(stand: Stand) -> Iterator[FaultProxy]:
    """Before PostgreSQL."""
    with FaultProxy("127.0.0.1", int(stand.source_url.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def older(stand: Stand) -> list[dict[str, Any]]:
    """A backup on both targets, from before the trouble; a dump is due all the same."""
    stand.run("backups", "take")
    return stand.backups()


@contextmanager
def new_database(stand: Stand, statement: str) -> Iterator[str]:
    """The url of one that holds what the statement makes; gone in the end."""
    name = f"made_{token_hex(4)}"
    with stand.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        with stand.connect(name) as admin:
            admin.execute(statement.encode())
        yield stand.admin_url.rpartition("/")[0] + f"/{name}"
    finally:
        with stand.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def large(stand: Stand) -> Iterator[str]:
    """A database whose dump is 40 MB, and takes several parts in the store however well it is compressed."""
    with new_database(stand, "CREATE TABLE noise AS SELECT sha512(i::text::bytea) FROM generate_series(1, 300000) i") as url:
        yield url


@pytest.fixture
def role(stand: Stand) -> Iterator[str]:
    """One that may log in with PASSWORD, and has no rights."""
    name = f"role_{token_hex(4)}"
    with stand.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'".encode())
    yield name
    with stand.connect() as admin:
        admin.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def two_tables(stand: Stand, role: str) -> Iterator[str]:
    """The role may read one of them only."""
    tables = f"CREATE TABLE closed AS SELECT 1; CREATE TABLE open AS SELECT 2; GRANT SELECT ON open TO {role}"
    with new_database(stand, tables) as url:
        yield url


def by(proxy: FaultProxy, url: str) -> str:
    """The same database, reached through the proxy."""
    before, _, database = url.rpartition("/")
    return f"{before.rpartition(':')[0]}:{proxy.port}/{database}"


def said(ran: "subprocess.CompletedProcess[str]") -> str:
    return ran.stdout + ran.stderr


def assert_nothing_new(stand: Stand, older: list[dict[str, Any]], **environment: Any) -> None:
    """What was there is as it was, and no torn thing is listed as whole."""
    backups = stand.json("backups", "list", expect=None, **environment)["backups"]
    assert older == [one for one in backups if one["state"] == "whole"]


def assert_heals(stand: Stand, older: list[dict[str, Any]], **environment: Any) -> None:
    """One turn without the fault: the slot has its backup on both targets, nothing is left to do, and nothing left lying."""
    stand.run("apply", "--yes", **environment)
    backups = stand.json("backups", "list", **environment)["backups"]
    assert older == [one for one in backups if one["slot"] is None]
    assert ["whole"] == [one["state"] for one in backups if one["slot"] is not None]
    assert [["disk", "primary"]] * len(backups) == [one["targets"] for one in backups]
    assert "nothing to do" in stand.run("--plan", **environment).stdout
    assert [] == stand.leftovers()


class TestSource:
    def test_a_role_without_rights_on_one_table(self, stand: Stand, two_tables: str, role: str) -> None:
        """Refused before a byte is dumped; the table and the very grant are named, and with that grant all is well."""
        url = f"postgresql://{role}:{PASSWORD}@{two_tables.rpartition('@')[2]}"
        stand.run("backups", "take", SOURCE_URL=two_tables)
        older = stand.json("backups", "list", SOURCE_URL=two_tables)["backups"]
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=url)

        assert f"{role} may not read public.closed" in said(ran)
        assert f"GRANT SELECT ON TABLE public.closed TO {role};" in said(ran)
        assert_nothing_new(stand, older, SOURCE_URL=url)
        with stand.connect(two_tables.rpartition("/")[2]) as admin:
            admin.execute(f"GRANT SELECT ON TABLE public.closed TO {role};".encode())
        assert_heals(stand, older, SOURCE_URL=url)

    def test_the_connection_is_cut_half_way(self, stand: Stand, large: str, source: FaultProxy) -> None:
        """The end of pg_dump's bytes is no end of a dump."""
        source.next_connection(Cut(after=9_000_000, side="down"), times=FOR_EVER)
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=by(source, large))

        assert "✗ take dump" in ran.stdout
        assert_nothing_new(stand, [], SOURCE_URL=large)
        assert [] == stand.leftovers()
        assert_heals(stand, [], SOURCE_URL=large)

    def test_the_server_ends_the_session_half_way(self, stand: Stand, large: str) -> None:
        """As an administrator, the out-of-memory killer or a restart does."""
        # A table is copied for longer than it takes to see that.
        stand.rewrite("dumps:", SLOWLY)
        running = stand.begin("apply", "--yes", SOURCE_URL=large)
        wait_for(lambda: ended(stand, "COPY%"), seconds=60, what="pg_dump to copy a table")
        stdout, _ = running.communicate(timeout=60)
        stand.rewrite(SLOWLY, "dumps:")

        assert 1 == running.returncode
        assert "✗ take dump" in stdout
        assert_nothing_new(stand, [], SOURCE_URL=large)
        assert [] == stand.leftovers()
        assert_heals(stand, [], SOURCE_URL=large)

    def test_postgres_refuses_connections(self, stand: Stand, source: FaultProxy, older: list[dict[str, Any]]) -> None:
        """The slot stays due, what there is stays."""
        source.refuse()
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=by(source, stand.source_url))
        plan = stand.json("plan", SOURCE_URL=by(source, stand.source_url))

        assert "refused" in said(ran)
        assert ["take_dump"] == [step["kind"] for step in plan["plans"][0]["steps"]]
        assert_nothing_new(stand, older)
        assert_heals(stand, older)


def ended(stand: Stand, query: str) -> bool:
    """Whether a session of a dump was at this and is ended now."""
    with stand.connect() as admin:
        rows = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'reconciler/2%%' AND query LIKE %s",
            (query,),
        ).fetchall()
    return bool(rows)


def test_nobody_answers_where_it_is_restored_into(stand: Stand, older: list[dict[str, Any]]) -> None:
    """It is said once, and of no copy; and nobody will try it again by himself."""
    tried = stand.run("backups", "restore", older[0]["id"], "--into", "postgresql://nobody@127.0.0.1:1/new", expect=1)

    assert 1 == tried.stderr.count("cannot connect to postgres 127.0.0.1:1/new")
    assert "primary:" not in tried.stderr
    assert "tried again" not in tried.stderr


class TestStore:
    @pytest.mark.parametrize(
        "fault",
        [Cut(after=3_000_000, side="up"), Answer(status=503), Drop()],
        ids=["cut", "503 once", "answer lost"],
    )
    def test_a_part_meets_trouble(self, stand: Stand, large: str, store: FaultProxy, fault: Fault) -> None:
        """It is sent again, and nobody notices."""
        store.on("PUT", r"partNumber=2\b", fault)
        stand.run("apply", "--yes", SOURCE_URL=large)
        (one,) = stand.json("backups", "list", SOURCE_URL=large)["backups"]

        assert ("whole", ["disk", "primary"]) == (one["state"], one["targets"])
        assert [] == stand.leftovers()

    def test_busy_for_a_while(self, stand: Stand, store: FaultProxy) -> None:
        """Whatever the request, it is asked again until it is answered."""
        for method in ("GET", "PUT"):
            store.on(method, "", Answer(status=503), times=2)
        stand.run("apply", "--yes")

        assert [("whole", ["disk", "primary"])] == [(one["state"], one["targets"]) for one in stand.backups()]
        assert [] == stand.leftovers()

    def test_busy_for_ever(self, stand: Stand, older: list[dict[str, Any]], store: FaultProxy) -> None:
        """The store is named; the dump lands on the disk, and its copy follows once the store is back."""
        store.on("PUT", r"dump\.zst", BUSY, times=FOR_EVER)
        ran = stand.run("apply", "--yes", expect=1)

        assert "primary: cannot write s3://" in said(ran)
        assert "dump.zst: 503; wait" in said(ran)
        found = {one["id"]: (one["state"], one["targets"]) for one in stand.backups()}
        assert ("whole", ["disk", "primary"]) == found.pop(older[0]["id"])
        assert [("whole", ["disk"])] == list(found.values())
        store.forget()
        assert_heals(stand, older)

    def test_no_answer_at_all_for_ever(self, stand: Stand, older: list[dict[str, Any]], store: FaultProxy) -> None:
        """What the bucket holds is unknown; the dump lands on the disk, and its copy follows once the store is back."""
        store.on("GET", "", BUSY, times=FOR_EVER)
        store.on("PUT", "", BUSY, times=FOR_EVER)
        ran = stand.run("apply", "--yes", expect=0)

        assert "primary" in ran.stdout
        assert "✓ take dump → disk" in ran.stdout
        store.forget()
        assert_heals(stand, older)

    @pytest.mark.parametrize("fault", [Drop(), Cut(after=100, side="up")], ids=["answer lost", "cut"])
    def test_the_manifest_meets_trouble(self, stand: Stand, store: FaultProxy, fault: Fault) -> None:
        """Whether it arrived or not: one backup, whole, exit 0."""
        store.on("PUT", r"manifest\.json", fault)
        stand.run("apply", "--yes")

        assert [("whole", ["disk", "primary"])] == [(one["state"], one["targets"]) for one in stand.backups()]
        assert "nothing to do" in stand.run("--plan").stdout
        assert [] == stand.leftovers()

    def test_the_answer_to_the_completion_is_lost(self, stand: Stand, large: str, store: FaultProxy) -> None:
        """The upload is complete and must neither be aborted nor be made again."""
        store.on("POST", r"uploadId=", Drop())
        stand.run("apply", "--yes", SOURCE_URL=large)
        (one,) = stand.json("backups", "list", SOURCE_URL=large)["backups"]

        assert ("whole", ["disk", "primary"]) == (one["state"], one["targets"])
        assert [] == stand.leftovers()

    def test_a_wrong_key(self, stand: Stand, older: list[dict[str, Any]]) -> None:
        """The bucket is unknown, not empty; the cure is named; the dump lands on the disk, and nothing is deleted."""
        good = f"{{file: {stand.box}/s3_secret_access_key}}"
        stand.rewrite(good, '"${S3_SECRET}"')
        wrong: dict[str, Any] = {"S3_SECRET": "no-such-key-0123456789"}
        plan = stand.json("plan", **wrong)["plans"][0]
        stand.run("apply", "--yes", **wrong)
        stand.rewrite('"${S3_SECRET}"', good)

        (finding,) = [one for one in plan["findings"] if "primary" in one["where"]]
        assert "403" in finding["what"]
        assert "secret_access_key" in finding["cure"]
        assert {"disk": 2, "primary": 1} == {
            name: sum(name in one["targets"] for one in stand.backups()) for name in ("disk", "primary")
        }
        assert_heals(stand, older)

    @pytest.mark.parametrize(
        ("status", "code", "cure"),
        [
            (400, "ExpiredToken", "get new credentials: these have expired"),
            (403, "InvalidAccessKeyId", "correct `access_key_id`: the store does not know it"),
            (403, "RequestTimeTooSkewed", "set this machine's clock (NTP): the store's differs too much"),
        ],
    )
    def test_credentials_that_end_half_way(
        self, stand: Stand, large: str, store: FaultProxy, *, status: int, code: str, cure: str
    ) -> None:
        """The dump fails, says what would help, and counts for nothing; its parts go with the next turn, which does the slot."""
        stand.rewrite("targets: [primary, disk]", "targets: [primary]")
        refusal = Answer(status=status, body=f"<Error><Code>{code}</Code></Error>".encode())
        store.on("PUT", r"partNumber=3\b", FromThenOn(answer=refusal))
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=large)

        (failed,) = [line for line in ran.stdout.splitlines() if "✗ take dump" in line]
        assert failed.endswith(f"/dump.zst: {status} {code}; {cure}")
        store.forget()
        assert_nothing_new(stand, [], SOURCE_URL=large)
        assert any("dump.zst" in key for key in stand.leftovers())
        stand.run("apply", "--yes", SOURCE_URL=large)
        (one,) = stand.json("backups", "list", SOURCE_URL=large)["backups"]
        assert ("whole", ["primary"]) == (one["state"], one["targets"])
        assert one["slot"] is not None
        assert [] == stand.leftovers()

    def test_a_missing_bucket(self, stand: Stand) -> None:
        """Nothing is begun while one target is unknown; the bucket is named."""
        stand.rewrite("bucket: hotel-backups", "bucket: hotel-backup")
        plan = stand.run("--plan", "--detailed-exitcode", expect=2)
        applied = stand.run("apply", "--yes", expect=1)
        asked = stand.run("backups", "take", expect=1)
        stand.rewrite("bucket: hotel-backup,", "bucket: hotel-backups,")

        assert "404 NoSuchBucket" in plan.stdout
        assert "make the bucket, or correct `bucket`" in plan.stdout
        assert "cannot begin" in applied.stdout
        assert "a dump is due and can't be begun" in asked.stdout
        assert "nothing to do" not in asked.stdout
        assert_nothing_new(stand, [])
        assert_heals(stand, [])

    def test_a_page_of_a_listing_fails(self, stand: Stand, older: list[dict[str, Any]], store: FaultProxy) -> None:
        """A short listing would look like backups gone: all of it is unknown, and none of it is gone."""
        # In a folder that is listed with the rest and not read.
        crowd = [f"{stand.prefix}/hotel/recoveries/20251025T020000Z-3f9c2a/{number:04d}.json" for number in range(1001)]
        with ThreadPoolExecutor(8) as pool:
            client = stand.s3()
            list(pool.map(lambda key: client.put_object(Bucket=stand.status.s3.bucket, Key=key, Body=b"{}"), crowd))
        store.on("GET", r"continuation-token=", BUSY, times=FOR_EVER)
        plan = stand.run("--plan")
        listed = stand.json("backups", "list")

        assert any("continuation-token" in path for _, path in store.seen)
        assert ["primary"] == [one["target"] for one in listed["unknown"]]
        assert "503" in plan.stdout
        store.forget()
        assert older == stand.backups()

    def test_a_wrong_clock(self, stand: Stand, store: FaultProxy) -> None:
        """The store says that it is another time than we think: who is right is unknown, so nothing is deleted."""
        stand.rewrite("keep_last: 3", "keep_last: 1")
        for _ in range(2):
            stand.run("backups", "take", "--keep", "1s")
        store.on("GET", "", Redate(by=timedelta(minutes=-7, seconds=-30)), times=FOR_EVER)
        (plan,) = stand.json("apply", "--yes", expect=3)["after"]

        assert any("clock" in one["what"] and "7m" in one["what"] for one in plan["findings"])
        assert {"clock"} == {one["by"] for one in plan["blocked"]}
        assert ["whole"] * 3 == [one["state"] for one in stand.backups()]
        store.forget()
        stand.run("apply", "--yes")
        assert ["deleted", "whole", "whole"] == sorted(one["state"] for one in stand.backups())

    def test_a_stalled_socket(self, stand: Stand, store: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing passes and nothing is closed: after the time limit (shortened here) it is asked again."""
        monkeypatch.setattr(s3_bucket, "make_client", partial(s3_bucket.make_client, read_seconds=1))
        store.on("PUT", r"dump\.zst", Stall(after=1000, side="up"))
        store.on("GET", r"list-type=2", Stall(after=10, side="down"))
        turn_here(stand)

        assert [("whole", ["disk", "primary"])] == [(one["state"], one["targets"]) for one in stand.backups()]
        assert [] == stand.leftovers()


def turn_here(stand: Stand) -> None:
    """A turn in this very process, for what no option and no variable sets."""
    policy = read(stand.policy, KINDS)
    want = policy.databases["hotel"]
    means = Means(
        surroundings=Surroundings(base=stand.folder, environ=stand.environment(), redactor=Redactor()),
        clock=SystemClock(),
        process=SystemProcess(),
        pool=ThreadPool(8),
        cache=FileCache(stand.folder / "cache"),
        stop=StopEvent(),
        tell=lambda _: None,
        token=token,
    )
    turn(connect(policy, want, means, writable=True), want, DUTIES, Consent())


@pytest.fixture
def small_disk(stand: Stand) -> Iterator[None]:
    """The local target lies on a file system of 1 MiB."""
    disk = stand.folder / "disk"
    disk.mkdir()
    mounted(disk, "size=1m")
    yield
    subprocess.run(["umount", disk], check=False)  # noqa: S607 - as root has it


@pytest.fixture
def unwritable_disk(stand: Stand) -> Iterator[Callable[[], Any]]:
    """The local target may be read only, until the function is called."""
    disk = stand.folder / "disk"
    disk.mkdir(exist_ok=True)
    disk.chmod(0o555)
    undo: Callable[[], Any] = partial(disk.chmod, 0o755)
    if os.geteuid() == 0:
        # No mode keeps root out.
        mounted(disk, "ro")
        undo = partial(subprocess.call, ["umount", disk])
    yield undo
    undo()


def mounted(folder: Path, options: str) -> None:
    program = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() != 0 or program is None:
        pytest.skip("only root may mount a file system of its own")
    done = subprocess.run([program, "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


class TestDisk:
    @pytest.mark.usefixtures("small_disk")
    def test_a_full_disk(self, stand: Stand, large: str) -> None:
        """The copy fails, says why and leaves nothing; what the store has is whole."""
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=large)
        (one,) = stand.json("backups", "list", SOURCE_URL=large)["backups"]

        assert "No space left" in said(ran)
        assert ("whole", ["primary"]) == (one["state"], one["targets"])
        assert [] == stand.leftovers()

    def test_a_full_disk_before_the_dump_ends(self, stand: Stand, large: str, small_disk: None) -> None:
        """Where it is the dump itself that finds no room, there is no backup, and pg_dump is gone."""
        stand.rewrite("targets: [primary, disk]", "targets: [disk]")
        ran = stand.run("apply", "--yes", expect=1, SOURCE_URL=large)

        assert "No space left" in said(ran)
        assert_nothing_new(stand, [], SOURCE_URL=large)
        assert [] == stand.leftovers()
        wait_for(lambda: not ended(stand, "%"), seconds=60, what="the end of the dump's sessions")

    def test_a_read_only_folder(self, stand: Stand, unwritable_disk: Callable[[], Any]) -> None:
        """It is said which, and the dump is on the other all the same; once it may be written to, the copy follows."""
        ran = stand.run("apply", "--yes", expect=1)
        backups = stand.json("backups", "list")["backups"]

        assert "disk" in said(ran)
        assert [("whole", ["primary"])] == [(one["state"], one["targets"]) for one in backups]
        unwritable_disk()
        assert_heals(stand, [])


def test_two_at_a_time(stand: Stand, older: list[dict[str, Any]]) -> None:
    """One takes the dump; the other says that the lease is taken, or finds nothing to do. There is one backup for the slot."""
    both = [stand.begin("apply", "--yes") for _ in range(2)]
    answers = [(*one.communicate(timeout=60), one.returncode) for one in both]

    assert 0 in [code for _, _, code in answers]
    for stdout, stderr, code in answers:
        assert code == 0 or ("lease" in stderr and code == 1), stdout + stderr
    assert_heals(stand, older)
