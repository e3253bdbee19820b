"""A server for rehearsals is none of the policy's sources: that is asked of all of them, whichever backup is rehearsed."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from reconciler.backups import layout
from reconciler.backups.manifest import encode
from reconciler.connect import KINDS, Means, connect, known_sources
from reconciler.errors import Refused
from reconciler.policy.loading import load
from reconciler.policy.model import Policy
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.postgres.source import PostgresSource
from reconciler.world.cache import FileCache
from reconciler.world.clock import SystemClock, token
from reconciler.world.facts import Identity, Repository
from reconciler.world.pool import InlinePool
from reconciler.world.process import SystemProcess
from tests.postgres.taking import take
from tests.servers.postgres import Server, postgres18, postgres_servers

__all__ = ["postgres18", "postgres_servers"]

POLICY = """version: 1
metadata: {name: test, owner: nobody}
targets:
  disk: {type: local, path: ./disk}
scratch: {type: postgres, url: "${SCRATCH}"}
databases:
  hotel:
    source: {provider: postgres, url: "${HOTEL}"}
    dumps: {schedule: "0 2 * * *", targets: [disk]}
  reservas:
    source: {provider: postgres, url: "${RESERVAS}"}
    dumps: {schedule: "0 2 * * *", targets: [disk]}
"""
NOWHERE = "postgresql://u:p@127.0.0.1:1/x"


def stand(folder: Path, **environ: str) -> tuple[Policy, Means]:
    policy = load(POLICY.encode(), KINDS, path=folder / "backup-policy.yaml")
    means = Means(
        surroundings=Surroundings(base=folder, environ=environ, redactor=Redactor()),
        clock=SystemClock(),
        process=SystemProcess(),
        pool=InlinePool(),
        cache=FileCache(folder / "cache"),
        stop=Event(),
        tell=lambda _: None,
        token=token,
    )
    return policy, means


def test_it_serves_another_database_of_the_policy(
    tmp_path: Path, postgres_servers: Callable[[int], Server], postgres18: Server
) -> None:
    """Of `hotel` it is no source; of `reservas` it is, and nothing is restored there for either."""
    hotel = postgres_servers(16)
    url, place = hotel.url(hotel.new_database("CREATE TABLE t (id int)")), postgres18.url("postgres")
    policy, means = stand(tmp_path, HOTEL=url, RESERVAS=postgres18.url(postgres18.new_database()), SCRATCH=place)
    world = connect(policy, policy.databases["hotel"], means, writable=True)
    source = world.provider.source()
    assert isinstance(source, PostgresSource)
    taken = take(source)

    with pytest.raises(Refused, match="is the server of the source db_"), world.scratch.room(taken.facts, taken.globals):
        pass


def test_a_source_that_is_down(tmp_path: Path, postgres18: Server) -> None:
    """What its target remembers tells who it is; with nothing at all it may be anybody."""
    policy, means = stand(tmp_path, HOTEL=postgres18.url("postgres"), RESERVAS=NOWHERE)
    with pytest.raises(Refused, match="the source of reservas can't be seen"):
        known_sources(policy, means)

    identity = Identity(provider="postgres", cluster="7", database="reservas")
    text = encode(Repository(id="r", identity=identity, targets={}, home="disk", created=means.clock.now()))
    world = connect(policy, policy.databases["reservas"], means, writable=True)
    world.targets["disk"].write(layout.repository_key("reservas"), [text])

    assert known_sources(policy, means)[1:] == (identity,)
