"""Large files in a git repository, here and on a remote: what is read and listed is what is there. Real git and git-lfs.

A host of large files can't be had here: what git-lfs says of one that lost something, it says of a few lines that answer alike.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from reconciler.errors import Absent, Conflict, Corrupt, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.targets.git_lfs_repository import Entry
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.world.ports import ABSENT
from tests.postgres.processes import comes_true
from tests.servers.git import (
    content,
    git,
    git_lfs_target,
    hook,
    keys,
    large_files,
    left_of_session,
    need_git_lfs,
    new_remote,
    over,
)

DUMP = "hotel/backups/x/dump.zst"
WRITTEN = b"dump" * 1000
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _programs() -> None:
    need_git_lfs()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return new_remote(tmp_path)


@pytest.fixture
def target(tmp_path: Path, remote: Path) -> GitLfsTarget:
    return git_lfs_target(tmp_path, remote=remote)


@pytest.fixture
def alone(tmp_path: Path) -> GitLfsTarget:
    """Without a remote."""
    return git_lfs_target(tmp_path)


def put(path: Path, what: bytes | None) -> None:
    """In the place of a large file; None: nothing. Never through it: it may have other names."""
    path.unlink()
    if what is not None:
        path.write_bytes(what)


class TestOfARemote:
    @pytest.mark.parametrize(
        ("left", "error"), [(None, Absent), (WRITTEN[:-1], Absent), (WRITTEN + b"x", Absent), (b"D" + WRITTEN[1:], Corrupt)]
    )
    def test_reading_tells_what_it_holds(
        self, tmp_path: Path, target: GitLfsTarget, remote: Path, left: bytes | None, error: type[ReconcilerError]
    ) -> None:
        """Who wrote it learns as well as anybody that the remote has lost it, cut it or changed it."""
        target.write(DUMP, [WRITTEN])
        (large,) = large_files(remote)
        put(large, left)

        for reader in (target, git_lfs_target(tmp_path, remote=remote, name="other.git")):
            with pytest.raises(error, match=f"the large file of {DUMP}"):
                content(reader, DUMP)

    def test_nothing_of_it_stays_here(self, tmp_path: Path, target: GitLfsTarget) -> None:
        """Neither of what was written, nor of what was read to its end, in part or not at all."""
        target.write(DUMP, [WRITTEN])
        with target.read(DUMP):
            pass
        with target.read(DUMP, start=10) as blob:
            assert WRITTEN[10:] == next(iter(blob))
            assert 1 == len(large_files(tmp_path / "backups.git"))

        assert WRITTEN == content(target, DUMP)
        assert [] == large_files(tmp_path / "backups.git")
        assert [] == list((tmp_path / "backups.git" / "reconciler" / "transfers").iterdir())

    def test_a_push_that_fails(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """Leaves nothing here either, and the next one goes through."""
        (remote / "lfs").write_text("a file where a folder is to be")
        with pytest.raises((Refused, Unreachable)):
            target.write(DUMP, [WRITTEN])
        (remote / "lfs").unlink()
        assert [] == list((tmp_path / "backups.git" / "reconciler" / "transfers").iterdir())
        target.write(DUMP, [WRITTEN])

        assert WRITTEN == content(target, DUMP)

    def test_killed_in_mid_reading(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """What was fetched goes with the next transfer."""
        target.write(DUMP, [WRITTEN])
        program = f"""
from pathlib import Path
from tests.servers.git import git_lfs_target
with git_lfs_target(Path({str(tmp_path)!r}), remote=Path({str(remote)!r})).read({DUMP!r}) as blob:
    next(iter(blob))
    print("reading", flush=True)
    input()
