"""What Neon keeps, against the sandbox's Neon: what the contract of histories doesn't say of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from reconciler.errors import Conflict, Refused, Unreachable
from reconciler.policy.firing import Firing
from reconciler.policy.secret import Revealed
from reconciler.providers.neon import api
from reconciler.providers.neon import history as neon_history
from reconciler.providers.neon.api import Api
from reconciler.providers.neon.history import NeonHistory
from reconciler.providers.neon.pace import gate_of, pace_of
from reconciler.sandbox.neon.asking import order_fault
from reconciler.sandbox.neon.faults import Fault
from reconciler.sandbox.patience import wait_for
from reconciler.world.clock import SystemClock
from reconciler.world.history import MARK, HistoryFacts, branch_name
from tests.opening import Quick, neon_provider
from tests.servers.neon import NeonServer

USE = "20250101T000000Z-0000cd"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SNAPSHOT = "reconciler-hotel-5f0c1d2e-20251025T030000Z"


@pytest.fixture(autouse=True)
def as_it_was(neon: NeonServer) -> Iterator[None]:
    """Nothing is left for the next test."""
    yield
    order_fault(neon.folder, None)
    neon.wait()
    neon.patch("", {"project": {"history_retention_seconds": 86400}})
    neon.put(f"/branches/{neon.main}/backup_schedule", {"schedule": []})
    for snapshot in neon.get("/snapshots")["snapshots"]:
        neon.delete(f"/snapshots/{snapshot['id']}")


@pytest.fixture
def history(neon: NeonServer, monkeypatch: pytest.MonkeyPatch) -> NeonHistory:
    monkeypatch.setattr(neon_history, "SETTLED", timedelta(0))
    return neon_provider(neon).history()


class Hasty(SystemClock):
    """Waits for nothing."""

    def wait(self, seconds: float, stop: Event) -> bool:
        return stop.is_set()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that are sent."""
    sent: list[str] = []
    once = Api._send

    def noted(self: Api, method: str, path: str, *args: Any, **more: Any) -> Any:
        sent.append(f"{method} {path}")
        return once(self, method, path, *args, **more)

    monkeypatch.setattr(Api, "_send", noted)
    return sent


def test_looking_takes_few_requests_however_much_there_is(neon: NeonServer, requests: list[str]) -> None:
    """Of an idle turn: three for the source, five for the history; and none of them wakes the compute."""
    provider = neon_provider(neon)
    made = [neon.branch(name=f"preview-{number}", with_compute=False)["branch"]["id"] for number in range(3)]
    (endpoint,) = neon.get(f"/branches/{neon.main}/endpoints")["endpoints"]
    neon.post(f"/endpoints/{endpoint['id']}/suspend")

    provider.source().facts()
    facts = provider.history().facts()

    assert 8 == len(requests)
    assert {*made} < {branch.id for branch in facts.branches}
    assert "idle" == neon.get(f"/endpoints/{endpoint['id']}")["endpoint"]["current_state"]
    neon.discard(*made)


def test_what_the_plan_allows(history: NeonHistory) -> None:
    limits = history.facts().limits

    assert ("scale", 30 * DAY, 25) == (limits.plan, limits.window, limits.roots)


def test_a_key_that_may_not_ask_for_the_plan(neon: NeonServer, history: NeonHistory) -> None:
    """Its numbers are not known but for the window, of which no plan has more than the API takes; all else is."""
    order_fault(neon.folder, Fault(kind="broken", status=403, path="/organizations"))

    facts = history.facts()

    assert ("", 30 * DAY, None) == (facts.limits.plan, facts.limits.window, facts.limits.branches)
    assert DAY == facts.window


@pytest.mark.parametrize("path", ["/branches", "/snapshots", "/backup_schedule", "/organizations"])
def test_what_cannot_be_seen_is_no_less(neon: NeonServer, path: str) -> None:
    """A part that has no answer makes all of it unknown, and never a history that lacks the part."""
    history = neon_provider(neon, clock=Hasty()).history()
    order_fault(neon.folder, Fault(kind="broken", status=502, method="GET", path=path, times=5))

    with pytest.raises(Unreachable):
        history.facts()


