"""The whole program against a whole sandbox: a policy of the test's own, its own prefix in the bucket, its own folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from reconciler.backups.layout import REGISTER
from reconciler.sandbox import seed
from reconciler.sandbox.down import down
from reconciler.sandbox.postgres import FAST
from reconciler.sandbox.status import Status
from reconciler.sandbox.up import up
from tests.servers.neon import own_neon
from tests.servers.program import Program, program
from tests.servers.s3 import plain_client, remove_at_once

__all__ = ["own_neon", "program"]

HOUR = (datetime.now(UTC).hour + 12) % 24
"""Half a day from now, and half a day ago: what a turn did for a slot stays done, as no other slot begins while a test runs."""
DAILY = f"0 {HOUR} * * *"

POLICY = """version: 1
metadata: {{name: test, owner: nobody}}
targets:
  primary: {{type: s3, bucket: hotel-backups, prefix: "{prefix}/", endpoint: {{file: {box}/s3_endpoint}},
            access_key_id: {{file: {box}/s3_access_key_id}}, secret_access_key: {{file: {box}/s3_secret_access_key}},
            domain: elsewhere}}
  disk: {{type: local, path: ./disk}}
databases:
  hotel:
    source: {{provider: postgres, url: "${{SOURCE_URL}}"}}
    encryption: none
    objectives: {{rpo: 26h, disaster: {{rpo: 26h}}}}
    dumps:
      schedule: "{daily}"
      targets: [primary, disk]
      retention: {{keep_last: 3}}
"""


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a policy in it, and the servers that it names."""

    folder: Path
    status: Status
    box: Path
    program: Program

    @property
    def policy(self) -> Path:
        return self.folder / "backup-policy.yaml"

    @property
    def source_url(self) -> str:
        assert self.status.postgres.url is not None
        return self.status.postgres.url

    @property
    def admin_url(self) -> str:
        assert self.status.postgres.admin_url is not None
        return self.status.postgres.admin_url

    def environment(self, **more: str) -> dict[str, str]:
        """What a command is given: its own cache, and the source's url."""
        return {**os.environ, "SOURCE_URL": self.source_url, "XDG_CACHE_HOME": str(self.folder / "cache"), **more}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "reconciler.cli.main", *words]

    def run(self, *words: str, expect: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """One command. `expect`: its exit code, None for any."""
        ran = self.program.run(list(words), cwd=self.folder, env=self.environment(**more), timeout=120)
        assert expect is None or ran.returncode == expect, f"exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *words: str, expect: int | None = 0, **more: str) -> Any:
        """The answer of a command, as data."""
        return json.loads(self.run(*words, "--format", "json", expect=expect, **more).stdout)

    def backups(self) -> list[dict[str, Any]]:
        """What `backups list` shows."""
        found: list[dict[str, Any]] = self.json("backups", "list")["backups"]
        return found

    def rewrite(self, old: str, new: str) -> None:
        """Edit the policy."""
        text = self.policy.read_text()
        assert old in text
        self.policy.write_text(text.replace(old, new))

    def rewrite_prefix(self) -> None:
        """Begin anew: an empty prefix in the bucket and an empty folder."""
        shutil.rmtree(self.folder / "disk", ignore_errors=True)
        self.policy.write_text(POLICY.format(prefix=token_hex(4), box=self.box, daily=DAILY))

    @property
    def prefix(self) -> str:
        """In the bucket, as the policy says it."""
        return next(line for line in self.policy.read_text().splitlines() if "prefix:" in line).split('"')[1]

    @property
    def s3_port(self) -> int:
        """Where a proxy must lead."""
        assert self.status.s3.endpoint is not None
        return int(self.status.s3.endpoint.rpartition(":")[2])

    def through(self, endpoint: str) -> None:
        """Let the policy reach its bucket by that endpoint, a proxy's."""
        self.rewrite(f"{{file: {self.box}/s3_endpoint}}", endpoint)

    def s3(self) -> Any:
        """A plain client, to look at the bucket without the code under test."""
        s3 = self.status.s3
        assert s3.endpoint is not None
        return plain_client(s3.endpoint, s3.access_key_id, s3.secret_access_key)

    def keys(self) -> list[str]:
        """Of all objects on both targets."""
        disk = [str(path) for path in (self.folder / "disk").rglob("*") if path.is_file()]
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=self.status.s3.bucket, Prefix=self.prefix)
        return disk + [each["Key"] for page in pages for each in page.get("Contents", [])]

    def leftovers(self) -> list[str]:
        """Whatever is neither of a whole backup nor a record that stays."""
        stays = {"manifest.json", "dump.zst", "globals.json.zst", "fingerprint.json.zst", "repository.json", "lock"}
        keys = [key for key in self.keys() if f"/{REGISTER}" not in key and "/lease-" not in key]
        uploads = self.s3().list_multipart_uploads(Bucket=self.status.s3.bucket).get("Uploads", [])
        unfinished = [each["Key"] for each in uploads if each["Key"].startswith(self.prefix)]
        whole = {key.removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")}
        files = {key for key in keys if "/dump/" in key and key.partition("/dump/")[0] in whole}
        return [key for key in keys if key.rpartition("/")[2] not in stays and key not in files] + unfinished

    def begin(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        """A command that goes on while the test does."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def connect(self, database: str = "hotel") -> "psycopg.Connection[tuple[Any, ...]]":
        """A superuser's session."""
        return psycopg.connect(self.admin_url.rpartition("/")[0] + f"/{database}", autocommit=True)


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Status]]:
    """One sandbox a worker: leave it up and whole."""
    folder = tmp_path_factory.mktemp("box") / ".sandbox"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seed, "HOTEL", _small_hotel(folder.parent / "hotel.sql"))
            status = up(folder, tell=lambda _: None, with_neon=False)
        _hasten(status)
        yield folder, status
    finally:
        remove_at_once(folder / "s3")
        down(folder, purge=True)


