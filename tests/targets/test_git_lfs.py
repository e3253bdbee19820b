"""Backups in a git repository: real git, real git-lfs, a real bare remote in a folder."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from reconciler.errors import Absent, Conflict, Refused, Stopped, Unreachable
from reconciler.policy.folder import Folder
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.policy.units import ByteSize
from reconciler.targets.conditions import honours_conditions
from reconciler.targets.git_lfs import KIND, GitLfsSettings, site
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.targets.git_program import Login
from reconciler.world.clock import SystemClock
from reconciler.world.ports import ABSENT
from tests.postgres.processes import comes_true
from tests.servers.git import content, git, git_lfs_target, hook, keys, left_of_session, need_git_lfs, new_remote, over

DUMP = "hotel/backups/x/dump.zst"
MANIFEST = "hotel/backups/x/manifest.json"
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
def other(tmp_path: Path, remote: Path) -> GitLfsTarget:
    """Another machine, as it were: a repository of its own, and the same remote."""
    return git_lfs_target(tmp_path, remote=remote, name="other.git")


class TestWhatAPersonSees:
    def test_a_clone_shows_files(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """Any git with LFS gives the backups back without this program: data as large files, records as plain ones."""
        target.write(DUMP, [b"dump" * 1000])
        target.write(MANIFEST, [b"{}"])
        git(tmp_path, "clone", "--quiet", remote.as_uri(), "clone")
        clone = tmp_path / "clone"
        pointed = git(clone, "show", f"HEAD:{DUMP}")
        git(clone, "lfs", "install", "--local")
        git(clone, "lfs", "pull")

        assert b"dump" * 1000 == (clone / DUMP).read_bytes()
        assert pointed.startswith("version https://git-lfs.github.com/spec/v1\n")
        assert b"{}" == (clone / MANIFEST).read_bytes()
        assert [f"write {MANIFEST}", f"write {DUMP}"] == git(clone, "log", "--format=%s").splitlines()
        assert "" == git(clone, "status", "--porcelain")

    def test_what_was_deleted_stays_in_the_history(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """The tip has it no more, and an older commit still does."""
        target.write(DUMP, [b"dump" * 1000])
        target.delete(DUMP)
        git(tmp_path, "clone", "--quiet", remote.as_uri(), "clone")

        assert [] == keys(target)
        assert [".gitattributes"] == git(tmp_path / "clone", "ls-files").splitlines()
        assert "size 4000" in git(tmp_path / "clone", "show", f"HEAD~1:{DUMP}")

    def test_dates_are_those_of_the_commits(self, target: GitLfsTarget) -> None:
        """What was written long ago does not look new because something else was written since."""
        target.write("hotel/old", [b"x"])
        before = target.list("").items[0].modified
        time.sleep(1.1)
        target.write("hotel/young", [b"x"])
        old, young = target.list("").items

        assert before == old.modified < young.modified

    def test_dates_do_not_move_on_with_the_branch(self, tmp_path: Path) -> None:
        """However many commits come after; each listing tells of those that came since the one before."""
        target, folder = git_lfs_target(tmp_path), tmp_path / "backups.git"
        target.write("hotel/old", [b"x"])
        target.write("hotel/again", [b"x"])
        before = dates(target)["hotel/old"]
        later = int(before.timestamp()) + 3600
        commit_many(folder, 2100, since=later)
        first = dates(target)
        commit_many(folder, 1, since=later + 9000, name="hotel/again")
        second = dates(target)

        assert before == first["hotel/old"] == second["hotel/old"]
        assert later + 7 == first["many/0007.json"].timestamp() == second["many/0007.json"].timestamp()
        assert later + 9000 == second["hotel/again"].timestamp()
        assert second == dates(git_lfs_target(tmp_path))

    def test_dates_of_a_history_that_was_written_anew(self, tmp_path: Path) -> None:
        """Nothing of the one before counts."""
        target = git_lfs_target(tmp_path)
        target.write("hotel/old", [b"x"])
        before = dates(target)["hotel/old"]
        later = int(before.timestamp()) + 3600
        commit_many(tmp_path / "backups.git", 1, since=later, name="hotel/old", anew=True)

        assert {"hotel/old": later} == {key: date.timestamp() for key, date in dates(target).items()}

    def test_somebody_commits_by_hand(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """What a person added is listed as it is, and nothing of it goes with our next write."""
        target.write(MANIFEST, [b"{}"])
        git(tmp_path, "clone", "--quiet", remote.as_uri(), "clone")
        clone = tmp_path / "clone"
        (clone / "README.json").write_text("{}")
        git(clone, "add", "README.json")
        git(clone, "commit", "--quiet", "-m", "by hand")
        git(clone, "push", "--quiet")
        target.write("hotel/lease.json", [b"{}"], expect=ABSENT)

        assert ["README.json", MANIFEST, "hotel/lease.json"] == keys(target)


class TestNobodysConfiguration:
    def test_of_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Path) -> None:
        """A signing key that asks, hooks that fail, another author: none of it matters."""
        home = tmp_path / "home"
        hooks = home / "hooks"
        hooks.mkdir(parents=True)
        for name in ("pre-push", "reference-transaction", "post-update", "update"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {home}/ran\nexit 1\n")
            (hooks / name).chmod(0o755)
        settings = f"[core]\n hooksPath = {hooks}\n[commit]\n gpgSign = true\n[user]\n name = Mallory\n[push]\n gpgSign = true\n"
        (home / ".gitconfig").write_text(settings)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        monkeypatch.setenv("GIT_AUTHOR_NAME", "Mallory")
        target = git_lfs_target(tmp_path, remote=remote)
        target.write(DUMP, [b"dump"])

        assert b"dump" == content(target, DUMP)
        assert not (home / "ran").exists()
        monkeypatch.delenv("GIT_DIR")
        assert "Backup Reconciler" == git(remote, "log", "-1", "--format=%an", "main").strip()

    def test_of_the_repository(self, tmp_path: Path) -> None:
        """Hooks that somebody put into it don't run."""
        target = git_lfs_target(tmp_path)
        target.write(DUMP, [b"1"])
        for name in ("reference-transaction", "pre-push"):
            hook(tmp_path / "backups.git", name, f"touch {tmp_path}/ran; exit 1")
        target.write(DUMP, [b"2"])

        assert not (tmp_path / "ran").exists()


