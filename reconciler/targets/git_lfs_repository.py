"""A bare git repository with LFS.

A commit is made aside and then made the branch's tip, in one step: by git itself here, by the push where there is a remote.
What a death leaves of one (git's locks, a commit that nothing names) is in nobody's way. Large files come before what names them.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Lock
from typing import Final

import msgspec

from reconciler.errors import Absent, Conflict, Corrupt, Refused, Unreachable
from reconciler.targets.git_lfs_transfer import Transfer, large
from reconciler.targets.git_program import Git, Login, folder_of
from reconciler.targets.local_files import locked, make_folder, sync_folder, translated
from reconciler.world.clock import token
from reconciler.world.ports import Clock

CHUNK_BYTES: Final = 1 << 20

LOCK_SECONDS: Final = 120.0
"""A commit is pushed under the lock; LFS objects go up before it."""

FRESH_SECONDS: Final = 1.0
"""For how long what was fetched, or pushed, passes for what the remote holds. A write looks afresh in any case."""

PUSHES: Final = 10
"""So often a push is tried again when somebody else's came first."""

_ATTRIBUTES: Final = (
    b"* filter=lfs diff=lfs merge=lfs -text\n*.json !filter !diff !merge -text\n.gitattributes !filter !diff !merge\n"
)
"""Everything is a large file but what is small and read by people: records."""

_AUTHOR: Final = "Backup Reconciler <reconciler@localhost>"

_LOST: Final = re.compile(
    r"^!\t.*(\[rejected\]|cannot lock ref|incorrect old value|failed to update ref|reference already exists)", re.MULTILINE
)
"""As `git push --porcelain` says that somebody else's came first."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a commit. `oid` None: it lies in git itself; else the sha256 of a large file, which `blob` points to."""

    path: str
    blob: str
    size: int
    oid: str | None = None