def _small_hotel(file: Path) -> Path:
    """Every kind of object that the hotel has, with a tenth of its guests and reservations: no test here needs more."""
    text = seed.HOTEL.read_text()
    for many, few in {"(0, 19999)": "(0, 1999)", "% 20000,": "% 2000,", "(0, 39999)": "(0, 3999)"}.items():
        assert 1 == text.count(many)
        text = text.replace(many, few)
    file.write_text(text)
    return file


def _hasten(status: Status) -> None:
    """A sandbox syncs what it writes, as a server should; here nobody needs to wait for that."""
    assert status.postgres.admin_url is not None
    with psycopg.connect(status.postgres.admin_url, autocommit=True) as admin:
        for name, value in FAST.items():
            admin.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        admin.execute("SELECT pg_reload_conf()")


@pytest.fixture
def stand(tmp_path: Path, box: tuple[Path, Status], program: Program) -> Stand:
    """Nothing was ever backed up here."""
    folder, status = box
    made = Stand(folder=tmp_path, status=status, box=folder, program=program)
    made.policy.write_text(POLICY.format(prefix=token_hex(4), box=folder, daily=DAILY))
    return made


@pytest.fixture
def empty(stand: Stand) -> Iterator[str]:
    """A database with nothing in it; gone after the test."""
    name = f"again_{stand.folder.name}"[:60]
    with stand.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield stand.admin_url.rpartition("/")[0] + f"/{name}"
    with stand.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def small(stand: Stand) -> Iterator[Stand]:
    """A source of few rows: there are as many effects as with many, and each is sooner over."""
    name = f"small_{token_hex(4)}"
    with stand.connect() as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        with stand.connect(name) as inside:
            inside.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i")
        url = stand.source_url.rpartition("/")[0] + f"/{name}"
        postgres = msgspec.structs.replace(stand.status.postgres, url=url)
        yield msgspec.structs.replace(stand, status=msgspec.structs.replace(stand.status, postgres=postgres))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
