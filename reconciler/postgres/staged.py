"""What pg_dump writes into a folder: seen as it grows, read meanwhile, held back when it grows too fast, and gone once read."""

import ctypes
import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock

from reconciler.errors import Refused, Unreachable
from reconciler.postgres.disk import on_disk
from reconciler.world.ports import Clock

READ_BYTES = 1 << 20
READY_BYTES = 16 << 20
"""A file that grows beyond it is read while it grows; a smaller one once it is whole."""
PUNCH_BYTES = 8 << 20
"""Of a file that still grows, what was read is given back to the disk in steps of this."""
LEAST_FREE_BYTES = 64 << 20
"""Of the file system: with less, pg_dump is held back, since others live there too."""
LOOK_SECONDS = 0.05
BLOCK_BYTES = 4096
DOING = "cannot read what pg_dump writes on this machine"
CURE = "look at its disk; dumps.staging.path names the folder"
LOCAL = "name a folder on a local disk as dumps.staging.path"
_KEEP_SIZE_AND_PUNCH = 0x01 | 0x02


class StagedFile:
    """One file. It is read once, by whoever it was handed to, and gone afterwards."""

    def __init__(self, path: Path, staged: "Staged") -> None:
        self.name = path.name
        self.path = path
        self.size = 0
        self.read_bytes = 0
        self.closed = Event()
        self.handed_over = False
        self.is_begun = False
        self._staged = staged
        self._opening = Lock()

    def chunks(self) -> Iterator[bytes]:
        """All its bytes, waiting for those that are not written yet. Raises Unreachable once the dump has failed."""
        punched, self.is_begun = 0, True
        with on_disk(DOING, cure=CURE):
            file = self.path.open("rb", buffering=0)
        with file:
            while True:
                # In this order: what was written before the file was closed is read after that.
                is_whole = self.closed.is_set()
                if self._staged.failed:
                    raise Unreachable("the dump that this file belongs to has failed")
                with on_disk(DOING, cure=CURE):
                    block = file.read(READ_BYTES)
                    if not is_whole and self.read_bytes - punched >= PUNCH_BYTES:
                        punched = self._give_back(punched)
                if block:
                    self.read_bytes += len(block)
                    yield block
                elif is_whole:
                    break
                else:
                    self._staged.clock.wait(LOOK_SECONDS, self.closed)
        with on_disk(DOING, cure=CURE):
            self.path.unlink()
        self._staged.done(self)

    @property
    def is_waited_for(self) -> bool:
        """Whether its reader has got all of it that is written, and it goes on."""
        return self.read_bytes >= self.size and not self.closed.is_set()

    def look_whether_closed(self) -> None:
        """Once nobody has it open for writing any more, it is whole."""
        with self._opening:
            if _is_closed(self.path):
                self.closed.set()

    def _give_back(self, start: int) -> int:
        """To the disk, what was read since, in whole blocks; from where the next one begins."""
        end = self.read_bytes - self.read_bytes % BLOCK_BYTES
        # Whoever looks whether it is still written to must not take us for its writer.
        with self._opening:
            _punch(self.path, start, end)
        return end