class Repository:
    """One repository and one branch of it. Safe to use from several threads and processes of this machine."""

    def __init__(
        self,
        target: str,
        root: Path,
        *,
        branch: str,
        remote: str | None,
        login: Login | None,
        environ: Mapping[str, str],
        clock: Clock,
        stop: Event,
    ) -> None:
        self.target: Final = target
        self.root: Final = root
        self.branch: Final = f"refs/heads/{branch}"
        self.remote: Final = remote
        self._clock = clock
        self._git = Git(target, root, remote=remote, login=login, environ=environ, stop=stop)
        self._fresh_until = float("-inf")
        self._ages: tuple[str, Mapping[str, int]] = "", {}
        """Of a commit."""
        self._reckoning = Lock()
        # Of this remote and branch alone: another target may have the same folder.
        mark = hashlib.sha256(f"{remote or ''}\n{branch}".encode()).hexdigest()[:16]
        self._next = f"refs/reconciler/{mark}/next"
        self._seen = f"refs/reconciler/{mark}/seen"
        self._transfer = Transfer(target, root / "reconciler" / "transfers", self._git, remote) if remote else None

    @property
    def place(self) -> str:
        return self.remote or str(self.root)

    @property
    def unfinished(self) -> Path:
        """Where files are written before they are anything."""
        return self.root / "reconciler" / "unfinished"

    def make(self) -> None:
        """Make it unless it is there. Raises Refused where something else is, or where what should hold it is missing."""
        if not self._is_there():
            # Aside, and then in its place in one step: a death leaves no half of a repository there.
            aside = self.root.with_name(f".{self.root.name}.{token(8)}")
            branch = self.branch.removeprefix("refs/heads/")
            self._git.ask("init", "--quiet", "--bare", f"--initial-branch={branch}", str(aside), within=False)
            try:
                aside.rename(self.root)
            except OSError:
                shutil.rmtree(aside, ignore_errors=True)
                if not self._is_there():
                    raise
            sync_folder(self.root.parent)
        for folder in (self.root / "reconciler", self.unfinished, self.root / "reconciler" / "transfers"):
            make_folder(folder)

    def tip(self) -> str | None:
        """The commit that holds now, fetched from the remote where there is one; None where there is none yet."""
        if self.remote is None:
            return self._named(self.branch) if self._is_there() else None
        self.make()
        if self._clock.elapsed() < self._fresh_until:
            return self._named(self._seen)
        with self.lock():
            self._fetch()
            return self._named(self._seen)

    def entries(self, commit: str, folder: str = "") -> list[Entry]:
        """The files below a folder of a commit, all of them. Of large ones what the commit says, wherever they are."""
        listed = self._git.ask("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *([folder] if folder else []))
        plain: list[Entry] = []
        for line in listed.decode(errors="backslashreplace").split("\0")[:-1]:
            described, _, path = line.partition("\t")
            _, kind, blob, size = described.split()
            if kind == "blob" and size == _LOST_SIZE:
                raise self._spoilt(path)
            if kind == "blob":
                plain.append(Entry(path=path, blob=blob, size=int(size)))
        pointers = self._pointers([each.blob for each in plain if each.size <= _LONGEST_POINTER])
        return [pointers[each.blob](each) if each.blob in pointers else each for each in plain]

    def ages(self, commit: str) -> Mapping[str, int]:
        """When each path was last written, in seconds of the epoch, as all its commits tell; "": the earliest of these.

        All are read once, 25 µs each (measured), and those that came since after that: an age that was told by the last few alone
        would move on with them, and no grace that is counted from it end.
        """
        with self._reckoning:
            known, ages = self._ages
            if known != commit:
                self._ages = commit, self._ages_since(known, ages, commit)
            return self._ages[1]

    def _ages_since(self, known: str, ages: Mapping[str, int], commit: str) -> Mapping[str, int]:
        # A history that was written anew is read anew.
        if known and not self._git.run("merge-base", "--is-ancestor", known, commit).returncode:
            return {**ages, **self._written(f"{known}..{commit}"), "": ages[""]}
        found = self._written(commit)
        there = self._git.ask("ls-tree", "-r", "--name-only", "-z", "--full-tree", commit).decode(errors="backslashreplace")
        return {path: found[path] for path in ("", *there.split("\0")[:-1]) if path in found}

    def _written(self, commits: str) -> dict[str, int]:
        """By the latest of these commits that wrote it."""
        told = self._git.ask("log", "--format=%x01%ct", "--name-only", "-z", "--no-renames", commits).decode(
            errors="backslashreplace"
        )
        found: dict[str, int] = {}
        for piece in told.split("\x01")[1:]:
            time, _, names = piece.partition("\0")
            found[""] = int(time.strip())
            for name in names.split("\0"):
                found.setdefault(name.strip("\n"), int(time))
        return found

    def held(self, entry: Entry) -> Entry | None:
        """As it lies here, of the size that it has; None where its large file is gone. Of a remote, only reading tells."""
        if entry.oid is None or self.remote is not None:
            return entry
        try:
            return msgspec.structs.replace(entry, size=large(self.root, entry.oid).stat().st_size)
        except FileNotFoundError:
            return None

    def read(self, entry: Entry, start: int) -> Generator[bytes, None, None]:
        """A file's bytes; close it when done early. Raises Absent, Corrupt.

        Where there is a remote, a large file is fetched from there each time.
        """
        if entry.oid is None:
            yield self._git.ask("cat-file", "blob", entry.blob)[start:]
            return
        fetched = self._transfer.fetched(entry.path, entry.oid, entry.size) if self._transfer else None
        with fetched or nullcontext(large(self.root, entry.oid)) as path:
            try:
                file = path.open("rb")
            except FileNotFoundError as gone:
                raise Absent(f"{self.target}: the large file of {entry.path} is not in {self.root}") from gone
            with file:
                if self.remote is not None and os.fstat(file.fileno()).st_size != entry.size:
                    raise Corrupt(f"{self.target}: the large file of {entry.path} has not the size that its pointer tells")
                file.seek(start)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def keep_large(self, oid: str, file: Path) -> None:
        """Put a file on the remote, else here, durably, before anything names it. Raises FileNotFoundError if it was aborted."""
        if self._transfer is not None:
            self._transfer.push(oid, file)
            return
        place = large(self.root, oid)
        for folder in reversed([folder for folder in place.parents if folder.is_relative_to(self.root / "lfs")]):
            make_folder(folder)
        file.rename(place)
        sync_folder(place.parent)

    def commit(self, change: Callable[[str | None], bytes | None], message: str) -> str | None:
        """Make a commit of what `change` says of the tip (fast-import's lines; None: nothing), and the branch's tip of it.

        `change` is asked again when somebody else's push comes first, and raises what it finds then. Under the lock.
        """
        for _ in range(PUSHES):
            if self.remote is not None:
                self._fetch()
            tip = self._named(self.branch if self.remote is None else self._seen)
            lines = change(tip)
            if lines is None:
                return tip
            made = self._prepare(lines, message, tip)
            if self.remote is None:
                self._git.ask("update-ref", self.branch, made, tip or "0" * 40)
                return made
            if self._push(made, tip):
                # Not the branch of that name here: that is for who commits here without a remote.
                self._git.ask("update-ref", self._seen, made)
                self._fresh_until = self._clock.elapsed() + FRESH_SECONDS
                return made
        raise Conflict(f"{self.target}: {self.place} changes faster than we can push; nothing was written")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One change at a time. Whoever comes after a death waits for git's own children of it, and clears their locks away."""
        with locked(self.root / "reconciler" / "lock", self._clock, seconds=LOCK_SECONDS) as descriptor:
            for stale in (self.root / "refs").rglob("*.lock"):
                stale.unlink(missing_ok=True)
            for stale in self.root.glob("*.lock"):
                stale.unlink(missing_ok=True)
            self._git.holding.descriptor = descriptor
            try:
                yield
            finally:
                self._git.holding.descriptor = None

    def tidy(self) -> None:
        """Let git pack what has become many small files. It comes after a write that is done, whose failure its own is not."""
        with suppress(Refused, Unreachable):
            self._git.ask("gc", "--auto", "--quiet")

    def _is_there(self) -> bool:
        if self._is_repository():
            return True
        if os.path.lexists(self.root) and (not self.root.is_dir() or any(self.root.iterdir())):
            # It comes in one step: somebody else may have taken it between the two looks.
            if self._is_repository():
                return True
            what = f"{self.target}: {self.root} is no bare git repository"
            raise Refused(what, cure="let `path` name a folder of its own, which is made by itself")
        if not self.root.parent.is_dir():
            what = f"{self.target}: the folder {self.root.parent} that should hold {self.root} is missing"
            raise Refused(what, cure="mount the disk, correct `path`, or make that folder")
        return False

    def _is_repository(self) -> bool:
        return (self.root / "HEAD").is_file() and (self.root / "objects").is_dir()

    def _named(self, ref: str) -> str | None:
        done = self._git.run("for-each-ref", "--format=%(objectname)", ref)
        if done.returncode:
            raise self._git.fault("for-each-ref", done)
        # Git passes it over with a warning, as if it had never been: a branch that can't be read must not pass for an empty one.
        if f"broken ref {ref}\n" in done.stderr.decode(errors="replace"):
            raise self._spoilt(ref)
        return done.stdout.decode().strip() or None

    def _spoilt(self, lost: str) -> Refused:
        """What git itself has here can't be read."""
        cure = (
            f"move {self.root} away: it is made anew from the remote"
            if self.remote is not None
            else "take it from a clone of this repository; `git fsck` tells what else is lost"
        )
        return Refused(f"{self.target}: what git has of {lost} in {self.root} is lost or spoilt", cure=cure)

    def _fetch(self) -> None:
        """Under the lock. A remote without the branch is an empty one."""
        heads = self._git.ask("ls-remote", "origin", self.branch).decode()
        there = next((line.split("\t")[0] for line in heads.splitlines() if line.endswith(f"\t{self.branch}")), None)
        if there is None:
            self._refuse_no_git()
            self._git.ask("update-ref", "-d", self._seen)
        elif there != self._named(self._seen):
            # Forced: what the remote holds is what holds, also when its history was written anew.
            self._git.ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", f"+{self.branch}:{self._seen}")
        self._fresh_until = self._clock.elapsed() + FRESH_SECONDS

    def _refuse_no_git(self) -> None:
        """An empty page that has the status of a success, a portal's or a proxy's, is to git a repository with no branches."""
        if not (self.remote or "").startswith(("https://", "http://")):
            return
        done = self._git.run("ls-remote", "origin", self.branch, traced=True)
        if done.returncode:
            raise self._git.fault("ls-remote", done)
        if not _PACKET.search(done.stderr):
            what = f"{self.target}: {self.remote} does not answer like a git host"
            raise Refused(what, cure="correct `remote`, or see what stands between here and the host")

    def _prepare(self, lines: bytes, message: str, tip: str | None) -> str:
        """A commit that nothing names yet but ourselves."""
        text, now = message.encode(), int(self._clock.now().timestamp())
        head = f"commit {self._next}\ncommitter {_AUTHOR} {now} +0000\ndata {len(text)}\n".encode() + text + b"\n"
        root = f"from {tip}\n".encode() if tip else b""
        attributes = b"M 100644 inline .gitattributes\n" + data(_ATTRIBUTES) if tip is None else b""
        if tip is None:
            self._git.ask("update-ref", "-d", self._next)  # else fast-import would go on from it
        self._git.ask(
            "fast-import", "--quiet", "--force", "--date-format=raw", given=head + root + attributes + lines + b"done\n"
        )
        made = self._named(self._next)
        if made is None:
            raise Unreachable(f"{self.target}: git made no commit in {self.root}", cure="see whether the disk is in order")
        return made

    def _push(self, commit: str, tip: str | None) -> bool:
        """Whether it is the remote's tip now, in place of `tip`. False: somebody else's came first."""
        # A host sees to its own disks; a folder's git would leave it to the kernel when they get what it took.
        durably = ["--receive-pack=git -c core.fsync=all receive-pack"] if folder_of(self.remote or "") else []
        # Over that very tip: else a branch that was set back or deleted since would be led on from what it held.
        lease = f"--force-with-lease={self.branch}:{tip or ''}"
        done = self._git.run("push", "--porcelain", lease, *durably, "origin", f"{commit}:{self.branch}")
        told = done.stdout.decode(errors="replace")
        if done.returncode == 0:
            return True
        if _LOST.search(told):
            return False
        if re.search(r"^!\t", told, re.MULTILINE):
            reason = re.search(r"\(([^)\n]*)\)\s*$", told, re.MULTILINE)
            what = f"{self.target}: {self.place} takes no push to {self.branch}: {reason[1] if reason else 'no reason given'}"
            raise Refused(what, cure="let the account push to this branch: it may be protected, or a hook refuses")
        # The answer may be all that was lost.
        with suppress(Unreachable, Refused):
            self._fetch()
            if self._named(self._seen) == commit:
                return True
        raise self._git.fault("push", done)

    def _pointers(self, blobs: Sequence[str]) -> dict[str, Callable[[Entry], Entry]]:
        """Those of the small blobs that are pointers to large files, and what each makes of its entry."""
        if not blobs:
            return {}
        told = self._git.ask("cat-file", "--batch", given="\n".join(dict.fromkeys(blobs)).encode() + b"\n")
        found: dict[str, Callable[[Entry], Entry]] = {}
        position = 0
        while position < len(told):
            end = told.index(b"\n", position)
            blob, _, size = told[position:end].decode().split()
            content = told[end + 1 : end + 1 + int(size)]
            position = end + 2 + int(size)
            if pointed := _POINTER.fullmatch(content):
                oid, length = pointed[1].decode(), int(pointed[2])
                found[blob] = lambda entry, oid=oid, length=length: msgspec.structs.replace(entry, oid=oid, size=length)  # type: ignore[misc]  # mypy can't infer a default
        return found

    def translated(self, doing: str) -> AbstractContextManager[None]:
        """Turn what the operating system says into our own kinds."""
        return translated(f"{self.target}: cannot {doing} in {self.root}")


_PACKET: Final = re.compile(rb"packet: +\S+< ")
"""As git traces what a host sends that speaks its protocol."""
_LOST_SIZE: Final = "BAD"
"""As git lists a file that it has not, or can't read."""
_LONGEST_POINTER: Final = 200
_POINTER: Final = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


def data(content: bytes) -> bytes:
    """As fast-import is given bytes."""
    return f"data {len(content)}\n".encode() + content + b"\n"


def quoted(path: str) -> bytes:
    """As fast-import is given a path."""
    return b'"' + path.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
