"""How far back a project's history reaches, what is trimmed, and the snapshots that its schedule takes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.sandbox.neon.book import now, opened
from reconciler.sandbox.neon.clusters import Clusters
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.faults import Faults
from reconciler.sandbox.neon.greeting import _sort
from reconciler.sandbox.neon.janitor import Janitor
from reconciler.sandbox.neon.lsn import SEGMENT, parse, segment, segment_of, written
from reconciler.sandbox.neon.records import Branch, Project, ScheduleItem, State, Timeline
from reconciler.sandbox.neon.schedules import latest_firing
from reconciler.sandbox.patience import comes_true, wait_for
from tests.servers.neon import NeonServer

INSTANTS = st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC))
ITEMS = st.one_of(
    st.builds(ScheduleItem, frequency=st.just("daily"), hour=st.integers(0, 23)),
    st.builds(ScheduleItem, frequency=st.just("weekly"), hour=st.integers(0, 23), day=st.integers(1, 7)),
    st.builds(ScheduleItem, frequency=st.just("monthly"), hour=st.integers(0, 23), day=st.integers(1, 31)),
)
LONGEST = {"daily": timedelta(days=1), "weekly": timedelta(days=7), "monthly": timedelta(days=31)}


def test_window_moves_on_and_widening_brings_nothing_back(own_neon: Callable[..., NeonServer]) -> None:
    """An instant outside is refused, by time and by place; an instant inside is served, whatever was trimmed."""
    neon = own_neon()
    with neon.connect() as connection:
        connection.execute("create table rows as select 1 as number")
        early = connection.execute("select clock_timestamp()").fetchone() or (datetime.now(UTC),)
        connection.execute("insert into rows values (2)")
    assert [(1,)] == neon.rows("select * from rows", at(neon, early[0]))

    neon.patch("", {"project": {"history_retention_seconds": 1}})
    is_out = wait_for(lambda: refusal(neon, early[0]), seconds=60, what="the instant to fall out of the window")
    widened = neon.patch("", {"project": {"history_retention_seconds": 86400}})["project"]

    assert is_out == refusal(neon, early[0])
    assert 86400 == widened["history_retention_seconds"]
    with neon.connect() as connection:
        connection.execute("insert into rows values (3)")
        later = connection.execute("select clock_timestamp()").fetchone() or (datetime.now(UTC),)
        connection.execute("insert into rows values (4)")
    assert [(1,), (2,), (3,)] == neon.rows("select * from rows", at(neon, later[0]))


def at(neon: NeonServer, instant: datetime) -> str:
    return str(neon.branch(parent_timestamp=instant.isoformat())["branch"]["id"])


def refusal(neon: NeonServer, instant: datetime) -> int | None:
    """The status with which a branch at that instant is refused; None, and no branch, as long as it isn't."""
    answer = neon.send("POST", "/branches", {"branch": {"parent_timestamp": instant.isoformat()}})
    neon.wait()
    if answer.status_code == 201:
        neon.discard(answer.json()["branch"]["id"])
        return None
    return answer.status_code


def test_files_are_copied_anew_and_old_copies_go(own_neon: Callable[..., NeonServer]) -> None:
    """Behind much of log a branch begins at a newer copy; what the window needs no more is deleted, and branches still come."""
    neon = own_neon()
    (timeline,) = {place for place in (neon.folder / "timelines").iterdir() if len(list((place / "bases").iterdir())) == 1}
    first = set((timeline / "bases").iterdir())
    neon.patch("", {"project": {"history_retention_seconds": 1}})
    for branch in neon.get("/branches")["branches"]:
        if branch["id"] != neon.main:
            neon.discard(branch["id"])
    with neon.connect() as connection:
        connection.execute(
            "create table much as select number, repeat('x', 500) as text from generate_series(1, 60000) as number"
        )

    assert comes_true(lambda: not first & set((timeline / "bases").iterdir()), seconds=60)

    assert [(60000,)] == neon.rows("select count(*) from much", neon.branch()["branch"]["id"])
    neon.patch("", {"project": {"history_retention_seconds": 86400}})


def test_schedule_is_put_whole(neon: NeonServer) -> None:
    """PUT replaces all; what Neon can't express is refused; an empty one turns it off."""
    path = f"/branches/{neon.main}/backup_schedule"
    # None of them comes while it stands there: the project has no snapshots.
    hour = (datetime.now(UTC).hour + 12) % 24
    daily = {"frequency": "daily", "hour": hour, "retention_seconds": 86400}
    weekly = {"frequency": "weekly", "hour": hour, "day": 1}

    neon.put(path, {"schedule": [daily, weekly]})
    both = neon.get(path)["schedule"]
    refused = [
        neon.refused("PUT", path, {"schedule": [item]})[0]
        for item in ({"frequency": "hourly"}, {"frequency": "daily"}, {"frequency": "weekly", "hour": 1}, {**daily, "hour": 24})
    ]
    kept = neon.get(path)["schedule"]
    neon.put(path, {"schedule": []})

    assert [daily, weekly] == both == kept
    assert [422] * 4 == refused
    assert [] == neon.get(path)["schedule"]


