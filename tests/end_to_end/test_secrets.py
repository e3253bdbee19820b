"""Secrets stay where they belong: made-up ones are looked for in all that others can see, in success and in every way to fail."""

import json
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import Event as StopEvent
from threading import Thread
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import zstandard
from psycopg import sql

from reconciler.cli.main import main
from tests.end_to_end.conftest import Stand
from tests.postgres.processes import comes_true

WORDS = ("quokka", "numbat", "wombat", "dingo", "bilby", "possum", "koala")
"""No other text has them. A secret is made of them, so that a part of one that leaks is found, however it is escaped."""
PASSWORD = "quokka@numbat:wombat/dingo?bilby#possum%koala é ☃"
QUOTED = quote(PASSWORD, safe="")

MALFORMED = {
    "a blank in the password": "postgresql://me:quokka numbat@127.0.0.1:1/hotel",
    "everything in the password": f"postgresql://me:{PASSWORD}@127.0.0.1:1/hotel",
    "an unbalanced bracket": "postgresql://me:quokka@[::1/hotel",
    "a bracket in the password": "postgresql://me:quokka[numbat@127.0.0.1:1/hotel",
    "a word for a port": "postgresql://me:quokka@127.0.0.1:numbat/hotel",
    "a port too high": "postgresql://me:quokka@127.0.0.1:99999999/hotel",
    "a percent sign and no digits": "postgresql://me:quokka%zznumbat@127.0.0.1:1/hotel",
    "a percent sign at the end": "postgresql://me:quokka%@127.0.0.1:1/hotel",
    "a NUL": "postgresql://me:quokka%00numbat@127.0.0.1:1/hotel",
    "no scheme": "me:quokka@127.0.0.1:1/hotel",
    "no scheme but slashes": "//me:quokka@127.0.0.1:1/hotel",
    "one slash": "postgresql:/me:quokka@127.0.0.1:1/hotel",
    "another scheme": "mysql://me:quokka@127.0.0.1:1/hotel",
    "a scheme in capitals": "POSTGRESQL://me:quokka@127.0.0.1:1/hotel",
    "an @ in the password": "postgresql://me:quokka@numbat@127.0.0.1:1/hotel",
    "a slash in the password": "postgresql://me:quokka/numbat@127.0.0.1:1/hotel",
    "a # in the password": "postgresql://me:quokka#numbat@127.0.0.1:1/hotel",
    "a ? in the password": "postgresql://me:quokka?numbat@127.0.0.1:1/hotel",
    "a colon in the password": "postgresql://me:quokka:numbat@127.0.0.1:1/hotel",
    "no host": "postgresql://me:quokka",
    "no database": "postgresql://me:quokka@127.0.0.1:1",
    "a blank before": " postgresql://me:quokka@127.0.0.1:1/hotel",
    "a new line before": "\npostgresql://me:quokka@127.0.0.1:1/hotel",
    "a new line within": "postgresql://me:quokka\nnumbat@127.0.0.1:1/hotel",
    "an unknown parameter": "postgresql://me@127.0.0.1:1/hotel?pasword=quokka&password=numbat",
    "a parameter without a value": "postgresql://me@127.0.0.1:1/hotel?password=quokka&numbat",
    "a second host that is none": "postgresql://me:quokka@127.0.0.1,numbat:wombat@127.0.0.1/hotel",
    "keywords, a blank in the password": "host=127.0.0.1 port=1 dbname=hotel password=quokka numbat",
    "keywords, a quote that is not closed": "host=127.0.0.1 port=1 dbname=hotel password='quokka numbat",
    "keywords, a password for a host": "host=quokka@numbat port=1 dbname=hotel password=quokka",
    "quotation marks around it": "'postgresql://me:quokka@127.0.0.1:1/hotel'",
    "the password alone": "quokka",
    "unicode": "postgresql://me:quokka☃é@127.0.0.1:1/hotel",
    "half a surrogate": "postgresql://me:quokka%ED%A0%80@127.0.0.1:1/hotel",
    "a pooled host": "postgresql://me:quokka@ep-x-pooler.neon.example/hotel",
    "a service": "postgresql://me:quokka@127.0.0.1/hotel?service=x",
    "a passphrase": "postgresql://me:quokka@127.0.0.1/hotel?sslpassword=numbat",
}


