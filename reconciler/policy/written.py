"""The shape of the file itself, before defaults are merged: what the schema is made of."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from reconciler.policy.model import (
    Branches,
    Check,
    Dumps,
    Encryption,
    Metadata,
    Name,
    Objectives,
    Pitr,
    Section,
    SignedBy,
    Snapshots,
)
from reconciler.policy.units import TimeZone

_Zone = Annotated[
    TimeZone,
    Meta(
        description="The zone of schedules, and of the days that retention counts; UTC if not said.",
        examples=["Europe/Madrid"],
        extra_json_schema={"default": "UTC"},
    ),
]
_Encrypted = Annotated[
    Encryption | None,
    Meta(
        description="How backups are encrypted. `none` must be said in words where a target is not local.",
        examples=[{"age_recipients": ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]}, "none"],
    ),
]
_Signed = Annotated[
    SignedBy | None,
    Meta(
        description="Who signs backups, and whose signatures are trusted; left out, nobody and everybody.",
        examples=[{"public_keys": ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]}],
    ),
]
_Objectives = Annotated[
    Objectives | None,
    Meta(description="What being backed up means.", examples=[{"rpo": "6h", "disaster": {"rpo": "26h"}}]),
]
_Dumps = Annotated[
    Dumps | None,
    Meta(
        description="Dumps: when, where, how long. What is missing comes from the defaults.",
        examples=[{"schedule": "0 2 * * *", "targets": ["primary"]}],
    ),
]


_Pitr = Annotated[
    Pitr | None,
    Meta(
        description="The window of the history that the provider keeps (Neon); left out, it is left alone.",
        examples=[{"window": "7d"}],
    ),
]


_Snapshots = Annotated[
    Snapshots | None,
    Meta(
        description="Snapshots at the provider (Neon); left out, they are left alone.",
        examples=[{"schedule": "0 3 * * *", "retain": "7d", "via": "neon"}],
    ),
]
_Branches = Annotated[Branches | None, Meta(description="The branches of the project (Neon).", examples=[{"protect": True}])]


class Defaults(Section, frozen=True, kw_only=True):
    """What holds for every database that doesn't say otherwise; merged key by key, lists as a whole."""

    timezone: _Zone = msgspec.field(default_factory=lambda: TimeZone("UTC"))
    encryption: _Encrypted = None
    signatures: _Signed = None
    objectives: _Objectives = None
    dumps: _Dumps = None
    pitr: _Pitr = None
    snapshots: _Snapshots = None
    branches: _Branches = None


class Database(Section, frozen=True, kw_only=True):
    """One database, and what is promised for it."""

    source: Annotated[
        Any,
        Meta(
            description="Where the database is; `provider` says who hosts it.",
            examples=[{"provider": "postgres", "url": "${DATABASE_URL}"}],
        ),
    ]
    home: Annotated[
        str | None,
        Meta(description="The target for lease and records; the first of dumps.targets if not said.", examples=["primary"]),
    ] = None
    timezone: _Zone = msgspec.field(default_factory=lambda: TimeZone("UTC"))
    encryption: _Encrypted = None
    signatures: _Signed = None
    objectives: _Objectives = None
    dumps: _Dumps = None
    pitr: _Pitr = None
    snapshots: _Snapshots = None
    branches: _Branches = None
    checks: Annotated[
        tuple[Check, ...],
        Meta(
            description="What a restored database must answer.",
            examples=[[{"name": "guests-exist", "sql": "select count(*) from guests", "expect": ">= 1"}]],
        ),
    ] = ()


class Document(Section, frozen=True, kw_only=True):
    """A backup policy: what "backed up" means for each database."""

    version: Annotated[Literal[1], Meta(description="The version of this format.", examples=[1])]
    metadata: Annotated[
        Metadata, Meta(description="Whose policy this is.", examples=[{"name": "agente-hotel", "owner": "backend-ops"}])
    ]
    targets: Annotated[
        dict[Name, Any],
        Meta(
            description="Where backups may lie, by name; `type` says what it is.",
            examples=[{"disk": {"type": "local", "path": "./.backups"}}],
            min_length=1,
        ),
    ]
    scratch: Annotated[
        Any,
        Meta(
            description="Where restores are rehearsed; `type` says how. A throw-away server on this machine if not said.",
            examples=[{"type": "embedded"}],
        ),
    ] = None
    defaults: Annotated[
        Defaults | None, Meta(description="Merged under every database.", examples=[{"timezone": "UTC", "encryption": "none"}])
    ] = None
    databases: Annotated[
        dict[Name, Database],
        Meta(
            description="The databases, by name. The name is a folder on the targets: renaming one begins anew.",
            examples=[{"hotel": {"source": {"provider": "postgres", "url": "${DATABASE_URL}"}}}],
            min_length=1,
        ),
    ]
