"""What the soaks share: a sandbox of their own, a policy in it, and turns in processes that can be killed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from reconciler.sandbox.down import down
from reconciler.sandbox.up import up

POLICY = """version: 1
metadata: {{name: soak, owner: nobody}}
targets:
  primary: {{type: s3, bucket: hotel-backups, endpoint: {{file: .sandbox/s3_endpoint}}, domain: elsewhere,
            access_key_id: {{file: .sandbox/s3_access_key_id}}, secret_access_key: {{file: .sandbox/s3_secret_access_key}}}}
  disk: {{type: local, path: ./disk}}
databases:
  hotel:
    source: {{provider: postgres, url: {{file: .sandbox/postgres_url}}}}
    encryption: none
    objectives: {{rpo: 26h}}
    dumps: {{schedule: "{schedule}", targets: [primary, disk], retention: {{keep_last: 3, grace: {grace}}}}}
"""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a sandbox and a policy."""

    folder: Path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "reconciler.cli.main", *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}

    def run(self, *words: str) -> str:
        """One command; its answer. What it says on stderr is shown when it fails."""
        ran = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if "Traceback" in ran.stderr or "this is a bug" in ran.stderr:
            raise AssertionError(ran.stderr)
        return ran.stdout

    def backups(self) -> list[dict[str, Any]]:
        """All that is listed."""
        found: list[dict[str, Any]] = json.loads(self.run("backups", "list", "--format", "json"))["backups"]
        return found

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """A command in a process group of its own."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@contextmanager
def stage(schedule: str, grace: str) -> Iterator[Stage]:
    """Up, and gone afterwards."""
    folder = Path(mkdtemp(prefix="soak-"))
    try:
        up(folder / ".sandbox", tell=lambda _: None, with_neon=False)
        (folder / "backup-policy.yaml").write_text(POLICY.format(schedule=schedule, grace=grace))
        yield Stage(folder=folder)
    finally:
        down(folder / ".sandbox", purge=True)
        shutil.rmtree(folder)


def leftovers(stage: Stage) -> list[str]:
    """Files on the local target that are neither a backup's nor a record that stays."""
    objects = ("manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst")
    stays = (*objects, "repository.json", "hotel.json", "lock", "freeze.json")
    names = (path.name for path in (stage.folder / "disk").rglob("*") if path.is_file())
    return [name for name in names if name not in stays and not name.startswith(("lease-", "tombstone-"))]
