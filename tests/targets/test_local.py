"""A folder as a target: what the disk, its rights and its other users can do to it."""

import errno
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused, Stopped, Unreachable
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.sandbox.patience import wait_for
from reconciler.targets.local import KIND, LocalSettings
from reconciler.targets.local_files import LOCK_SECONDS, finish, locked, translated
from reconciler.targets.local_target import HIDDEN, RESERVE_BYTES, LocalTarget
from reconciler.world.clock import SystemClock
from reconciler.world.ports import ABSENT, Upload
from tests.faults.clock import MovedClock

NOBODY = 65534

WRITER = """
import sys
from pathlib import Path
from reconciler.targets.local_target import LocalTarget
from reconciler.world.clock import SystemClock

def endless():
    while True:
        yield bytes(65536)

LocalTarget("disk", Path(sys.argv[1]), clock=SystemClock()).write("hotel/backups/x/dump.zst", endless())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def target(root: Path) -> LocalTarget:
    return LocalTarget("disk", root, clock=SystemClock())


@pytest.fixture
def outsider() -> Iterator[Path]:
    """A folder that ends up in the hands of a user without rights, who we are meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def content(target: LocalTarget, key: str) -> bytes:
    with target.read(key) as blob:
        return b"".join(blob)


class TestPlace:
    def test_only_its_owner_may_read(self, target: LocalTarget, root: Path) -> None:
        """Folders are made 0700 and files 0600, whatever is hidden included."""
        target.write("hotel/backups/x/dump", [b"x"])
        target.write("hotel/backups/x/dump", [b"y"])

        modes = {path.relative_to(root): stat.S_IMODE(path.lstat().st_mode) for path in [root, *root.rglob("*")]}
        files = {Path("hotel/backups/x/dump"), Path(HIDDEN) / "lock"}
        assert {path: 0o600 if path in files else 0o700 for path in modes} == modes

    def test_the_surroundings_are_missing(self, tmp_path: Path) -> None:
        """A disk that isn't mounted is no empty target."""
        target = LocalTarget("disk", tmp_path / "mnt" / "backups", clock=MovedClock())
        uses: list[Callable[[], object]] = [
            lambda: target.list(""),
            lambda: target.unfinished(""),
            lambda: target.read("hotel/x"),
            lambda: target.write("hotel/x", [b"x"]),
            lambda: target.delete("hotel/x"),
        ]
        for use in uses:
            with pytest.raises(Refused, match="is missing") as caught:
                use()
            assert "mount the disk" in caught.value.cure
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("link", [False, True])
    def test_the_path_is_no_folder(self, target: LocalTarget, root: Path, link: bool) -> None:
        """A file or a dangling link at the path is said."""
        root.symlink_to("nowhere") if link else root.write_text("not a folder")

        for use in (lambda: target.list(""), lambda: target.write("hotel/x", [b"x"])):
            with pytest.raises(Refused, match="is no folder"):
                use()

    def test_what_must_be_mounted(self, tmp_path: Path) -> None:
        """An empty mount point looks like an empty disk: with `mount` it is neither listed nor filled."""
        root = tmp_path / "nas" / "backups"
        root.parent.mkdir()
        unmounted = LocalTarget("nas", root, clock=SystemClock(), mount=root.parent)

        for touch in (lambda: unmounted.list(""), lambda: unmounted.write("a/b", [b"x"]), lambda: unmounted.read("a/b")):
            with pytest.raises(Refused, match="nothing is mounted at") as refused:
                touch()
            assert refused.value.cure
        assert not root.exists()
        mounted = LocalTarget("nas", root, clock=SystemClock(), mount=Path("/"))
        mounted.write("a/b", [b"x"])
        assert ["a/b"] == [item.key for item in mounted.list("").items]

    @pytest.mark.parametrize("mount", ["/", "/proc", "./nas/backups/deeper"])
    def test_a_mount_that_says_nothing_of_the_path(self, tmp_path: Path, mount: str) -> None:
        """What is always mounted, or mounted elsewhere, would let an empty mount point pass."""
        settings = LocalSettings(path="./nas/backups", mount=mount)
        surroundings = Surroundings(base=tmp_path, environ={}, redactor=Redactor())

        with pytest.raises(Refused, match="does not lie below a mount of its own") as refused:
            KIND.connect("disk", settings, surroundings=surroundings, clock=MovedClock(), stop=Event())
        assert refused.value.cure

    def test_the_path_is_relative_to_the_policy(self, tmp_path: Path) -> None:
        """Not to where the command is run; and it may be a link to the real place."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "link").symlink_to("elsewhere")
        surroundings = Surroundings(base=tmp_path, environ={}, redactor=Redactor())
        target = KIND.connect("disk", LocalSettings(path="./link"), surroundings=surroundings, clock=MovedClock(), stop=Event())
        target.write("hotel/x", [b"x"])

        assert b"x" == (tmp_path / "elsewhere" / "hotel" / "x").read_bytes()
        assert "host:localhost" == target.domain

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\0b", HIDDEN, f"{HIDDEN}/lock"],
    )
    def test_a_key_that_leads_elsewhere(self, target: LocalTarget, key: str, tmp_path: Path) -> None:
        """Is refused by all that takes one, and touches nothing."""
        uses: list[Callable[[], object]] = [
            lambda: target.read(key),
            lambda: target.write(key, [b"x"]),
            lambda: target.delete(key),
            lambda: target.abort(Upload(key=key, upload_id="20251025T120000Z-" + "0" * 32, begun=MovedClock().now())),
        ]
        for use in uses:
            with pytest.raises(Refused, match="is no key"):
                use()
        assert [] == list(tmp_path.iterdir())


class TestStrangers:
    """What others put into the tree."""

    def test_a_link_to_a_folder_outside(self, target: LocalTarget, root: Path, tmp_path: Path) -> None:
        """It is listed as itself, and never followed, be it to read, to write or to delete."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_bytes(b"precious")
        target.write("hotel/x", [b"x"])
        (root / "hotel" / "link").symlink_to(outside)

        assert ["hotel/link", "hotel/x"] == [item.key for item in target.list("hotel/").items]
        uses: list[Callable[[], object]] = [
            lambda: target.list("hotel/link/"),
            lambda: target.read("hotel/link/precious"),
            lambda: target.write("hotel/link/new", [b"new"]),
            lambda: target.delete("hotel/link/precious"),
        ]
        for use in uses:
            with pytest.raises(Refused, match="is a link"):
                use()
        assert {"precious": b"precious"} == {path.name: path.read_bytes() for path in outside.iterdir()}

    def test_a_link_to_a_file_outside(self, target: LocalTarget, root: Path, tmp_path: Path) -> None:
        """Reading is refused; overwriting and deleting touch the link alone."""
        outside = tmp_path / "precious"
        outside.write_bytes(b"precious")
        target.write("hotel/x", [b"x"])
        (root / "hotel" / "link").symlink_to(outside)

        with pytest.raises(Refused, match="cannot read hotel/link"):
            target.read("hotel/link")
        with pytest.raises(Conflict):
            target.write("hotel/link", [b"y"], expect=ABSENT)
        target.write("hotel/link", [b"y"])
        assert b"y" == content(target, "hotel/link")
        assert b"precious" == outside.read_bytes()

    @pytest.mark.parametrize("where", ["lock", "unfinished", ""])
    def test_a_link_in_place_of_what_is_ours(self, target: LocalTarget, root: Path, tmp_path: Path, where: str) -> None:
        """Nothing is written through it: the reserve would take the place of whatever it leads to."""
        outside = tmp_path / "outside"
        outside.mkdir()
        precious = outside / "precious"
        precious.write_bytes(b"precious")
        (root / HIDDEN / where).parent.mkdir(parents=True, exist_ok=True)
        (root / HIDDEN / where).symlink_to(precious if where == "lock" else outside)

        for expect in (None, ABSENT):
            with pytest.raises(Refused, match=r"is a link|symbolic links") as caught:
                target.write("hotel/x", [b"x"], expect=expect)
            assert "links inside a target are not followed" in f"{caught.value} {caught.value.cure}"
        assert {"precious": b"precious"} == {path.name: path.read_bytes() for path in outside.iterdir()}

    def test_a_lock_that_has_another_name(self, target: LocalTarget, root: Path, tmp_path: Path) -> None:
        """A hard link of somebody's, by which the reserve would be written into their file."""
        precious = tmp_path / "precious"
        precious.write_bytes(b"precious")
        (root / HIDDEN).mkdir(parents=True)
        os.link(precious, root / HIDDEN / "lock")
        target.write("hotel/x", [b"x"])

        assert b"precious" == precious.read_bytes()

    def test_a_snapshot_by_hard_links(self, target: LocalTarget, root: Path, tmp_path: Path) -> None:
        """It keeps nobody from having a reserve."""
        target.write("hotel/x", [b"x"])
        shutil.copytree(root, tmp_path / "snapshot", copy_function=os.link)
        assert target._give_up_reserve()
        target.write("hotel/x", [b"y"])

        assert RESERVE_BYTES == (root / HIDDEN / "lock").stat().st_size
        assert b"x" == (tmp_path / "snapshot" / "hotel" / "x").read_bytes()

    def test_a_pipe_in_place_of_the_lock(self, target: LocalTarget, root: Path) -> None:
        """It is refused, and not waited for without end."""
        (root / HIDDEN).mkdir(parents=True)
        os.mkfifo(root / HIDDEN / "lock")

        with pytest.raises(Refused, match="no plain file"):
            target.write("hotel/x", [b"x"])

    def test_a_pipe_and_a_socket(self, target: LocalTarget, root: Path) -> None:
        """They are listed, and reading them says that they are no objects instead of waiting for ever."""
        target.write("hotel/x", [b"x"])
        os.mkfifo(root / "hotel" / "pipe")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(root / "hotel" / "socket"))

        assert ["hotel/pipe", "hotel/socket", "hotel/x"] == [item.key for item in target.list("").items]
        with pytest.raises(Absent):
            target.read("hotel/pipe")
        with pytest.raises(ReconcilerError):
            target.read("hotel/socket")

    def test_a_name_that_is_no_utf_8(self, target: LocalTarget, root: Path) -> None:
        """It can be shown, so it can be reported."""
        target.write("hotel/x", [b"x"])
        Path(os.fsdecode(os.fsencode(root) + b"/hotel/\xff")).touch()

        assert ["hotel/\\xff", "hotel/x"] == [item.key for item in target.list("").items]

    def test_a_file_where_a_folder_is_needed(self, target: LocalTarget) -> None:
        """An object can't lie below another, nor at a folder; nothing is replaced."""
        target.write("hotel/x", [b"x"])

        for key in ("hotel/x/y", "hotel"):
            for expect in (None, ABSENT):
                with pytest.raises((Refused, Conflict)):
                    target.write(key, [b"y"], expect=expect)
        assert b"x" == content(target, "hotel/x")
        assert () == target.unfinished("")


