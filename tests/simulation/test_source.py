"""What the simulated source does beyond the contract of all sources: what it holds, and whose sessions stay."""

from datetime import UTC, datetime

import pytest

from reconciler.errors import Conflict
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Death, Host
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import COMMIT_SECONDS, Database, SimulatedSource, archive_of
from reconciler.simulation.timeline import Timeline
from reconciler.world.facts import Identity

ID = "20251025T020000Z-3f9c2a"


@pytest.fixture
def database() -> Database:
    timeline = Timeline(datetime(2025, 10, 20, tzinfo=UTC))
    timeline.sleep(90 * COMMIT_SECONDS)
    return Database(timeline)


@pytest.fixture
def faults() -> Faults:
    return Faults(Chance(0), share=0.0)


@pytest.fixture
def reach(database: Database, faults: Faults) -> Reach:
    return Reach(Host("host", database.timeline, boot="b", namespace="n", offset=0.0, drift=0.0).start(), faults)


@pytest.fixture
def source(database: Database, reach: Reach) -> SimulatedSource:
    return SimulatedSource(database, reach)


def test_a_dump_is_of_its_snapshot(source: SimulatedSource, database: Database) -> None:
    """Commits that come meanwhile are not in it."""
    commits = database.commits()

    with source.dump(ID, expect=database.identity) as dump:
        database.timeline.sleep(database.timeline.seconds + 5 * COMMIT_SECONDS)
        archive = b"".join(dump.chunks())

    assert b"".join(archive_of(database.identity, commits)) == archive


def test_another_identity_than_expected(source: SimulatedSource, database: Database) -> None:
    """Nothing is dumped, and no session stays."""
    with pytest.raises(Conflict), source.dump(ID, expect=Identity(provider="x", cluster="1", database="x")):
        pass

    assert {} == database.sessions


def test_a_dump_that_is_left_early(source: SimulatedSource, database: Database) -> None:
    """Its session ends with it."""
    with source.dump(ID, expect=None) as dump:
        next(dump.chunks())

    assert {} == database.sessions
    assert 0 == source.end_sessions(ID)


def test_a_dumper_that_dies(source: SimulatedSource, database: Database, reach: Reach) -> None:
    """Its session stays until somebody ends it."""
    with pytest.raises(Death), source.dump(ID, expect=None):
        reach.die()

    other = Reach(reach.process.host.start(), reach.faults)
    assert 1 == SimulatedSource(database, other).end_sessions(ID)
    assert {} == database.sessions
