"""A program's run opens each target once, however many databases and commands ask for it."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from reconciler.connect import KINDS, Means, connect, open_target
from reconciler.policy import load
from reconciler.policy.model import Policy
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.targets import s3_bucket
from reconciler.targets.unusable import UnusableTarget
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.pool import InlinePool
from reconciler.world.process import SystemProcess

POLICY = b"""version: 1
metadata: {name: hotels, owner: nobody}
targets:
  vault: {type: s3, bucket: vault, prefix: "backups/", endpoint: "http://127.0.0.1:9", region: us-east-1,
          access_key_id: "${KEY}", secret_access_key: "${SECRET}"}
databases:
  hotel:
    source: {provider: postgres, url: "${HOTEL}"}
    encryption: none
    dumps: {schedule: "0 2 * * *", targets: [vault]}
  annex:
    source: {provider: postgres, url: "${ANNEX}"}
    encryption: none
    dumps: {schedule: "0 2 * * *", targets: [vault]}
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of the clients that were made."""
    names: list[str] = []
    make = s3_bucket.make_client

    def counted(target: str, *arguments: Any, **more: Any) -> Any:
        names.append(target)
        return make(target, *arguments, **more)

    monkeypatch.setattr(s3_bucket, "make_client", counted)
    return names


def means_with(environ: dict[str, str], tmp_path: Path) -> Means:
    return Means(
        surroundings=Surroundings(base=tmp_path, environ=environ, redactor=Redactor()), clock=SystemClock(),
        process=SystemProcess(), pool=InlinePool(), cache=FileCache(tmp_path / "cache"), stop=Event(), tell=lambda _: None,
        token=token,
    )  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return load(POLICY, KINDS, path=tmp_path / "backup-policy.yaml")


def test_one_client_for_all(policy: Policy, made: list[str], tmp_path: Path) -> None:
    """Each client costs what a small command takes, and has connections of its own."""
    means = means_with({"KEY": "key", "SECRET": "secret", "HOTEL": "", "ANNEX": ""}, tmp_path)

    for want in policy.databases.values():
        connect(policy, want, means, writable=True)
    open_target(policy, "vault", means, writable=False)

    assert made == ["vault"]


def test_who_may_only_read_does_not_get_what_another_may_do(policy: Policy, made: list[str], tmp_path: Path) -> None:
    """What is shared is the client. Rights, rates and patience belong to whoever asked."""
    means = means_with({"KEY": "key", "SECRET": "secret"}, tmp_path)

    written, _ = open_target(policy, "vault", means, writable=True)
    read, _ = open_target(policy, "vault", means, writable=False)

    assert made == ["vault"]
    assert type(written) is not type(read)
    assert type(read).__name__ == "ReadOnly"


def test_what_could_not_be_opened_is_tried_again(policy: Policy, made: list[str], tmp_path: Path) -> None:
    environ = {"SECRET": "secret"}
    means = means_with(environ, tmp_path)
    assert isinstance(open_target(policy, "vault", means, writable=False)[0], UnusableTarget)

    environ["KEY"] = "key"
    assert not isinstance(open_target(policy, "vault", means, writable=False)[0], UnusableTarget)
    assert made == ["vault"]
