"""Files that pg_restore reads beside the archive: nothing of them stays, however we end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from reconciler.postgres.contents import use_list

LISTING = """
import sys
from reconciler.postgres.contents import use_list

with use_list([7, 5]) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def test_a_list_is_read_by_others_and_gone_after_a_kill(tmp_path: Path) -> None:
    """`kill -9` in the midst of a restore or a rehearsal leaves no file behind."""
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    argv = [sys.executable, "-c", LISTING]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as restoring:
        assert restoring.stdout is not None
        path = restoring.stdout.readline().strip()
        listed = subprocess.run(["/bin/cat", path], capture_output=True, text=True, check=True).stdout
        restoring.send_signal(signal.SIGKILL)
        restoring.wait(timeout=60)

    assert "7;\n5;\n" == listed
    assert [] == list(tmp_path.iterdir())


def test_a_list_can_be_opened_again_and_again() -> None:
    """Each reads it from its beginning."""
    with use_list([3]) as path:
        assert ["3;\n", "3;\n"] == [path.read_text(), path.read_text()]

    assert not path.exists()
