"""Folders on this machine: ours while we live, gone afterwards, and swept when we died."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import Refused
from reconciler.world.facts import Owner
from reconciler.world.process import SystemProcess
from reconciler.world.staging import FolderStaging


def test_a_folder(tmp_path: Path) -> None:
    """Empty, for our eyes only, and gone with all that is in it."""
    staging = FolderStaging(tmp_path / "below" / "staging", SystemProcess())
    with staging.folder() as folder:
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
        (folder / "archive").mkdir()
        (folder / "archive" / "1.dat").write_bytes(b"x")

    assert [] == list((tmp_path / "below" / "staging").iterdir())


def test_what_lives_is_not_swept(tmp_path: Path) -> None:
    """Neither by whoever made it, nor by another of the same process, nor what is somebody else's."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "reconciler-notes-of-mine").mkdir()
    (tmp_path / "reconciler-file").write_text("x")
    with FolderStaging(tmp_path, SystemProcess()).folder() as folder:
        assert 0 == FolderStaging(tmp_path, SystemProcess()).sweep()
        assert folder.is_dir()
    assert 3 == len(list(tmp_path.iterdir()))


class FromAfar(SystemProcess):
    """As another container sees it, or the same machine after a restart: nothing is proven of any process."""

    def is_gone(self, owner: Owner) -> bool | None:
        """Nobody knows."""
        return None


@pytest.mark.parametrize("process", [SystemProcess(), FromAfar()], ids=["seen", "unseen"])
def test_what_a_dead_process_left(tmp_path: Path, process: SystemProcess) -> None:
    """It is swept, and counted; and not before it is dead, whether its number can be judged or not."""
    program = (
        "import sys, time; from pathlib import Path; from reconciler.world.staging import *\n"
        "from reconciler.world.process import SystemProcess\n"
        "with FolderStaging(Path(sys.argv[1]), SystemProcess()).folder() as folder:\n"
        "    (folder / 'x').write_text('x'); print(folder, flush=True); sys.stdin.read()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    left = Path(running.stdout.readline().strip())
    staging = FolderStaging(tmp_path, process)
    assert 0 == staging.sweep()
    assert left.is_dir()

    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)

    assert 1 == staging.sweep()
    assert not left.exists()


def test_other_places_are_swept_too(tmp_path: Path) -> None:
    """Where folders of ours may have been left, whatever the policy names now."""
    (tmp_path / "old").mkdir()
    left = "reconciler-" + "-".join(("0" * 32, "4026531836", "1", "1", "abc"))
    (tmp_path / "old" / left).mkdir()
    staging = FolderStaging(tmp_path / "new", SystemProcess(), also=(tmp_path / "old", tmp_path / "none"))

    assert 1 == staging.sweep()
    assert [] == list((tmp_path / "old").iterdir())


def test_nowhere_to_put_it(tmp_path: Path) -> None:
    """It is refused, with what would help; and there is nothing to sweep."""
    (tmp_path / "file").write_text("x")
    staging = FolderStaging(tmp_path / "file", SystemProcess())

    with pytest.raises(Refused, match="cannot make a folder in"), staging.folder():
        pass
    assert 0 == staging.sweep()
