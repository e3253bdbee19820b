"""A database made for each rehearsal on a PostgreSQL server that is there for that."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.postgres.scratch import ServerScratch, Sources


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="postgres", forbid_unknown_fields=True):
    """A PostgreSQL server for rehearsals: a database and its roles come and go there. That of a source is refused."""

    url: Annotated[
        Secret,
        Meta(
            description="A superuser's url of that server; any database of it. A secret: written as a reference.",
            examples=["${SCRATCH_URL}"],
        ),
    ]


def connect(
    database: str,
    settings: ServerSettings,
    *,
    surroundings: Surroundings,
    clock: Clock,
    stop: Event,
    client_bin: Path | None,
    sources: "Sources",
) -> "ServerScratch":
    """Connects to nothing yet. Raises Refused for a url that is not there or can't be used."""
    from reconciler.postgres.dump import Manners
    from reconciler.postgres.scratch import ServerScratch, revealing
    from reconciler.postgres.url import parse

    field = "scratch.url"
    admin = parse(settings.url.reveal(surroundings, field=field).expose(), field=field)
    manners = Manners(clock=clock, stop=stop, client_bin=client_bin)
    return ServerScratch(admin, manners, revealing(database, surroundings), sources)


KIND = Kind(type="postgres", settings=ServerSettings, connect=connect)
