"""A directory archive that is restored while it is fetched: a folder whose files are FIFOs, each filled when a session opens it.

A FIFO that is closed early looks like a file that is whole. So the last bytes of each are written once all of it was found
sound; and where anything fails, or we die, none is closed before pg_restore has ended.
"""

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Final

import msgspec

from reconciler.errors import Corrupt
from reconciler.postgres.disk import on_disk
from reconciler.postgres.dump import Manners
from reconciler.postgres.flow import Watch, write_block
from reconciler.postgres.opener import Opener, opener
from reconciler.postgres.spool import NAME, TOC
from reconciler.postgres.wide import widen
from reconciler.world.ports import ArchiveFiles
from reconciler.world.process import SystemProcess
from reconciler.world.staging import FolderStaging

LOOK_SECONDS: Final = 0.01
"""How long a session may wait for a file that it opened."""
LIKELY: Final = 4
"""So many files more than there are sessions are looked at each time; the others are looked at now and then."""
SWEEP_SECONDS: Final = 0.5


class Pipes(msgspec.Struct, frozen=True, kw_only=True):
    """How a restore by several jobs is done without the archive on disk."""

    jobs: int
    files: ArchiveFiles
    folder: Path
    """Where the FIFOs are made; they take no room."""
    cure: str
    """What to do where that can't be."""


@contextmanager
def piped(pipes: Pipes, toc: bytes, manners: Manners, doing: str) -> "Iterator[Piped]":
    """A folder for `pg_restore --format=directory --jobs`. By the end of the body, the program must have ended.

    `toc`: the table of contents that it gets. Raises Refused where the folder can't be made.
    """
    staging = FolderStaging(pipes.folder, SystemProcess(), cure=pipes.cure)
    staging.sweep()
    with staging.folder() as path, ExitStack() as held:
        holds = [held.enter_context(_hold()) for _ in range(pipes.jobs)]
        made = Piped(path, pipes.files, holds, held.enter_context(opener(path)), manners, doing=doing)
        held.callback(made.close)
        _refuse_strange(pipes.files.names)
        names = sorted(pipes.files.names, key=lambda name: _turn(name, pipes.files))
        lists = [name for name in names if name.endswith(".toc")]
        for name, content in ((TOC, toc), *((name, b"".join(pipes.files.read(name))) for name in lists)):
            with on_disk(f"cannot keep the archive's lists in {pipes.folder}", cure=pipes.cure):
                (path / name).write_bytes(content)
        with on_disk(f"cannot make FIFOs in {pipes.folder}", cure=pipes.cure):
            for name in names:
                if name not in lists:
                    os.mkfifo(path / name, 0o600)
                    made.expect(name)
        yield made


def _turn(name: str, files: ArchiveFiles) -> tuple[int, int]:
    """When it is opened, about: large objects as their lists have them; tables by their size, the largest first."""
    return (0, 0) if name.startswith("blob") else (1, -files.raw_bytes(name))


