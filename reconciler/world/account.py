"""Whom servers run as: PostgreSQL refuses root, so root lends them an account that owns nothing else."""

import os
import pwd
import stat
from pathlib import Path
from typing import TypedDict

import msgspec

_NOBODY = 65534
"""The uid and gid of `nobody` on Linux, where /etc/passwd doesn't say."""


class PopenAccount(TypedDict, total=False):
    """What subprocess.Popen takes to drop privileges."""

    user: int
    group: int
    extra_groups: list[int]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account to run a server as."""

    uid: int
    gid: int


def dropping_to(account: Account | None) -> PopenAccount:
    """Arguments for subprocess that drop to this account, supplementary groups included; none for ourselves."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def lent_account() -> Account | None:
    """The account that a server must run as: `nobody` when we are root, else None, ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(uid=_NOBODY, gid=_NOBODY)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def anybody_reaches(path: Path) -> bool:
    """Whether any account may walk down to `path` and run or enter it."""
    real = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (real, *real.parents))
