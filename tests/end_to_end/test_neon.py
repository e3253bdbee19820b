"""The whole program with a database at Neon: dumped through a branch, killed in the midst of it, restored elsewhere."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reconciler.sandbox.neon.asking import order_fault
from reconciler.sandbox.neon.faults import Fault
from reconciler.sandbox.patience import wait_for
from tests.end_to_end.conftest import DAILY, HOUR
from tests.servers.neon import NeonServer

POLICY = """version: 1
metadata: {{name: test, owner: nobody}}
targets:
  disk: {{type: local, path: ./disk}}
databases:
  hotel:
    source: {{provider: neon, project: {project}, branch: main, database: hotel, role: hotel_owner, api_key: "${{NEON_API_KEY}}",
              api_host: "{api_host}"}}
    encryption: none
    objectives: {{rpo: 26h}}
    dumps:
      schedule: "{daily}"
      targets: [disk]
      retention: {{keep_last: 3}}
"""


class NeonStand(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a policy in it, and the Neon that it names."""

    folder: Path
    neon: NeonServer

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """A command that goes on while the test does."""
        environment = {**os.environ, "NEON_API_KEY": self.neon.api_key, "XDG_CACHE_HOME": str(self.folder / "cache")}
        argv = [sys.executable, "-m", "reconciler.cli.main", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, expect: int = 0) -> str:
        """One command, to its end; what it says."""
        child = self.begin(*words)
        said, complained = child.communicate(timeout=120)
        assert child.returncode == expect, f"exit {child.returncode}\n{said}\n{complained}"
        assert "Traceback" not in complained
        assert self.neon.api_key not in said + complained
        return said

    def rest(self) -> None:
        """The main branch's compute rests."""
        (endpoint,) = self.neon.get(f"/branches/{self.neon.main}/endpoints")["endpoints"]
        self.neon.wait()
        self.neon.post(f"/endpoints/{endpoint['id']}/suspend")

    def ours(self) -> list[dict[str, Any]]:
        """Branches at Neon that bear our name."""
        found = self.neon.get("/branches", search="reconciler-")["branches"]
        return [branch for branch in found if branch["name"].startswith("reconciler-hotel-")]

    def manifests(self) -> list[dict[str, Any]]:
        """Of all backups on the disk."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / "disk").rglob("manifest.json"))]


@pytest.fixture
def stand(own_neon: Callable[..., NeonServer], tmp_path: Path) -> NeonStand:
    """Nothing was ever backed up here."""
    neon = own_neon(with_hotel=True)
    neon.wait()
    neon.patch("", {"project": {"history_retention_seconds": 86400}})
    neon.patch(f"/branches/{neon.main}", {"branch": {"protected": False}})
    neon.put(f"/branches/{neon.main}/backup_schedule", {"schedule": []})
    text = POLICY.format(project=neon.project_id, api_host=neon.api_host, daily=DAILY)
    (tmp_path / "backup-policy.yaml").write_text(text)
    return NeonStand(folder=tmp_path, neon=neon)


@pytest.mark.parametrize("at", ["/operations/", "/connection_uri"])
def test_killed_in_the_midst_of_a_dump(stand: NeonStand, at: str) -> None:
    """The branch that it made ends by itself; the next turn does not wait for that, sweeps it, and takes the backup."""
    stand.rest()
    order_fault(stand.neon.folder, Fault(kind="slow", seconds=60, path=at, method="GET", times=9))
    child = stand.begin("apply", "--yes")
    (branch,) = wait_for(lambda: stand.ours() or None, seconds=60, what="the branch of a dump")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    order_fault(stand.neon.folder, None)
    assert branch["expires_at"]

    stand.run("apply", "--yes")

    (manifest,) = stand.manifests()
    stand.neon.wait()
    assert [] == stand.ours()
    assert branch["name"] != f"reconciler-hotel-{manifest['id']}"
    assert 2 == len(manifest["hosted"])


def test_dumped_from_the_source_itself(stand: NeonStand) -> None:
    """Where the policy says so no branch is made."""
    policy = stand.folder / "backup-policy.yaml"
    policy.write_text(policy.read_text().replace("    dumps:\n", "    dumps:\n      from: source\n"))
    before = len(stand.neon.get("/operations", limit="1000")["operations"])

    stand.run("apply", "--yes")

    operations = stand.neon.get("/operations", limit="1000")["operations"]
    made = [each for each in operations[: len(operations) - before] if each["action"] == "create_branch"]
    assert [] == made
    (manifest,) = stand.manifests()
    assert "neon" == manifest["source"]["identity"]["provider"]
    fetched = stand.run("backups", "fetch", manifest["id"], "--output", "hotel.dump")
    assert "pg_restore --use-list=hotel.dump.list" in fetched


def test_dumped_into_files(stand: NeonStand) -> None:
    """Of format directory: through the branch too, and the line that restores it leaves the host's own out."""
    policy = stand.folder / "backup-policy.yaml"
    policy.write_text(policy.read_text().replace("    dumps:\n", "    dumps:\n      format: directory\n"))

    stand.run("apply", "--yes")

    (manifest,) = stand.manifests()
    assert ("directory", 2) == (manifest["archive"], len(manifest["hosted"]))
    assert "--use-list=restore.list" in manifest["restore_by_hand"]
    assert [] == stand.ours()


