"""A repository that has lost something of git's own, or a host that is none: never taken for one that holds less.

Real git; no large files.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from reconciler.errors import Refused, Unreachable
from reconciler.targets.git_lfs_repository import FRESH_SECONDS, Repository
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.world.clock import SystemClock
from reconciler.world.ports import ABSENT
from tests.servers.git import content, git, keys, new_remote, over

MANIFEST = "hotel/backups/x/manifest.json"


@pytest.fixture(autouse=True)
def _program() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed here")


def made(folder: Path, remote: Path | None = None) -> GitLfsTarget:
    repository = Repository(
        "lfs",
        folder / "backups.git",
        branch="main",
        remote=remote.as_uri() if remote else None,
        login=None,
        environ=os.environ,
        clock=SystemClock(),
        stop=Event(),
    )
    return GitLfsTarget(repository, prefix="", max_object=1 << 30, domain="x", clock=SystemClock())


def blob_of(root: Path, name: str) -> Path:
    """Where git has that file's bytes."""
    oid = git(root, "rev-parse", name).strip()
    return root / "objects" / oid[:2] / oid[2:]


@pytest.mark.parametrize("left", ["", "\0" * 41], ids=["emptied", "zeros"])
def test_a_branch_that_can_not_be_read(tmp_path: Path, left: str) -> None:
    """Git passes it over with a warning. It is neither an empty target nor one where a record is not."""
    target = made(tmp_path)
    target.write(MANIFEST, [b"{}"])
    (tmp_path / "backups.git" / "refs" / "heads" / "main").write_text(left)

    for use in (lambda: target.list(""), lambda: target.read(MANIFEST), lambda: target.write("hotel/x.json", [b"x"])):
        with pytest.raises(Refused, match=r"refs/heads/main in .* is lost or spoilt") as caught:
            use()
        assert "clone" in caught.value.cure


def test_another_branch_that_can_not_be_read(tmp_path: Path) -> None:
    """Is nothing to this one."""
    target = made(tmp_path)
    target.write(MANIFEST, [b"{}"])
    (tmp_path / "backups.git" / "refs" / "heads" / "main2").write_text("")

    assert [MANIFEST] == keys(target)


@pytest.mark.parametrize("left", [None, b""], ids=["gone", "emptied"])
def test_a_record_that_git_has_lost(tmp_path: Path, left: bytes | None) -> None:
    """It is named, and nothing of the repository is known until it is back: its backup would look like debris."""
    target = made(tmp_path)
    target.write(MANIFEST, [b"{}"])
    file = blob_of(tmp_path / "backups.git", f"main:{MANIFEST}")
    file.unlink()
    if left is not None:
        file.write_bytes(left)

    with pytest.raises(Refused, match=rf"{MANIFEST} in .* is lost or spoilt"):
        target.list("")


def test_what_is_made_anew_from_the_remote(tmp_path: Path) -> None:
    """The cure that the message tells is one."""
    remote = new_remote(tmp_path)
    made(tmp_path, remote).write(MANIFEST, [b"{}"])
    blob_of(tmp_path / "backups.git", git(remote, "rev-parse", f"main:{MANIFEST}").strip()).unlink()

    with pytest.raises(Refused, match="is lost or spoilt") as caught:
        made(tmp_path, remote).list("")
    assert f"move {tmp_path}/backups.git away" in caught.value.cure
    (tmp_path / "backups.git").rename(tmp_path / "away.git")
    assert b"{}" == content(made(tmp_path, remote), MANIFEST)


def test_git_can_not_tidy_up(tmp_path: Path) -> None:
    """What is written is written, though something of long ago is lost and git packs nothing any more."""
    target, root = made(tmp_path), tmp_path / "backups.git"
    for number in (1, 2):
        target.write("hotel/lease.json", [b"%d" % number])
        git(root, "repack", "-d", "--quiet")
    target.write("hotel/lease.json", [b"3"])
    old = blob_of(root, "main:hotel/lease.json")
    target.write("hotel/lease.json", [b"4"])
    old.unlink()
    git(root, "config", "gc.autoPackLimit", "1")
    later = made(tmp_path)
    later.write("hotel/a.json", [b"a"], expect=ABSENT)
    later.write("hotel/b.json", [b"b"], expect=ABSENT)

    assert ["hotel/a.json", "hotel/b.json", "hotel/lease.json"] == keys(later)


class Host:
    """A git host over http, as git's own server side makes one; or an answer that is given to everybody instead."""

    def __init__(self, folder: Path) -> None:
        self.instead: bytes | None = None
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind, content = ("text/html", host.instead) if host.instead is not None else self.served(body)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def served(self, body: bytes) -> tuple[str, bytes]:
                path, _, query = self.path.partition("?")
                environment = {
                    "PATH": os.environ["PATH"],
                    "GIT_PROJECT_ROOT": str(folder),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "REMOTE_USER": "somebody",
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }
                if self.headers.get("Content-Encoding") == "gzip":
                    environment["HTTP_CONTENT_ENCODING"] = "gzip"
                ran = subprocess.run(
                    [str(shutil.which("git")), "http-backend"], env=environment, input=body, capture_output=True, check=False
                )
                head, _, content = ran.stdout.partition(b"\r\n\r\n")
                kinds = [line for line in head.decode().splitlines() if line.lower().startswith("content-type:")]
                return kinds[0].partition(": ")[2], content

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/remote.git"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    new_remote(tmp_path)
    made = Host(tmp_path)
    yield made
    made.server.shutdown()


def test_an_empty_repository_of_a_host(tmp_path: Path, host: Host) -> None:
    """Is one, until something is pushed there."""
    target = over(host.url, tmp_path)
    assert [] == keys(target)
    target.write(MANIFEST, [b"{}"], expect=ABSENT)

    assert [MANIFEST] == keys(over(host.url, tmp_path, name="other.git"))


@pytest.mark.parametrize("page", [b"", b"<html>Welcome</html>"], ids=["nothing", "a page"])
def test_what_is_no_git_host(tmp_path: Path, host: Host, page: bytes) -> None:
    """A success that says nothing, of a portal or of a proxy, is no repository without branches."""
    target = over(host.url, tmp_path)
    target.write(MANIFEST, [b"{}"])
    host.instead = page
    for asked in (target, over(host.url, tmp_path, name="other.git")):
        time.sleep(FRESH_SECONDS)
        with pytest.raises((Refused, Unreachable)):
            asked.list("")
    host.instead = None

    assert [MANIFEST] == keys(target)
