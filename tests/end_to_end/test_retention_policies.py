"""Copies in a bucket whose own retention policy keeps all that is written there, as docs/gcs.md advises."""

import pytest

from tests.end_to_end.conftest import Stand
from tests.servers.gcs import StrictGcs, strict_gcs

__all__ = ["strict_gcs"]

VAULT = '  vault: {{type: gcs, bucket: "{bucket}", endpoint: "{endpoint}", domain: google}}\n'


@pytest.fixture
def bucket(strict_gcs: StrictGcs) -> str:
    return strict_gcs.new_bucket(retentionPolicy={"retentionPeriod": "86400"})


@pytest.fixture
def vaulted(stand: Stand, strict_gcs: StrictGcs, bucket: str) -> Stand:
    """The stand's policy, with copies in such a bucket."""
    stand.rewrite("  disk: {type: local, path: ./disk}\n", VAULT.format(bucket=bucket, endpoint=strict_gcs.endpoint))
    stand.rewrite("[primary, disk]", "[primary, vault]")
    return stand


def test_copies_are_made_and_nothing_fails_after(vaulted: Stand) -> None:
    """What the bucket keeps of a copy's own records for a while is no failure of any turn, and nobody's to do."""
    vaulted.run("apply", "--yes")
    again = vaulted.run("apply", "--yes").stdout

    assert "intent.json is locked until" in again
    assert [["primary", "vault"]] == [sorted(backup["targets"]) for backup in vaulted.backups()]


def test_pruned_once_the_bucket_lets_it_go(vaulted: Stand, strict_gcs: StrictGcs, bucket: str) -> None:
    """Until then the deletion is put off, each time that it is tried; leftovers go with the rest."""
    vaulted.run("backups", "take")
    vaulted.run("backups", "take")
    vaulted.run("apply", "--yes")
    (oldest, *_) = sorted(backup["id"] for backup in vaulted.backups())
    vaulted.run("backups", "delete", oldest, "--grace", "0")
    vaulted.run("apply", "--yes")
    kept = [name for name in strict_gcs.buckets[bucket].objects if oldest in name]
    for each in strict_gcs.buckets[bucket].objects.values():
        each.kept_until = None
    vaulted.run("apply", "--yes")

    assert any(name.endswith("/manifest.json") for name in kept)
    assert not [name for name in strict_gcs.buckets[bucket].objects if name.endswith("/intent.json")]


def test_a_copy_that_broke_off(vaulted: Stand, strict_gcs: StrictGcs, bucket: str) -> None:
    """What it left is no failure while it is locked; once it is not it is swept, and the copy made again."""
    vaulted.run("apply", "--yes")
    objects = strict_gcs.buckets[bucket].objects
    (manifest,) = [name for name in objects if name.endswith("/manifest.json")]
    del objects[manifest]
    vaulted.run("apply", "--yes")
    left = list(objects)
    strict_gcs.buckets[bucket].settings.clear()
    for each in objects.values():
        each.kept_until = None
    vaulted.run("apply", "--yes")
    vaulted.run("apply", "--yes")

    assert manifest not in left
    assert [["primary", "vault"]] == [sorted(backup["targets"]) for backup in vaulted.backups()]
