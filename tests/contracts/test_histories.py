"""The contract of a history, run over each provider that keeps one by naming it."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import msgspec
import pytest

from reconciler.errors import Conflict, Refused
from reconciler.policy.firing import Firing
from reconciler.providers.neon import history as neon_history
from reconciler.sandbox.patience import wait_for
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.history import SimulatedHistory
from reconciler.simulation.host import Host
from reconciler.simulation.project import MAIN, Project
from reconciler.simulation.reach import Reach
from reconciler.simulation.source import COMMIT_SECONDS, Database, SimulatedSource
from reconciler.simulation.stage import BEGAN
from reconciler.simulation.timeline import Timeline
from reconciler.world.history import MARK, BranchFacts, branch_name, use_of
from reconciler.world.ports import History, Source
from tests.opening import neon_provider
from tests.servers.neon import NeonServer

USE = "20251025T020000Z-3f9c2a"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Subject(NamedTuple):
    """A history of the policy's database `hotel`, and what only those who own it can do."""

    history: History
    commit: Callable[[], None]
    """One row more in the database, and a moment of time between it and the next."""
    rows: Callable[[Source], int]
    """How many there are in what was opened."""
    foreign: Callable[[str, str | None], None]
    """Somebody else makes a branch of that name, below the one of that name (None: the protected one)."""


def _simulated(request: pytest.FixtureRequest) -> Subject:
    timeline = Timeline(BEGAN)
    chance = Chance(1)
    host = Host("host-0", timeline, boot="boot-0", namespace="pid:[0]", offset=0.0, drift=0.0)
    reach = Reach(host.start(), Faults(chance, share=0.0))
    project, database = Project(timeline), Database(timeline)
    timeline.sleep(3600.0)

    def rows(source: Source) -> int:
        assert isinstance(source, SimulatedSource)
        return source.commits()

    def foreign(name: str, parent: str | None) -> None:
        above = next(project.named(parent)).id if parent else MAIN
        project.make_branch(name, timeline.now(), parent=above, by=None)

    return Subject(
        SimulatedHistory("hotel", project, database, reach),
        lambda: timeline.sleep(timeline.seconds + COMMIT_SECONDS),
        rows,
        foreign,
    )


def _neon(request: pytest.FixtureRequest) -> Subject:
    """The sandbox's, left as it was."""
    neon: NeonServer = request.getfixturevalue("own_neon")()
    request.getfixturevalue("monkeypatch").setattr(neon_history, "SETTLED", timedelta(0))
    neon.rows("SELECT 1")
    neon.wait()
    neon.connect().execute("CREATE TABLE IF NOT EXISTS commits (at timestamptz)").connection.close()
    _next_second(neon)
    request.addfinalizer(lambda: _as_it_was(neon))

    def commit() -> None:
        with neon.connect() as connection:
            connection.execute("INSERT INTO commits VALUES (clock_timestamp())")
        _next_second(neon)

    def rows(source: Source) -> int:
        branch = source.facts().identity.cluster.partition("/")[2]
        return int(neon.rows("SELECT count(*) FROM commits", branch)[0][0])

    def foreign(name: str, parent: str | None) -> None:
        above = neon.get("/branches", search=parent)["branches"][0]["id"] if parent else neon.main
        neon.branch(name=name, parent_id=above, with_compute=False)

    return Subject(neon_provider(neon).history(), commit, rows, foreign)


def _next_second(neon: NeonServer) -> None:
    """Neon tells whole seconds: wait until it tells the next but one."""
    for _ in range(2):
        told = _told(neon)
        wait_for(lambda told=told: _told(neon) != told, seconds=10, what="the next second")  # type: ignore[misc]  # bound at once


def _told(neon: NeonServer) -> str:
    return str(neon.http.get("/users/me").headers["date"])


def _as_it_was(neon: NeonServer) -> None:
    neon.wait()
    neon.patch("", {"project": {"history_retention_seconds": 86400}})
    neon.patch(f"/branches/{neon.main}", {"branch": {"protected": False}})
    neon.put(f"/branches/{neon.main}/backup_schedule", {"schedule": []})
    for snapshot in neon.get("/snapshots")["snapshots"]:
        neon.delete(f"/snapshots/{snapshot['id']}")
    for branch in neon.get("/branches")["branches"]:  # newest first: children before their parents
        if not branch["default"]:
            neon.discard(branch["id"])


SUBJECTS: dict[str, Callable[[pytest.FixtureRequest], Subject]] = {"simulated": _simulated, "neon": _neon}


@pytest.fixture(params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param](request)


@pytest.fixture
def history(subject: Subject) -> History:
    return subject.history


def named(history: History, name: str) -> list[BranchFacts]:
    return [branch for branch in history.facts().branches if branch.name == name]


def test_facts(history: History) -> None:
    """All is told, in order, and the protected branch is among the branches."""
    facts = history.facts()

    assert facts.branch == facts.protected.id
    assert facts.clock - facts.window <= facts.begins <= facts.latest <= facts.clock
    assert list(facts.branches) == sorted(facts.branches, key=lambda branch: (branch.created, branch.id))
    assert facts.refuses == ""


