"""A provider at the sandbox's Neon, opened as a policy would open it."""

from pathlib import Path
from threading import Event
from typing import Any

from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.providers.neon.settings import NeonProvider, NeonSettings, connect
from reconciler.world.clock import SystemClock
from reconciler.world.ports import Clock, Provider
from tests.servers.neon import NeonServer


def as_the_port_says(provider: NeonProvider) -> Provider:
    """Never run: a policy names kinds of provider, so nothing else has a type checker compare them with the port."""
    return provider


class Quick(SystemClock):
    """Its seconds are tenths of ours: the sandbox is done sooner than Neon, and nobody has to wait between two looks."""

    def monotonic(self) -> float:
        return super().monotonic() * 10

    def elapsed(self) -> float:
        return super().elapsed() * 10

    def wait(self, seconds: float, stop: Event) -> bool:
        return super().wait(seconds / 10, stop)


def neon_provider(
    neon: NeonServer, *, key: str = "", clock: Clock | None = None, stop: Event | None = None, **other: Any
) -> NeonProvider:
    """Of the database `hotel` of a policy. `other`: fields of its source that are not as usual."""
    wanted: dict[str, Any] = {
        "project": neon.project_id,
        "branch": "main",
        "database": "hotel",
        "role": "hotel_owner",
        "api_key": Secret.parse("${KEY}"),
        "api_host": Text.parse(neon.api_host),
    }
    surroundings = Surroundings(base=Path(), environ={"KEY": key or neon.api_key}, redactor=Redactor())
    settings = NeonSettings(**(wanted | other))
    return connect("hotel", settings, surroundings=surroundings, clock=clock or Quick(), stop=stop or Event())
