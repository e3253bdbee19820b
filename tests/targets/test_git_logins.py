"""Names and tokens for a git host: given to git as they are written, and never shown. Real git; no host."""

import os
import shutil
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Refused
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings, Text
from reconciler.targets.git_lfs import KIND, GitLfsSettings
from reconciler.targets.git_lfs_target import GitLfsTarget
from reconciler.targets.git_program import Git, Login
from reconciler.world.clock import SystemClock


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed here")
@pytest.mark.parametrize(
    ("user", "token"),
    [("bot", "plain"), ("bot", r"back\slash\now"), ("bot", r"cut\ching"), (r"DOM\nick", "plain"), ("bot", "%s $HOME `id` '\"")],
)
def test_git_is_given_them_as_they_are(tmp_path: Path, user: str, token: str) -> None:
    """No shell on the way reads anything into them."""
    login = Login(user=user, token=token)
    git = Git("lfs", tmp_path, remote="https://git.example.com/x.git", login=login, environ=os.environ, stop=Event())
    told = git.ask("credential", "fill", given=b"protocol=https\nhost=git.example.com\n\n", within=False)

    assert [f"username={user}", f"password={token}"] == told.decode().splitlines()[2:4]


@pytest.mark.parametrize("remote", ["https://ghp_hunter2@github.com/ops/x.git", "https://bot@git.example.com/x.git"])
def test_a_name_in_the_remote(tmp_path: Path, remote: str) -> None:
    """It may be a token, which the target's place would show; and `user` would be sent in its stead."""
    with pytest.raises(Refused, match=r"targets\.repo\.remote holds a name") as caught:
        connected(tmp_path, remote)
    assert "`user`" in caught.value.cure
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("remote", ["ssh://git@git.example.com/ops/x.git", "git@git.example.com:ops/x.git"])
def test_a_name_for_ssh(tmp_path: Path, remote: str) -> None:
    """Is no secret: hosts tell all to write it."""
    assert remote == connected(tmp_path, remote).place


def connected(base: Path, remote: str) -> GitLfsTarget:
    settings = GitLfsSettings(path="own.git", remote=Text.parse(remote), push=True)
    surroundings = Surroundings(base=base, environ=os.environ, redactor=Redactor())
    target: GitLfsTarget = KIND.connect("repo", settings, surroundings=surroundings, clock=SystemClock(), stop=Event())
    return target
