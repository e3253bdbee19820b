"""A throw-away PostgreSQL on this machine, started for each rehearsal from the programs at hand."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Surroundings
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.postgres.scratch import EmbeddedScratch, Sources


class EmbeddedSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="embedded", forbid_unknown_fields=True):
    """A throw-away PostgreSQL on this machine: no port, no network, no archiving, and gone afterwards."""

    folder: Annotated[
        str | None,
        Meta(
            description="Where its data lies meanwhile, relative to the policy: as large as the database. Default: the system's "
            "folder for temporary files.",
            examples=["/srv/scratch"],
        ),
    ] = None
    bin: Annotated[
        str | None,
        Meta(
            description="The folder of initdb and postgres, relative to the policy. Default: those of the source's major, looked "
            "for in PATH, /usr/lib/postgresql/*/bin and installed wheels.",
            examples=["/usr/lib/postgresql/17/bin"],
        ),
    ] = None


def connect(
    database: str,
    settings: EmbeddedSettings,
    *,
    surroundings: Surroundings,
    clock: Clock,
    stop: Event,
    client_bin: Path | None,
    sources: "Sources",
) -> "EmbeddedScratch":
    """Nothing is started before a rehearsal asks for it. A server of our own is none of the `sources`."""
    # Imported here: they bring psycopg, which costs more than all of a `--help`.
    from reconciler.postgres.dump import Manners
    from reconciler.postgres.scratch import EmbeddedScratch, revealing
    from reconciler.postgres.throwaway import default_base

    base = surroundings.base / Path(settings.folder).expanduser() if settings.folder else default_base()
    server_bin = surroundings.base / Path(settings.bin).expanduser() if settings.bin else None
    manners = Manners(clock=clock, stop=stop, client_bin=client_bin)
    return EmbeddedScratch(base, manners, revealing(database, surroundings), server_bin=server_bin)


KIND = Kind(type="embedded", settings=EmbeddedSettings, connect=connect)
