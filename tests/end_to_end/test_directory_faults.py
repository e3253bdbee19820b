"""Trouble half-way through a directory archive: told, nothing of it left here or there, and healed by the next turn."""

from typing import Any

import pytest

from reconciler.sandbox.patience import wait_for
from tests.end_to_end.conftest import Stand
from tests.end_to_end.test_directory_format import directory
from tests.end_to_end.test_faults import (
    BUSY,
    FOR_EVER,
    assert_heals,
    assert_nothing_new,
    by,
    ended,
    large,
    older,
    said,
    source,
    store,
)
from tests.end_to_end.test_stopping import SLOWLY
from tests.faults.proxy import Answer, Cut, Drop, Fault, FaultProxy

__all__ = ["directory", "large", "older", "source", "store"]


def assert_nothing_left(stand: Stand) -> None:
    """Neither on the targets nor on this machine."""
    assert [] == stand.leftovers()
    assert [] == list((stand.folder / "staging").iterdir())


@pytest.mark.parametrize("nth", [1, 2, 9])
def test_the_store_refuses_a_file(directory: Stand, older: list[dict[str, Any]], store: FaultProxy, nth: int) -> None:
    """The first, the second, or a later one: what its neighbours stored there is taken away, and the dump goes elsewhere."""
    store.on("PUT", r"/dump/", BUSY, nth=nth, times=FOR_EVER)
    ran = directory.run("apply", "--yes", expect=1)

    assert "cannot write s3://" in said(ran)
    store.forget()
    assert [["disk"]] == [one["targets"] for one in directory.backups() if one not in older]
    assert_nothing_left(directory)
    assert_heals(directory, older)


@pytest.mark.parametrize("fault", [Answer(status=503), Drop(), Cut(after=100, side="up")], ids=["503", "answer lost", "cut"])
def test_files_meet_trouble(directory: Stand, store: FaultProxy, fault: Fault) -> None:
    """They are sent again, and nobody notices."""
    store.on("PUT", r"/dump/", fault, times=3)
    directory.run("apply", "--yes")

    assert [("whole", ["disk", "primary"])] == [(one["state"], one["targets"]) for one in directory.backups()]
    assert_nothing_left(directory)
    directory.run("backups", "verify", "--level", "restore")


def test_the_connections_are_cut_half_way(directory: Stand, large: str, source: FaultProxy) -> None:
    """A file that ends there is no file."""
    source.next_connection(Cut(after=9_000_000, side="down"), times=FOR_EVER)
    ran = directory.run("apply", "--yes", expect=1, SOURCE_URL=by(source, large))

    assert "✗ take dump" in ran.stdout
    assert_nothing_new(directory, [], SOURCE_URL=large)
    assert_nothing_left(directory)
    assert_heals(directory, [], SOURCE_URL=large)


def test_one_session_ends_half_way(directory: Stand, large: str) -> None:
    """One of several is enough: nothing comes of the others' files."""
    directory.rewrite("dumps:", SLOWLY)
    running = directory.begin("apply", "--yes", SOURCE_URL=large)
    wait_for(lambda: ended(directory, "COPY%"), seconds=60, what="pg_dump to copy a table")
    stdout, _ = running.communicate(timeout=60)
    directory.rewrite(SLOWLY, "dumps:")

    assert 1 == running.returncode
    assert "✗ take dump" in stdout
    assert_nothing_new(directory, [], SOURCE_URL=large)
    assert_nothing_left(directory)
    assert_heals(directory, [], SOURCE_URL=large)
