"""What a policy says, once read: frozen, typed, defaults merged. Secrets are still references."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reconciler.policy.expectation import Expectation
from reconciler.policy.public_key import PublicKey
from reconciler.policy.recipient import Recipient
from reconciler.policy.relation import Relation
from reconciler.policy.schedule import Schedule, Slots
from reconciler.policy.secret import Secret, Text
from reconciler.policy.timing import Timing, Window, closed_by, opening, steps_for
from reconciler.policy.units import ByteSize, Duration, Length, Rate, Span

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,62}$")]

Variable = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
"""The name of a variable of the environment."""
Occurrence = Literal["dump", "copy", "verify", "prune"]
"""Kinds of action that hooks run beside."""

_Jobs = Annotated[int, Meta(ge=1, le=64)]
_Path = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is written in a policy."""


class Age(Section, frozen=True, kw_only=True):
    """Backups are encrypted with age before they leave this machine."""

    age_recipients: Annotated[
        tuple[Recipient, ...],
        Meta(
            description="The public keys that backups are encrypted to. Any one of their identities reads them back.",
            examples=[["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]],
            min_length=1,
            extra_json_schema={"uniqueItems": True},
        ),
    ]
    age_identity: Annotated[
        Secret | None,
        Meta(
            description="The private keys, one a line, or an SSH private key. Only reading back needs them.",
            examples=[{"file": "/run/secrets/age"}],
        ),
    ] = None


Encryption = Literal["none"] | Age


class SignedBy(Section, frozen=True, kw_only=True):
    """Backups are signed, and only those that one of these keys signed are taken for ours."""

    public_keys: Annotated[
        tuple[PublicKey, ...],
        Meta(
            description="Whose signatures are trusted. What none of them signed is foreign: it counts for nothing.",
            examples=[["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]],
            min_length=1,
            extra_json_schema={"uniqueItems": True},
        ),
    ]
    signing_key: Annotated[
        Secret | None,
        Meta(
            description="The private key that signs new backups and deletions (PEM). Reading, copying and verifying need none.",
            examples=[{"file": "/run/secrets/signing_key"}],
        ),
    ] = None


class Metadata(Section, frozen=True, kw_only=True):
    """Whose policy this is."""

    name: Annotated[str, Meta(description="What this policy protects, for people.", examples=["agente-hotel"], min_length=1)]
    owner: Annotated[str, Meta(description="Who is asked when something is wrong.", examples=["backend-ops"], min_length=1)]


class Disaster(Section, frozen=True, kw_only=True):
    """What must hold when the source's failure domain is lost: only copies outside it count."""

    rpo: Annotated[
        Duration,
        Meta(description="The newest copy outside the source's failure domain is never older than this.", examples=["26h"]),
    ]


class Objectives(Section, frozen=True, kw_only=True):
    """What being backed up means for a database. Without objectives nothing is judged."""

    rpo: Annotated[
        Duration | None,
        Meta(
            description="The newest restore point, wherever it lies, is never older than this; no target is further behind.",
            examples=["6h"],
        ),
    ] = None
    disaster: Annotated[
        Disaster | None, Meta(description="Objectives for the loss of the source's failure domain.", examples=[{"rpo": "26h"}])
    ] = None


class Compression(Section, frozen=True, kw_only=True):
    """How dumps are made smaller."""

    algorithm: Annotated[Literal["zstd"], Meta(description="The algorithm: zstd.", examples=["zstd"])] = "zstd"
    level: Annotated[int, Meta(description="1 is the fastest, 19 the smallest.", examples=[3], ge=1, le=19)] = 3
    threads: Annotated[int, Meta(description="Threads that compress; 0: one a core, up to four.", examples=[4], ge=0, le=64)] = 0


class Retention(Section, frozen=True, kw_only=True):
    """Which scheduled backups stay, as restic's `forget` has it: what any rule keeps is kept. Without a rule, all are."""

    keep_last: Annotated[_Count | None, Meta(description="Keep the newest N.", examples=[3])] = None
    keep_hourly: Annotated[
        _Count | None, Meta(description="Keep the newest of each of the last N hours with one.", examples=[24])
    ] = None
    keep_daily: Annotated[
        _Count | None, Meta(description="Keep the newest of each of the last N days with one.", examples=[30])
    ] = None
    keep_weekly: Annotated[
        _Count | None, Meta(description="Keep the newest of each of the last N weeks with one.", examples=[8])
    ] = None
    keep_monthly: Annotated[
        _Count | None, Meta(description="Keep the newest of each of the last N months with one.", examples=[12])
    ] = None
    keep_yearly: Annotated[
        _Count | None, Meta(description="Keep the newest of each of the last N years with one.", examples=[5])
    ] = None
    keep_within: Annotated[
        Span | None, Meta(description="Keep all within this span before the newest backup.", examples=["14d"])
    ] = None
    keep_within_hourly: Annotated[
        Span | None, Meta(description="Keep one an hour within this span before the newest backup.", examples=["2d"])
    ] = None
    keep_within_daily: Annotated[
        Span | None, Meta(description="Keep one a day within this span before the newest backup.", examples=["1mo"])
    ] = None
    keep_within_weekly: Annotated[
        Span | None, Meta(description="Keep one a week within this span before the newest backup.", examples=["6mo"])
    ] = None
    keep_within_monthly: Annotated[
        Span | None, Meta(description="Keep one a month within this span before the newest backup.", examples=["1y6mo"])
    ] = None
    keep_within_yearly: Annotated[
        Span | None, Meta(description="Keep one a year within this span before the newest backup.", examples=["10y"])
    ] = None
    min_verified: Annotated[
        int,
        Meta(
            description="So many backups that a restore has proven stay in any case, the newest ones. While none is proven, "
            "the two newest whole ones stay.",
            examples=[1],
            ge=1,
        ),
    ] = 1
    grace: Annotated[
        Duration,
        Meta(
            description="A pruned backup can be brought back for this long.",
            examples=["7d"],
            extra_json_schema={"default": "7d"},
        ),
    ] = msgspec.field(default_factory=lambda: Duration(days=7))


DEFAULT_JOBS = 2
"""Of a directory archive. Each is a session of the source."""


class Staging(Section, frozen=True, kw_only=True):
    """Where files lie that pg_dump or pg_restore need on a disk of this machine."""

    path: Annotated[
        _Path | None,
        Meta(
            description="The folder, relative to the policy; if not said, the system's one for temporary files. What lies there "
            "is in the clear, in folders that only this user may look into.",
            examples=["/srv/staging"],
        ),
    ] = None
    most: Annotated[
        ByteSize,
        Meta(
            description="About so much of a dump may lie there unread; then pg_dump is made to wait.",
            examples=["4GiB"],
            extra_json_schema={"default": "1GiB"},
        ),
    ] = msgspec.field(default_factory=lambda: ByteSize(1 << 30))


class Limits(Section, frozen=True, kw_only=True):
    """How gently dumps are taken. Without a limit, as fast as it goes."""

    rate: Annotated[
        Rate | None,
        Meta(
            description="The most bytes in a second that are written to each target, dumps and copies together. "
            "A `git_lfs` target is given them at that rate, and pushes what it was given as fast as it goes.",
            examples=["50MiB/s"],
        ),
    ] = None
    max_duration: Annotated[
        Length | None,
        Meta(description="A dump that takes longer is ended, and has failed.", examples=["6h"]),
    ] = None
    yield_to: Annotated[
        Duration | None,
        Meta(
            description="When somebody waits behind the locks of a dump for longer, it is ended, and tried again later.",
            examples=["30s"],
        ),
    ] = None


class Hook(Section, frozen=True, kw_only=True):
    """A program that runs beside an action: an argument list, no shell."""

    argv: Annotated[
        tuple[str, ...],
        Meta(
            description="The program and its arguments, as they are: no shell, no references. A program with a slash in it is "
            "relative to the policy's folder, where it also runs; another is looked for in PATH.",
            examples=[["./pause-jobs", "--for", "hotel"]],
            min_length=1,
        ),
    ]
    on: Annotated[
        tuple[Occurrence, ...],
        Meta(
            description="Beside which actions it runs, each of them: dump, copy, verify, prune.",
            examples=[["dump", "copy"]],
            min_length=1,
            extra_json_schema={"uniqueItems": True},
        ),
    ] = ("dump",)
    timeout: Annotated[
        Length,
        Meta(
            description="A hook that takes longer is ended, and has failed.",
            examples=["30s"],
            extra_json_schema={"default": "1m"},
        ),
    ] = msgspec.field(default_factory=lambda: Length(minutes=1))
    stdin: Annotated[Text | None, Meta(description="What it reads on stdin; none: nothing.", examples=["${JOBS_TOKEN}"])] = None
    env: Annotated[
        dict[Variable, Text],
        Meta(
            description="Variables of its environment, which else holds little more than PATH, HOME and what RECONCILER_… says.",
            examples=[{"JOBS_TOKEN": "${JOBS_TOKEN}"}],
        ),
    ] = {}


class Hooks(Section, frozen=True, kw_only=True):
    """What runs beside actions."""

    before: Annotated[
        tuple[Hook, ...],
        Meta(
            description="In this order, before the action. One that fails fails the action, which is not begun then.",
            examples=[[{"argv": ["./pause-jobs"]}]],
        ),
    ] = ()
    after: Annotated[
        tuple[Hook, ...],
        Meta(
            description="In this order, after the action, whatever came of it, and of what ran before it.",
            examples=[[{"argv": ["./resume-jobs"]}]],
        ),
    ] = ()


Level = Literal["hash", "toc", "restore"]
"""How thoroughly a backup is verified: each does what the one before it does, and more."""


class Verify(Section, frozen=True, kw_only=True):
    """How often the newest backup is verified on each target, and how thoroughly."""

    every: Annotated[
        Length,
        Meta(description="The newest whole backup on each target is verified once in this time.", examples=["7d"]),
    ]
    level: Annotated[
        Level,
        Meta(
            description="hash: every byte is read and compared. toc: the archive is also read as pg_restore reads it. "
            "restore: it is also restored into a scratch database, compared with what the source held, and checked.",
            examples=["restore"],
        ),
    ] = "restore"
    expires: Annotated[
        Length | None,
        Meta(description="For how long a verification counts; twice `every` if not said.", examples=["14d"]),
    ] = None


class Check(Section, frozen=True, kw_only=True):
    """A question in SQL that a restored database must answer as expected."""

    name: Annotated[Name, Meta(description="What it is called where it fails.", examples=["guests-exist"])]
    sql: Annotated[
        str,
        Meta(
            description="One statement that answers with one value. It runs in a read-only transaction, under a role that may "
            "read everything and nothing else, with the database's own settings.",
            examples=["select count(*) from guests"],
            min_length=1,
        ),
    ]
    expect: Annotated[Expectation | None, Meta(description="What the value must be.", examples=[">= 1"])] = None
    expect_secret: Annotated[
        Secret | None,
        Meta(description="A secret that the value must be: compared, and never written down.", examples=["${CANARY_TOKEN}"]),
    ] = None
    timeout: Annotated[
        Length,
        Meta(description="How long it may take.", examples=["1m"], extra_json_schema={"default": "1m"}),
    ] = msgspec.field(default_factory=lambda: Length(minutes=1))


class Dumps(Section, frozen=True, kw_only=True):
    """When dumps are taken, where they lie, and how long."""

    schedule: Annotated[
        Timing,
        Meta(
            description="Cron: minute, hour, day of month, month, day of week, in the database's time zone. Or `auto`: often "
            "enough for the RPO, with time for a dump of the usual length that fails and for its retry.",
            examples=["0 2 * * *", "auto"],
        ),
    ]
    targets: Annotated[
        tuple[str, ...],
        Meta(
            description="Where backups lie: the dump lands on the first that takes it, the others get copies.",
            examples=[["primary", "offsite"]],
            min_length=1,
            extra_json_schema={"uniqueItems": True},
        ),
    ]
    from_: Annotated[
        Literal["branch", "source"] | None,
        Meta(
            description="What is read, where the provider has branches: a short-lived branch made for the dump, so that the "
            "source sees no load, no lock and no long transaction; or the source itself. Default: branch where there are any.",
            examples=["source"],
        ),
    ] = msgspec.field(default=None, name="from")
    never: Annotated[
        tuple[Window, ...],
        Meta(
            description="Minutes, as cron names them, in which no dump and no verification starts: what is due then waits until "
            "they are over.",
            examples=[["* 17-21 * * FRI"]],
        ),
    ] = ()
    format: Annotated[
        Literal["custom", "directory"],
        Meta(
            description="custom: an archive as one stream. directory: a file a table, dumped and stored side by side, for large "
            "databases: restored in parallel, and a table alone without fetching the rest.",
            examples=["directory"],
        ),
    ] = "custom"
    jobs: Annotated[
        _Jobs | None,
        Meta(description="With format directory: how many sessions dump at a time; 2 if not said.", examples=[4]),
    ] = None
    staging: Annotated[
        Staging | None,
        Meta(
            description="With format directory: where files lie on their way.",
            examples=[{"path": "/srv/staging", "most": "4GiB"}],
        ),
    ] = None
    limits: Annotated[
        Limits,
        Meta(description="How gently dumps are taken.", examples=[{"rate": "50MiB/s", "max_duration": "6h", "yield_to": "30s"}]),
    ] = Limits()
    hooks: Annotated[
        Hooks,
        Meta(
            description="Programs that run beside dumps, copies, verifications and prunes.",
            examples=[{"before": [{"argv": ["./pause-jobs"]}], "after": [{"argv": ["./resume-jobs"]}]}],
        ),
    ] = Hooks()
    compression: Annotated[Compression, Meta(description="How dumps are compressed.", examples=[{"level": 3}])] = Compression()
    include: Annotated[
        tuple[Relation, ...],
        Meta(
            description="Dump these tables and views alone, with the types, functions and extensions that there are. Such a "
            "backup is partial: it meets no objective.",
            examples=[["public.guests"]],
            extra_json_schema={"uniqueItems": True},
        ),
    ] = ()
    exclude: Annotated[
        tuple[Relation, ...],
        Meta(
            description="Leave these tables, views or sequences out. Such a backup is partial: it meets no objective.",
            examples=[["public.scratchpad"]],
            extra_json_schema={"uniqueItems": True},
        ),
    ] = ()
    exclude_data: Annotated[
        tuple[Relation, ...],
        Meta(
            description="Leave the rows of these tables out, and keep the tables. The backup says so, and is whole all the same.",
            examples=[["public.sessions"]],
            extra_json_schema={"uniqueItems": True},
        ),
    ] = ()
    roles: Annotated[
        Literal["without_passwords", "with_passwords"],
        Meta(
            description="Whether the SCRAM verifiers of roles' passwords are kept beside a dump, so that roles that a restore "
            "makes can log in as before. Only in encrypted backups, or where every target is local.",
            examples=["with_passwords"],
        ),
    ] = "without_passwords"
    fingerprint: Annotated[
        Literal["none", "counts", "checksums"],
        Meta(
            description="What is recorded of the data in the dump's own snapshot, for a restore to be compared with: the rows of "
            "each table counted, or hashed too; sequences, large objects and the schema's shape with either.",
            examples=["checksums"],
        ),
    ] = "counts"
    verify: Annotated[
        Verify | None,
        Meta(
            description="How backups are verified; without it, only `reconcile backups verify` does.",
            examples=[{"every": "7d", "level": "restore"}],
        ),
    ] = None
    retention: Annotated[
        Retention | None,
        Meta(description="Which backups stay; without it, all do.", examples=[{"keep_last": 3, "keep_daily": 30}]),
    ] = None


class Pitr(Section, frozen=True, kw_only=True):
    """How far back the provider's own history reaches."""

    window: Annotated[
        Duration,
        Meta(
            description="Any instant of this long can be returned to. At Neon it is a setting of the whole project: databases of "
            "one project say the same.",
            examples=["7d"],
        ),
    ]
    manage: Annotated[
        bool,
        Meta(description="false: the window is only looked at, and a difference is reported.", examples=[False]),
    ] = True


class Snapshots(Section, frozen=True, kw_only=True):
    """Snapshots at the provider, beside its history."""

    schedule: Annotated[
        Schedule,
        Meta(
            description="When one is taken, as cron has it. With `via: neon` in UTC, on whole hours, daily, weekly or "
            "monthly; with `via: reconciler` in the database's time zone, whenever a turn comes by.",
            examples=["0 3 * * *"],
        ),
    ]
    retain: Annotated[
        Duration,
        Meta(description="How long each is kept. With `via: neon` an hour to 35 days.", examples=["7d"]),
    ]
    via: Annotated[
        Literal["neon", "reconciler"],
        Meta(
            description="Who takes and removes them: the provider by its own schedule, or this program (they count against the "
            "account's limit of snapshots by hand).",
            examples=["neon"],
        ),
    ]
    takeover: Annotated[
        bool,
        Meta(
            description="Replace a schedule that somebody made by hand; without it, such a one is only reported.", examples=[True]
        ),
    ] = False


class Branches(Section, frozen=True, kw_only=True):
    """The branches of the project."""

    protect: Annotated[
        bool,
        Meta(
            description="The database's own branch is protected at the provider, so that nobody deletes it by accident. "
            "Branches made of it have passwords of their own then.",
            examples=[True],
        ),
    ] = False


class DatabasePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """All that the policy says of one database, defaults merged."""

    name: str
    source: msgspec.Struct
    """Settings of the kind that its `provider` names."""
    home: str
    """The target where lease and records lie."""
    timezone: str
    """Of schedules, and of the days that retention counts."""
    encryption: Encryption | None
    """None: not said, which is allowed for local targets alone."""
    objectives: Objectives
    dumps: Dumps
    signatures: SignedBy | None = None
    checks: tuple[Check, ...] = ()
    pitr: Pitr | None = None
    snapshots: Snapshots | None = None
    branches: Branches = Branches()

    @property
    def history_site(self) -> str | None:
        """Whose setting the window of its history is; None where its provider keeps none."""
        site: str | None = getattr(self.source, "history_site", None)
        return site

    def slots(self, usual: timedelta | None = None) -> Slots:
        """When dumps are due. `usual`: how long one takes, which `auto` allows for; None where that is not known yet."""
        if self.dumps.schedule.cron is not None:
            return self.dumps.schedule.cron
        disaster = self.objectives.disaster
        # Where the provider's history meets the one, dumps are for the other.
        rpo = None if disaster is not None and self.history_site is not None else self.objectives.rpo
        wanted = [one for one in (rpo, disaster.rpo if disaster else None) if one is not None]
        # A policy that says `auto` and no RPO does not load.
        return steps_for(min(wanted, default=timedelta(days=1)), usual)

    def opening(self, when: datetime) -> datetime | None:
        """The first instant from `when` on at which a dump may start; None where windows close a whole year."""
        return opening(self.dumps.never, when, self.timezone)

    def closed_by(self, when: datetime) -> Window | None:
        """The window that keeps a dump from starting at that instant."""
        return closed_by(self.dumps.never, when, self.timezone)

    @property
    def asks_for_a_part(self) -> bool:
        """Whether its dumps leave whole objects out: then what is proven of them is all that there is to prove."""
        return bool(self.dumps.include or self.dumps.exclude)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Whom backups are encrypted to; empty: nobody."""
        return tuple(map(str, self.encryption.age_recipients)) if isinstance(self.encryption, Age) else ()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy file that holds together."""

    version: Literal[1]
    metadata: Metadata
    path: Path
    """The file. References to files and paths of local targets are relative to its folder."""
    digest: str
    """sha256 of the file's bytes, in hex digits."""
    targets: Mapping[str, msgspec.Struct]
    """Settings of the kind that each one's `type` names."""
    scratch: msgspec.Struct | None
    """Settings of the kind that its `type` names; None where it is not said."""
    databases: Mapping[str, DatabasePolicy]
