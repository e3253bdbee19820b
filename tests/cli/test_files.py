"""Files that a user names: whole or not at all, and what is no file is written into."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from reconciler.cli import files
from reconciler.cli.files import is_stream, replacing, streaming, write_all
from reconciler.errors import Refused

KILLED = """
import sys, time
from pathlib import Path
from reconciler.cli.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half" * 100_000)
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("nameless", [True, False])
class TestReplacing:
    @pytest.fixture(autouse=True)
    def file_system(self, nameless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that knows files without a name, or one that does not."""
        if not nameless:
            opened = os.open

            def refusing(path: str, flags: int, *rest: int) -> int:
                if flags & os.O_TMPFILE == os.O_TMPFILE:
                    raise OSError(95, "not supported")
                return opened(path, flags, *rest)

            monkeypatch.setattr(files.os, "open", refusing)  # type: ignore[attr-defined]

    @pytest.mark.parametrize("before", [None, b"old"])
    def test_all_of_it(self, tmp_path: Path, before: bytes | None) -> None:
        """New or over another; nothing else is left."""
        place = tmp_path / "x"
        if before is not None:
            place.write_bytes(before)
        with replacing(place) as file:
            file.write(b"new")

        assert b"new" == place.read_bytes()
        assert 0o600 == place.stat().st_mode & 0o777
        assert ["x"] == names(tmp_path)

    def test_nothing_of_it(self, tmp_path: Path) -> None:
        """When the body raises, what was there stays."""
        place = tmp_path / "x"
        place.write_bytes(b"old")
        with suppress(ZeroDivisionError), replacing(place) as file:
            file.write(b"new")
            raise ZeroDivisionError

        assert b"old" == place.read_bytes()
        assert ["x"] == names(tmp_path)

    def test_through_a_link(self, tmp_path: Path) -> None:
        """What it leads to is replaced."""
        (tmp_path / "link").symlink_to("x")
        with replacing(tmp_path / "link") as file:
            file.write(b"new")

        assert (tmp_path / "link").is_symlink()
        assert b"new" == (tmp_path / "x").read_bytes()

    def test_nowhere(self, tmp_path: Path) -> None:
        """A folder that is not there, or a folder in its place."""
        for place in (tmp_path / "gone" / "x", tmp_path):
            with pytest.raises(Refused, match="cannot write"), replacing(place) as file:
                file.write(b"new")
        assert [] == names(tmp_path)


def test_a_program_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """Not even what it had written so far."""
    place = tmp_path / "x"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, place], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    writer.kill()
    writer.communicate()

    assert [] == names(tmp_path)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    """It stays one, and its reader gets all."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with streaming(pipe) as file:
        write_all(file, bytes(300_000))
    reader.join(timeout=60)

    assert is_stream(pipe)
    assert [bytes(300_000)] == read


def test_a_device_is_written_into(tmp_path: Path) -> None:
    """/dev/null takes all, and is /dev/null afterwards."""
    with streaming(Path("/dev/null")) as file:
        write_all(file, b"x" * 1000)

    assert Path("/dev/null").is_char_device()
    assert is_stream(Path("/dev/null"))
    assert not is_stream(tmp_path)
    assert not is_stream(tmp_path / "new")


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """Is told as what it is."""
    with pytest.raises(Refused, match="cannot write into /dev/full: No space left"), streaming(Path("/dev/full")) as file:
        write_all(file, b"x")
