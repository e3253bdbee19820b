"""Servers and short ways to the code under test."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event

import pytest

from reconciler.postgres.dump import Manners
from reconciler.postgres.source import PostgresSource
from reconciler.postgres.url import parse
from reconciler.world.clock import SystemClock
from tests.servers.postgres import postgres, postgres18, postgres_servers

__all__ = ["postgres", "postgres18", "postgres_servers"]


@pytest.fixture
def stop() -> Event:
    return Event()


@pytest.fixture
def manners(stop: Event) -> Manners:
    """Impatient, so that a test that hangs fails."""
    return Manners(clock=SystemClock(), stop=stop, patience=timedelta(seconds=60))


@pytest.fixture
def open_source(manners: Manners) -> Callable[[str], PostgresSource]:
    return lambda url: PostgresSource(parse(url, field="url"), manners)