def test_a_window_that_somebody_sets_back(stand: NeonStand) -> None:
    """It is mended by the next turn, and what that is worth is told."""
    policy = stand.folder / "backup-policy.yaml"
    policy.write_text(policy.read_text().replace("    encryption:", "    pitr: {window: 7d}\n    encryption:"))
    stand.neon.wait()
    stand.run("apply", "--yes")
    stand.neon.wait()
    mended = stand.neon.get("")["project"]["history_retention_seconds"]
    stand.neon.patch("", {"project": {"history_retention_seconds": 3600}})

    plan = stand.run("plan")
    stand.run("apply", "--yes")

    again = stand.neon.get("")["project"]["history_retention_seconds"]
    assert [7 * 86400] * 2 == [mended, again]
    assert "~ PITR window  1h → 7d" in plan


def test_a_protected_branch_with_a_schedule(stand: NeonStand) -> None:
    """Both are put in place; a dump goes through a child of the protected branch, whose passwords are others."""
    policy = stand.folder / "backup-policy.yaml"
    asked = f'    snapshots: {{schedule: "{DAILY}", retain: 7d, via: neon}}\n    branches: {{protect: true}}\n    encryption:'
    policy.write_text(policy.read_text().replace("    encryption:", asked))
    stand.run("apply", "--yes")
    stand.run("backups", "take")

    stand.neon.wait()
    main = stand.neon.get(f"/branches/{stand.neon.main}")["branch"]
    schedule = stand.neon.get(f"/branches/{stand.neon.main}/backup_schedule")["schedule"]
    assert main["protected"]
    assert [("daily", HOUR, 7 * 86400)] == [(one["frequency"], one["hour"], one["retention_seconds"]) for one in schedule]
    assert 2 == len(stand.manifests())
    assert [] == stand.ours()


def test_a_first_policy(stand: NeonStand) -> None:
    """The key leads to everything that a policy names: no more is asked, and the policy works as it stands."""
    (stand.folder / "backup-policy.yaml").unlink()

    said = stand.run("init", "--name", "hotel", "--provider", "neon", "--api-host", stand.neon.api_host)
    stand.run("apply", "--yes")

    assert f"project {stand.neon.project_id} (hotel), branch main, database hotel, role hotel_owner" in said
    assert "pitr: {window: 1d}" in (stand.folder / "backup-policy.yaml").read_text()
    assert 1 == len(list((stand.folder / ".backups").rglob("manifest.json")))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--project", "no-such-project"], "correct source.project"),
        (["--branch", "no-such-branch"], "--branch: main"),
        (["--source-database", "no_such"], "--source-database: hotel"),
        (["--api-key-variable", "NOT_SET"], "NOT_SET is not set"),
    ],
)
def test_what_a_first_policy_lacks(stand: NeonStand, words: list[str], says: str) -> None:
    """It is said, with what there is to choose from, and nothing is written."""
    (stand.folder / "backup-policy.yaml").unlink()
    child = stand.begin("init", "--provider", "neon", "--api-host", stand.neon.api_host, *words)

    _, complained = child.communicate(timeout=60)

    assert 0 != child.returncode
    assert says in complained
    assert not (stand.folder / "backup-policy.yaml").exists()


def test_doctor(stand: NeonStand) -> None:
    """The right to make a branch is tried, the source is examined on it, and it is gone afterwards."""
    answer = json.loads(stand.run("doctor", "--format", "json"))

    (found,) = answer["databases"]
    passed = [each["what"] for each in found["passed"] if each["where"] in ("source", "history")]
    assert any("hotel_owner may read all of it" in what for what in passed)
    assert any("no limit of the plan scale is near" in what for what in passed)
    assert [] == stand.ours()


def test_restored_into_a_branch(stand: NeonStand) -> None:
    """The source is refused for what the server says it is, by whatever name it is called; another branch is no source."""
    stand.run("apply", "--yes")
    (manifest,) = stand.manifests()
    stand.neon.wait()
    branch = stand.neon.branch(name="elsewhere", parent_id=stand.neon.main)["branch"]["id"]
    stand.neon.delete(f"/branches/{branch}/databases/hotel")
    stand.neon.post(f"/branches/{branch}/databases", {"database": {"name": "hotel", "owner_name": "hotel_owner"}})
    restore = ("backups", "restore", manifest["id"], "--no-roles", "--into")

    child = stand.begin(*restore, stand.neon.uri().replace("127.0.0.1", "localhost"))
    _, complained = child.communicate(timeout=60)
    stand.run(*restore, stand.neon.uri(branch))

    there = stand.neon.rows("select count(*) from hotel.reservations", branch)
    stand.neon.discard(branch)
    assert 1 == child.returncode
    assert "is a source of the policy, and is never restored into" in complained
    assert stand.neon.rows("select count(*) from hotel.reservations") == there