def leaks(text: str | bytes) -> list[str]:
    """The words of secrets that stand in it."""
    content = (text.encode(errors="replace") if isinstance(text, str) else text).lower()
    return [word for word in WORDS if word.encode() in content]


@pytest.fixture
def here(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """The stand with the disk as its only target, for commands in this very process."""
    text = stand.policy.read_text()
    lines = [line for line in text.splitlines() if "primary" not in line and "access_key" not in line and "elsewhere" not in line]
    stand.policy.write_text(
        "\n".join([*lines, ""])
        .replace(", disaster: {rpo: 26h}", "")
        .replace("    dumps:\n", "    dumps:\n      targets: [disk]\n")
    )
    monkeypatch.chdir(stand.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(stand.folder / "cache"))
    return stand


class Spoken:
    """Commands in this very process: what they print, and what they raise where tracebacks are asked for."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code (70 for a traceback), and all that was printed."""
        try:
            code, trace = main(words), ""
        except Exception:  # noqa: BLE001 - just what a bug would show
            code, trace = 70, traceback.format_exc()
        captured = self._capfd.readouterr()
        return code, captured.out + captured.err + trace


@pytest.fixture
def spoken(capfd: pytest.CaptureFixture[str]) -> Spoken:
    return Spoken(capfd)


@pytest.mark.parametrize("debug", ["", "1"], ids=["", "debug"])
@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_url(here: Stand, spoken: Spoken, monkeypatch: pytest.MonkeyPatch, url: str, debug: str) -> None:
    """Of a source or of --into, by reference or as typed: whatever is wrong with it is said without showing any of it."""
    monkeypatch.setenv("SOURCE_URL", url)
    monkeypatch.setenv("RECONCILE_DEBUG", debug)
    plan = spoken("plan", "--format", "json", "--out", "plan.json")
    applied = spoken("apply", "--yes")
    by_reference = spoken("backups", "restore", "x", "--into", "${SOURCE_URL}")
    as_typed = spoken("backups", "restore", "x", "--into", url)

    assert [] == leaks(plan[1] + applied[1] + by_reference[1] + as_typed[1] + Path("plan.json").read_text())
    assert (0, 1, 1) == (plan[0], by_reference[0], as_typed[0])
    assert '"where": "source"' in plan[1]
    assert "this is a bug" not in by_reference[1] + as_typed[1]
    assert "unforeseen" not in plan[1] + applied[1]


@pytest.mark.parametrize("words", [
    ["backups", "restore", "x", "--in-to", "URL"],
    ["backups", "restore", "x", "URL"],
    ["backups", "restore", "x", "--into", "postgresql://me:${SECRET}quokka@127.0.0.1/x"],
    ["backups", "restore", "x", "--into", "${URL"],
    ["backups", "take", "--database", "URL"],
    ["backups", "URL"],
    ["plan", "URL"],
    ["URL"],
    ["--url=URL"],
    ["init", "--name", "URL"],
    ["init", "--bucket", "abc", "--endpoint", "URL"],
    ["init", "--url-variable", "URL"],
    ["apply", "--yes", "--allow-destructive", "URL"],
    ["apply", "URL"],
    ["plan", "-p", "URL"],
])  # fmt: skip
def test_a_url_in_the_wrong_place(here: Stand, spoken: Spoken, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """A slip of the keyboard is refused without repeating the password into a log."""
    monkeypatch.setenv("SOURCE_URL", here.source_url)
    _, text = spoken(*[word.replace("URL", "postgresql://me:quokka@127.0.0.1:1/hotel") for word in words])

    assert [] == leaks(text)
    assert "this is a bug" not in text


@pytest.mark.parametrize("written", [
    'url: "postgresql://me:quokka@127.0.0.1:1/hotel"',
    'url: "postgresql://me:quokka@127.0.0.1:1/hotel',
    "url: postgresql://me:quokka: numbat@127.0.0.1:1/hotel",
    'url: "${SOURCE_URL:-postgresql://me:quokka@127.0.0.1:1/hotel}"',
    'url: "postgresql://me:${quokka}@127.0.0.1:1/hotel"',
    'url: "${quokka numbat}"',
    "url: [quokka, numbat]",
    "url: 'quokka' 'numbat'",
    "url: !!binary quokka",
    "url: *quokka",
    "url: &a quokka",
    "url: |\n        quokka",
    "url: 1\tquokka",
    "urll: postgresql://me:quokka@127.0.0.1:1/hotel",
    'password: quokka, url: "${SOURCE_URL}"',
])  # fmt: skip
def test_a_secret_in_the_policy(here: Stand, spoken: Spoken, written: str) -> None:
    """It is a fault with its place, and the text is not repeated; whatever YAML makes of it."""
    here.rewrite('url: "${SOURCE_URL}"', written)
    for command in ("validate", "plan"):
        code, text = spoken(command)

        assert [] == leaks(text)
        assert 1 == code
        assert "backup-policy.yaml:" in text
        assert "this is a bug" not in text


def test_a_wrong_password(stand: Stand, here: Stand, spoken: Spoken, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own no is shown, without what it was asked with."""
    for given in (QUOTED, "quokka", "quokka%20numbat"):
        monkeypatch.setenv("SOURCE_URL", f"postgresql://postgres:{given}@{stand.source_url.rpartition('@')[2]}")
        _, text = spoken("plan")

        assert [] == leaks(text)
        assert "password authentication failed" in text
        assert "check user and password in the url" in text


@pytest.mark.parametrize(
    "wrong",
    [
        ("me", "quokka/numbat+wombat=", None),
        ("me", "quokka\nnumbat", None),
        ("quokkaé", "wombat☃", None),
        ("quokka numbat", "wom bat", None),
        ("me", "quokka", "http://numbat:wombat@127.0.0.1:1"),
        ("me", "quokka", "http://[numbat"),
        ("me", "quokka", "http://127.0.0.1:numbat"),
        ("me", "quokka", "http://127.0.0.1:1/?token=numbat"),
        ("me", "quokka", "numbat"),
    ],
)
def test_wrong_keys_of_a_store(
    stand: Stand, spoken: Spoken, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str, str | None]
) -> None:
    """The target is unknown, and neither its id, its key nor an address with a password is shown."""
    stand.rewrite(f"{{file: {stand.box}/s3_access_key_id}}", '"${KEY_ID}"')
    stand.rewrite(f"{{file: {stand.box}/s3_secret_access_key}}", '"${KEY}"')
    stand.through('"${ENDPOINT}"')
    monkeypatch.chdir(stand.folder)
    good = {"SOURCE_URL": stand.source_url, "XDG_CACHE_HOME": str(stand.folder / "cache")}
    access_key_id, secret_access_key, endpoint = wrong
    given = {"KEY_ID": access_key_id, "KEY": secret_access_key, "ENDPOINT": endpoint or stand.status.s3.endpoint or ""}
    for name, value in (good | given).items():
        monkeypatch.setenv(name, value)
    _, text = spoken("plan")

    assert [] == leaks(text)
    assert "primary unknown" in text
    assert "unforeseen" not in text


@pytest.fixture
def role(stand: Stand) -> Iterator[str]:
    """One with PASSWORD that may do all."""
    name = f"role_{token_hex(4)}"
    with stand.connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD)))
    yield name
    with stand.connect() as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def url(stand: Stand, role: str) -> str:
    return f"postgresql://{role}:{QUOTED}@{stand.source_url.rpartition('@')[2]}"


@pytest.fixture
def empty_url(stand: Stand, url: str) -> Iterator[str]:
    """Of a database with nothing in it."""
    name = f"again_{token_hex(4)}"
    with stand.connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield url.rpartition("/")[0] + f"/{name}"
    with stand.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Seen:
    """What /proc shows of all processes while it is watched."""

    def __init__(self) -> None:
        self.programs: set[str] = set()
        self.telling: set[str] = set()
        """Command lines with a secret in them."""
        self.holding: set[tuple[str, str]] = set()
        """Program, and variable with a secret in it."""

    def look(self, secrets: list[str]) -> None:
        """Once at all there are."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text(errors="replace")
                variables = (process / "environ").read_text(errors="replace").split("\0")
                if words != (process / "cmdline").read_text(errors="replace"):
                    continue  # it became another program between the two looks
            except OSError:
                continue
            program = program_of(words)
            self.programs.add(program)
            if any(secret in words for secret in secrets):
                self.telling.add(words)
            named = [variable.partition("=")[0] for variable in variables if any(secret in variable for secret in secrets)]
            # The name of a test that runs beside this one may have words of secrets in it: pytest's, not ours.
            self.holding |= {(program, name) for name in named if name != "PYTEST_CURRENT_TEST"}


def program_of(words: str) -> str:
    for part, name in (("reconciler.cli.main", "reconcile"), ("guard.py", "guard")):
        if part in words:
            return name
    return words.partition("\0")[0].rpartition("/")[2]


@contextmanager
def watching(secrets: list[str]) -> Iterator[Seen]:
    """All processes of this machine, as often as can be."""
    seen, over = Seen(), StopEvent()

    def watch() -> None:
        while not over.is_set():
            seen.look(secrets)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def started(stand: Stand, *words: str, **environment: str) -> str:
    """The program itself, as it is started by people; what it prints."""
    return said_by(stand.begin(*words, **environment))


def said_by(process: "subprocess.Popen[str]") -> str:
    said, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, said + complaints
    return said


def held_up(seen: Seen, program: str, lock: "psycopg.Connection[Any]", statement: str, begin: Callable[[], Any]) -> str:
    """As `started`, but what it starts waits for a lock until it was seen, however short its life would be; what it prints."""
    with lock.transaction():
        lock.execute(statement.encode())
        process = begin()
        assert comes_true(lambda: {("guard", "PGPASSWORD"), (program, "PGPASSWORD")} <= seen.holding)
    return said_by(process)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here")
def test_processes_show_no_secret(stand: Stand, url: str, empty_url: str) -> None:
    """No command line holds one; an environment only where it was given, and for libpq's programs as PGPASSWORD."""
    s3_key = stand.status.s3.secret_access_key
    assert s3_key is not None
    environment: dict[str, Any] = {"SOURCE_URL": url, "NEW_URL": empty_url, "S3_KEY": s3_key}
    stand.rewrite(f"{{file: {stand.box}/s3_secret_access_key}}", '"${S3_KEY}"')
    into = empty_url.rpartition("/")[2]
    with watching([*WORDS, s3_key]) as seen, stand.connect() as source, stand.connect(into) as target:
        applying = partial(stand.begin, "apply", "--yes", **environment)
        held_up(seen, "pg_dump", source, "LOCK TABLE hotel.rooms IN ACCESS EXCLUSIVE MODE", applying)
        started(stand, "backups", "take", **environment)
        backup = json.loads(started(stand, "backups", "list", "--format", "json", **environment))["backups"][0]["id"]
        started(stand, "backups", "fetch", backup, "--output", "hotel.dump", **environment)
        restoring = partial(stand.begin, "backups", "restore", backup, "--into", "${NEW_URL}", **environment)
        held_up(seen, "pg_restore", target, "LOCK TABLE pg_namespace IN SHARE MODE", restoring)

    assert {"reconcile", "guard", "pg_dump", "pg_restore"} <= seen.programs
    assert set() == seen.telling
    assert {("pg_dump", "PGPASSWORD"), ("pg_restore", "PGPASSWORD")} <= seen.holding
    assert {("guard", "PGPASSWORD"), ("pg_dump", "PGPASSWORD"), ("pg_restore", "PGPASSWORD")} == {
        (program, name) for program, name in seen.holding if program != "reconcile"
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_git_is_handed_no_secret(stand: Stand, url: str) -> None:
    """It is asked for the policy's commit, and starts what its repository names: that learns nothing of our environment."""
    spy = stand.folder / "spy"
    spy.write_text(f"#!/bin/sh\nenv > {stand.folder}/told\n")
    spy.chmod(0o755)
    for words in (["init", "-q"], ["config", "core.fsmonitor", str(spy)], ["add", "backup-policy.yaml"]):
        subprocess.run(["git", *words], cwd=stand.folder, check=True)  # noqa: S607 - git as the user has it
    stand.run("apply", "--yes", SOURCE_URL=url)
    told = (stand.folder / "told").read_text()

    assert "PATH=" in told
    assert [] == leaks(told)


def contents(stand: Stand) -> Iterator[tuple[str, bytes]]:
    """Every byte that is kept: on both targets, in the cache, in saved files; unpacked where it is packed."""
    for path in sorted(stand.folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
    client = stand.s3()
    for each in client.list_objects_v2(Bucket=stand.status.s3.bucket, Prefix=stand.prefix)["Contents"]:
        yield each["Key"], client.get_object(Bucket=stand.status.s3.bucket, Key=each["Key"])["Body"].read()


def unpacked(content: bytes) -> bytes:
    """What it is, and what is packed in it."""
    if not content.startswith(b"\x28\xb5\x2f\xfd"):
        return content
    return content + zstandard.ZstdDecompressor().decompressobj().decompress(content)


def test_nothing_kept_or_answered_holds_a_secret(stand: Stand, url: str, empty_url: str) -> None:
    """Answers, saved plans, manifests, dumps, roles, the cache: not a word of any secret."""
    s3_key = stand.status.s3.secret_access_key
    assert s3_key is not None
    given: dict[str, Any] = {"SOURCE_URL": url, "NEW_URL": empty_url}
    ran = [
        stand.run("validate", "--format", "json", **given),
        stand.run("plan", "--out", "plan.json", "--format", "json", **given),
        stand.run("apply", "plan.json", "--format", "json", **given),
        stand.run("backups", "take", **given),
        stand.run("status", "--format", "json", **given),
        stand.run("backups", "list", "--format", "json", **given),
    ]
    backup = stand.json("backups", "list", **given)["backups"][0]["id"]
    ran += [
        stand.run("backups", "show", backup, **given),
        stand.run("backups", "fetch", backup, "--output", "hotel.dump", **given),
        stand.run("backups", "restore", backup, "--into", "${NEW_URL}", **given),
        stand.run("backups", "restore", backup, "--into", empty_url, expect=1, **given),
    ]
    answers = "".join(one.stdout + one.stderr for one in ran)
    kept: dict[str, Any] = {name: unpacked(content) for name, content in contents(stand)}

    assert [] == leaks(answers)
    assert s3_key not in answers
    assert [] == [name for name, content in kept.items() if leaks(content)]
    assert [] == [
        name for name, content in kept.items() if s3_key.encode() in content or quote(s3_key, safe="").encode() in content
    ]
    assert {"plan.json", "manifest.json", "dump.zst", "globals.json.zst", "repository.json", "hotel.dump"} <= {
        name.rpartition("/")[2] for name in kept
    }
