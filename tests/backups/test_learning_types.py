"""Records that several threads read at once, in a process that never read one of their kind."""

import subprocess
import sys

SCRIPT = """
from threading import Event, Thread

import msgspec

from reconciler.backups.manifest import decode_record

half_way, go_on = Event(), Event()


def slowly() -> type:
    half_way.set()
    go_on.wait(2)
    return int


class Inner(msgspec.Struct):
    value: "slowly()"


class Outer(msgspec.Struct):
    inner: Inner


def read() -> None:
    assert 7 == decode_record(b'{"inner": {"value": 7}}', Outer, "it").inner.value


def read_meanwhile() -> None:
    half_way.wait(20)
    read()


threads = [Thread(target=read), Thread(target=read_meanwhile)]
for thread in threads:
    thread.start()
threads[1].join(1)
go_on.set()
for thread in threads:
    thread.join()
print("both")
"""


def test_a_kind_that_another_thread_is_just_learning() -> None:
    """Whoever comes second waits until it is known: half known, it would end the process with a segmentation fault."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert (0, "both\n") == (ran.returncode, ran.stdout), ran.stderr
