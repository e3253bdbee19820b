"""A dump into a folder: handed over while it is written, bounded, and never a file that is not whole."""

import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import cast

import pytest

from reconciler.backups import directory
from reconciler.backups.manifest import StoredObject, encode
from reconciler.errors import Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.postgres.environment import child_environment
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.staged import READY_BYTES, Staged, StagedFile, check_room
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Dump, DumpFile, DumpOptions
from reconciler.world.process import SystemProcess
from reconciler.world.staging import FolderStaging
from tests.postgres.odd_schema import odd_database
from tests.postgres.processes import comes_true, command_lines, is_stopped, sessions_end
from tests.servers.postgres import BINARIES, Server

Open = Callable[[str], PostgresSource]
MIB = 1 << 20
BIG = "CREATE TABLE {name} AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, {rows}) n"
KILL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'reconciler/directory' AND query LIKE 'COPY%'"""
LOBS = "SELECT lo_from_bytea(0, convert_to(repeat('lo' || n, 3000), 'UTF8')) FROM generate_series(1, 20) n"


class Taking:
    """Whoever takes files: each read by one of a few threads, kept in a folder of its own."""

    def __init__(self, folder: Path, jobs: int, read: Callable[[DumpFile], Iterator[bytes]] | None = None) -> None:
        self.folder, self.pool, self.futures, self.lock = folder, ThreadPoolExecutor(jobs), list[Future[None]](), Lock()
        self.read = read or (lambda file: file.chunks())
        folder.mkdir()

    def take(self, file: DumpFile) -> None:
        self.futures.append(self.pool.submit(self._keep, file))

    def _keep(self, file: DumpFile) -> None:
        with (self.folder / file.name).open("wb") as kept:
            for chunk in self.read(file):
                kept.write(chunk)

    def check(self) -> None:
        for future in self.futures:
            if future.done():
                future.result()


def dump(source: PostgresSource, taking: Taking, folder: Path, *, jobs: int = 2, most: int = 64 * MIB) -> None:
    folder.mkdir()
    with source.dump("directory", expect=None, options=DumpOptions(jobs=jobs)) as opened:
        opened.into_folder(folder, most=most, take=taking.take, check=taking.check)
    for future in taking.futures:
        future.result()


def restored(server: Server, folder: Path) -> str:
    copy = server.new_database()
    server.run("pg_restore", "--exit-on-error", "--jobs=2", str(folder), database=copy)
    return copy


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_of_it(postgres: Server, open_source: Open, tmp_path: Path, jobs: int) -> None:
    """What was taken is a directory archive: it restores, and nothing is left in the folder."""
    database = odd_database(postgres)
    postgres.execute(f"{LOBS}; {BIG.format(name='big', rows=60000)}; CREATE TABLE empty (v int)", database)
    taking = Taking(tmp_path / "taken", jobs)

    dump(open_source(postgres.url(database)), taking, tmp_path / "staging", jobs=jobs)

    copy = restored(postgres, tmp_path / "taken")
    assert postgres.schema_text(database) == postgres.schema_text(copy)
    assert [] == list((tmp_path / "staging" / "archive").iterdir())
    assert sessions_end(postgres, "reconciler/directory")


def test_it_is_one_snapshot(postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """What is committed once the dump has begun is in none of its files, whichever session writes them."""
    tables = "; ".join(BIG.format(name=f"t{number}", rows=2000) for number in range(6))
    database = postgres18.new_database(tables)
    (tmp_path / "staging").mkdir()
    taking = Taking(tmp_path / "taken", 2)
    with open_source(postgres18.url(database)).dump("directory", expect=None, options=DumpOptions(jobs=2)) as opened:
        postgres18.execute("; ".join(f"DELETE FROM t{number}" for number in range(6)), database)
        opened.into_folder(tmp_path / "staging", most=64 * MIB, take=taking.take, check=taking.check)

    copy = restored(postgres18, tmp_path / "taken")
    assert [(2000,)] * 6 == [postgres18.execute(f"SELECT count(*) FROM t{number}", copy)[0] for number in range(6)]


def stored_of(dump: Dump, folder: Path) -> tuple[StoredObject, ...]:
    """As a backup's writer does it, on a target that keeps nothing."""

    def put(name: str, chunks: Iterable[bytes], _: object) -> StoredObject:
        size = sum(map(len, chunks))
        return StoredObject(name=f"dump/{name}.zst", content="data", stored_bytes=size, sha256="", raw_bytes=size, parts=())

    room = directory.Room(jobs=2, most=64 * MIB)
    return directory.store_folder(dump, room, FolderStaging(folder, SystemProcess()), put, lambda _: None)


