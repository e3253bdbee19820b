"""Restoring by several jobs from FIFOs, which are filled while pg_restore reads them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from threading import Event

import pytest

from reconciler.backups.toc import read_toc
from reconciler.errors import Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.postgres.dump import Manners
from reconciler.postgres.flow import Watch
from reconciler.postgres.opener import Opener
from reconciler.postgres.piped import LIKELY, Pipes
from reconciler.postgres.restore import Part
from reconciler.postgres.source import PostgresSource
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import children, comes_true, command, is_running, sessions_end
from tests.postgres.taking import Taken, put, take
from tests.servers.postgres import BINARIES, Server

Open = Callable[[str], PostgresSource]
PIECE = 1 << 16
TABLES = "; ".join(
    f"CREATE TABLE t{number} AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, 20000) i; CREATE INDEX ON t{number} (i)"
    for number in range(3)
)
MANY = "; ".join(f"CREATE TABLE t{number} AS SELECT {number} AS v" for number in range(4 * LIKELY))
ALL_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
LARGE_OBJECTS = "SELECT lo_from_bytea(0, convert_to(repeat('lo' || n, 30000), 'UTF8')) FROM generate_series(1, 9) n"


class Folder:
    """A directory archive that lies on the disk. `before` is called with a file's name and with each piece before it is read."""

    def __init__(self, folder: Path, before: Callable[[str, int], None] = lambda _name, _number: None) -> None:
        self.folder, self.before = folder, before
        self.names = sorted(path.name for path in folder.iterdir() if path.name != "toc.dat")
        self.read_to_its_end: list[str] = []

    def toc(self) -> bytes:
        return (self.folder / "toc.dat").read_bytes()

    def raw_bytes(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def read(self, name: str) -> Iterator[bytes]:
        data = (self.folder / name).read_bytes()
        for number, start in enumerate(range(0, len(data), PIECE)):
            self.before(name, number)
            yield data[start : start + PIECE]
        self.before(name, -1)
        self.read_to_its_end.append(name)


class Case:
    """A database, its directory archive, and an empty database beside it."""

    def __init__(self, server: Server, open_source: Open, base: Path, database: str) -> None:
        self.server, self.database, self.copy = server, database, server.new_database(options="TEMPLATE template0")
        self.archive, self.pipes = base / "archive", base / "pipes"
        self.pipes.mkdir()
        server.run("pg_dump", "--format=directory", "--compress=0", f"--file={self.archive}", database=database)
        self._taken = take(open_source(server.url(database)))

    def put(self, files: Folder, manners: Manners, *, jobs: int = 2, part: Part | None = None) -> None:
        pipes = Pipes(jobs=jobs, files=files, folder=self.pipes, cure="name a folder")
        taken = Taken([], self._taken.facts, self._taken.globals)
        put(self.server.url(self.copy), taken, manners, by_jobs=pipes, part=part)

    def copying(self) -> int:
        """How many sessions are loading rows."""
        where = f"datname = '{self.copy}' AND query LIKE 'COPY%' AND state = 'active'"
        return int(self.server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {where}")[0][0])

    def indexes(self) -> int:
        """How many there are; each is made once the rows are loaded, for all that pg_restore knows."""
        return int(self.server.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'", self.copy)[0][0])

    def rows(self, table: str) -> int:
        """0 where it is not there."""
        found = self.server.execute(f"SELECT to_regclass('{table}') IS NOT NULL", self.copy)
        return int(self.server.execute(f"SELECT count(*) FROM {table}", self.copy)[0][0]) if found == [(True,)] else 0


@pytest.fixture
def case(postgres18: Server, open_source: Open, tmp_path: Path) -> Case:
    return Case(postgres18, open_source, tmp_path, postgres18.new_database(TABLES))


def of_data(files: Folder) -> list[str]:
    return [name for name in files.names if not name.endswith(".toc")]


@pytest.mark.parametrize("jobs", [2, 5])
def test_a_database_with_everything_comes_back(
    postgres: Server, open_source: Open, manners: Manners, tmp_path: Path, jobs: int
) -> None:
    """Of several tables, of none, of large objects: all of it, and nothing is left in the folder."""
    original = odd_database(postgres)
    postgres.execute(f"{LARGE_OBJECTS}; {TABLES}; CREATE TABLE empty (v int)", original)
    case = Case(postgres, open_source, tmp_path, original)
    files = Folder(case.archive)

    case.put(files, manners, jobs=jobs)

    assert postgres.schema_text(original) == postgres.schema_text(case.copy)
    sums = "SELECT count(*), sum(hashtext(lo_get(oid)::text)) FROM pg_largeobject_metadata"
    assert postgres.execute(sums, original) == postgres.execute(sums, case.copy)
    assert [20000] * 3 == [case.rows(f"t{number}") for number in range(3)]
    assert set(files.names) == set(files.read_to_its_end)
    assert [] == list(case.pipes.iterdir())


def test_the_largest_table_comes_first(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """Of tables that were made in another order; what is left last is small."""
    sizes = (2000, 50, 9000, 400, 100_000)
    tables = [f"CREATE TABLE t{rows} AS SELECT i, repeat('x', 100) AS x FROM generate_series(1, {rows}) i" for rows in sizes]
    case = Case(postgres, open_source, tmp_path, postgres.new_database("; ".join(tables)))
    begun: list[int] = []
    files = Folder(case.archive, lambda name, number: begun.append(files.raw_bytes(name)) if number == 0 else None)

    # By one session: of several, each begins when it is scheduled.
    case.put(files, manners, jobs=1)

    assert max(begun) == begun[0]
    assert [*sizes] == [case.rows(f"t{rows}") for rows in sizes]


def test_a_part_of_it(postgres18: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """Named by the numbers that its entries have in the archive, whatever they are called on the way."""
    tables = [f"CREATE TABLE t{rows} AS SELECT i FROM generate_series(1, {rows}) i" for rows in (10, 200, 3000)]
    case = Case(postgres18, open_source, tmp_path, postgres18.new_database("; ".join(tables)))
    files = Folder(case.archive)
    chosen = [entry for entry in read_toc(files.toc()) if entry.name == "t10"]
    files.names = [entry.file for entry in chosen if entry.file]

    case.put(files, manners, part=Part(entries=[entry.number for entry in chosen], extensions=()))

    assert ([("t10",)], 10) == (postgres18.execute(ALL_TABLES, case.copy), case.rows("t10"))


def test_files_that_are_opened_in_another_order(postgres: Server, open_source: Open, manners: Manners, tmp_path: Path) -> None:
    """Whichever are opened first, however many there are."""
    case = Case(postgres, open_source, tmp_path, postgres.new_database(MANY))
    files = Folder(case.archive)
    files.names.sort(key=lambda name: name[-5:])

    case.put(files, manners)

    assert list(range(4 * LIKELY)) == [
        postgres.execute(f"SELECT v FROM t{number}", case.copy)[0][0] for number in range(4 * LIKELY)
    ]


@pytest.mark.parametrize("piece", [0, 1, -1])
def test_what_is_not_sound(case: Case, manners: Manners, piece: int) -> None:
    """At the beginning, in the middle, or known at the very end: the table stays empty; a short one never is taken for whole."""
    bad = of_data(Folder(case.archive))[1]

    def before(name: str, number: int) -> None:
        if (name, number) == (bad, piece):
            raise Corrupt("its last part is not what was written")

    with pytest.raises(Corrupt, match="its last part") as failure:
        case.put(Folder(case.archive, before), manners)
    assert {case.rows(f"t{number}") for number in range(3)} <= {0, 20000}
    assert 0 in {case.rows(f"t{number}") for number in range(3)}
    assert failure.value.left_a_part
    assert "part of it was restored: drop" in failure.value.cure
    assert [] == list(case.pipes.iterdir())
    assert sessions_end(case.server, "reconciler/restore")


def test_a_target_that_is_lost(case: Case, manners: Manners) -> None:
    """As what is not sound."""

    def before(_name: str, number: int) -> None:
        if number == 3:
            raise Unreachable("the store is gone")

    with pytest.raises(Unreachable, match="the store is gone"):
        case.put(Folder(case.archive, before), manners)
    assert {0} == {case.rows(f"t{number}") for number in range(3)}


def test_a_session_that_is_ended(case: Case, manners: Manners) -> None:
    """What the server says is told, and nobody waits."""

    def before(_name: str, number: int) -> None:
        if number == 3:
            case.server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()"
            )

    with pytest.raises(ReconcilerError) as failure:
        case.put(Folder(case.archive, before), manners)
    assert "part of it was restored: drop" in failure.value.cure
    assert [] == list(case.pipes.iterdir())


def test_what_the_server_refuses(case: Case, manners: Manners) -> None:
    """Rows that are none: said by pg_restore, and so by us."""
    files = Folder(case.archive)
    path = case.archive / of_data(files)[0]
    path.write_bytes(path.read_bytes().replace(b"\txxx", b"xxx", 1))

    with pytest.raises(ReconcilerError, match="invalid input syntax"):
        case.put(files, manners)


def test_stopped(case: Case, manners: Manners, stop: Event) -> None:
    """Between two chunks."""
    with pytest.raises(Stopped):
        case.put(Folder(case.archive, lambda _name, number: stop.set() if number == 3 else None), manners)
    assert {0} == {case.rows(f"t{number}") for number in range(3)}
    assert sessions_end(case.server, "reconciler/restore")


def test_a_guardian_that_dies(case: Case, manners: Manners, stop: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed for want of memory, say: its sessions don't wait for ever for files that nobody opens any more."""
    asked, looks = Opener.first_read, 0

    def first_read(opens: Opener, names: Sequence[str], watch: Watch) -> tuple[int, int] | None:
        nonlocal looks
        if not looks and case.copying() < 2:
            return None
        if not looks:
            (guardian,) = (child for child in children() if b"--jobs=2" in command(child))
            os.kill(guardian, signal.SIGKILL)
            comes_true(lambda: not is_running(guardian))
        looks += 1
        if looks > 500:
            stop.set()
        return asked(opens, names, watch)

    monkeypatch.setattr(Opener, "first_read", first_read)

    with pytest.raises(Unreachable, match="ended by signal 9"):
        case.put(Folder(case.archive), manners)
    assert sessions_end(case.server, "reconciler/restore")
    assert [] == list(case.pipes.iterdir())


def test_a_file_that_nobody_asked_for(case: Case, manners: Manners) -> None:
    """Whoever did not read all has not restored all."""
    (case.archive / "9999.dat").write_bytes(b"1\n\\.\n")

    with pytest.raises(Corrupt, match=r"before it had read 9999\.dat"):
        case.put(Folder(case.archive), manners)


@pytest.mark.parametrize("name", ["../outside.dat", "twice"])
def test_names_that_pg_dump_does_not_write(case: Case, manners: Manners, name: str) -> None:
    """Nothing is made outside of the folder."""
    files = Folder(case.archive)
    files.names += [name, name]

    with pytest.raises(Corrupt, match="pg_dump does not write"):
        case.put(files, manners)
    assert {0} == {case.rows(f"t{number}") for number in range(3)}


def test_no_such_folder(case: Case, manners: Manners) -> None:
    """A sentence, and what to do, before anything is restored."""
    case.pipes.rmdir()
    case.pipes.write_text("a file")

    with pytest.raises(Refused, match="cannot make a folder") as refusal:
        case.put(Folder(case.archive), manners)
    assert refusal.value.cure == "name a folder"


KILLED = """
    import os, signal, sys
    from datetime import timedelta
    from pathlib import Path
    from threading import Event
    from reconciler.postgres import piped
    from reconciler.postgres.child import Child
    from reconciler.postgres.dump import Manners
    from reconciler.world.clock import SystemClock
    from tests.postgres.test_piped import Folder

    archive, pipes, program, url, instant = sys.argv[1:]

    def is_stopped(pid):
        states = (task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat"))
        return all(state == "T" for state in states)

    def die(*_):
        os.write(1, b"%d\\n" % child.group)  # in one piece, whoever else does the same
        os.kill(child.group, signal.SIGKILL if instant.endswith("both") else signal.SIGSTOP)
        # One of its threads stops first, and another one could see our death before it does.
        while not instant.endswith("both") and not is_stopped(child.group):
            Event().wait(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    def before(name, number):
        if instant.startswith("filling") and number == 3:
            die()

    if instant == "opened":
        piped._Hold.keep = die
    files = Folder(Path(archive), before)
    how = piped.Pipes(jobs=2, files=files, folder=Path(pipes), cure="")
    manners = Manners(clock=SystemClock(), stop=Event(), patience=timedelta(seconds=60))
    with piped.piped(how, files.toc(), manners, "trying") as folder:
        argv = [program, "--exit-on-error", "--jobs=2", f"--dbname={url}", str(folder.path)]
        child = Child(argv, environment=dict(os.environ), keeps=folder.keeps, opener=folder.opener)
        child.finish(folder.look, look_seconds=piped.LOOK_SECONDS)
"""


def restore_and_die(case: Case, folder: Path, instant: str) -> "subprocess.CompletedProcess[str]":
    script = folder / "killed.py"
    script.write_text(dedent(KILLED))
    program = str(BINARIES[case.server.major] / "pg_restore")
    argv = [sys.executable, str(script), str(case.archive), str(case.pipes), program, case.server.url(case.copy), instant]
    return subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, check=False, timeout=60, stdout=subprocess.PIPE, text=True
    )


def test_killed_with_its_guardian(case: Case, tmp_path: Path) -> None:
    """Both by `kill -9`: the guardian's second ends the workers, which would wait for ever for files that nobody opens."""
    restore_and_die(case, tmp_path, "filling both")

    assert sessions_end(case.server, "pg_restore")
    assert 0 == case.indexes()


@pytest.mark.parametrize("instant", ["opened", "filling"])
def test_killed(postgres18: Server, open_source: Open, tmp_path: Path, instant: str) -> None:
    """By `kill -9` each FIFO loses us, but no session takes that for the end of its file, however late pg_restore is ended."""
    case = Case(postgres18, open_source, tmp_path, postgres18.new_database(TABLES.partition("; CREATE TABLE t1")[0]))

    ran = restore_and_die(case, tmp_path, instant)
    guardian = int(ran.stdout.split()[0])
    try:
        assert -signal.SIGKILL == ran.returncode
        assert not comes_true(lambda: case.copying() == 0 or case.indexes() > 0, seconds=2)
    finally:
        os.kill(guardian, signal.SIGCONT)

    assert sessions_end(case.server, "pg_restore")
    assert (0, 0) == (case.rows("t0"), case.indexes())
