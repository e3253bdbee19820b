"""A cache that may be lost, torn or forbidden, and never fails."""

from pathlib import Path

import pytest

from reconciler.world.cache import FileCache, default_folder


def test_what_was_put_is_got(tmp_path: Path) -> None:
    """Any bytes under any key, in another process too; readable by its owner only."""
    FileCache(tmp_path / "cache").put("s3://b/é\nkey", b"\x00\ntext\n")

    assert b"\x00\ntext\n" == FileCache(tmp_path / "cache").get("s3://b/é\nkey")
    assert FileCache(tmp_path / "cache").get("another") is None
    assert {0o700} == {(tmp_path / "cache").stat().st_mode & 0o777}
    assert [0o600] == [file.stat().st_mode & 0o777 for file in (tmp_path / "cache").iterdir()]


@pytest.mark.parametrize("torn", [b"", b"\n", b"x\ntext", b"text"])
def test_a_torn_text_is_none(tmp_path: Path, torn: bytes) -> None:
    """Whatever a crash or a full disk made of it."""
    cache = FileCache(tmp_path)
    cache.put("key", b"text")
    (file,) = tmp_path.iterdir()
    file.write_bytes(torn)

    assert cache.get("key") is None
    cache.put("key", b"text")
    assert b"text" == cache.get("key")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Is as if nothing was put."""
    (tmp_path / "file").touch()
    cache = FileCache(tmp_path / "file" / "cache")
    cache.put("key", b"text")

    assert cache.get("key") is None


def test_something_else_stands_in_its_place(tmp_path: Path) -> None:
    """A folder of the file's name: nothing fails, and nothing is left lying about."""
    cache = FileCache(tmp_path)
    cache.put("key", b"text")
    (file,) = tmp_path.iterdir()
    file.unlink()
    (file / "x").mkdir(parents=True)
    cache.put("key", b"text")

    assert cache.get("key") is None
    assert [file] == list(tmp_path.iterdir())


def test_where_it_lies_by_default() -> None:
    """Where the user's caches lie."""
    assert Path("/caches/reconciler") == default_folder({"XDG_CACHE_HOME": "/caches", "HOME": "/home/a"})
    assert Path("/home/a/.cache/reconciler") == default_folder({"HOME": "/home/a"})
