"""Throw-away servers: where one can't be made, somebody is told what to do; two that come and go at once don't meet."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import Full, Refused
from reconciler.postgres import child, throwaway
from reconciler.postgres.client import Client
from reconciler.postgres.dump import Manners
from reconciler.postgres.guard import __file__ as guard_file
from reconciler.postgres.scratch import NOT_CUT_OFF, EmbeddedScratch
from reconciler.postgres.source import PostgresSource
from reconciler.world import locks
from tests.faults.files import no_file_longer_than
from tests.postgres.taking import take
from tests.servers.postgres import BINARIES, Server
from tests.servers.scratch import left_in, scratch_base

__all__ = ["scratch_base"]

Open = Callable[[str], PostgresSource]
PROGRAMS = Client(major=18, version="18.0", folder=BINARIES[18])


@pytest.fixture
def scratch(manners: Manners, scratch_base: Path) -> EmbeddedScratch:
    return EmbeddedScratch(scratch_base, manners, lambda _: None)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_can_not_be_used(scratch_base: Path, manners: Manners, place: str) -> None:
    """One sentence, with the setting to correct."""
    (scratch_base / "file").touch()

    with pytest.raises(Refused, match="cannot make a scratch server in") as refusal:
        throwaway.throwaway(scratch_base / place, PROGRAMS, manners).__enter__()
    assert "scratch.folder" in refusal.value.cure


@pytest.mark.parametrize("room", [1, 1 << 20], ids=["none", "too little for initdb"])
def test_a_full_disk(scratch_base: Path, manners: Manners, room: int) -> None:
    """Told as such, and nothing stays."""
    with (
        pytest.raises(Full, match=r"scratch server in .*(File too large|initdb)") as refusal,
        no_file_longer_than(room),
        throwaway.throwaway(scratch_base, PROGRAMS, manners),
    ):
        pass
    assert "scratch.folder" in refusal.value.cure
    assert left_in(scratch_base) == []


def test_swept_before_it_was_claimed(scratch_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making a lock's file and holding it, another's sweep holds or removes it: another name is taken."""

    def met_by_who_holds_it(descriptor: int) -> bool:
        monkeypatch.setattr(throwaway, "lock", met_by_who_removed_it)
        with Path(f"/proc/self/fd/{descriptor}").open() as rival:
            assert locks.lock(rival.fileno())
            return locks.lock(descriptor)

    def met_by_who_removed_it(descriptor: int) -> bool:
        monkeypatch.setattr(throwaway, "lock", locks.lock)
        # That of the first, and this one.
        assert throwaway.sweep(scratch_base) == 2
        return locks.lock(descriptor)

    monkeypatch.setattr(throwaway, "lock", met_by_who_holds_it)
    with throwaway._place(scratch_base, None) as folder:
        assert Path(f"{folder}.lock").exists()
        assert throwaway.sweep(scratch_base) == 0
        assert folder.is_dir()
    assert list(scratch_base.iterdir()) == []


def test_a_system_that_does_not_cut_it_off(
    postgres18: Server, open_source: Open, scratch: EmbeddedScratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence says so, and only then."""
    if os.geteuid() != 0:
        pytest.skip("only root may cut a server off from the network")
    taken = take(open_source(postgres18.url(postgres18.new_database())))
    lax = tmp_path / "guard.py"
    lax.write_text(Path(guard_file).read_text().replace("unshare(CLONE_NEWNET)", "getpid()"))
    said = []

    for guard in (Path(guard_file), lax):
        monkeypatch.setattr(child, "GUARD", guard)
        with scratch.room(taken.facts, taken.globals) as room:
            said.append(NOT_CUT_OFF in room.restore(taken.chunks, raw_bytes=1).left_out)

    assert said == [False, True]
