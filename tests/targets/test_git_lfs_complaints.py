"""What git's and git-lfs's complaints are taken for."""

import os
import subprocess
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.targets.git_program import Git


def fault(complaint: str) -> ReconcilerError:
    git = Git("lfs", Path("/repository"), remote="https://git.example.com/x.git", login=None, environ=os.environ, stop=Event())
    return git.fault("push", subprocess.CompletedProcess(["git"], 1, b"", complaint.encode()))


@pytest.mark.parametrize(
    ("complaint", "kind", "cure"),
    [
        ("fatal: unable to access 'https://…': The requested URL returned error: 403", Refused, "the right to push"),
        ("error: RPC failed; HTTP 401 curl 22 The requested URL returned error: 401", Refused, "the right to push"),
        ("batch response: Fatal error: no from HTTP 403", Refused, "the right to push"),
        ("error transferring \"ab\": [403] not yours", Refused, "the right to push"),
        ("Authorization error: https://…", Refused, "the right to push"),
        ("fatal: unable to access 'https://…': The requested URL returned error: 404", Refused, "make the repository"),
        ("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502", Unreachable, "the network"),
        ("fatal: cannot mkdir backups.git: Permission denied", Refused, "write in that folder"),
        ("error: insufficient permission for adding an object to repository database objects", Refused, "write in that folder"),
        ("fatal: cannot mkdir backups.git: Read-only file system", Refused, "write in that folder"),
        ("git@git.example.com: Permission denied (publickey).\nfatal: Could not read from remote", Refused, "the right to push"),
        ("remote: fatal: Unable to create temporary file './x': Permission denied", Refused, "the right to push"),
        ("LFS: Client error: https://… from HTTP 413", Refused, "`max_object`"),
        ("[507] Insufficient storage", Refused, "free space there"),
        ("[509] Bandwidth limit exceeded", Refused, "limit on traffic"),
        ("[429] Too many requests", Unreachable, "the network"),
    ],
)  # fmt: skip
def test_what_a_host_answers(complaint: str, kind: type[ReconcilerError], cure: str) -> None:
    """By its status, however it is told."""
    error = fault(complaint)

    assert isinstance(error, kind)
    assert cure in error.cure


@pytest.mark.parametrize(
    "complaint",
    [
        "fatal: bad object a403b401c0ffee0000000000000000000000000d",
        "error: 403e1c0ffee0000000000000000000000000000d: object corrupt",
        "error: 512e1c0ffee0000000000000000000000000000d: object corrupt",
        "error: 401 is not a valid name",
        "Writing objects: 100% (403/403), 401 bytes, done.\nfatal: the remote end hung up",
        "batch response: 4290 objects, 5030 bytes, HTTP 4040",
    ],
)
def test_digits_that_are_no_status(complaint: str) -> None:
    """Of hashes, counts and sizes: the cure of a status would send people the wrong way."""
    error = fault(complaint)

    assert "see whether disk and remote are in order" == error.cure