def test_an_instant_is_opened(subject: Subject) -> None:
    """What was committed by then is there, and nothing later; the branch is ours, and gone afterwards."""
    history = subject.history
    subject.commit()
    subject.commit()
    point = history.facts().clock
    subject.commit()
    with history.open(point, use=USE, until=point + HOUR) as opened:
        before = subject.rows(opened)
        identity = opened.facts().identity
        (branch,) = named(history, branch_name("hotel", USE))
        facts = history.facts()
    with history.open(history.facts().clock, use=USE, until=point + HOUR) as opened:
        after = subject.rows(opened)

    assert after == before + 1
    assert USE == use_of("hotel", branch)
    assert branch.parent == facts.branch
    assert branch.marked == "hotel", f"the annotation {MARK}"
    assert abs((branch.expires or facts.clock) - (point + HOUR)) < timedelta(seconds=2)
    assert branch.id in str(identity)
    assert named(history, branch_name("hotel", USE)) == []


def test_a_failure_inside_an_opened_instant(subject: Subject) -> None:
    """Goes through, and the branch is gone all the same."""
    point = subject.history.facts().clock
    with (
        pytest.raises(ZeroDivisionError),
        subject.history.open(point, use=USE, until=point + HOUR),
    ):
        raise ZeroDivisionError

    assert named(subject.history, branch_name("hotel", USE)) == []


def test_an_instant_outside_the_window(history: History) -> None:
    """Is refused, and no branch is left."""
    facts = history.facts()
    with (
        pytest.raises(Refused),
        history.open(facts.begins - DAY, use=USE, until=facts.clock + HOUR),
    ):
        pass

    assert named(history, branch_name("hotel", USE)) == []


def test_the_window(history: History) -> None:
    """Is set, from what it was expected to be; set again, it stays; from anything else it is a conflict."""
    was = history.facts().window
    history.set_window(was + HOUR, expect=was)
    history.set_window(was + HOUR, expect=was)
    with pytest.raises(Conflict):
        history.set_window(was, expect=was + 2 * HOUR)

    assert was + HOUR == history.facts().window


def test_a_window_that_the_plan_has_not(history: History) -> None:
    """Is refused, and nothing is changed."""
    was = history.facts().window
    with pytest.raises(Refused):
        history.set_window(timedelta(days=400), expect=was)

    assert was == history.facts().window


def test_the_schedule(history: History) -> None:
    """Is put in place of the expected one, and turned off by an empty one."""
    daily = (Firing(frequency="daily", hour=3, retention=7 * DAY),)
    history.set_schedule(daily, expect=())
    history.set_schedule(daily, expect=())
    with pytest.raises(Conflict):
        history.set_schedule((), expect=())
    assert daily == history.facts().schedule

    history.set_schedule((), expect=daily)

    assert history.facts().schedule == ()


def test_a_snapshot(history: History) -> None:
    """Is taken once under a name, listed, and deleted; deleting it again is fine."""
    made = history.take_snapshot("reconciler-hotel-5f0c1d2e-20251025T030000Z")
    again = history.take_snapshot("reconciler-hotel-5f0c1d2e-20251025T030000Z")

    assert made.id == again.id
    assert [made.id] == [snapshot.id for snapshot in history.facts().snapshots]
    assert made.is_manual
    assert made.branch == history.facts().branch

    history.delete_snapshot(made)
    history.delete_snapshot(made)

    assert history.facts().snapshots == ()


def test_a_branch_that_is_not_the_expected_one(subject: Subject) -> None:
    """Is not deleted: another name, another annotation, the default one."""
    subject.foreign("preview", None)
    (preview,) = named(subject.history, "preview")
    for wrong in (
        msgspec.structs.replace(preview, name="another"),
        msgspec.structs.replace(preview, marked="hotel"),
        subject.history.facts().protected,
    ):
        with pytest.raises(Conflict):
            subject.history.delete_branch(wrong)

    assert [preview.id] == [branch.id for branch in named(subject.history, "preview")]


def test_a_branch_with_children(subject: Subject) -> None:
    """Stays until they are gone; what is gone may be deleted again."""
    subject.foreign("parent", None)
    subject.foreign("child", "parent")
    (parent,), (child,) = named(subject.history, "parent"), named(subject.history, "child")
    with pytest.raises(Conflict):
        subject.history.delete_branch(parent)

    subject.history.delete_branch(child)
    subject.history.delete_branch(parent)
    subject.history.delete_branch(parent)

    assert named(subject.history, "parent") == []


def test_protection(history: History) -> None:
    """Is seen, and asked for twice it is there."""
    history.protect(history.facts().protected)
    history.protect(history.facts().protected)

    assert history.facts().protected.is_protected


def test_what_comes_too_late(subject: Subject) -> None:
    """Whatever waited for too long is not sent: nothing is changed, and what holds it back is told."""

    def late() -> None:
        raise Conflict("too late")

    subject.foreign("preview", None)
    history, fenced = subject.history, subject.history.fenced(late)
    taken = history.take_snapshot("reconciler-hotel-5f0c1d2e-20251025T030000Z")
    before = history.facts()
    (preview,) = named(history, "preview")
    daily = (Firing(frequency="daily", hour=3, retention=7 * DAY),)
    changes: list[Callable[[], None]] = [
        lambda: fenced.set_window(before.window + HOUR, expect=before.window),
        lambda: fenced.set_schedule(daily, expect=()),
        lambda: fenced.delete_snapshot(taken),
        lambda: fenced.delete_branch(preview),
        lambda: fenced.protect(before.protected),
    ]
    for change in changes:
        with pytest.raises(Conflict, match="too late"):
            change()

    after = history.facts()
    assert (before.window, (), before.branches) == (after.window, after.schedule, after.branches)
    assert [taken.id] == [snapshot.id for snapshot in after.snapshots]
