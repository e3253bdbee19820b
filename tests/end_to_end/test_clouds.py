"""Backups at Google and at Azure, as a user keeps them: dumped there, copied across, looked at, pruned, read back."""

import shutil

import pytest

from tests.end_to_end.conftest import Stand
from tests.servers.azure import KEY, AzureServer, azure_server
from tests.servers.gcs import StrictGcs, strict_gcs

__all__ = ["azure_server", "strict_gcs"]

TARGETS = """targets:
  google: {{type: gcs, bucket: "{bucket}", prefix: "pg/", endpoint: "{google}", domain: google}}
  azure: {{type: azure, account: devstoreaccount1, container: "{container}", endpoint: "{azure}", account_key: "${{KEY}}"}}
databases:"""


@pytest.fixture
def clouds(stand: Stand, strict_gcs: StrictGcs, azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """The stand's policy, with `google` for a home and copies on `azure`."""
    text = stand.policy.read_text()
    targets = TARGETS.format(
        bucket=strict_gcs.new_bucket(),
        google=strict_gcs.endpoint,
        container=azure_server.new_container(),
        azure=azure_server.endpoint,
    )
    head, _, rest = text.partition("targets:")
    stand.policy.write_text(head + targets + rest.partition("databases:")[2].replace("[primary, disk]", "[google, azure]"))
    monkeypatch.setenv("KEY", KEY)
    return stand


def test_dumped_copied_and_read_back(clouds: Stand) -> None:
    """One `apply` dumps to the home and copies to the other; a copy reads back with the home gone, and nothing is due after."""
    clouds.run("apply", "--yes")
    (backup,) = clouds.backups()
    clouds.run("backups", "fetch", backup["id"], "--from", "azure", "--output", "hotel.dump")
    clouds.run("plan")

    assert ["azure", "google"] == sorted(backup["targets"])
    assert (clouds.folder / "hotel.dump").read_bytes().startswith(b"PGDMP")


def test_the_doctor_finds_all_in_order(clouds: Stand) -> None:
    """Every request that a backup will make is made, nothing of it is left, and what Google can't show is a note."""
    ran = clouds.json("doctor", expect=None)
    found = [
        (each["severity"], each["where"]) for each in ran["databases"][0]["findings"] if each["where"] in ("google", "azure")
    ]

    assert [("note", "google")] == found
    assert [] == clouds.backups()


def test_pruned_by_hand(clouds: Stand) -> None:
    """A deletion takes every copy, once it is due."""
    clouds.run("backups", "take")
    clouds.run("backups", "take")
    clouds.run("apply", "--yes")
    ids = [backup["id"] for backup in clouds.backups()]
    clouds.run("backups", "delete", ids[-1], "--grace", "0")
    clouds.run("apply", "--yes")

    left = [backup["id"] for backup in clouds.backups() if backup["state"] == "whole"]
    assert ids[:-1] == left


def test_a_first_policy(stand: Stand) -> None:
    """`init` writes one for each cloud, and `validate` takes it."""
    stand.run("init", "--gcs-bucket", "backups-hotel", "--azure", "backupshotel/vault", "--prefix", "pg/", "-p", "first.yaml")
    shutil.copy(stand.folder / "first.yaml", stand.policy)
    stand.run("validate", DATABASE_URL="postgresql://localhost/hotel", expect=0)

    assert "google" in stand.policy.read_text()
    assert 'container: "vault"' in stand.policy.read_text()
