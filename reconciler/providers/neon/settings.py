"""A database at Neon, as a policy names it."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from reconciler.errors import Refused
from reconciler.policy.kinds import Kind
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.world.ports import Clock

if TYPE_CHECKING:
    from reconciler.providers.neon.history import NeonHistory
    from reconciler.providers.neon.source import NeonSource

API_HOST: Final = "https://console.neon.tech/api/v2"
TIDYING_SECONDS: Final = 30.0
"""So long a busy project may keep us after we were asked to stop."""


class NeonSettings(msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="neon", forbid_unknown_fields=True):
    """A database at Neon, found by its API, and dumped through a short-lived branch."""

    project: Annotated[str, Meta(description="The project's id.", examples=["quiet-hotel-80215573"], pattern="^[a-z0-9-]{1,60}$")]
    branch: Annotated[str, Meta(description="The branch's name or id.", examples=["main"], min_length=1)]
    database: Annotated[str, Meta(description="The database in it.", examples=["hotel"], min_length=1)]
    role: Annotated[
        str, Meta(description="The role that dumps; it must be able to read all of it.", examples=["hotel_owner"], min_length=1)
    ]
    api_key: Annotated[
        Secret, Meta(description="A key of Neon's API; one of this project alone is enough.", examples=["${NEON_API_KEY}"])
    ]
    password: Annotated[
        Secret | None,
        Meta(description="The role's password, where it isn't the one that Neon stores.", examples=["${NEON_PASSWORD}"]),
    ] = None
    api_host: Annotated[
        Text | None,
        Meta(description=f"Where the API is; default: {API_HOST}.", examples=[{"file": ".sandbox/neon_api_host"}]),
    ] = None
    domain: Annotated[
        str | None,
        Meta(description="What fails together with it, compared with the domains of targets. Default: neon.", examples=["neon"]),
    ] = None
    client_bin: Annotated[
        str | None,
        Meta(
            description="The folder of pg_dump, relative to the policy. Default: the client of the server's major, looked for "
            "in PATH, /usr/lib/postgresql/*/bin and installed wheels.",
            examples=["/usr/lib/postgresql/17/bin"],
        ),
    ] = None

    @property
    def history_site(self) -> str:
        """The project, whose setting the window is."""
        return f"neon:{self.api_host or API_HOST}/{self.project}"


class NeonProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A database at Neon."""

    domain: str
    place: str
    opened: "NeonSource"
    past: "NeonHistory"

    def source(self) -> "NeonSource":
        """The database to protect; nothing is asked before it is."""
        return self.opened

    def history(self) -> "NeonHistory":
        """What Neon keeps by itself; nothing is asked before it is."""
        return self.past


def connect(name: str, settings: NeonSettings, *, surroundings: Surroundings, clock: Clock, stop: Event) -> NeonProvider:
    """The provider of the policy's database `name`. Asks nothing yet. Raises Refused where a reference leads nowhere."""
    # Imported here: they bring psycopg and httpx, which cost more than all of a `--help`.
    from reconciler.postgres.dump import Manners
    from reconciler.providers.neon.api import Api
    from reconciler.providers.neon.history import NeonHistory
    from reconciler.providers.neon.project import Login, NeonProject
    from reconciler.providers.neon.source import NeonSource, Where
    from reconciler.world.endpoint import host_of, is_one_word, refuse_plain

    field = f"databases.{name}.source"
    key = settings.api_key.reveal(surroundings, field=f"{field}.api_key")
    if not is_one_word(key.expose()):
        cure = f"put the key alone into {settings.api_key.reference}, on one line"
        raise Refused(f"{field}.api_key has a space, a line break or a control character in it", cure=cure)
    host = settings.api_host.reveal(surroundings, field=f"{field}.api_host") if settings.api_host else API_HOST
    refuse_plain(host, host_of(host, f"{field}.api_host"), f"{field}.api_host")
    password = settings.password.reveal(surroundings, field=f"{field}.password") if settings.password else None
    login = Login(role=settings.role, database=settings.database, password=password)
    client_bin = surroundings.base / Path(settings.client_bin).expanduser() if settings.client_bin else None
    learn = surroundings.redactor.learn
    project = NeonProject(Api(host, key, settings.project, clock=clock, stop=stop), learn=learn)
    tidying = Api(host, key, settings.project, clock=clock, stop=Event(), patience=TIDYING_SECONDS)
    where = Where(name=name, branch=settings.branch, login=login)
    manners = Manners(clock=clock, stop=stop, client_bin=client_bin)
    source = NeonSource(project, NeonProject(tidying, learn=learn), where, manners)
    return NeonProvider(
        domain=settings.domain or "neon",
        place=f"neon {settings.project}/{settings.branch}/{settings.database}",
        opened=source,
        past=NeonHistory(source, project, settings.database, manners),
    )


KIND = Kind(type="neon", settings=NeonSettings, connect=connect)
