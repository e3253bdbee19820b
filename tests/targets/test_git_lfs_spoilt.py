"""A repository whose disk has lost something of git's own: never taken for one that holds less. Real git; no large files."""

import os
import shutil
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Refused
from reconciler.targets.git_lfs_repository import Repository
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.world.clock import SystemClock
from reconciler.world.ports import ABSENT
from tests.servers.git import content, git, keys, new_remote

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