def test_in_another_encoding(postgres: Server, open_source: Open, tmp_path: Path) -> None:
    """Names in the bytes of the database's own encoding: all of them are stored, and told as they are."""
    database = postgres.new_database(options="TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    postgres.execute('CREATE SCHEMA "Größe"; CREATE TABLE "Größe"."Maß" AS SELECT 1 AS v', database)

    with open_source(postgres.url(database)).dump("directory", expect=None, options=DumpOptions(jobs=2)) as opened:
        stored = stored_of(opened, tmp_path)

    assert ["Größe.Maß"] == [one.table for one in stored if one.table]
    assert b"table" in encode(stored[0])


class Losing:
    """A dump of which one file goes by unseen."""

    def __init__(self, dump: Dump, lost: str) -> None:
        self.dump, self.lost = dump, lost

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        """All but that."""
        self.dump.into_folder(folder, most=most, take=lambda file: self._take(file, take), check=check)

    def _take(self, file: DumpFile, take: Callable[[DumpFile], None]) -> None:
        if re.fullmatch(self.lost, file.name) is None:
            take(file)
        else:
            list(file.chunks())


@pytest.mark.parametrize("lost", [r"\d+\.dat", r"blob_\d+\.dat", r"blobs.*\.toc", r"toc\.dat"])
def test_a_file_that_never_came(postgres: Server, open_source: Open, tmp_path: Path, lost: str) -> None:
    """What the lists of the archive name must have been stored: else there is no backup, however well pg_dump ended."""
    database = postgres.new_database(f"CREATE TABLE t AS SELECT 1 AS v; {LOBS}")

    with open_source(postgres.url(database)).dump("directory", expect=None, options=DumpOptions(jobs=2)) as opened:
        losing = cast(Dump, Losing(opened, lost))
        with pytest.raises(Corrupt, match="table of contents"):
            stored_of(losing, tmp_path)


@pytest.mark.parametrize("what", ["; ".join(f"CREATE TABLE t{number} ()" for number in range(9)), LOBS])
def test_more_files_than_a_manifest_names(
    postgres18: Server, open_source: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It is refused as soon as it is seen, with what would help, and nothing stays."""
    monkeypatch.setattr(directory, "MOST_FILES", 8)
    source = open_source(postgres18.url(postgres18.new_database(what)))

    with (
        source.dump("directory", expect=None, options=DumpOptions(jobs=2)) as opened,
        pytest.raises(Refused, match="more than 8 tables and large objects"),
    ):
        stored_of(opened, tmp_path)

    assert [] == list(tmp_path.iterdir())
    assert sessions_end(postgres18, "reconciler/directory")


def held_by(file: Path) -> int:
    """Bytes of the disk; none of a file that is gone by now."""
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def test_staging_is_bounded(postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """A table many times as large as the bound passes through, read slowly: what was read is given back while it is written."""
    database = postgres18.new_database(BIG.format(name="big", rows=250_000))
    seen: list[int] = []

    def slowly(file: DumpFile) -> Iterator[bytes]:
        for chunk in file.chunks():
            yield chunk
            seen.append(sum(map(held_by, (tmp_path / "staging" / "archive").glob("*"))))
            Event().wait(0.005)

    taking = Taking(tmp_path / "taken", 2, slowly)
    dump(open_source(postgres18.url(database)), taking, tmp_path / "staging", most=32 * MIB)

    assert sum(file.stat().st_size for file in (tmp_path / "taken").iterdir()) > 200 * MIB
    assert max(seen) < 120 * MIB
    assert [(250_000,)] == postgres18.execute("SELECT count(*) FROM big", restored(postgres18, tmp_path / "taken"))


def test_whoever_takes_a_file_fails(postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """The dump ends with that error, at once, and no session or process is left; nor does another reader wait for ever."""
    database = postgres18.new_database("; ".join(BIG.format(name=f"t{number}", rows=60_000) for number in range(3)))

    def broken(file: DumpFile) -> Iterator[bytes]:
        yield next(iter(file.chunks()))
        raise Unreachable("the target went away")

    taking = Taking(tmp_path / "taken", 2, broken)
    with pytest.raises(Unreachable, match="the target went away"):
        dump(open_source(postgres18.url(database)), taking, tmp_path / "staging", most=32 * MIB)

    taking.pool.shutdown(wait=True)
    assert sessions_end(postgres18, "reconciler/directory")


def test_pg_dump_fails(postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """A file that ends where its writer died may pass for whole, and yet nothing comes of it: the dump has failed."""
    database = postgres18.new_database(BIG.format(name="big", rows=200_000))
    killed = Event()

    def killing(file: DumpFile) -> Iterator[bytes]:
        for chunk in file.chunks():
            yield chunk
            # The first file is the table of contents, and no row has been copied by then.
            if not killed.is_set() and postgres18.execute(KILL):
                killed.set()

    taking = Taking(tmp_path / "taken", 2, killing)
    with pytest.raises(ReconcilerError):
        dump(open_source(postgres18.url(database)), taking, tmp_path / "staging", most=32 * MIB)

    taking.pool.shutdown(wait=True)
    assert killed.is_set()


def test_asked_to_stop_while_held_back(postgres18: Server, open_source: Open, tmp_path: Path, stop: Event) -> None:
    """A pg_dump that is stopped (SIGSTOP) for want of room is ended all the same."""
    database = postgres18.new_database(BIG.format(name="big", rows=150_000))

    def stuck(file: DumpFile) -> Iterator[bytes]:
        chunks = file.chunks()
        yield next(chunks)
        comes_true(stop.is_set)

    taking = Taking(tmp_path / "taken", 2, stuck)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(_stop_when, lambda: _is_held(tmp_path), stop)
        with pytest.raises(Stopped):
            dump(open_source(postgres18.url(database)), taking, tmp_path / "staging", most=16 * MIB)
        assert asked.result()

    taking.pool.shutdown(wait=True)
    assert sessions_end(postgres18, "reconciler/directory")


def _stop_when(look: Callable[[], bool], stop: Event) -> bool:
    found = comes_true(look)
    stop.set()
    return found


def _is_held(folder: Path) -> bool:
    """Whether a process that writes there is stopped."""
    archive = str(folder / "staging" / "archive")
    return any(is_stopped(pid) for pid, line in command_lines().items() if archive in line)


def test_a_folder_without_room(tmp_path: Path) -> None:
    """It is refused before anything is begun, with what would help."""
    with pytest.raises(Refused, match=r"MiB free, and dumps\.staging\.most allows"):
        check_room(tmp_path, 1 << 60)


class Writers:
    """A group of processes, as pg_dump's are: a leader, and one that writes each file what it is given."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = folder
        self._leader = subprocess.Popen(["/bin/sleep", "60"], process_group=0)
        self.group = self._leader.pid
        self._writers = {name: self._writer(folder / name) for name in names}

    def _writer(self, path: Path) -> "subprocess.Popen[bytes]":
        with path.open("wb") as file:
            return subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=file, bufsize=0, process_group=self.group)

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._leader.kill()
        self._leader.wait(timeout=60)

    def write(self, name: str, size: int) -> None:
        path, pipe = self._folder / name, self._writers[name].stdin
        assert pipe is not None
        whole = path.stat().st_size + size
        for start in range(0, size, MIB):
            rest = memoryview(b"x" * min(MIB, size - start))
            while rest:
                rest = rest[pipe.write(rest) :]
        assert comes_true(lambda: path.stat().st_size == whole)

    def end(self) -> None:
        for writer in self._writers.values():
            writer.send_signal(signal.SIGCONT)
            if writer.stdin is not None:
                writer.stdin.close()
            writer.wait(timeout=60)

    def is_stopped(self, name: str) -> bool:
        return is_stopped(self._writers[name].pid)

    def come_to_be(self, stopped: dict[str, bool]) -> bool:
        return comes_true(lambda: stopped == {name: self.is_stopped(name) for name in stopped})


def handed_over(staged: Staged, name: str) -> StagedFile:
    found: list[StagedFile] = []

    def look() -> bool:
        found.extend(file for file in staged.look() if file.name == name)
        return bool(found)

    assert comes_true(look)
    return found[0]


class TestStaged:
    """The folder alone, written to by a shell in the part of pg_dump."""

    @pytest.fixture
    def staged(self, tmp_path: Path) -> Staged:
        return Staged(tmp_path, most=32 * MIB, clock=SystemClock(), group=2**22 - 1)

    def test_a_file_that_is_still_open(self, staged: Staged, tmp_path: Path) -> None:
        """It is not whole, however long nothing is written to it; once it is closed, it is."""
        with (tmp_path / "1.dat").open("wb") as file:
            assert [] == staged.look()
            file.write(b"x" * 100)
            file.flush()
            assert [] == staged.look()
            assert [] == staged.look()
        (ready,) = staged.look()

        assert ("1.dat", [b"x" * 100]) == (ready.name, list(ready.chunks()))
        assert [] == list(tmp_path.iterdir())
        assert staged.is_empty()

    def test_a_large_file_is_read_while_it_grows(self, staged: Staged, tmp_path: Path) -> None:
        """Its reader gets what is there, waits for the rest, and ends where the file ends."""
        with (tmp_path / "1.dat").open("wb", buffering=0) as file, ThreadPoolExecutor() as pool:
            file.write(b"x" * (READY_BYTES + 1))
            (ready,) = staged.look()
            reading = pool.submit(lambda: sum(map(len, ready.chunks())))
            assert comes_true(lambda: ready.read_bytes == READY_BYTES + 1)
            file.write(b"y" * 5)
            assert not reading.done()
            file.close()
            assert [] == staged.look()

            assert READY_BYTES + 6 == reading.result(timeout=60)

    def test_it_is_held_back_while_that_helps(self, tmp_path: Path) -> None:
        """Too much is unread: whoever writes that waits. Whoever writes what a reader waits for goes on: nobody else has it."""
        with Writers(tmp_path, "1.dat", "2.dat") as writers, ThreadPoolExecutor() as pool:
            staged = Staged(tmp_path, most=32 * MIB, clock=SystemClock(), group=writers.group)
            writers.write("1.dat", READY_BYTES + 1)
            growing = handed_over(staged, "1.dat")
            reading = pool.submit(lambda: sum(map(len, growing.chunks())))
            assert comes_true(lambda: growing.read_bytes == READY_BYTES + 1)

            writers.write("2.dat", 40 * MIB)
            other = handed_over(staged, "2.dat")
            staged.look()
            assert staged.is_held
            assert writers.come_to_be({"1.dat": False, "2.dat": True})

            writers.write("1.dat", 3)
            assert comes_true(lambda: bool(staged.look() or growing.read_bytes == READY_BYTES + 4))
            staged.look()  # the last one may have come while those three were unread, and held their writer back
            assert writers.come_to_be({"1.dat": False, "2.dat": True})

            chunks = other.chunks()
            next(chunks)
            staged.look()
            assert writers.come_to_be({"2.dat": True})
            # It waits for the rest by now, and most of it is read.
            second = pool.submit(lambda: sum(map(len, chunks)))
            assert comes_true(lambda: bool(staged.look()) or not staged.is_held)
            assert writers.come_to_be({"1.dat": False, "2.dat": False})

            writers.end()
            assert comes_true(lambda: bool(staged.look()) or staged.is_empty())
            assert (READY_BYTES + 4, 39 * MIB) == (reading.result(timeout=60), second.result(timeout=60))

    def test_who_has_begun_nothing_is_not_waited_for(self, tmp_path: Path) -> None:
        """All that is unread waits for a reader: both writers are stopped, and both go on when one of the files is read."""
        with Writers(tmp_path, "1.dat", "2.dat") as writers:
            staged = Staged(tmp_path, most=32 * MIB, clock=SystemClock(), group=writers.group)
            writers.write("1.dat", 17 * MIB)
            handed_over(staged, "1.dat")
            writers.write("2.dat", 17 * MIB)
            other = handed_over(staged, "2.dat")
            staged.look()
            assert writers.come_to_be({"1.dat": True, "2.dat": True})

            chunks = other.chunks()
            assert 17 * MIB == sum(len(next(chunks)) for _ in range(17))
            staged.look()
            assert writers.come_to_be({"1.dat": True, "2.dat": False})
            staged.let_go()

    def test_many_files_come_and_go_while_it_looks(self, staged: Staged, tmp_path: Path) -> None:
        """Readers end their files whenever they like; all are handed over once."""
        names = {f"{number}.dat" for number in range(400)}
        found: list[str] = []
        with ThreadPoolExecutor(4) as pool:
            for name in names:
                (tmp_path / name).write_bytes(b"x")
                for file in staged.look():
                    found.append(file.name)
                    pool.submit(lambda file=file: list(file.chunks()))  # type: ignore[misc]  # mypy can't infer a default
        found += [file.name for file in staged.rest()]

        assert sorted(names) == sorted(found)
        assert staged.is_empty()

    def test_a_folder_that_is_gone(self, staged: Staged, tmp_path: Path) -> None:
        """What can't be read is an error that says where, and no end of the file."""
        (tmp_path / "1.dat").write_bytes(b"x")
        (ready,) = staged.look()
        (tmp_path / "1.dat").unlink()

        with pytest.raises(Refused, match="cannot read what pg_dump writes on this machine: No such file"):
            list(ready.chunks())

    def test_what_is_read_and_gone_does_not_come_again(self, staged: Staged, tmp_path: Path) -> None:
        """Nothing is handed over twice."""
        (tmp_path / "1.dat").write_bytes(b"x")
        (ready,) = staged.look()
        assert [] == staged.look()
        list(ready.chunks())

        assert [] == staged.look()
        assert [] == staged.rest()


def test_the_archive_by_hand(postgres18: Server, open_source: Open, tmp_path: Path) -> None:
    """pg_restore lists what was taken."""
    database = postgres18.new_database("CREATE TABLE t AS SELECT 1 AS v")
    taking = Taking(tmp_path / "taken", 2)
    dump(open_source(postgres18.url(database)), taking, tmp_path / "staging")

    argv = [str(BINARIES[18] / "pg_restore"), "--list", str(tmp_path / "taken")]
    listed = subprocess.run(argv, env=child_environment(None), capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA public t" in listed
