"""The command line in processes that need not read its libraries: each is a fork of one that did, with all else its own.

Half a second of a command is Python's reading of libraries, and the end-to-end tests run some hundreds. What a fork could hide
(a library that is not imported where it is used, a slow start) is tried by those that start the program itself.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from reconciler.connect import KINDS
from reconciler.policy.schema import schema
from reconciler.postgres.client import find
from reconciler.targets.s3_bucket import Access, make_client
from reconciler.world import persist

READ: Final = (
    "_strptime", "botocore.session", "encodings.idna", "jsonschema", "psycopg", "reconciler.cli.apply", "reconciler.cli.backups",
    "reconciler.cli.backups_keep", "reconciler.cli.backups_read", "reconciler.cli.backups_take", "reconciler.cli.main",
    "reconciler.cli.plan", "reconciler.cli.session", "reconciler.cli.status", "reconciler.policy.checking",
    "reconciler.postgres.restore", "reconciler.postgres.scratch", "reconciler.postgres.source", "reconciler.postgres.url",
    "reconciler.targets.s3_target", "rich.console", "tenacity",
)  # fmt: skip
"""What most commands come to import."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Program:
    """Reads its libraries when it is made; `end` it."""

    def __init__(self) -> None:
        self._line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            argv = [sys.executable, "-m", "tests.servers.program", str(other.fileno())]
            self._process = subprocess.Popen(argv, pass_fds=(other.fileno(),), stdin=subprocess.DEVNULL)

    def run(self, words: list[str], *, cwd: Path, env: Mapping[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run` with its output captured as text. For any thread."""
        pipes = [os.pipe() for _ in range(3)]
        order = json.dumps({"words": words, "cwd": str(cwd), "env": dict(env)}).encode()
        socket.send_fds(self._line, [order], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        said = [Reader(read) for read, _ in pipes]
        said[2].join(timeout)
        pid, _, code = said[2].text.partition("\n")
        if not code:
            os.kill(int(pid), signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout)
        for each in said:
            each.join(timeout)
        return subprocess.CompletedProcess(words, int(code), stdout=said[0].text, stderr=said[1].text)

    def end(self) -> None:
        """It ends when nobody can ask it any more."""
        self._line.close()
        self._process.wait(10)


class Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self._read = b""
        self.start()

    @property
    def text(self) -> str:
        return self._read.decode()

    def run(self) -> None:
        while piece := os.read(self._descriptor, 1 << 16):
            self._read += piece
        os.close(self._descriptor)


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    """One a worker."""
    made = Program()
    yield made
    made.end()


def serve(line: socket.socket) -> None:
    """Until the other end is closed."""
    for name in READ:
        import_module(name)
    _learn()
    # Between two tries nobody needs to wait as long as for a store of this world; how often is tried stays as it is.
    vars(persist)["FIRST_WAIT_SECONDS"] = 0.05
    assert threading.active_count() == 1, "a fork has one thread only"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        text, (*descriptors,), _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not text:
            return
        if os.fork() == 0:
            line.close()
            watch(json.loads(text), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _learn() -> None:
    """What a process reckons, reads or asks once: its forks know it."""
    for program in ("pg_dump", "pg_restore", "postgres"):
        find(program)
    schema(KINDS)
    make_client("any", Access(bucket="any", endpoint="http://127.0.0.1:1", access_key_id="any", secret_access_key="any")).close()


def watch(order: Any, stdout: int, stderr: int, answer: int) -> NoReturn:
    """Run the command in a child of its own, and tell its process and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        become(order, stdout, stderr)
    os.close(stdout)
    os.close(stderr)
    os.write(answer, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(order: Any, stdout: int, stderr: int) -> NoReturn:
    """The program, as if it had been started."""
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.closerange(3, 1024)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        sys.argv = ["reconcile", *order["words"]]
        import_module("reconciler.cli.main").script()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:  # noqa: BLE001  as Python does at a program's end
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as told:
        serve(told)