class TestTheDiskSaysNo:
    def test_a_file_grows_too_large(self, target: LocalTarget) -> None:
        """The kernel refuses in mid-write: the cure is named, nothing is left."""
        target.write("hotel/dump", [b"old"])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        try:
            with pytest.raises(Refused, match="File too large") as caught:
                target.write("hotel/dump", (bytes(300_000) for _ in range(10)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert "ulimit" in caught.value.cure
        assert b"old" == content(target, "hotel/dump")
        assert () == target.unfinished("")

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
    def test_the_disk_is_full(self, tmp_path: Path) -> None:
        """A real file system of 1 MiB runs full: older objects stay, and what was begun is freed."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        try:
            target = LocalTarget("disk", disk / "backups", clock=MovedClock())
            target.write("hotel/old", [bytes(400_000)])
            with pytest.raises(Refused, match="No space left") as caught:
                target.write("hotel/new", (bytes(100_000) for _ in range(20)))

            assert "free space" in caught.value.cure
            assert ["hotel/old"] == [item.key for item in target.list("").items]
            assert () == target.unfinished("")
            target.write("hotel/new", [bytes(400_000)])
        finally:
            subprocess.run(["umount", disk], check=True)  # noqa: S607 - wherever the system has it

    @pytest.mark.parametrize("mode", [0o500, 0o000])
    def test_no_right_to_write(self, outsider: Path, mode: int) -> None:
        """A folder that we may not write to, or not even enter."""
        target = LocalTarget("disk", outsider / "backups", clock=MovedClock())
        target.write("hotel/x", [b"x"])
        (outsider / "backups").chmod(mode)
        try:
            with pytest.raises(Refused, match="Permission denied") as caught:
                target.write("reservas/x", [b"x"])
        finally:
            (outsider / "backups").chmod(0o700)

        assert "right to read and write" in caught.value.cure

    def test_a_folder_that_may_not_be_read(self, outsider: Path) -> None:
        """The listing is refused, never short."""
        target = LocalTarget("disk", outsider / "backups", clock=MovedClock())
        target.write("hotel/a/x", [b"x"])
        target.write("hotel/b/x", [b"x"])
        (outsider / "backups" / "hotel" / "a").chmod(0)
        try:
            with pytest.raises(Refused, match="Permission denied"):
                target.list("hotel/")
        finally:
            (outsider / "backups" / "hotel" / "a").chmod(0o700)

    @pytest.mark.parametrize("emptied", [True, False], ids=["emptied", "gone"])
    def test_the_disk_goes_away_while_it_is_listed(
        self, target: LocalTarget, root: Path, monkeypatch: pytest.MonkeyPatch, *, emptied: bool
    ) -> None:
        """What was seen until then does not pass for all that is there."""
        for name in "abc":
            target.write(f"{name}/x", [b"x"])
        scan, on_its_way = os.scandir, iter(range(10))

        def scandir(path: str) -> object:
            if next(on_its_way) == 2:
                root.rename(root.with_name("unmounted"))
                if emptied:
                    monkeypatch.setattr(os, "stat", on_another_disk)
                    root.mkdir()
            return scan(path)

        status = os.stat

        def on_another_disk(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            found = list(status(path, follow_symlinks=follow_symlinks))
            return os.stat_result([*found[:2], found[2] + (path == root), *found[3:]])

        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(Unreachable, match="went away while it was listed"):
            target.list("")

    @pytest.mark.parametrize("broken_off", [False, True])
    def test_a_close_that_fails(self, target: LocalTarget, root: Path, monkeypatch: pytest.MonkeyPatch, broken_off: bool) -> None:
        """Some file systems send what was written only then. It is told like any failed write, unless something failed before."""
        close = os.close

        def fail(descriptor: int) -> None:
            written = os.fstat(descriptor).st_size == len(b"hotel")
            close(descriptor)
            if written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        def chunks() -> Iterator[bytes]:
            yield b"hotel"
            if broken_off:
                raise Stopped("asked to stop")

        monkeypatch.setattr(os, "close", fail)
        kind, says = (Stopped, "asked to stop") if broken_off else (Unreachable, "cannot write hotel/x")
        with pytest.raises(kind, match=says):
            target.write("hotel/x", chunks())
        assert [] == list((root / HIDDEN / "unfinished").iterdir())

    def test_what_can_not_be_seen_is_not_gone(self, target: LocalTarget, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A deletion that could not look fails: its caller would go on with what must only go after it."""
        target.write("hotel/x", [b"x"])
        x = root / "hotel" / "x"

        honest = os.stat

        def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            if path == x:
                raise OSError(errno.EIO, "the disk is tired")
            return honest(path, follow_symlinks=follow_symlinks)

        with monkeypatch.context() as tired:
            tired.setattr(os, "stat", stat)
            tired.setattr(os, "lstat", lambda path: stat(path, follow_symlinks=False))
            with pytest.raises(Unreachable, match="cannot delete hotel/x"):
                target.delete("hotel/x")
        assert b"x" == content(target, "hotel/x")

    @pytest.mark.parametrize("expect", [None, ABSENT])
    def test_the_answer_to_a_placing_is_lost(
        self, target: LocalTarget, monkeypatch: pytest.MonkeyPatch, expect: str | None
    ) -> None:
        """NFS asks once more then, and is told what its first request did: the object is there by this very write."""
        link, rename = os.link, os.rename

        def linked_twice(source: Path, place: Path) -> None:
            link(source, place)
            link(source, place)

        def renamed_twice(source: Path, place: Path) -> None:
            rename(source, place)
            rename(source, place)

        monkeypatch.setattr(os, "link", linked_twice)
        monkeypatch.setattr(os, "rename", renamed_twice)
        stored = target.write("hotel/x", [b"x"], expect=expect)

        assert [stored] == list(target.list("").items)
        assert () == target.unfinished("")

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.ENOSPC, Refused),
            (errno.EDQUOT, Refused),
            (errno.EROFS, Refused),
            (errno.EACCES, Refused),
            (errno.EXDEV, Refused),
            (errno.EIO, Unreachable),
            (errno.ESTALE, Unreachable),
            (errno.ETIMEDOUT, Unreachable),
        ],
    )
    def test_what_a_refusal_means(self, number: int, kind: type[ReconcilerError]) -> None:
        """What a person can mend is Refused with its cure; what may mend itself is Unreachable."""
        with pytest.raises(kind, match=f"cannot look: {os.strerror(number)}") as caught, translated("cannot look"):
            raise OSError(number, "ignored")
        assert caught.value.cure

    def test_a_name_that_is_too_long(self, target: LocalTarget) -> None:
        """Is refused, and leaves nothing."""
        with pytest.raises(Refused, match="too long"):
            target.write("hotel/" + "x" * 300, [b"x"])
        assert () == target.unfinished("")

    def test_a_file_system_without_links(self, target: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
        """If-absent holds there too (exFAT, some network file systems)."""

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", no_links)
        target.write("hotel/lease", [b"1"], expect=ABSENT)

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"2"], expect=ABSENT)
        assert b"1" == content(target, "hotel/lease")
        assert () == target.unfinished("")

    def test_a_writer_that_knows_no_lock(self, target: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
        """If-absent holds against it too: what comes between looking and placing is not replaced."""
        target.write("hotel/lease", [b"1"])
        monkeypatch.setattr(os.path, "lexists", lambda _: False)

        with pytest.raises(Conflict):
            target.write("hotel/lease", [b"2"], expect=ABSENT)
        assert b"1" == content(target, "hotel/lease")

    def test_the_lock_is_never_let_go(self, tmp_path: Path) -> None:
        """Whoever holds it for long is not waited for without end."""
        clock = MovedClock()
        with (
            locked(tmp_path / "lock", SystemClock()),
            pytest.raises(Unreachable, match="has been locked"),
            locked(tmp_path / "lock", clock),
        ):
            pass

        assert LOCK_SECONDS < clock.monotonic() < LOCK_SECONDS + 1


class TestUnfinished:
    @contextmanager
    def writing(self, root: Path, grown: int) -> Iterator[None]:
        """Another process in the middle of a write, killed afterwards."""
        writer = subprocess.Popen([sys.executable, "-c", WRITER, root], cwd=Path(__file__).parents[2])
        hidden = root / HIDDEN / "unfinished"
        try:
            wait_for(
                lambda: any(path.stat().st_size >= grown for path in hidden.glob("*")), seconds=60, what="the write to begin"
            )
            yield
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()

    def test_the_next_write_removes_what_a_dead_writer_left(self, target: LocalTarget, root: Path) -> None:
        """A lease's own unfinished write would else stay for ever: nothing names it."""
        with self.writing(root, grown=65_536):
            target.write("hotel/x", [b"x"])
            assert ["hotel/backups/x/dump.zst"] == [upload.key for upload in target.unfinished("")]
        target.write("hotel/y", [b"y"])

        assert () == target.unfinished("")
        assert ["hotel/x", "hotel/y"] == [item.key for item in target.list("").items]

    def test_two_writers_leave_each_other_alone(self, target: LocalTarget) -> None:
        """One write begins while another is on its way."""

        def chunks() -> Iterator[bytes]:
            yield b"first"
            target.write("hotel/y", [b"second"])

        target.write("hotel/x", chunks())
        assert b"first" == content(target, "hotel/x")

    @pytest.mark.parametrize("grown", [0, 65_536, 3_000_000])
    def test_killed_in_mid_write(self, target: LocalTarget, root: Path, grown: int) -> None:
        """After `kill -9` nothing is listed, the rest is found with key and instant, and can be freed."""
        hidden = root / HIDDEN / "unfinished"
        with self.writing(root, grown):
            pass

        assert () == target.list("").items
        (upload,) = target.unfinished("hotel/")
        assert () == target.unfinished("reservas/")
        assert "hotel/backups/x/dump.zst" == upload.key
        assert abs(SystemClock().now() - upload.begun).total_seconds() < 60
        target.abort(upload)
        assert () == target.unfinished("")
        assert [] == list(hidden.iterdir())

    def test_killed_between_the_name_and_the_end(self, target: LocalTarget, root: Path) -> None:
        """The object is whole then: freeing what is left of its write leaves it alone."""
        stored = target.write("hotel/x", [b"x"])
        left = f"20251025T120000Z-{'0' * 32}.hotel%2Fx"
        os.link(root / "hotel" / "x", root / HIDDEN / "unfinished" / left)
        (upload,) = target.unfinished("hotel/")
        target.abort(upload)

        assert (stored,) == target.list("").items
        assert b"x" == content(target, "hotel/x")
        assert () == target.unfinished("")

    def test_only_our_own_form_is_freed(self, target: LocalTarget, root: Path) -> None:
        """Other files in the hidden folder are not ours to list or remove, nor is what lies elsewhere."""
        target.write("hotel/x", [b"x"])
        (root / HIDDEN / "unfinished" / "notes.txt").touch()

        assert () == target.unfinished("")
        with pytest.raises(Refused, match="no unfinished write"):
            target.abort(Upload(key="x", upload_id="../../hotel", begun=MovedClock().now()))
        assert b"x" == content(target, "hotel/x")


class TestTogether:
    def test_writers_and_deleters_in_one_folder(self, target: LocalTarget, root: Path) -> None:
        """Folders are removed when they are empty, and never under a writer's feet."""

        def come_and_go(number: int) -> None:
            for _ in range(40):
                target.write(f"hotel/backups/x/{number}", [b"x"], expect=ABSENT)
                target.delete(f"hotel/backups/x/{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(come_and_go, range(4)))

        assert () == target.list("").items
        assert [HIDDEN] == [path.name for path in root.iterdir()]

    def test_of_eight_renewals_one_wins(self, target: LocalTarget) -> None:
        """Eight threads overwrite the same content: one succeeds."""
        lease = target.write("hotel/lease", [b"0"])

        def renew(number: int) -> bool:
            try:
                target.write("hotel/lease", [str(number).encode()], expect=lease.etag)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert 1 == sum(pool.map(renew, range(8)))

    def test_a_clock_that_ticks_slowly(self, tmp_path: Path) -> None:
        """Files finished within one tick of the clock still differ in their time, by less than a millisecond."""
        now = datetime(2025, 10, 25, 12, 0, 0, 123_000, UTC)
        times = []
        for number in range(100):
            with (tmp_path / str(number)).open("wb") as file:
                times.append(finish(file.fileno(), now).st_mtime_ns)

        # One in a million is drawn twice.
        assert 98 <= len(set(times))
        assert {1_761_393_600_123} == {time // 1_000_000 for time in times}