Change = Callable[[NeonHistory], object]
CHANGES: dict[str, tuple[Change, Callable[[HistoryFacts], object], object]] = {
    "window": (lambda history: history.set_window(2 * DAY, expect=DAY), lambda facts: facts.window, 2 * DAY),
    "schedule": (
        lambda history: history.set_schedule([Firing(frequency="daily", hour=3, retention=DAY)], expect=()),
        lambda facts: facts.schedule,
        (Firing(frequency="daily", hour=3, retention=DAY),),
    ),
    "snapshot": (
        lambda history: history.take_snapshot(SNAPSHOT),
        lambda facts: [snapshot.name for snapshot in facts.snapshots],
        [SNAPSHOT],
    ),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize(
    "fault",
    [{"kind": "dropped"}, {"kind": "broken", "status": 500}, {"kind": "locked", "times": 2}, {"kind": "limited", "seconds": 1}],
    ids=lambda fault: fault["kind"],
)
def test_a_change_is_made_once_whatever_becomes_of_its_answer(
    neon: NeonServer, history: NeonHistory, change: str, fault: dict[str, Any]
) -> None:
    """It is there when the call returns, and was made no second time."""
    make, look, expected = CHANGES[change]
    order_fault(neon.folder, Fault(method="PUT" if change == "schedule" else "PATCH" if change == "window" else "POST", **fault))

    make(history)

    assert expected == look(history.facts())
    assert 1 >= len(neon.get("/snapshots")["snapshots"])


class Meddler(Quick):
    """While it is waited for the first time, somebody else does something."""

    def __init__(self, does: Callable[[], object]) -> None:
        self._does = [does]

    def wait(self, seconds: float, stop: Event) -> bool:
        while self._does:
            self._does.pop()()
        return super().wait(seconds, stop)


def meddled(neon: NeonServer, method: str, does: Callable[[], object]) -> NeonHistory:
    """A history whose next request with that method finds the project busy, with what somebody else does."""
    order_fault(neon.folder, Fault(kind="locked", method=method))
    return neon_provider(neon, clock=Meddler(does)).history()


class TestChangedByOthersWhileTheProjectWasBusy:
    """Each change looks again before it is asked for once more."""

    def test_a_window_that_was_enlarged_is_not_shortened(self, neon: NeonServer) -> None:
        enlarge = {"project": {"history_retention_seconds": 7 * 86400}}
        history = meddled(neon, "PATCH", lambda: neon.patch("", enlarge))

        with pytest.raises(Conflict, match="expected was"):
            history.set_window(timedelta(hours=12), expect=DAY)

        assert 7 * DAY == history.facts().window

    def test_a_window_while_another_change_of_ours_went_on(self, neon: NeonServer, requests: list[str]) -> None:
        """Changes of one project queue up here: what was seen before the queue is old."""
        history = neon_provider(neon).history()
        with ThreadPoolExecutor(1) as pool:
            with gate_of(neon.api_host, neon.project_id):
                change = pool.submit(history.set_window, timedelta(hours=12), expect=DAY)
                wait_for(lambda: requests, seconds=60, what="the first look")
                neon.patch("", {"project": {"history_retention_seconds": 7 * 86400}})
            with pytest.raises(Conflict, match="expected was"):
                change.result()

        assert 7 * DAY == history.facts().window

    def test_a_window_while_the_key_had_to_rest(self, neon: NeonServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neon asked for patience between the look and the change: what was seen before is old."""
        enlarge, change = {"project": {"history_retention_seconds": 7 * 86400}}, Api.change
        clock = Meddler(lambda: neon.patch("", enlarge))

        def rested(self: Api, *args: Any, **more: Any) -> None:
            pace_of(Revealed(neon.api_key)).close(clock, api.LOOK_SECONDS + 1)
            change(self, *args, **more)

        monkeypatch.setattr(api, "LOOK_SECONDS", 2.0)
        monkeypatch.setattr(Api, "change", rested)
        history = neon_provider(neon, clock=clock).history()

        with pytest.raises(Conflict, match="expected was"):
            history.set_window(timedelta(hours=12), expect=DAY)

        assert 7 * DAY == history.facts().window

    def test_a_schedule(self, neon: NeonServer) -> None:
        theirs = {"schedule": [{"frequency": "daily", "hour": 5, "retention_seconds": 7 * 86400}]}
        history = meddled(neon, "PUT", lambda: neon.put(f"/branches/{neon.main}/backup_schedule", theirs))

        with pytest.raises(Conflict, match="another snapshot schedule"):
            history.set_schedule([Firing(frequency="daily", hour=3, retention=DAY)], expect=())

        assert (Firing(frequency="daily", hour=5, retention=7 * DAY),) == history.facts().schedule

    def test_a_branch_that_is_to_be_deleted(self, neon: NeonServer) -> None:
        body = {"branch": {"name": branch_name("hotel", USE)}, "annotation_value": {MARK: "hotel"}}
        made = neon.post("/branches", body)["branch"]["id"]
        seen = next(branch for branch in neon_provider(neon).history().facts().branches if branch.id == made)
        history = meddled(neon, "DELETE", lambda: neon.patch(f"/branches/{made}", {"branch": {"name": "kept"}}))

        with pytest.raises(Conflict, match="is not the"):
            history.delete_branch(seen)

        assert "kept" in [branch.name for branch in history.facts().branches]
        neon.discard(made)

    def test_a_snapshot_that_is_to_be_deleted(self, neon: NeonServer) -> None:
        made = neon_provider(neon).history().take_snapshot(SNAPSHOT)
        history = meddled(neon, "DELETE", lambda: neon.patch(f"/snapshots/{made.id}", {"snapshot": {"name": "kept"}}))

        with pytest.raises(Conflict, match="is kept by now"):
            history.delete_snapshot(made)

        assert ["kept"] == [snapshot.name for snapshot in history.facts().snapshots]

    def test_a_branch_that_is_to_be_protected(self, neon: NeonServer) -> None:
        made = neon.branch(name="theirs", with_compute=False)["branch"]["id"]
        seen = next(branch for branch in neon_provider(neon).history().facts().branches if branch.id == made)
        history = meddled(neon, "PATCH", lambda: neon.patch(f"/branches/{made}", {"branch": {"name": "renamed"}}))

        with pytest.raises(Conflict, match="is not theirs any more"):
            history.protect(seen)

        assert not neon.get(f"/branches/{made}")["branch"]["protected"]
        neon.discard(made)


def test_a_snapshot_whose_deletion_was_not_answered(neon: NeonServer, history: NeonHistory) -> None:
    made = history.take_snapshot(SNAPSHOT)
    order_fault(neon.folder, Fault(kind="dropped", method="DELETE"))

    history.delete_snapshot(made)

    assert () == history.facts().snapshots


def test_a_snapshot_that_fails_leaves_nothing(neon: NeonServer, history: NeonHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neon lists it all the same: it would be taken for one that holds something. What others took stays."""
    monkeypatch.setattr(api, "GIVEN_UP_SECONDS", 1.0)
    other = history.take_snapshot("by hand")
    order_fault(neon.folder, Fault(kind="operation_errors", path="create_timeline"))

    with pytest.raises(Unreachable, match="create_timeline failed: made to fail"):
        history.take_snapshot(SNAPSHOT)

    assert (other,) == history.facts().snapshots
    assert SNAPSHOT == history.take_snapshot(SNAPSHOT).name


def test_asked_to_stop_while_an_instant_is_open(neon: NeonServer, history: NeonHistory) -> None:
    """The branch goes all the same."""
    stop = Event()
    history = neon_provider(neon, stop=stop).history()
    now = history.facts().clock

    with history.open(now, use=USE, until=now + HOUR):
        during = [branch for branch in neon.get("/branches")["branches"] if USE in branch["name"]]
        stop.set()

    assert 1 == len(during)
    assert [] == [branch for branch in neon.get("/branches")["branches"] if USE in branch["name"]]


def test_an_instant_that_lies_ahead(history: NeonHistory) -> None:
    """Neon would take it for now, without a word."""
    clock = history.facts().clock

    with pytest.raises(Refused, match="lies ahead"), history.open(clock + HOUR, use=USE, until=clock + 2 * HOUR):
        pass
