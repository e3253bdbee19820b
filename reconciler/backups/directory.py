"""A directory archive as a backup: each of pg_dump's files an object of its own, stored while others are still written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import msgspec

from reconciler.backups.archive import Entry
from reconciler.backups.layout import FOLDER, ZSTD
from reconciler.backups.manifest import StoredObject
from reconciler.backups.pipeline import Packing, Progress
from reconciler.backups.toc import TOC, files_of, is_list, read_toc
from reconciler.errors import Corrupt, Refused
from reconciler.world.ports import Dump, DumpFile, Staging

MOST_FILES = 30_000
"""Of all together: each takes about 500 bytes of a manifest, which may have 16 MiB."""
STREAMS = 4
"""Files that are packed and stored at a time, however many sessions write them: each holds a part of 8 MiB,
what zstd looks back at, and what waits for age."""
Put = Callable[[str, Iterable[bytes], Progress], StoredObject]
"""Stores one file of it under the name that it has in the folder."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions write files, and how much may lie on this machine's disk."""

    jobs: int
    most: int

    @property
    def streams(self) -> int:
        """How many files are stored at a time."""
        return min(self.jobs, STREAMS)


def packing_of_each(packing: Packing, streams: int) -> Packing:
    """The streams share the threads of zstd, and are threads themselves: one with more of its own beside it holds more."""
    if streams == 1:
        return packing
    return msgspec.structs.replace(packing, threads=max(1, packing.threads // streams))


def store_folder(dump: Dump, room: Room, staging: Staging, put: Put, moved: Progress) -> tuple[StoredObject, ...]:
    """All files of the dump, by name; the rows of which table each of them holds is told with it.

    Raises what dump and target raise, whichever is first; by then nothing of it is under way any more.
    """
    counted = Counted(moved)
    kept: dict[str, list[bytes]] = {}
    failed: list[BaseException] = []
    futures: list[Future[StoredObject]] = []
    pool = ThreadPoolExecutor(room.streams, thread_name_prefix="file")

    def store(file: DumpFile) -> StoredObject:
        try:
            # The lists of what there is, and of the large objects: their few bytes say what must have come.
            chunks = _remembered(file.chunks(), kept.setdefault(file.name, [])) if is_list(file.name) else file.chunks()
            stored = put(file.name, chunks, counted.part())
            # The table of contents comes first, and a dump may take hours.
            _refuse_too_many(sum(1 for entry in read_toc(b"".join(kept[TOC])) if entry.file) if file.name == TOC else 0)
        except BaseException as error:
            failed.append(error)
            raise
        return stored

    def take(file: DumpFile) -> None:
        futures.append(pool.submit(store, file))
        _refuse_too_many(len(futures))

    def check() -> None:
        if failed:
            raise failed[0]

    try:
        with staging.folder() as folder:
            dump.into_folder(folder, most=room.most, take=take, check=check)
            stored = [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    entries = read_toc(b"".join(kept.get(TOC, [])))
    missing = sorted({*files_of(entries, lambda name: b"".join(kept.get(name, [])))} - {file_of(one.name) for one in stored})
    if missing:
        raise Corrupt(
            f"pg_dump ended well, but its file {missing[0]} never came, which its table of contents names",
            cure="see whether anybody else removes files from the folder that dumps.staging.path names",
        )
    return tuple(sorted(with_tables(stored, entries), key=lambda one: one.name))


def _refuse_too_many(files: int) -> None:
    if files > MOST_FILES:
        what = f"the database has more than {MOST_FILES} tables and large objects, each of which is a file of format directory"
        raise Refused(what, cure="take dumps.format: custom")


class Counted:
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


def with_tables(stored: Iterable[StoredObject], entries: Sequence[Entry]) -> Iterator[StoredObject]:
    """Each with the table whose rows it holds. For what is not encrypted: beside a secret, no table's name is told."""
    tables = {entry.file: f"{entry.schema}.{entry.name}" for entry in entries if entry.kind == "TABLE DATA" and entry.file}
    for one in stored:
        yield one if one.is_encrypted else msgspec.structs.replace(one, table=tables.get(file_of(one.name)))


def file_of(name: str) -> str:
    """The name in the folder of what is stored under that one."""
    return name.removeprefix(FOLDER).partition(ZSTD)[0]
