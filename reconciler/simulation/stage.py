"""Everything in one simulated world, drawn by seed: how many hosts and targets, which policy, how much goes wrong."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from reconciler.policy.model import Compression, DatabasePolicy, Disaster, Dumps, Objectives, Retention, Verify
from reconciler.policy.relation import Relation
from reconciler.policy.timing import Timing
from reconciler.policy.units import Duration, Length
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Host
from reconciler.simulation.judge import Judge
from reconciler.simulation.kept import Keeper, project_of, with_history
from reconciler.simulation.ledger import Ledger
from reconciler.simulation.project import Project
from reconciler.simulation.source import Database
from reconciler.simulation.store import Store
from reconciler.simulation.timeline import Timeline
from reconciler.simulation.truth import Truth

BEGAN = datetime(2025, 10, 20, tzinfo=UTC)
HOUR = 3600.0
SCHEDULES: Mapping[str, float] = {"0 * * * *": HOUR, "0 */6 * * *": 6 * HOUR, "0 2 * * *": 24 * HOUR}
"""With the time between two slots."""
NAMES = ("primary", "offsite", "vault")


class NoSettings(msgspec.Struct, frozen=True):
    """Of a source that is made of arithmetic."""


def retentions() -> Sequence[Retention | None]:
    """As people write them, with graces that end within a simulated run."""
    hours = Duration(hours=2)
    return (
        None,
        Retention(keep_last=2, grace=Duration(0)),
        Retention(keep_last=2, grace=hours),
        Retention(keep_last=3, grace=hours),
        Retention(keep_last=1, grace=hours),
        Retention(keep_daily=3, grace=hours),
        Retention(keep_last=2, keep_daily=2, grace=Duration(days=1)),
        Retention(keep_hourly=4, grace=hours),
        Retention(grace=hours),
    )


def policy(
    schedule: str,
    targets: Sequence[str],
    retention: Retention | None,
    verify: Verify | None,
    exclude: Sequence[Relation] = (),
) -> DatabasePolicy:
    """What is wanted of the one database. A fast compression: its dumps are three lines long."""
    rpo = Duration(seconds=SCHEDULES[schedule] * 2)
    dumps = Dumps(
        schedule=Timing.parse(schedule),
        targets=tuple(targets),
        compression=Compression(level=1, threads=1),
        retention=retention,
        verify=verify,
        exclude=tuple(exclude),
    )
    return DatabasePolicy(
        name="hotel",
        source=NoSettings(),
        home=targets[0],
        timezone="UTC",
        encryption=None,
        objectives=Objectives(rpo=rpo, disaster=Disaster(rpo=rpo)),
        dumps=dumps,
    )


class Stage:
    """The world before anything happened. `quiet`: nothing will go wrong in it."""

    def __init__(self, seed: int, *, quiet: bool = False, kept: bool = False) -> None:
        """`kept`: the provider keeps a history."""
        self.seed = seed
        self.chance = Chance(seed)
        self.timeline = Timeline(BEGAN)
        share = 0.0 if quiet else self.chance.choice((0.0, 0.001, 0.003, 0.01))
        self.faults = Faults(self.chance, share=share)
        self.meddling = 0.0 if quiet else self.chance.choice((0.0, 0.1, 0.3))
        """How often people come between two turns."""
        self.mended = False
        """From then on everything works, and everybody consents."""
        self.stores = {name: self._store(name) for name in NAMES[: self.chance.choice((1, 1, 2, 2, 2, 3))]}
        self.hosts = [self._host(number) for number in range(self.chance.randint(1, 3))]
        self.database = Database(self.timeline)
        self.schedule = self.chance.choice(list(SCHEDULES))
        # By a chance of its own: the other worlds stay as they are known.
        apart = Chance(seed + 1_000_003)
        every = Length(hours=apart.choice((6, 24)))
        self.verify = Verify(every=every) if apart.happens(0.3) else None
        self.signed = Chance(seed + 2_000_003).happens(0.25)
        self.thieving = Chance(seed + 6_000_003)
        self.reading = Chance(seed + 4_000_003)
        self.readers = 0.0 if quiet else self.reading.choice((0.0, 0.0, 0.3))
        """How often somebody begins to read a backup between two turns."""
        self.want = policy(self.schedule, list(self.stores), self.chance.choice(retentions()), self.verify)
        self.truth = Truth(self.stores, self.hosts, self.database.identity, pinned=self.signed)
        self.ledger = Ledger(self.timeline)
        self.judge = Judge(self.truth, self.ledger)
        for store in self.stores.values():
            store.witness = self.judge
        self.project: Project | None = None
        self.keeper = Keeper(self.truth, self.ledger)
        if kept:
            self.project = project_of(self.chance, Project(self.timeline))
            self.project.witness = self.keeper
            self.want = with_history(self.want, self.chance)
            self.judge.watch(self.project, self.keeper)

    def _store(self, name: str) -> Store:
        lag = self.chance.uniform(0.5, 5) if self.chance.happens(0.1) else 0.0
        versioned = self.chance.happens(0.3)
        # By a chance of its own, as above.
        locks = Chance(self.seed + 3_000_003 + NAMES.index(name)).happens(0.2)
        return Store(
            name,
            self.timeline,
            versioned=versioned or locks,
            locks=locks,
            offset=self.chance.uniform(-15, 15),
            lag_seconds=lag,
        )

    def _host(self, number: int) -> Host:
        """Some of them are containers of one machine."""
        boot = "boot-0" if self.chance.happens(0.4) else f"boot-{number}"
        return Host(
            f"host-{number}",
            self.timeline,
            boot=boot,
            namespace=f"pid:[{number}]",
            offset=self.chance.uniform(-15, 15),
            drift=self.chance.uniform(-1e-5, 1e-5),
        )
