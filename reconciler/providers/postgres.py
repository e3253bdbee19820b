"""Any PostgreSQL server that a url reaches."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.postgres.source import PostgresSource


class PostgresSettings(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="postgres", forbid_unknown_fields=True
):
    """A PostgreSQL server, 14 to 18, reached by a url."""

    url: Annotated[
        Secret,
        Meta(
            description="Where the database is, as libpq reads it: a url or keyword=value pairs, all parameters kept "
            "(sslmode, sslrootcert, options and so on). The direct host, not a pooled one. A secret: written as a reference.",
            examples=["${DATABASE_URL}"],
        ),
    ]
    domain: Annotated[
        str | None,
        Meta(
            description="What fails together with this server, compared with the domains of targets. Default: its host; "
            "this machine for a local one.",
            examples=["host:db.internal"],
        ),
    ] = None
    client_bin: Annotated[
        str | None,
        Meta(
            description="The folder of pg_dump and pg_restore, relative to the policy. Default: the client of the server's "
            "major, looked for in PATH, /usr/lib/postgresql/*/bin and installed wheels.",
            examples=["/usr/lib/postgresql/17/bin"],
        ),
    ] = None


class PostgresProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A database at a url."""

    domain: str
    place: str
    opened: "PostgresSource"

    def source(self) -> "PostgresSource":
        """The database to protect; nothing is connected before it is asked."""
        return self.opened

    def history(self) -> None:
        """A bare server keeps none."""
        return


def connect(name: str, settings: PostgresSettings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> PostgresProvider:
    """The provider of the policy's database `name`. Connects to nothing yet.

    Raises Refused for a url that is not there or can't be used, and never shows it.
    """
    # Imported here: they bring psycopg, which costs more than all of a `--help`.
    from reconciler.postgres.dump import Manners
    from reconciler.postgres.source import PostgresSource
    from reconciler.postgres.url import parse

    field = f"databases.{name}.source.url"
    conninfo = parse(settings.url.reveal(surroundings, field=field).expose(), field=field)
    client_bin = surroundings.base / Path(settings.client_bin).expanduser() if settings.client_bin else None
    manners = Manners(clock=clock, stop=stop, client_bin=client_bin)
    return PostgresProvider(
        domain=settings.domain or conninfo.domain, place=conninfo.place, opened=PostgresSource(conninfo, manners)
    )


KIND = Kind(type="postgres", settings=PostgresSettings, connect=connect)