def test_child_has_neither_snapshots_nor_schedule(neon: NeonServer) -> None:
    """Both are for root branches only."""
    child = neon.branch(with_compute=False)["branch"]["id"]

    assert 422 == neon.refused("POST", f"/branches/{child}/snapshot")[0]
    assert 422 == neon.refused("PUT", f"/branches/{child}/backup_schedule", {"schedule": []})[0]
    assert 422 == neon.refused("POST", f"/branches/{neon.main}/snapshot", lsn="0/1", timestamp="2025-01-01T00:00:00Z")[0]
    assert 422 == neon.refused("POST", f"/branches/{neon.main}/snapshot", timestamp="2100-01-01T00:00:00Z")[0]
    neon.discard(child)


def test_snapshot_takes_its_words_from_the_query_string(neon: NeonServer) -> None:
    """A body is passed over without an error, as at Neon; an expired one goes by itself."""
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    made = neon.post(f"/branches/{neon.main}/snapshot", {"name": "in the body"}, name="in the query", expires_at=later)[
        "snapshot"
    ]

    assert ("in the query", True) == (made["name"], "expires_at" in made)
    assert 409 == neon.refused("POST", f"/branches/{neon.main}/snapshot", name="in the query")[0]
    neon.patch(f"/snapshots/{made['id']}", {"snapshot": {"expires_at": datetime.now(UTC).isoformat()}})
    assert comes_true(lambda: neon.get("/snapshots")["snapshots"] == [], seconds=60)
    neon.wait()


def janitor_of(folder: Path, **wanted: Any) -> Janitor:
    """Of a project with one branch, which has that besides."""
    hour = now().replace(minute=0, second=0, microsecond=0)
    born: dict[str, Any] = {"created_at": hour - timedelta(days=2), "updated_at": hour}
    branch = Branch(id="br-a", name="main", timeline="tl-a", state_changed_at=hour, state="ready", **born, **wanted)
    timeline = Timeline(id="tl-a", parent=None, start=0, born=hour)
    project = Project(id="p", name="p", history_retention_seconds=0, default_branch="br-a", reaches_back_to=hour, **born)
    state = State(project=project, timelines={"tl-a": timeline}, branches={"br-a": branch})
    book = opened(folder / "state.json", lambda: state)
    clusters = Clusters(home=folder, programs=folder, account=None)
    return Janitor(Engine(clusters=clusters, book=book, doors=NoDoors(), faults=Faults()))


def test_scheduled_snapshot_is_taken_once(tmp_path: Path) -> None:
    """When its hour has come since the last look, and kept as long as the schedule says; again only when it comes again."""
    hour = now().replace(minute=0, second=0, microsecond=0)
    janitor = janitor_of(tmp_path, schedule=(ScheduleItem(frequency="daily", hour=hour.hour, retention_seconds=90000),))
    book = janitor._engine.book
    (branch,) = book.branches()

    for looked_at in (hour - timedelta(minutes=1), hour, hour + timedelta(minutes=1)):
        janitor._looked_at = looked_at
        janitor._keep_schedule(branch)

    (snapshot,) = book.state.snapshots.values()
    assert (False, hour + timedelta(seconds=90000), "br-a") == (snapshot.manual, snapshot.expires_at, snapshot.branch_id)


def test_a_compute_dies_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round goes on, and so do those that come after it."""
    looked: list[str] = []

    def look(_: Clusters, timeline: str) -> None:
        looked.append(timeline)
        raise psycopg.errors.AdminShutdown

    monkeypatch.setattr(Clusters, "port", lambda *_: 1)
    monkeypatch.setattr(Clusters, "now", look)
    janitor = janitor_of(tmp_path)

    janitor._round()
    janitor._round()

    assert ["tl-a"] * 2 == looked


class NoDoors:
    """Nobody comes in."""

    def open(self, endpoint: str, port: int) -> None: ...
    def close(self, endpoint: str) -> None: ...
    def idle_seconds(self, endpoint: str) -> float:
        return 0.0


@given(ITEMS, INSTANTS)
def test_schedule_fired_last_not_long_ago(item: ScheduleItem, instant: datetime) -> None:
    """At its hour, not later than now, and no further back than its period."""
    fired = latest_firing(item, instant)

    assert fired <= instant < fired + LONGEST[item.frequency]
    assert (item.hour, 0, 0) == (fired.hour, fired.minute, fired.second)
    assert fired == latest_firing(item, fired)


@given(st.integers(0, 2**48))
def test_lsn_is_written_and_read(lsn: int) -> None:
    """Both ways, and a segment's file name says which part of the log it holds."""
    name = f"00000001{segment(lsn) // (2**32 // SEGMENT):08X}{segment(lsn) % (2**32 // SEGMENT):08X}"

    assert lsn == parse(written(lsn))
    assert segment(lsn) == segment_of(name)


@pytest.mark.parametrize(
    ("options", "own", "rest"),
    [
        ("", {}, ""),
        ("-c search_path=a", {}, "-c search_path=a"),
        ("endpoint=ep-a -c jit=off", {"endpoint": "ep-a"}, "-c jit=off"),
        ("neon_timestamp:2025-01-01T00:00:00Z", {"neon_timestamp": "2025-01-01T00:00:00Z"}, ""),
        ("neon_lsn:0/1A project=p", {"neon_lsn": "0/1A", "project": "p"}, ""),
    ],
)
def test_own_options_are_taken_out(options: str, own: dict[str, str], rest: str) -> None:
    """PostgreSQL would refuse what it doesn't know."""
    assert (own, rest) == _sort(options)
