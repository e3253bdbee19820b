"""What every provider's source must do, run over each by naming it."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Event
from typing import NamedTuple

import pytest

from reconciler.errors import Conflict, Unreachable
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.providers import PROVIDERS
from reconciler.providers.postgres import PostgresSettings, connect
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults, Spell
from reconciler.simulation.host import Host
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import COMMIT_SECONDS, Database, SimulatedProvider, archive_of
from reconciler.simulation.timeline import Timeline
from reconciler.world.clock import SystemClock
from reconciler.world.facts import Identity
from reconciler.world.ports import Provider, Source
from tests.opening import neon_provider
from tests.postgres.processes import children, comes_true, sessions_end
from tests.servers.neon import NeonServer, neon
from tests.servers.postgres import MAJORS, Server, postgres_servers

__all__ = ["neon", "postgres_servers"]

ID = "20251025T020000Z-3f9c2a"


class Subject(NamedTuple):
    """A provider's database of some rows, the same where nothing listens, and a look at what is behind it."""

    provider: Provider
    unreachable: Provider
    secret: str
    comes_back: Callable[[bytes], bool]
    """Whether pg_restore makes the same database of that archive."""
    is_left: Callable[[], bool]
    """Waits until nothing of the dump is left there."""


ROWS = "CREATE TABLE t AS SELECT i, repeat('x', 1000) AS x FROM generate_series(1, 5000) i"


def _postgres(request: pytest.FixtureRequest, major: int) -> Subject:
    server: Server = request.getfixturevalue("postgres_servers")(major)
    database = server.new_database(ROWS)

    def provider(url: str) -> Provider:
        around = Surroundings(base=request.getfixturevalue("tmp_path"), environ={"URL": url}, redactor=Redactor())
        settings = PostgresSettings(url=Secret.parse("${URL}"))
        return connect("hotel", settings, surroundings=around, clock=SystemClock(), stop=Event())

    def comes_back(archive: bytes) -> bool:
        copy = server.new_database()
        server.run("pg_restore", "--exit-on-error", database=copy, stdin=archive)
        return server.schema_text(database) == server.schema_text(copy)

    return Subject(
        provider(server.url(database)),
        provider("postgres://u:p@127.0.0.1:1/x"),
        server.cluster.password,
        comes_back,
        lambda: sessions_end(server, f"reconciler/{ID}"),
    )


def _neon(request: pytest.FixtureRequest) -> Subject:
    neon: NeonServer = request.getfixturevalue("neon")
    server: Server = request.getfixturevalue("postgres_servers")(18)
    with neon.connect() as session:
        session.execute("DROP TABLE IF EXISTS t")
        session.execute(ROWS)

    def comes_back(archive: bytes) -> bool:
        copy = server.new_database()
        # Neon's own privileges and roles are not to be had elsewhere.
        server.run("pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", database=copy, stdin=archive)
        return server.execute(LOOK, copy) == neon.rows(LOOK)

    def is_left() -> bool:
        name = f"reconciler-hotel-{ID}"
        return comes_true(lambda: name not in {branch["name"] for branch in neon.get("/branches")["branches"]})

    nowhere = Text.parse("http://127.0.0.1:1/api/v2")
    return Subject(neon_provider(neon), neon_provider(neon, api_host=nowhere), neon.api_key, comes_back, is_left)


def _simulated(request: pytest.FixtureRequest) -> Subject:
    timeline = Timeline(SystemClock().now() - timedelta(days=1))
    timeline.sleep(90 * COMMIT_SECONDS)
    database, host = Database(timeline), Host("host", timeline, boot="b", namespace="n", offset=0.0, drift=0.0)
    here, dark = Faults(Chance(0), share=0.0), Faults(Chance(0), share=0.0)
    dark.begin_spell("source", Spell(kind="unavailable", until=1e9))
    commits = database.commits()
    return Subject(
        SimulatedProvider(database, Reach(host.start(), here)),
        SimulatedProvider(database, Reach(host.start(), dark)),
        "no secret at all",
        lambda archive: archive == b"".join(archive_of(database.identity, commits)),
        lambda: not database.sessions,
    )


LOOK = "SELECT count(*), sum(i), md5(string_agg(x, '' ORDER BY i)) FROM t"
SUBJECTS: dict[str, dict[str, Callable[[pytest.FixtureRequest], Subject]]] = {
    "postgres": {f"postgres {major}": partial(_postgres, major=major) for major in MAJORS},
    "neon": {"neon": _neon},
    "simulated": {"simulated": _simulated},
}


@pytest.fixture(params=[make for subjects in SUBJECTS.values() for make in subjects.items()], ids=lambda make: make[0])
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param[1](request)
    return made


@pytest.fixture
def source(subject: Subject) -> Source:
    return subject.provider.source()


def test_every_provider_is_under_contract() -> None:
    """One that is added to the list is added here."""
    assert {kind.type for kind in PROVIDERS} | {"simulated"} == set(SUBJECTS)


def test_place_and_domain_are_free_of_secrets(subject: Subject) -> None:
    """They are shown to people, before anything is connected."""
    assert subject.secret not in f"{subject.provider.place} {subject.provider.domain}"
    assert subject.provider.place
    assert subject.provider.domain


def test_facts_stay_the_same(source: Source) -> None:
    """Asked twice, identity and version are equal and the clock has not gone back."""
    first, second = source.facts(), source.facts()

    assert first.identity == second.identity
    assert first.major == second.major
    assert first.clock <= second.clock
    assert first.clock.utcoffset() is not None


def test_an_archive_is_whole(source: Source, subject: Subject) -> None:
    """What comes out is what pg_restore makes the same database of."""
    with source.dump(ID, expect=source.facts().identity) as dump:
        archive = b"".join(dump.chunks())

    assert subject.comes_back(archive)


def test_facts_of_a_dump_are_those_of_its_source(source: Source) -> None:
    """They are there before the first byte, and the instant is not in the future."""
    seen = source.facts()

    with source.dump(ID, expect=None) as dump:
        assert seen.identity == dump.facts.source.identity
        assert dump.facts.instant <= SystemClock().now()
        assert dump.globals.database_owner


def test_another_identity_than_expected(source: Source) -> None:
    """Nothing is dumped from a database that is not the one that is protected."""
    with pytest.raises(Conflict), source.dump(ID, expect=Identity(provider="x", cluster="1", database="x")):
        pass


def test_a_dump_that_is_left_early(source: Source, subject: Subject) -> None:
    """Neither processes nor sessions stay."""
    before = children()

    with source.dump(ID, expect=None) as dump:
        next(dump.chunks())

    assert set() == children() - before
    assert subject.is_left()


def test_a_dump_that_is_never_begun(source: Source, subject: Subject) -> None:
    """Opening alone leaves nothing either."""
    with source.dump(ID, expect=None):
        pass

    assert subject.is_left()


def test_nothing_was_left_behind(source: Source) -> None:
    """Ending sessions of an id that has none is fine."""
    assert source.end_sessions("20250101T000000Z-000000") == 0


def test_a_source_that_does_not_answer(subject: Subject) -> None:
    """It is unreachable, whatever is asked."""
    away = subject.unreachable.source()

    with pytest.raises(Unreachable):
        away.facts()
    with pytest.raises(Unreachable), away.dump(ID, expect=None):
        pass
    with pytest.raises(Unreachable):
        away.end_sessions(ID)