def _refuse_strange(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not NAME.fullmatch(name) or name in seen:
            raise Corrupt(f"the archive has a file {name!r}, or has it twice, which pg_dump does not write")
        seen.add(name)


class Piped:
    """The files that pg_restore opens, one after the other. `look` must be called often while it runs."""

    def __init__(
        self, path: Path, files: ArchiveFiles, holds: "Sequence[_Hold]", opens: Opener, manners: Manners, *, doing: str
    ) -> None:
        self.path, self.jobs = path, len(holds)
        self._opens, self.opener = opens, opens.theirs
        self._files, self._manners, self._doing = files, manners, doing
        self._watch = Watch(manners.clock, manners.stop, None, doing)
        self.keeps = tuple(hold.kept for hold in holds)
        """Descriptors that pg_restore must hold open, so that our death closes no FIFO."""
        self._idle: SimpleQueue[_Hold] = SimpleQueue()
        for hold in holds:
            self._idle.put(hold)
        self._likely = len(holds) + LIKELY
        self._waiting: dict[str, str | None] = {}
        """Those that nobody has opened, each with the one that comes after it."""
        self._last: deque[str | None] = deque(maxlen=2 * len(holds))
        self._newest: str | None = None
        self._swept = manners.clock.monotonic()
        self._open: set[int] = set()
        self._cut: list[str] = []
        self._failed: list[BaseException] = []
        self._threads: list[Thread] = []
        self._lock, self._over = Lock(), Event()

    def expect(self, name: str) -> None:
        """A FIFO of that name is there. In the order in which they will be opened, about."""
        self._waiting[name] = None
        if self._newest is not None:
            self._waiting[self._newest] = name
        self._newest = name

    def look(self) -> None:
        """Begin to fill what was opened meanwhile. Raises what went wrong with another one; Deserted."""
        self._watch.check()
        self._raise_failure()
        names = self._candidates()
        while names and not self._idle.empty():
            found = self._opens.first_read(names, self._watch)
            if found is None:
                return
            number, descriptor = found
            self._begin(names[number], descriptor)
            names = names[number + 1 :]

    def check_all_read(self) -> None:
        """Once pg_restore has ended well. Raises Corrupt where it did without some of the archive, and what went wrong."""
        self._wait()
        self._raise_failure()
        left = [*self._cut, *self._waiting]
        if left:
            raise Corrupt(f"pg_restore was done before it had read {left[0]}", cure="don't trust it; drop it, check the backup")

    def raise_failure(self) -> None:
        """Once pg_restore has ended. Raises what went wrong here, which may be the cause of what it says."""
        self._wait()
        self._raise_failure()

    def close(self) -> None:
        """Close them, now that pg_restore has ended."""
        self._wait()
        with self._lock:
            for descriptor in self._open:
                os.close(descriptor)
            self._open.clear()

    def _wait(self) -> None:
        """With pg_restore each write ends in an error, so that this takes no longer than a read does."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _raise_failure(self) -> None:
        if self._failed:
            raise self._failed[0]

    def _candidates(self) -> list[str]:
        """Those that were to be opened next if all went in order; all of them, now and then."""
        now = self._manners.clock.monotonic()
        if now - self._swept >= SWEEP_SECONDS or len(self._waiting) <= self._likely:
            self._swept = now
            return list(self._waiting)
        after = [name for name in self._last if name in self._waiting]
        return list(dict.fromkeys([*after, *islice(self._waiting, self._likely)]))

    def _begin(self, name: str, descriptor: int) -> None:
        self._open.add(descriptor)
        hold = self._idle.get_nowait()
        hold.keep(descriptor)
        self._opens.hold_no_more(self._watch)
        # Whoever would open it once more must fail, and not wait.
        (self.path / name).unlink()
        self._last.append(self._waiting.pop(name))
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = Thread(target=self._fill, args=(name, descriptor, hold), name=f"fill {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fill(self, name: str, descriptor: int, hold: "_Hold") -> None:
        try:
            widen(descriptor)
            self._write(name, descriptor)
        except BrokenPipeError:
            # Nobody reads it any more, and under no name it will be opened again.
            self._cut.append(name)
        except BaseException as error:  # noqa: BLE001  it is raised by whoever looks
            # It stays open: an end of file now would be taken for the end of the file.
            self._failed.append(error)
            return
        hold.let_go()
        with self._lock:
            self._open.discard(descriptor)
            os.close(descriptor)
        self._idle.put(hold)

    def _write(self, name: str, descriptor: int) -> None:
        """The last chunk only once all was found sound. Raises BrokenPipeError where pg_restore is done with it before."""
        watch = Watch(self._manners.clock, self._manners.stop, self._manners.patience, self._doing)
        held = b""
        for chunk in self._files.read(name):
            if self._over.is_set():
                raise BrokenPipeError
            if held and chunk:
                write_block(descriptor, held, watch)
            held = chunk or held
        write_block(descriptor, held, watch)


class _Hold:
    """Keeps a descriptor open for as long as another program lives, though we be gone: it lies in a socket that both hold."""

    def __init__(self, ours: socket.socket, shared: socket.socket) -> None:
        self._ours, self._shared = ours, shared
        self.kept = shared.fileno()

    def keep(self, descriptor: int) -> None:
        socket.send_fds(self._ours, [b"."], [descriptor])

    def let_go(self) -> None:
        _, descriptors, _, _ = socket.recv_fds(self._shared, 1, 1)
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _hold() -> Iterator[_Hold]:
    ours, shared = socket.socketpair()
    with ours, shared:
        yield _Hold(ours, shared)