class Staged:
    """A folder that a pg_dump with workers writes to. `look` is called again and again by one thread; files are read by others.

    At most about `most` bytes lie there unread: then pg_dump is stopped (SIGSTOP) until half of it is read, but for those of its
    processes that write what a reader waits for.
    """

    def __init__(self, folder: Path, *, most: int, clock: Clock, group: int) -> None:
        self.clock = clock
        self.failed = False
        self._folder, self._most, self._group = folder, most, group
        self._files: dict[str, StagedFile] = {}
        self._gone: set[str] = set()
        self._gone_bytes = 0
        self._lock = Lock()
        self._held: tuple[int, ...] = ()

    def look(self) -> list[StagedFile]:
        """Files that may be read from now on, in the order in which they became so."""
        for name, size in _listed(self._folder):
            with self._lock:
                if name in self._gone:
                    continue
                file = self._files.setdefault(name, StagedFile(self._folder / name, self))
            file.size = size
            # A file that is made but not yet written to may still be on its way to being opened.
            if size and not file.closed.is_set():
                file.look_whether_closed()
        ready = [file for file in self._waiting() if file.closed.is_set() or file.size > READY_BYTES]
        self._balance()
        return self._hand_over(ready)

    def rest(self) -> list[StagedFile]:
        """What is left once pg_dump has ended well: all of it is whole."""
        ready = self.look()
        for file in list(self._files.values()):
            file.closed.set()
        return [*ready, *self._hand_over(self._waiting())]

    def is_empty(self) -> bool:
        """Whether all that was handed over is read and gone."""
        return not self._files

    def done(self, file: StagedFile) -> None:
        """It is read to its end."""
        with self._lock:
            self._gone_bytes += 2 * file.read_bytes
            self._gone.add(file.name)
            self._files.pop(file.name, None)

    def fail(self) -> None:
        """Whoever reads hears of it."""
        self.failed = True
        for file in list(self._files.values()):
            file.closed.set()

    def let_go(self) -> None:
        """Whoever was stopped goes on: to end, a process must run."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, signal.SIGCONT)
        self._held = ()

    def moved_bytes(self) -> int:
        """Changes whenever anything is written or read."""
        with self._lock:
            return self._gone_bytes + sum(file.size + file.read_bytes for file in self._files.values())

    @property
    def is_held(self) -> bool:
        """Whether any of pg_dump is stopped just now."""
        return bool(self._held)

    def _waiting(self) -> list[StagedFile]:
        return [file for file in list(self._files.values()) if not file.handed_over]

    def _hand_over(self, files: list[StagedFile]) -> list[StagedFile]:
        for file in files:
            file.handed_over = True
        return files

    def _balance(self) -> None:
        files = [file for file in list(self._files.values()) if file.handed_over]
        unread = sum(file.size - file.read_bytes for file in files)
        free = shutil.disk_usage(self._folder.parent).free
        bound = self._most // 2 if self._held else self._most
        if unread and (unread > bound or free < LEAST_FREE_BYTES):
            self._hold({str(file.path.resolve()) for file in files if file.is_begun and file.is_waited_for})
        elif self._held:
            self.let_go()

    def _hold(self, waited_for: set[str]) -> None:
        """All but who writes one of these: nothing becomes less by stopping them, they have the rest that a reader waits for."""
        processes = tuple(_in_group(self._group, self._held)) or tuple(_in_group(self._group, _all_processes()))
        written = {process: _written_by(process) & waited_for for process in processes}
        if waited_for - {path for paths in written.values() for path in paths}:
            # Somebody writes it whom we don't see, or it was closed just now.
            self.let_go()
            return
        for process, paths in written.items():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT if paths else signal.SIGSTOP)
        self._held = processes


def check_room(folder: Path, most: int) -> None:
    """Raises Refused where a dump of this kind can't be taken."""
    if sys.platform != "linux":
        raise Refused("dumps.format: directory needs Linux here", cure="take format: custom")
    free = shutil.disk_usage(folder).free
    if free < most + LEAST_FREE_BYTES:
        what = f"{folder.parent} has {free >> 20} MiB free, and dumps.staging.most allows {most >> 20} MiB to lie there"
        raise Refused(what, cure="make room, name another folder as dumps.staging.path, or allow less")
    probe = folder / ".probe"
    with on_disk(f"cannot write to {folder.parent}", cure="look at its disk, or name another folder as dumps.staging.path"):
        writer = probe.open("wb", buffering=0)
        writer.write(b"x")
    with writer:
        sees_writer = not _is_closed(probe)
    if not (sees_writer and _is_closed(probe)):
        raise Refused(f"{folder.parent} does not tell whether a file is still written to", cure=LOCAL)
    with on_disk(f"{folder.parent} takes no room back from a file that is still written to", cure=LOCAL):
        _punch(probe, 0, BLOCK_BYTES)
        probe.unlink()


def _listed(folder: Path) -> list[tuple[str, int]]:
    """Nothing while the folder is not made yet."""
    found = []
    with suppress(FileNotFoundError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            with suppress(FileNotFoundError):
                found.append((entry.name, entry.stat().st_size))
    return found


def _is_closed(path: Path) -> bool:
    """Whether nobody has it open for writing: the kernel grants a read lease only then. Raises Refused where it grants none."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True  # read and gone
    try:
        # Should anybody open it for writing just now, they wait for us, and we are told by a signal: one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise Refused(f"{path.parent} grants no leases: {error.strerror}", cure=LOCAL) from error
    finally:
        os.close(descriptor)
    return True


def _punch(path: Path, start: int, end: int) -> None:
    """Give that range back to the disk; the file stays as long as it is. Raises OSError where the disk can't."""
    with path.open("r+b") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        beginning, length = ctypes.c_int64(start), ctypes.c_int64(end - start)
        if libc.fallocate(file.fileno(), _KEEP_SIZE_AND_PUNCH, beginning, length) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _all_processes() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            yield int(entry.name)


def _in_group(group: int, processes: Iterable[int]) -> Iterator[int]:
    """Those of them that belong to a group, but for its leader, our guardian."""
    for process in processes:
        with suppress(OSError, IndexError, ValueError):
            text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
            if process != group and int(text.rpartition(")")[2].split()[2]) == group:
                yield process


def _written_by(process: int) -> set[str]:
    """What it has open, as far as that has names."""
    found = set[str]()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with suppress(OSError):
                found.add(str(Path(entry.path).readlink()))
    return found
