"""Two targets in one place hold one copy."""

from pathlib import Path
from threading import Event

import pytest

from reconciler.connect import KINDS, Means, connect
from reconciler.errors import Refused
from reconciler.policy import load
from reconciler.policy.lint import lint
from reconciler.policy.loading import places
from reconciler.policy.model import Policy
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.policy.sites import shared_sites, sites_of
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.pool import InlinePool
from reconciler.world.process import SystemProcess

TEXT = """version: 1
metadata: {{name: twice, owner: nobody}}
targets:
  one: {one}
  other: {other}
databases:
  hotel:
    source: {{provider: postgres, url: "${{DATABASE_URL}}"}}
    encryption: none
    dumps: {{schedule: "0 2 * * *", targets: [one, other], retention: {{keep_last: 3}}}}
"""

DISK = "{type: local, path: ./disk}"
S3 = "{type: s3, bucket: backups, prefix: hotel/}"
CLOUD = "endpoint: https://store.example"

SAME = [
    (DISK, "{type: local, path: ./x/../disk, domain: nas}"),
    (DISK, "{type: local, path: ./link, domain: nas}"),
    (DISK, "{type: local, path: ./disk/hotel}"),
    ("{type: local, path: ./disk/hotel}", DISK),
    (S3, "{type: s3, bucket: backups, prefix: hotel, region: eu-west-1, domain: elsewhere}"),
    (S3, "{type: s3, bucket: backups}"),
    (f"{{type: s3, bucket: backups, {CLOUD}}}", f"{{type: s3, bucket: backups, {CLOUD}/, profile: other}}"),
    ("{type: gcs, bucket: backups}", "{type: gcs, bucket: backups, prefix: a/b/}"),
    ("{type: azure, account: backups, container: pg-one}", "{type: azure, account: backups, container: pg-one, prefix: a}"),
    (S3, "{type: s3, bucket: backups, prefix: hotel/, endpoint: https://s3.eu-west-1.amazonaws.com}"),
    ("{type: gcs, bucket: backups}", "{type: gcs, bucket: backups, endpoint: https://storage.googleapis.com/}"),
    (
        "{type: azure, account: backups, container: pg-one}",
        "{type: azure, account: backups, container: pg-one, endpoint: https://backups.blob.core.windows.net}",
    ),
    (f"{{type: s3, bucket: backups, {CLOUD}}}", "{type: s3, bucket: backups, endpoint: https://STORE.example:443}"),
]
APART = [
    (DISK, "{type: local, path: ./disk2}"),
    (S3, "{type: s3, bucket: backups, prefix: hotel2/}"),
    (S3, f"{{type: s3, bucket: backups, prefix: hotel/, {CLOUD}}}"),
    (S3, "{type: gcs, bucket: backups, prefix: hotel/}"),
    (f"{{type: s3, bucket: backups, {CLOUD}}}", "{type: s3, bucket: backups, endpoint: https://store.example:8443}"),
    ("{type: azure, account: backups, container: pg-one}", "{type: azure, account: backups2, container: pg-one}"),
]


def _policy(folder: Path, one: str, other: str) -> tuple[bytes, Policy]:
    (folder / "disk").mkdir()
    (folder / "link").symlink_to(folder / "disk")
    text = TEXT.format(one=one, other=other).encode()
    return text, load(text, KINDS, path=folder / "policy.yaml")


def _errors(folder: Path, one: str, other: str) -> list[str]:
    text, policy = _policy(folder, one, other)
    found = lint(policy, places(text, folder / "policy.yaml"), now=SystemClock().now(), sites=sites_of(policy, KINDS, folder))
    return [finding.what for finding in found if finding.severity == "error"]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_in_one_place(tmp_path: Path, one: str, other: str) -> None:
    """However it is written: equal, inside or around."""
    assert ["it shares its place with one: a second copy there would be none"] == _errors(tmp_path, one, other)


def test_told_once(tmp_path: Path) -> None:
    """What is wrong of a target is wrong for each database that uses it."""
    text = (TEXT + TEXT.partition("databases:\n")[2].replace("hotel:", "motel:")).format(one=DISK, other=DISK).encode()
    policy = load(text, KINDS, path=tmp_path / "policy.yaml")

    found = lint(policy, places(text, tmp_path / "policy.yaml"), now=SystemClock().now(), sites=sites_of(policy, KINDS, tmp_path))

    assert {"hotel", "motel"} == set(policy.databases)
    assert 1 == sum("shares its place" in finding.what for finding in found)


@pytest.mark.parametrize(("one", "other"), APART)
def test_apart(tmp_path: Path, one: str, other: str) -> None:
    """What only looks alike is told apart."""
    assert [] == _errors(tmp_path, one, other)


def test_targets_that_no_database_uses_together() -> None:
    """May share a place: two sets of keys for one bucket, say."""
    assert {} == shared_sites(("one", "third"), {"one": "local:/a", "other": "local:/a", "third": "local:/b"})


def test_a_second_copy_there_is_unknown(tmp_path: Path) -> None:
    """A link that was made since the policy was validated: nothing is met by it, and the first target goes on being used."""
    _, policy = _policy(tmp_path, DISK, "{type: local, path: ./link, domain: nas}")
    means = Means(
        surroundings=Surroundings(base=tmp_path, environ={"DATABASE_URL": "postgres://h/d"}, redactor=Redactor()),
        clock=SystemClock(),
        process=SystemProcess(),
        pool=InlinePool(),
        cache=FileCache(tmp_path / "cache"),
        stop=Event(),
        tell=lambda _: None,
        token=token,
    )

    world = connect(policy, policy.databases["hotel"], means, writable=False)

    assert () == world.targets["one"].list("hotel/").items
    with pytest.raises(Refused, match="other: it shares its place with one"):
        world.targets["other"].list("hotel/")
