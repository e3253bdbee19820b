"""Rule 10 holds, and each of its sentences, broken on purpose, is noticed: by properties, by rehearsals, by looks at a server."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from reconciler.postgres.dump import Manners
from reconciler.postgres.throwaway import Throwaway, throwaway
from reconciler.world.clock import SystemClock
from tests.postgres.archive_lists import SPEAKS_OF, broken, broken_about, lines
from tests.postgres.hostile_mutations import OF_LISTS, OF_REHEARSALS, OF_SERVERS
from tests.postgres.planted import SERVER, Planted, gained, hall, planted
from tests.postgres.seclusion import open_to_others
from tests.servers.postgres import Server
from tests.servers.scratch import scratch_base

__all__ = ["scratch_base"]

FIRST_FOUND = settings(database=None, phases=[Phase.generate], max_examples=2000)
"""Whatever breaks it will do, and is nothing to be tried again."""


@pytest.fixture(scope="module")
def unhurried() -> Manners:
    return Manners(clock=SystemClock(), stop=Event(), patience=timedelta(seconds=60))


@pytest.fixture(scope="module")
def plot(postgres18: Server, unhurried: Manners) -> Iterator[Planted]:
    with planted(postgres18, unhurried) as made:
        yield made


@pytest.fixture(scope="module")
def stage(plot: Planted, unhurried: Manners) -> Iterator[Throwaway]:
    """One server for all rehearsals here: each drops what it made."""
    with hall(plot, unhurried) as server:
        yield server


def test_what_was_planted_gains_nothing(plot: Planted, stage: Throwaway, unhurried: Manners) -> None:
    """Whoever restores, compares, looks and asks: no program runs, no file is written or read, no role is made."""
    assert [] == gained(plot, stage, unhurried)


@pytest.mark.parametrize("name", list(OF_REHEARSALS))
def test_a_rehearsal_notices(
    name: str, plot: Planted, stage: Throwaway, unhurried: Manners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something planted gains by it, or something is there that must not be."""
    OF_REHEARSALS[name](monkeypatch)

    assert gained(plot, stage, unhurried), f"{name} survives"


def test_a_server_is_shut(scratch_base: Path, unhurried: Manners) -> None:
    """Nobody reaches it but by a socket that is ours, and it does nothing of its own."""
    with throwaway(scratch_base, SERVER, unhurried) as server:
        assert [] == open_to_others(server)


@pytest.mark.parametrize("name", list(OF_SERVERS))
def test_a_look_at_a_server_notices(name: str, scratch_base: Path, unhurried: Manners, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open to others, or does something of its own."""
    OF_SERVERS[name](monkeypatch)

    with throwaway(scratch_base, SERVER, unhurried) as server:
        assert open_to_others(server), f"{name} survives"


@pytest.mark.parametrize("name", list(OF_LISTS))
def test_a_property_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some archive has something restored, or nameless, that must not be."""
    OF_LISTS[name](monkeypatch)
    about = [one for of in SPEAKS_OF for one in broken_about("EVENT TRIGGER", of)]

    assert about or is_found(), f"{name} survives"


def is_found() -> bool:
    """Whether there is an archive for which the rule does not hold."""
    try:
        find(lines(), lambda found: bool(broken(found)), settings=FIRST_FOUND)
    except NoSuchExample:
        return False
    return True
