"""Backups in a git repository, as a user keeps them: a disk for a home, copies pushed to a remote."""

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Stand
from tests.servers.git import git, large_files, need_git_lfs, new_remote


@pytest.fixture
def repository(stand: Stand) -> Path:
    """The stand's policy, with `disk` for a home and copies in a repository; its remote."""
    need_git_lfs()
    remote = new_remote(stand.folder)
    head, _, rest = stand.policy.read_text().partition("  primary:")
    rest = rest.partition("  disk:")[2].replace("[primary, disk]", "[disk, repository]")
    target = "  repository: {type: git_lfs, path: ./backups.git, remote: ./remote.git, push: true, domain: elsewhere}\n  disk:"
    stand.policy.write_text(head + target + rest)
    return remote


def test_dumped_copied_and_read_back(stand: Stand, repository: Path) -> None:
    """A copy is pushed, and reads back on another machine from the remote alone; nothing is due after."""
    stand.run("apply", "--yes")
    (backup,) = stand.backups()
    shutil.rmtree(stand.folder / "backups.git")
    stand.run("backups", "fetch", backup["id"], "--from", "repository", "--output", "hotel.dump")
    stand.run("plan")

    assert ["disk", "repository"] == sorted(backup["targets"])
    assert (stand.folder / "hotel.dump").read_bytes().startswith(b"PGDMP")
    assert f"hotel/backups/{backup['id']}/dump.zst" in git(repository, "ls-tree", "-r", "--name-only", "main")


def test_the_doctor_finds_all_in_order(stand: Stand, repository: Path) -> None:
    """Every request that a backup will make is made, and nothing of it is left on the tip."""
    ran = stand.json("doctor", expect=None)

    assert [] == [each for each in ran["databases"][0]["findings"] if each["where"] == "repository"]
    assert [".gitattributes"] == git(repository, "ls-tree", "-r", "--name-only", "main").splitlines()


def test_a_poor_home(stand: Stand, repository: Path) -> None:
    """`validate` warns of a home whose history keeps every lease."""
    stand.rewrite("[disk, repository]", "[repository, disk]")

    assert "repository is a poor home" in stand.run("validate").stdout


def test_a_first_policy(stand: Stand) -> None:
    """`init` puts a disk before the repository, as its home."""
    stand.run("init", "--git-remote", "https://git.example.com/ops/backups.git", "-p", "first.yaml")
    shutil.copy(stand.folder / "first.yaml", stand.policy)
    ran = stand.run("validate", DATABASE_URL="postgresql://localhost/hotel")

    assert "targets: [disk, repository]" in stand.policy.read_text()
    assert "poor home" not in ran.stdout


@pytest.mark.parametrize("left", [None, b"cut", "changed"])
def test_what_the_remote_lost(stand: Stand, repository: Path, left: bytes | str | None) -> None:
    """Only the remote is asked: the copy there is bad, though this very machine pushed it, and the disk's is good."""
    stand.run("apply", "--yes")
    dump = max(large_files(repository), key=lambda file: file.stat().st_size)
    content = dump.read_bytes()
    dump.unlink()
    if left is not None:
        dump.write_bytes(left if isinstance(left, bytes) else bytes(len(content)))
    evidence = stand.json("backups", "verify", "--level", "hash", expect=1)["evidence"]

    assert [("disk", "passed"), ("repository", "failed")] == [(one["target"], one["result"]) for one in evidence]


@pytest.mark.parametrize("left", [None, b"cut"])
def test_what_was_lost_here(stand: Stand, repository: Path, left: bytes | None) -> None:
    """Without a push, the list alone shows that the copy is damaged: it counts no more, and the plan says so."""
    stand.rewrite(", push: true", "")
    stand.run("apply", "--yes")
    own = stand.folder / "backups.git"
    dump = max(large_files(own), key=lambda file: file.stat().st_size)
    dump.unlink()
    if left is not None:
        dump.write_bytes(left)

    (backup,) = stand.backups()

    assert ["disk"] == backup["targets"]
    assert f"backup {backup['id']} is damaged: dump.zst" in stand.run("plan", expect=None).stdout
