"""What really happened in a simulated world: births and losses, a trace for the reader, and every rule that was broken."""

from datetime import datetime, timedelta

from reconciler.backups.layout import instant_of
from reconciler.planning.plan import Plan
from reconciler.policy.model import DatabasePolicy
from reconciler.simulation.host import SimulatedProcess
from reconciler.simulation.reach import Reach
from reconciler.simulation.store import Store
from reconciler.simulation.timeline import Timeline
from reconciler.simulation.truth import Stone, read
from reconciler.world.facts import Observation

KEPT_LINES = 4000
"""Of the trace: the end is what explains a failure."""


class Turn:
    """What one process believes, and on what."""

    def __init__(self, process: SimulatedProcess, reach: Reach, want: DatabasePolicy) -> None:
        self.process, self.reach, self.want = process, reach, want
        self.have: Observation | None = None
        self.looked_at = 0
        """How often people had meddled when it last looked."""
        self.decided: datetime | None = None
        """When it last looked, by the true time."""
        self.began: datetime | None = None
        """When the work on the action at hand began, by the true time."""
        self.plan: Plan | None = None


class Ledger:
    """The memory that no reconciler has."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.turns: dict[int, Turn] = {}
        """Under way, by the process's identity."""
        self.births: dict[str, datetime] = {}
        """When each backup was first whole anywhere."""
        self.losses: dict[str, datetime] = {}
        """When a reconciler first gave it up."""
        self.asked: set[str] = set()
        """Given up because people asked for it, or taken away by them."""
        self.drafts: dict[tuple[str, str], SimulatedProcess] = {}
        """Who put an intent down where none was, by store and key."""
        self.buried: dict[tuple[str, str], SimulatedProcess] = {}
        """Who wrote a tombstone, by store and key."""
        self.pinned: dict[str, float] = {}
        """Since when each pin is there, by key, in seconds of the true time."""
        self.condemned: dict[str, float] = {}
        """The same of each backup's first tombstone by a reconciler."""
        self.held: set[tuple[str, str]] = set()
        """Copies, by store and id, of backups that people hold, since a turn has seen it; until they release them."""
        self.planted: dict[str, tuple[datetime, int]] = {}
        """Given up by a thief, who wrote a tombstone as a reconciler does: when, and how many might go that day."""
        self.stolen: dict[str, datetime] = {}
        """When a reconciler first removed one of these, that nobody else had given up."""
        self.tampered: set[str] = set()
        """Backups of which people changed an object behind the reconcilers' backs."""
        self.repositories: dict[tuple[str, str], bytes] = {}
        """What a reconciler wrote first, by store and key."""
        self._meddled = [timeline.seconds]
        """When people changed the world behind the reconcilers' backs."""
        self.shortening = False
        """Whether a person approved just now of what shortens a window."""
        self.broken: list[str] = []
        self.lines: list[tuple[float, str]] = []

    def turn_of(self, process: SimulatedProcess) -> Turn | None:
        """None where none is under way; what arrives late is none of the next turn's."""
        turn = self.turns.get(id(process))
        return turn if turn is None or process.arriving in (None, turn.reach) else None

    def is_calm(self, turn: Turn) -> bool:
        """Whether nobody meddled since it looked."""
        return turn.looked_at == len(self._meddled)

    def meddle(self) -> None:
        """People change something behind the reconcilers' backs."""
        self._meddled.append(self.timeline.seconds)

    def shown(self, until: float) -> int:
        """How often people had meddled by then."""
        return sum(at <= until for at in self._meddled)

    def record(self, store: Store, key: str, content: bytes, by: SimulatedProcess) -> None:
        """What a reconciler's write means for later: a birth, a loss, a draft, a repository."""
        _, _, rest = key.partition("/backups/")
        backup, _, name = rest.partition("/")
        if key.endswith("/repository.json"):
            self.repositories.setdefault((store.name, key), content)
        elif name == "intent.json" and store.current(key) is None:
            self.drafts[store.name, key] = by
        elif name == "manifest.json" and store.current(key.replace("manifest.json", "dump.zst")):
            self.births.setdefault(backup, self.timeline.now())
        elif "/pins/" in key:
            self.pinned.setdefault(key, self.timeline.seconds)
        elif name.startswith("tombstone-"):
            self.buried[store.name, key] = by
            stone = read(content, Stone)
            # What is left of a copy that never was one is read by nobody, whoever reads another copy.
            if stone is None or stone.counts:
                self.condemned.setdefault(backup, self.timeline.seconds)
            # One that a lock puts off is the same loss as before; a thief's was one when his tombstone came.
            if stone is not None and stone.counts and not any(one and one.at == stone.at for one in _others(store, key)):
                self.losses.setdefault(backup, self.timeline.now())

    def tamper(self, key: str) -> None:
        """People laid hands on it."""
        _, _, rest = key.partition("/backups/")
        self.tampered.add(rest.partition("/")[0])

    def release(self, store: Store, key: str) -> None:
        """People took it away: if it is a hold, that copy may go again."""
        _, _, rest = key.partition("/backups/")
        backup, _, name = rest.partition("/")
        if name == "hold.json":
            self.held.discard((store.name, backup))

    def record_removal(self, store: Store, key: str) -> None:
        """When the last tombstone is taken back, its backup is back; a manifest that goes takes its backup with it."""
        self.pinned.pop(key, None)
        backup = key.split("/")[-2]
        if key.endswith("/manifest.json") and backup in self.planted and backup not in self.asked | self.losses.keys():
            self.stolen.setdefault(backup, self.timeline.now())
        self.buried.pop((store.name, key), None)
        if "/tombstone-" in key and not _others(store, key) and store.current(key.rpartition("/")[0] + "/manifest.json"):
            self.losses.pop(backup, None)
            self.condemned.pop(backup, None)

    def note(self, line: str) -> None:
        """For the trace."""
        self.lines.append((self.timeline.seconds, line))
        if len(self.lines) > 2 * KEPT_LINES:
            del self.lines[:KEPT_LINES]

    def breaks(self, rule: str, what: str) -> None:
        """A rule does not hold."""
        self.broken.append(f"{rule}: {what}")
        self.note(f"BROKEN {rule}: {what}")

    def may_go(self, until: datetime, window: timedelta, slack: timedelta = timedelta(0)) -> tuple[int, int]:
        """In the window until then: how many were lost without being asked for, and how many might have been.

        `slack`: who reckoned may have done so by a window that began so much sooner or later. What a clock that ran ahead named
        is born when its name says, if that has come: nothing else tells it of what is gone.
        """
        since, lately = until - window - slack, until - window + slack
        lost = sum(at > lately for key, at in self.losses.items() if key not in self.asked)
        born = {key for key, at in self.births.items() if at > since or since < instant_of(key) <= until}
        before = sum(key not in born and self.losses.get(key, until) > since for key in self.births)
        return lost, len(born) + max(1, before * 30 // 100)


def _others(store: Store, key: str) -> list[Stone | None]:
    """The tombstones that are to be seen beside that one; None for what can't be read."""
    found = (store.current(other) for other in store.keys(f"{key.rpartition('/')[0]}/tombstone-") if other != key)
    return [read(held.content, Stone) for held in found if held is not None]