class TestTwoMachines:
    def test_of_two_writers_one_wins(self, target: GitLfsTarget, other: GitLfsTarget) -> None:
        """If-absent and if-match hold through the remote, whoever saw it last."""
        first = target.write("hotel/lease.json", [b"1"], expect=ABSENT)
        with pytest.raises(Conflict):
            other.write("hotel/lease.json", [b"x"], expect=ABSENT)
        other.write("hotel/lease.json", [b"2"], expect=first.etag)
        with pytest.raises(Conflict):
            target.write("hotel/lease.json", [b"3"], expect=first.etag)

        assert b"2" == content(other, "hotel/lease.json")

    def test_both_write_at_once(self, target: GitLfsTarget, other: GitLfsTarget) -> None:
        """Pushes that lose are made anew on what came first: nothing is lost, nothing is refused."""
        with ThreadPoolExecutor(4) as pool:
            for number in range(6):
                pool.submit(target.write, f"hotel/a{number}", [b"a"])
                pool.submit(other.write, f"hotel/b{number}", [b"b"])

        assert sorted([f"hotel/a{number}" for number in range(6)] + [f"hotel/b{number}" for number in range(6)]) == keys(
            git_lfs_target_again(target)
        )

    def test_a_large_file_of_the_other(self, target: GitLfsTarget, other: GitLfsTarget) -> None:
        """It is fetched when it is read, and from the middle too."""
        written = bytes(range(256)) * 20_000
        target.write(DUMP, [written])

        assert written == content(other, DUMP)
        with other.read(DUMP, start=3_000_000) as blob:
            assert written[3_000_000:] == b"".join(blob)

    def test_a_history_that_was_written_anew(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """What the remote holds is what holds."""
        target.write("hotel/a.json", [b"a"])
        target.write("hotel/b.json", [b"b"])
        git(remote, "update-ref", "refs/heads/main", "refs/heads/main~1")
        target.write("hotel/c.json", [b"c"])

        assert ["hotel/a.json", "hotel/c.json"] == keys(target)

    def test_conditions_are_kept(self, target: GitLfsTarget) -> None:
        """As whoever takes a lease proves it."""
        assert honours_conditions(target, "hotel/scratch")


def commit_many(folder: Path, many: int, *, since: int, name: str = "many/{:04d}.json", anew: bool = False) -> None:
    """One a second, after those that are there or instead of them."""
    lines = [
        f"commit refs/heads/main\ncommitter ana <ana@localhost> {since + number} +0000\ndata 1\nx\n"
        + ("" if number or anew else "from refs/heads/main^0\n")
        + f"M 100644 inline {name.format(number)}\ndata 4\n{number:04d}\n"
        for number in range(many)
    ]
    if anew:
        git(folder, "update-ref", "-d", "refs/heads/main")
    git(folder, "fast-import", "--quiet", given="".join(lines))


def dates(target: GitLfsTarget) -> dict[str, datetime]:
    return {item.key: item.modified for item in target.list("").items}


def git_lfs_target_again(target: GitLfsTarget) -> GitLfsTarget:
    """The same repository, opened anew: nothing remembered."""
    repository = target._repository
    assert repository.remote is not None
    return git_lfs_target(repository.root.parent, remote=Path(repository.remote.removeprefix("file://")), name="third.git")


class TestRefusals:
    def test_what_is_too_large(self, tmp_path: Path) -> None:
        """It is refused in mid-stream, and nothing of it stays."""
        target = git_lfs_target(tmp_path, max_object=3_000_000)

        with pytest.raises(Refused, match="is larger than 3,000,000 bytes") as caught:
            target.write(DUMP, (bytes(1_000_000) for _ in range(5)))
        assert "max_object" in caught.value.cure
        assert [] == keys(target)
        assert () == target.unfinished("")
        assert [] == list((tmp_path / "backups.git" / "lfs").rglob("*"))

    def test_a_branch_that_is_protected(self, target: GitLfsTarget, remote: Path) -> None:
        """The remote's hook says no: nothing is written, and trying again is no use."""
        target.write("hotel/a.json", [b"a"])
        hook(remote, "pre-receive", "exit 1")

        with pytest.raises(Refused, match=r"takes no push to refs/heads/main: pre-receive hook declined"):
            target.write("hotel/b.json", [b"b"])
        assert ["hotel/a.json"] == keys(target)

    def test_a_remote_that_is_not_there(self, tmp_path: Path) -> None:
        """Is neither empty nor unreachable."""
        target = git_lfs_target(tmp_path, remote=tmp_path / "nowhere.git")

        for use in (lambda: target.list(""), lambda: target.write(MANIFEST, [b"x"]), lambda: target.read(MANIFEST)):
            with pytest.raises(Refused) as caught:
                use()
            assert "make the repository there" in caught.value.cure

    def test_a_remote_that_nobody_answers_for(self, tmp_path: Path) -> None:
        """Is unreachable."""
        target = over("http://127.0.0.1:1/backups.git", tmp_path)

        with pytest.raises(Unreachable):
            target.list("")

    def test_a_folder_of_another_use(self, tmp_path: Path) -> None:
        """Nothing is made in it."""
        (tmp_path / "backups.git").mkdir()
        (tmp_path / "backups.git" / "thesis.txt").touch()
        target = git_lfs_target(tmp_path)

        for use in (lambda: target.list(""), lambda: target.write(MANIFEST, [b"x"])):
            with pytest.raises(Refused, match="is no bare git repository"):
                use()

    def test_a_disk_that_is_not_mounted(self, tmp_path: Path) -> None:
        """The folder that should hold the repository is missing: not an empty target."""
        target = git_lfs_target(tmp_path, name="mnt/backups.git")

        with pytest.raises(Refused, match="is missing"):
            target.list("")

    def test_a_file_where_a_folder_is(self, target: GitLfsTarget) -> None:
        """Git would put one in the place of the other."""
        target.write("hotel/a/b.json", [b"x"])

        for key in ("hotel/a", "hotel/a/b.json/c"):
            with pytest.raises(Refused, match="would be a file where a folder is"):
                target.write(key, [b"x"])
        assert ["hotel/a/b.json"] == keys(target)

    @pytest.mark.parametrize("key", [".git/config", "hotel/.GIT/x", ".gitattributes", "hotel/.lfsconfig"])
    def test_names_that_git_has_a_use_for(self, target: GitLfsTarget, key: str) -> None:
        """They could change how all else is read."""
        with pytest.raises(Refused, match="git has a use of its own"):
            target.write(key, [b"x"])

    def test_a_large_file_that_is_gone(self, tmp_path: Path) -> None:
        """Without a remote it can come from nowhere."""
        target = git_lfs_target(tmp_path)
        target.write(DUMP, [b"dump"])
        (large,) = [path for path in (tmp_path / "backups.git" / "lfs" / "objects").rglob("*") if path.is_file()]
        large.unlink()

        with pytest.raises(Absent, match="the large file of"):
            content(target, DUMP)

    def test_asked_to_stop(self, tmp_path: Path, target: GitLfsTarget, remote: Path) -> None:
        """A push that hangs is ended with all that it started, and no lock of theirs is left in the remote's folder."""
        stop, session = Event(), tmp_path / "session"
        target.write("hotel/a.json", [b"a"])
        # While it runs, the branch is locked.
        script = f'[ "$1" = prepared ] || exit 0; ps -o sid= -p $$ > {session}.new; mv {session}.new {session}; sleep 300'
        hook(remote, "reference-transaction", script)

        def stop_then() -> None:
            comes_true(session.exists)
            stop.set()

        Thread(target=stop_then, daemon=True).start()
        with pytest.raises(Stopped):
            over(remote.as_uri(), tmp_path, name="hangs.git", stop=stop).write("hotel/b.json", [b"b"])
        assert session.exists()
        assert comes_true(lambda: left_of_session(int(session.read_text())) == [])
        (remote / "hooks" / "reference-transaction").unlink()
        target.write("hotel/c.json", [b"c"])
        assert ["hotel/a.json", "hotel/c.json"] == keys(target)


class TestDeath:
    def test_the_answer_to_a_push_is_lost(self, target: GitLfsTarget, remote: Path) -> None:
        """The remote has our commit: done, once."""
        target.write("hotel/a.json", [b"a"])
        hook(remote, "post-update", "kill -9 $PPID")
        target.write("hotel/b.json", [b"b"], expect=ABSENT)

        assert ["hotel/a.json", "hotel/b.json"] == keys(target)
        assert "2" == git(remote, "rev-list", "--count", "main").strip()

    def test_locks_that_a_dead_git_left(self, tmp_path: Path) -> None:
        """Nobody else can be at work while we hold ours, so they are cleared away."""
        target = git_lfs_target(tmp_path)
        target.write("hotel/a.json", [b"a"])
        root = tmp_path / "backups.git"
        (next_commit,) = (root / "refs" / "reconciler").rglob("next")
        for stale in ("refs/heads/main", str(next_commit), "packed-refs", "HEAD", "config"):
            (root / f"{stale}.lock").touch()
        target.write("hotel/b.json", [b"b"])

        assert ["hotel/a.json", "hotel/b.json"] == keys(target)

    @pytest.mark.parametrize("pushed", [False, True])
    def test_killed_at_any_instant(self, tmp_path: Path, remote: Path, *, pushed: bool) -> None:
        """What was said to be written is there and whole, what is listed reads back, and the next write goes through."""
        program = f"""
import sys
from pathlib import Path
from tests.servers.git import git_lfs_target
target = git_lfs_target(Path({str(tmp_path)!r}), remote=Path({str(remote)!r}) if {pushed} else None)
for number in range(1000):
    key = f"hotel/{{sys.argv[1]}}-{{number}}." + ("zst" if number % 2 else "json")
    target.write(key, [key.encode() * 1000], expect="")
    print(key, flush=True)
"""
        said: list[str] = []
        for attempt in range(6):
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(attempt)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            assert process.stdout is not None
            said.append(process.stdout.readline().strip())
            time.sleep(0.03 + 0.05 * attempt)  # not waiting for anything: this is the instant of death
            os.kill(process.pid, signal.SIGKILL)
            said += [line.strip() for line in process.stdout]
            process.wait()
        target = git_lfs_target(tmp_path, remote=remote if pushed else None)
        target.write("hotel/after.json", [b"x"], expect=ABSENT)
        listed = keys(target)

        assert set(said) <= set(listed)
        assert {key: key.encode() * 1000 for key in listed if key != "hotel/after.json"} == {
            key: content(target, key) for key in listed if key != "hotel/after.json"
        }


class TestToken:
    @pytest.fixture
    def heard(self) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
        """A host that wants a name and a password, and then sends whoever has them to another."""
        heard: list[tuple[str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append((self.headers["Host"], self.headers.get("Authorization")))
                if self.headers.get("Authorization") is None:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                else:
                    self.send_response(301)
                    self.send_header("Location", f"http://localhost:{self.headers['Host'].partition(':')[2]}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
        server.shutdown()

    def test_it_goes_to_the_remote_alone(self, tmp_path: Path, heard: tuple[str, list[tuple[str, str | None]]]) -> None:
        """Its host is given name and token when it asks; the host to which that one redirects is not."""
        url, requests = heard
        target = over(f"{url}/backups.git", tmp_path, login=Login(user="bot", token="hunter2-hunter2"))
        with pytest.raises((Refused, Unreachable)) as caught:
            target.list("")

        expected = "Basic " + base64.b64encode(b"bot:hunter2-hunter2").decode()
        assert expected in [given for host, given in requests if host.startswith("127.0.0.1")]
        assert {None} >= {given for host, given in requests if host.startswith("localhost")}
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in (tmp_path / "backups.git" / "config").read_text()

    def test_large_files_go_with_it(self, tmp_path: Path, heard: tuple[str, list[tuple[str, str | None]]]) -> None:
        """git-lfs asks the same way, and its host is the same."""
        url, requests = heard
        target = over(f"{url}/backups.git", tmp_path, login=Login(user="bot", token="hunter2-hunter2"))
        target._repository.make()
        file = tmp_path / "backups.git" / "large"
        file.write_bytes(b"x")
        with pytest.raises((Refused, Unreachable)) as caught:
            target._repository.keep_large(hashlib.sha256(b"x").hexdigest(), file)

        expected = "Basic " + base64.b64encode(b"bot:hunter2-hunter2").decode()
        assert expected in [given for host, given in requests if host.startswith("127.0.0.1")]
        assert {None} >= {given for host, given in requests if host.startswith("localhost")}
        assert "hunter2" not in str(caught.value)


def connected(settings: GitLfsSettings, base: Path, environ: Mapping[str, str] | None = None) -> GitLfsTarget:
    surroundings = Surroundings(base=base, environ={**os.environ, **(environ or {})}, redactor=Redactor())
    target: GitLfsTarget = KIND.connect("repo", settings, surroundings=surroundings, clock=SystemClock(), stop=Event())
    return target


class TestSettings:
    def test_a_folder_as_remote(self, tmp_path: Path, remote: Path) -> None:
        """Both folders are relative to the policy file; the branch is the one that is named."""
        settings = GitLfsSettings(
            path="own.git", remote=Text.parse("remote.git"), push=True, branch="backups", prefix=Folder.parse("/pg/")
        )
        connected(settings, tmp_path).write(MANIFEST, [b"{}"])

        assert [".gitattributes", f"pg/{MANIFEST}"] == git(remote, "ls-tree", "-r", "--name-only", "backups").splitlines()

    def test_without_push(self, tmp_path: Path, remote: Path) -> None:
        """It is committed and stays here."""
        settings = GitLfsSettings(path="own.git", remote=Text.parse("remote.git"), max_object=ByteSize(10))
        connected(settings, tmp_path).write(MANIFEST, [b"{}"])

        assert "" == git(remote, "for-each-ref")
        assert f"write {MANIFEST}" == git(tmp_path / "own.git", "log", "--format=%s", "main").strip()

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            (GitLfsSettings(path="x", push=True), "`push` needs a `remote`"),
            (GitLfsSettings(path="x", remote=Text.parse("a.git"), token=Secret.parse("${T}")), "is for a remote over https"),
            (GitLfsSettings(path="x", remote=Text.parse("https://u:hunter2@host/x"), push=True), "is no place to push to"),
            (GitLfsSettings(path="x", remote=Text.parse("http://host/x"), push=True), "is no place to push to"),
            (GitLfsSettings(path="x", remote=Text.parse("ext::sh -c x://y"), push=True), "is no place to push to"),
        ],
    )
    def test_what_makes_no_sense(self, tmp_path: Path, settings: GitLfsSettings, says: str) -> None:
        """It is refused before anything is touched, and no password is shown."""
        with pytest.raises(Refused, match=says) as caught:
            connected(settings, tmp_path, {"T": "hunter2-hunter2"})
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("remote", "push", "expected"),
        [
            (None, False, "host:localhost"),
            ("remote.git", True, "host:localhost"),
            ("https://git.example.com/x.git", True, "git:git.example.com"),
            ("https://git.example.com/x.git", False, "host:localhost"),
            ("git@git.example.com:ops/x.git", True, "git:git.example.com"),
        ],
    )
    def test_what_fails_together(self, tmp_path: Path, remote: str | None, *, push: bool, expected: str) -> None:
        """The host that it is pushed to, or this machine."""
        settings = GitLfsSettings(path="x", remote=Text.parse(remote) if remote else None, push=push)

        assert expected == connected(settings, tmp_path).domain

    @pytest.mark.parametrize("written", ["file://{}/remote.git", "file://{}/./remot%65.git/", "./remote.git", "link"])
    def test_a_folder_is_one_place_however_it_is_written(self, tmp_path: Path, remote: Path, written: str) -> None:
        """Two targets that push there hold one copy."""
        (tmp_path / "link").symlink_to(remote)
        settings = GitLfsSettings(path="own.git", remote=Text.parse(written.format(tmp_path)), push=True)

        assert f"local:{remote.resolve()}" == site(settings, tmp_path / "x" / "..")

    def test_without_the_programs(self, tmp_path: Path) -> None:
        """The message says which to install."""
        target = connected(GitLfsSettings(path="x"), tmp_path, {"PATH": "/nowhere"})

        with pytest.raises(Refused, match="git is not installed"):
            target.write(MANIFEST, [b"x"])
