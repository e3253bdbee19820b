"""A simulated project at a provider that keeps a history, behind a world of local targets, with faults to order."""

from pathlib import Path

from reconciler.backups.changes import read_windows
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Fault, Faults
from reconciler.simulation.history import SimulatedHistory
from reconciler.simulation.host import Host
from reconciler.simulation.project import Project
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import Database
from reconciler.simulation.timeline import Timeline
from reconciler.world.history import MARK, BranchFacts
from reconciler.world.ports import World
from tests.backups.faking import MovedClock, catalogue, make_world
from tests.building import DAY, NOW


class Standing:
    """The project, and the world that reaches it."""

    def __init__(self, folder: Path, *faults: Fault) -> None:
        timeline = Timeline(NOW)
        self.project = Project(timeline)
        host = Host("host-0", timeline, boot="boot-0", namespace="pid:[0]", offset=0.0, drift=0.0)
        self.faults = Ordered(*faults)
        self.history = SimulatedHistory("hotel", self.project, Database(timeline), Reach(host.start(), self.faults))
        self.world: World = make_world(folder, MovedClock(), history=self.history)

    def branch(self, name: str, *, marked: str | None = "hotel", parent: str = "br-main", ends: bool = True) -> BranchFacts:
        """One of ours by its looks, unless `marked` says otherwise."""
        marks = {MARK: marked} if marked else None
        until = NOW + DAY if ends else None
        return self.project.make_branch(name, NOW, parent=parent, until=until, marks=marks, by=None)

    def branches(self) -> list[str]:
        return [branch.name for branch in self.project.facts().branches]

    def changes(self, what: str) -> list[tuple[str, str, bool]]:
        windows = read_windows(self.world.targets["primary"], "quiet-hotel", self.world.cache)
        found = windows if what == "window" else catalogue(self.world).changes
        return [(one.was, one.now, one.done) for one in found if one.what == what]


class Ordered(Faults):
    """The given faults, one a change, and then none."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(Chance(1), share=0.0)
        self.left = list(faults)

    def draw(self, *, changes: bool) -> Fault:
        return self.left.pop(0) if changes and self.left else "none"
