"""Somebody changes the remote between our look and our push. Real git; no large files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Conflict
from reconciler.world.ports import ABSENT
from tests.servers.git import content, git, keys, new_remote, over

LEASE = "hotel/lease.json"


@pytest.fixture(autouse=True)
def _program() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed here")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    return new_remote(tmp_path)


def just_before_the_push(monkeypatch: pytest.MonkeyPatch, target: Any, *words: str) -> None:
    """That is done to the remote, once."""
    repository = target._repository
    prepare = repository._prepare

    def prepared(*given: Any) -> str:
        made: str = prepare(*given)
        monkeypatch.undo()
        git(Path(repository.remote.removeprefix("file://")), *words)
        return made

    monkeypatch.setattr(repository, "_prepare", prepared)


@pytest.mark.parametrize(
    ("words", "left"),
    [(("update-ref", "refs/heads/main", "refs/heads/old"), [LEASE]), (("update-ref", "-d", "refs/heads/main"), [])],
    ids=["set back", "deleted"],
)
def test_a_history_that_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Path, *, words: tuple[str, ...], left: list[str]
) -> None:
    """A condition is about what the remote holds when the push comes: nothing that was taken away is there again."""
    target = over(remote.as_uri(), tmp_path)
    first = target.write(LEASE, [b"1"])
    git(remote, "branch", "old", "main")
    second = target.write(LEASE, [b"2"], expect=first.etag)
    just_before_the_push(monkeypatch, target, *words)

    with pytest.raises(Conflict):
        target.write(LEASE, [b"3"], expect=second.etag)
    assert left == keys(over(remote.as_uri(), tmp_path, name="other.git"))


def test_without_a_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Path) -> None:
    """The write is made anew on what the remote holds by then."""
    target = over(remote.as_uri(), tmp_path)
    target.write("hotel/a.json", [b"a"])
    git(remote, "branch", "old", "main")
    target.write("hotel/b.json", [b"b"])
    just_before_the_push(monkeypatch, target, "update-ref", "refs/heads/main", "refs/heads/old")
    target.write("hotel/c.json", [b"c"])

    assert ["hotel/a.json", "hotel/c.json"] == keys(over(remote.as_uri(), tmp_path, name="other.git"))


def test_a_remote_that_takes_no_force(tmp_path: Path, remote: Path) -> None:
    """None is used: the right to it, which the docs page advises against, is not needed."""
    git(remote, "config", "receive.denyNonFastForwards", "true")
    git(remote, "config", "receive.denyDeletes", "true")
    target = over(remote.as_uri(), tmp_path)
    for number in range(3):
        target.write(LEASE, [b"%d" % number])

    assert b"2" == content(target, LEASE)


def test_the_first_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Path) -> None:
    """Where nothing was, and something is by then, only one writes."""
    target, other = over(remote.as_uri(), tmp_path), over(remote.as_uri(), tmp_path, name="other.git")
    other.write(LEASE, [b"other"])
    git(remote, "branch", "-m", "main", "aside")
    just_before_the_push(monkeypatch, target, "branch", "-m", "aside", "main")

    with pytest.raises(Conflict):
        target.write(LEASE, [b"ours"], expect=ABSENT)
    assert b"other" == content(other, LEASE)