"""
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert b"reading\n" == process.stdout.readline()
        with target.read(DUMP) as blob:
            next(iter(blob))
            assert 2 == len(large_files(tmp_path / "backups.git")), "a reader that lives keeps what it reads"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        left = len(large_files(tmp_path / "backups.git"))

        assert WRITTEN == content(target, DUMP)
        assert (1, 0) == (left, len(large_files(tmp_path / "backups.git")))

    def test_an_empty_one(self, target: GitLfsTarget) -> None:
        """LFS moves no empty files."""
        target.write(DUMP, [])

        assert b"" == content(target, DUMP)

    def test_a_folder_is_told_to_keep_what_it_takes(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """Its git puts all on the disk before it says yes."""
        hook(remote, "pre-receive", f"git config core.fsync > {tmp_path}/told")
        target.write(DUMP, [WRITTEN])

        assert "all\n" == (tmp_path / "told").read_text()

    @pytest.mark.parametrize("doing", ["push", "smudge"])
    def test_asked_to_stop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: GitLfsTarget, remote: Path, doing: str
    ) -> None:
        """A transfer that hangs is ended, and git-lfs with it; nothing of it stays."""
        target.write(DUMP, [WRITTEN])
        stop, session = Event(), tmp_path / "session"
        (tmp_path / "bin").mkdir()
        hanging = tmp_path / "bin" / "git-lfs"
        note = f"ps -o sid= -p $$ > {session}.new; mv {session}.new {session}; sleep 300"
        hanging.write_text(f'#!/bin/sh\n[ "$1" = {doing} ] && {{ {note}; }}\nexec {shutil.which("git-lfs")} "$@"\n')
        hanging.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

        def stop_then() -> None:
            comes_true(session.exists)
            stop.set()

        Thread(target=stop_then, daemon=True).start()
        hangs = over(remote.as_uri(), tmp_path, stop=stop)
        with pytest.raises(Stopped):
            content(hangs, DUMP) if doing == "smudge" else hangs.write("hotel/other.zst", [b"other"])
        assert session.exists()
        assert comes_true(lambda: left_of_session(int(session.read_text())) == [])
        assert [] == list((tmp_path / "backups.git" / "reconciler" / "transfers").iterdir())


class TestOfThisMachine:
    @pytest.mark.parametrize(("left", "expected"), [(None, []), (b"", [0]), (WRITTEN[:7], [7]), (WRITTEN + b"x", [4001])])
    def test_listed_as_it_is(self, tmp_path: Path, alone: GitLfsTarget, left: bytes | None, expected: list[int]) -> None:
        """Of the size that it has, whatever its pointer says; not at all when it is lost."""
        alone.write(DUMP, [WRITTEN])
        (large,) = large_files(tmp_path / "backups.git")
        put(large, left)

        assert expected == [item.size for item in alone.list("hotel/").items]

    def test_lost_ones_can_be_written_again(self, tmp_path: Path, alone: GitLfsTarget) -> None:
        """What is not listed is not there, for a condition either."""
        etag = alone.write(DUMP, [WRITTEN]).etag
        put(large_files(tmp_path / "backups.git")[0], None)
        with pytest.raises(Conflict):
            alone.write(DUMP, [WRITTEN], expect=etag)
        assert [] == large_files(tmp_path / "backups.git")
        with pytest.raises(Refused, match="would be a file where a folder is"):
            alone.write("hotel/backups", [b"x"])
        alone.write(DUMP, [WRITTEN], expect=ABSENT)
        with pytest.raises(Conflict):
            alone.write(DUMP, [WRITTEN], expect=ABSENT)

        assert WRITTEN == content(alone, DUMP)

    def test_lost_ones_can_be_deleted(self, tmp_path: Path, alone: GitLfsTarget) -> None:
        """What pointed to them goes from the tip."""
        alone.write(DUMP, [WRITTEN])
        put(large_files(tmp_path / "backups.git")[0], None)
        alone.delete(DUMP)

        assert [".gitattributes"] == git(tmp_path / "backups.git", "ls-tree", "-r", "--name-only", "main").splitlines()


class TestOneFolderOfTwoTargets:
    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Path:
        (tmp_path / "elsewhere").mkdir()
        return new_remote(tmp_path / "elsewhere")

    def test_with_other_remotes(self, tmp_path: Path, target: GitLfsTarget, elsewhere: Path) -> None:
        """Each lists what its own remote holds, at once and later."""
        other = git_lfs_target(tmp_path, remote=elsewhere)
        target.write("hotel/a.json", [b"a"])
        assert [] == keys(other)
        other.write("hotel/b.json", [b"b"])

        assert (["hotel/a.json"], ["hotel/b.json"]) == (keys(target), keys(other))
        assert [".gitattributes", "hotel/b.json"] == git(elsewhere, "ls-tree", "-r", "--name-only", "main").splitlines()

    def test_with_other_branches(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """Of one remote."""
        other = git_lfs_target(tmp_path, remote=remote, branch="other")
        target.write("hotel/a.json", [b"a"])
        assert [] == keys(other)
        other.write("hotel/b.json", [b"b"])

        assert (["hotel/a.json"], ["hotel/b.json"]) == (keys(target), keys(other))

    def test_with_and_without_a_remote(self, target: GitLfsTarget, alone: GitLfsTarget) -> None:
        """What was committed here stays, whatever is pushed from here."""
        alone.write("hotel/b.json", [b"b"])
        target.write("hotel/a.json", [b"a"])

        assert (["hotel/a.json"], ["hotel/b.json"]) == (keys(target), keys(alone))


class TestOfAHost:
    @pytest.fixture
    def host(self) -> Iterator[tuple[str, dict[str, tuple[int, bytes] | None]]]:
        """Gives each large file as it is told: a status and bytes; None: it says that it has none."""
        files: dict[str, tuple[int, bytes] | None] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if not files:
                    self.answer(404, b"{}")
                    return
                (asked,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["objects"]
                href = f"http://{self.headers['Host']}/{asked['oid']}"
                gone = {"error": {"code": 404, "message": "Object does not exist"}}
                there = {"actions": {"download": {"href": href}}}
                answer = {"transfer": "basic", "objects": [asked | (there if files[asked["oid"]] else gone)]}
                self.answer(200, json.dumps(answer).encode())

            def do_GET(self) -> None:
                self.answer(*files[self.path.removeprefix("/")] or (404, b""), of="application/xml")

            def answer(self, status: int, body: bytes, *, of: str = "application/vnd.git-lfs+json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", of)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/backups.git", files
        server.shutdown()

    def read(self, url: str, folder: Path) -> bytes:
        repository = over(url, folder)._repository
        repository.make()
        entry = Entry(path=DUMP, blob="", size=len(WRITTEN), oid=hashlib.sha256(WRITTEN).hexdigest())
        return b"".join(repository.read(entry, 0))

    def test_it_holds_it(self, tmp_path: Path, host: tuple[str, dict[str, tuple[int, bytes] | None]]) -> None:
        url, files = host
        files[hashlib.sha256(WRITTEN).hexdigest()] = (200, WRITTEN)

        assert WRITTEN == self.read(url, tmp_path)

    @pytest.mark.parametrize(
        ("held", "error"),
        [
            (None, Absent),
            ((404, b""), Absent),
            ((410, b""), Absent),
            ((200, b"D" + WRITTEN[1:]), Corrupt),
            ((200, WRITTEN[:-1]), Corrupt),
            ((403, b""), Refused),
            ((503, b""), Unreachable),
        ],
    )
    def test_it_does_not(
        self,
        tmp_path: Path,
        host: tuple[str, dict[str, tuple[int, bytes] | None]],
        held: tuple[int, bytes] | None,
        error: type[ReconcilerError],
    ) -> None:
        """Lost, changed, and not to be had for now are three things."""
        url, files = host
        files[hashlib.sha256(WRITTEN).hexdigest()] = held

        with pytest.raises(error):
            self.read(url, tmp_path)

    def test_it_has_no_lfs(self, tmp_path: Path, host: tuple[str, dict[str, tuple[int, bytes] | None]]) -> None:
        """That is no loss of a file."""
        with pytest.raises(Refused, match="git lfs smudge failed"):
            self.read(host[0], tmp_path)
