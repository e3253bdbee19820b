"""What a dump holds in memory does not grow with its files: counted, not measured."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import cast

import pytest

from reconciler.backups import pipeline
from reconciler.backups.directory import STREAMS, Room, packing_of_each, store_folder
from reconciler.backups.manifest import StoredObject
from reconciler.backups.pipeline import Packing
from reconciler.errors import Corrupt
from reconciler.sandbox.patience import comes_true
from reconciler.targets.parts import Air
from reconciler.world.ports import Dump, DumpFile
from reconciler.world.process import SystemProcess
from reconciler.world.staging import FolderStaging

MIB = 1 << 20


class Counted:
    """How many are in it at a time; nobody leaves before as many came as are waited for."""

    def __init__(self, waited_for: int) -> None:
        self._waited_for, self._lock, self._inside, self._full = waited_for, Lock(), 0, Event()
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            if self._inside == self._waited_for:
                self._full.set()
        assert self._full.wait(10)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


class File:
    def __init__(self, name: str) -> None:
        self.name = name

    def chunks(self) -> Iterator[bytes]:
        yield b"x"


class ManyFiles:
    """A dump of so many files, all of them there at once."""

    def __init__(self, count: int) -> None:
        self._count = count

    def into_folder(self, folder: Path, *, most: int, take: Callable[[DumpFile], None], check: Callable[[], None]) -> None:
        """Hands them over."""
        for number in range(self._count):
            take(cast(DumpFile, File(f"{number}.dat")))


@pytest.mark.parametrize(("jobs", "at_a_time"), [(1, 1), (2, 2), (4, STREAMS), (64, STREAMS)])
def test_files_at_a_time(tmp_path: Path, jobs: int, at_a_time: int) -> None:
    """However many sessions write them: each that is stored holds a part, zstd's window and what waits for age."""
    counted = Counted(at_a_time)

    def put(name: str, chunks: Iterable[bytes], _: object) -> StoredObject:
        with counted:
            size = sum(map(len, chunks))
        return StoredObject(name=name, content="data", stored_bytes=size, sha256="", raw_bytes=size, parts=())

    with pytest.raises(Corrupt):  # there is no table of contents
        store_folder(
            cast(Dump, ManyFiles(16)),
            Room(jobs=jobs, most=64 * MIB),
            FolderStaging(tmp_path, SystemProcess()),
            put,
            lambda _: None,
        )

    assert at_a_time == counted.most


@pytest.mark.parametrize(("cores", "asked", "expected"), [(1, 0, 0), (2, 0, 2), (64, 0, 4), (64, 1, 0), (2, 16, 16)])
def test_threads_of_zstd(monkeypatch: pytest.MonkeyPatch, cores: int, asked: int, expected: int) -> None:
    """One a core, but each holds memory, and more than a few find nothing to do; who asks for more gets them."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)

    assert expected == pipeline._threads(asked)


@pytest.mark.parametrize(("threads", "streams", "each"), [(0, 1, 0), (0, 2, 1), (0, 4, 1), (8, 2, 4), (8, 4, 2), (1, 4, 1)])
def test_threads_of_zstd_over_all_files(threads: int, streams: int, each: int) -> None:
    """Files share what was asked for; by itself none has a thread beside its own."""
    assert each == packing_of_each(Packing(level=3, threads=threads), streams).threads


def test_parts_on_their_way_over_all_files() -> None:
    """Six parts of 8 MiB, whoever sends them; what waits goes on as soon as one has arrived."""
    air, counted, entered = Air(48 * MIB), Counted(6), list[int]()

    def upload(number: int) -> None:
        for _ in range(3):
            part = bytearray(8 * MIB)
            air.enter(part)
            entered.append(number)
            air.sent(part, lambda: counted.__enter__() or counted.__exit__())  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(upload, range(16)))

    assert (6, 48) == (counted.most, len(entered))


def test_a_part_that_is_larger_than_all_of_it() -> None:
    """It goes alone, also after one that failed."""
    air, part = Air(8 * MIB), bytearray(9 * MIB)

    def lost() -> None:
        raise ConnectionError

    for _ in range(2):
        air.enter(part)
        with pytest.raises(ConnectionError):
            air.sent(part, lost)


def test_a_large_part_among_small_ones() -> None:
    """It has its turn, however many of them there are: it would else wait until all that others write is done."""
    air, large, small = Air(8 * MIB), bytearray(9 * MIB), bytearray(MIB)
    order: list[int] = []

    def send(part: bytearray) -> None:
        air.enter(part)
        order.append(len(part))
        air.sent(part, lambda: None)

    air.enter(small)
    with ThreadPoolExecutor(2) as pool:
        for waiting, part in enumerate((large, small), start=1):
            pool.submit(send, part)
            assert comes_true(lambda waiting=waiting: len(air.waiting) == waiting or bool(order), seconds=60)  # type: ignore[misc]  # mypy can't infer a default
        air.sent(small, lambda: None)

    assert [len(large), len(small)] == order
