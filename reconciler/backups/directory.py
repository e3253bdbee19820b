"""A directory archive as a backup: each of pg_dump's files an object of its own, stored while others are still written."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import msgspec

from reconciler.backups.layout import FOLDER, ZSTD
from reconciler.backups.manifest import StoredObject
from reconciler.backups.pipeline import Packing, Progress
from reconciler.backups.toc import TOC, read_toc
from reconciler.world.ports import Dump, DumpFile, World

Put = Callable[[str, Iterable[bytes], Progress], StoredObject]
"""Stores one file of it under the name that it has in the folder."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How many files are stored at a time, and how much may lie on this machine's disk."""

    jobs: int
    most: int


def packing_of_each(packing: Packing, jobs: int) -> Packing:
    """The cores are shared by so many streams."""
    return msgspec.structs.replace(packing, threads=max(1, (packing.threads or os.cpu_count() or 1) // jobs))


def store_folder(dump: Dump, room: Room, world: World, put: Put, moved: Progress) -> tuple[StoredObject, ...]:
    """All files of the dump, by name; the rows of which table each of them holds is told with it.

    Raises what dump and target raise, whichever is first; by then nothing of it is under way any more.
    """
    counted = _Counted(moved)
    toc: list[bytes] = []
    failed: list[BaseException] = []
    futures: list[Future[StoredObject]] = []
    pool = ThreadPoolExecutor(room.jobs, thread_name_prefix="file")

    def store(file: DumpFile) -> StoredObject:
        try:
            chunks = _remembered(file.chunks(), toc) if file.name == TOC else file.chunks()
            return put(file.name, chunks, counted.part())
        except BaseException as error:
            failed.append(error)
            raise

    def take(file: DumpFile) -> None:
        futures.append(pool.submit(store, file))

    def check() -> None:
        if failed:
            raise failed[0]

    try:
        with world.staging.folder() as folder:
            dump.into_folder(folder, most=room.most, take=take, check=check)
            stored = [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    tables = _tables(b"".join(toc))
    named = [msgspec.structs.replace(one, table=tables.get(file_of(one.name))) for one in stored]
    return tuple(sorted(named, key=lambda one: one.name))


class _Counted:
    """The sum of what passes through all of them."""

    def __init__(self, moved: Progress) -> None:
        self._moved, self._total, self._lock = moved, 0, Lock()

    def part(self) -> Progress:
        """For one stream, which tells its own total."""
        last = 0

        def moved(count: int) -> None:
            nonlocal last
            with self._lock:
                self._total += count - last
                last = count
                self._moved(self._total)

        return moved


def _remembered(chunks: Iterable[bytes], kept: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        kept.append(chunk)
        yield chunk


def _tables(toc: bytes) -> Mapping[str, str]:
    return {entry.file: f"{entry.schema}.{entry.name}" for entry in read_toc(toc) if entry.kind == "TABLE DATA" and entry.file}


def file_of(name: str) -> str:
    """The name in the folder of what is stored under that one."""
    return name.removeprefix(FOLDER).partition(ZSTD)[0]
