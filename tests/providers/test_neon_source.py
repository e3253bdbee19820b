"""A database at Neon as a source, against the sandbox's Neon."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from reconciler.errors import Conflict, ReconcilerError, Refused, Unreachable
from reconciler.policy.secret import Revealed
from reconciler.providers.neon import api
from reconciler.providers.neon.answers import Branch
from reconciler.providers.neon.api import Api
from reconciler.providers.neon.finding import Asked, find
from reconciler.providers.neon.project import Listed, NeonProject, Wanted
from reconciler.providers.neon.source import NeonSource
from reconciler.sandbox.neon.asking import order_fault
from reconciler.sandbox.neon.faults import Fault
from reconciler.world.facts import Identity
from reconciler.world.history import MARK
from tests.opening import Quick, neon_provider
from tests.servers.neon import NeonServer

ID = "20250101T000000Z-0000ab"
NAME = f"reconciler-hotel-{ID}"


@pytest.fixture(autouse=True)
def clean(neon: NeonServer) -> Iterator[None]:
    """No fault is left for the next test."""
    yield
    order_fault(neon.folder, None)
    neon.wait()


def opened(neon: NeonServer, **other: Any) -> NeonSource:
    return neon_provider(neon, **other).source()


def rest(neon: NeonServer) -> str:
    """Suspend the main branch's compute; its id."""
    (endpoint,) = neon.get(f"/branches/{neon.main}/endpoints")["endpoints"]
    neon.wait()
    neon.post(f"/endpoints/{endpoint['id']}/suspend")
    return str(endpoint["id"])


def wake(neon: NeonServer) -> None:
    """Have it run."""
    neon.rows("SELECT 1")


def left(neon: NeonServer, name: str, **note: str) -> str:
    """A branch as we make them, by whoever died since; its id."""
    body = {"branch": {"name": name}, "annotation_value": {MARK: "hotel"} | note}
    return str(neon.post("/branches", body)["branch"]["id"])


def names(neon: NeonServer) -> list[str]:
    return [branch["name"] for branch in neon.get("/branches")["branches"]]


def test_looking_wakes_no_compute(neon: NeonServer) -> None:
    """A compute that rests is described all the same, and goes on resting."""
    endpoint = rest(neon)

    facts = opened(neon).facts()

    assert Identity(provider="neon", cluster=f"{neon.project_id}/{neon.main}", database="hotel") == facts.identity
    assert neon.get(f"/endpoints/{endpoint}")["endpoint"]["current_state"] == "idle"


@pytest.mark.parametrize("prepare", [rest, wake])
def test_a_dump_goes_through_a_branch_that_is_gone_afterwards(neon: NeonServer, prepare: Callable[[NeonServer], object]) -> None:
    """It holds what was committed before, its instant lies at the branch point, and its identity is the source's."""
    prepare(neon)
    before, source = names(neon), opened(neon)

    with source.dump(ID, expect=source.facts().identity) as dump:
        during = set(names(neon)) - set(before)
        archive = b"".join(dump.chunks())

    assert during == {NAME}
    assert archive.startswith(b"PGDMP")
    assert source.facts().identity == dump.facts.source.identity
    assert before == names(neon)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "locked", "times": 2},
        {"kind": "limited", "seconds": 1},
        {"kind": "broken", "status": 500, "method": "GET"},
        {"kind": "limited", "seconds": 1, "method": "POST"},
        {"kind": "dropped", "method": "POST", "path": "/branches"},
        {"kind": "broken", "status": 500, "method": "POST", "path": "/branches"},
        {"kind": "dropped", "method": "GET", "path": "/operations"},
        {"kind": "dropped", "method": "DELETE", "path": "/branches"},
        {"kind": "operation_fails", "path": "create_branch"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())).replace("/", ""),
)
def test_short_troubles_are_borne(neon: NeonServer, fault: dict[str, Any]) -> None:
    """One branch is made, and none is left."""
    before, source = names(neon), opened(neon)
    order_fault(neon.folder, Fault(**fault))

    with source.dump(ID, expect=None) as dump:
        archive = b"".join(dump.chunks())

    order_fault(neon.folder, None)
    neon.wait()
    assert archive.startswith(b"PGDMP")
    assert before == names(neon)


@pytest.mark.parametrize("path", ["/endpoints", "/connection_uri"])
def test_what_was_just_made_need_not_be_found_yet(neon: NeonServer, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Neon says for a moment that it is not there."""
    make = NeonProject.make

    def made(self: NeonProject, wanted: Wanted) -> Branch:
        branch = make(self, wanted)
        order_fault(neon.folder, Fault(kind="broken", status=404, method="GET", path=path, times=2))
        return branch

    monkeypatch.setattr(NeonProject, "make", made)

    with opened(neon).dump(ID, expect=None) as dump:
        archive = b"".join(dump.chunks())

    assert archive.startswith(b"PGDMP")


FAULTS: tuple[Fault, ...] = (
    Fault(kind="dropped", method="POST", path="/branches", times=2),
    Fault(kind="dropped", method="GET", path="/branches", times=6),
    Fault(kind="dropped", method="DELETE", path="/branches", times=6),
    Fault(kind="broken", status=500, method="POST", path="/branches", times=6),
    Fault(kind="broken", status=502, method="GET", path="/operations", times=6),
    Fault(kind="broken", status=503, path="/connection_uri", times=6),
    Fault(kind="limited", seconds=3, times=3),
    Fault(kind="locked", times=3),
    Fault(kind="operation_errors", path="start_compute"),
    Fault(kind="operation_fails", path="delete_timeline"),
    Fault(kind="timeout", seconds=0.2, method="POST", path="/branches", times=6),
)
"""Some are borne, some are too much for one turn."""


@pytest.mark.parametrize("seed", range(4))
def test_whatever_goes_wrong_the_next_turn_leaves_nothing_of_ours(neon: NeonServer, seed: int) -> None:
    """Several at once, in whatever order: what a dump left goes with its debris, and what is somebody else's stays."""
    foreign = neon.branch(name=f"{NAME}-not-ours", with_compute=False)["branch"]["id"]
    before, source = names(neon), opened(neon)
    for fault in Random(seed).sample(FAULTS, 3):  # noqa: S311  # drawn, not secret
        order_fault(neon.folder, fault)
    with suppress(ReconcilerError), source.dump(ID, expect=None) as dump:
        deque(dump.chunks(), maxlen=0)
    order_fault(neon.folder, None)
    neon.wait()

    source.end_sessions(ID)

    neon.wait()
    assert before == names(neon)
    neon.discard(foreign)


AT_ANY: tuple[Fault, ...] = (
    Fault(kind="locked"),
    Fault(kind="limited", seconds=1),
    Fault(kind="broken", status=404),
    Fault(kind="broken", status=500),
    Fault(kind="dropped"),
    Fault(kind="timeout", seconds=0.1),
    Fault(kind="operation_fails"),
    Fault(kind="operation_errors"),
)
"""Each of them meets whatever comes next."""


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", AT_ANY, ids=lambda fault: f"{fault.kind}-{fault.status}")
def test_each_fault_at_each_request_of_a_dump(neon: NeonServer, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Whichever it meets, the next turn leaves nothing of ours, and what is somebody else's stays."""
    monkeypatch.setattr(api, "GIVEN_UP_SECONDS", 1.0)
    foreign = neon.branch(name=f"{NAME}-not-ours", with_compute=False)["branch"]["id"]
    before, source, sent = names(neon), opened(neon), Counter[str]()
    send, chosen = Api._send, ("", 0)

    def noted(self: Api, method: str, path: str, *args: Any, **more: Any) -> Any:
        request = f"{method} {re.sub('(br|ep)-[^/]*|[0-9a-f-]{36}', '*', path)}"
        sent[request] += 1
        if chosen == (request, sent[request]):
            order_fault(neon.folder, fault)
        return send(self, method, path, *args, **more)

    monkeypatch.setattr(Api, "_send", noted)

    def turn() -> None:
        sent.clear()
        with suppress(ReconcilerError), source.dump(ID, expect=None) as dump:
            deque(dump.chunks(), maxlen=0)

    turn()
    # An operation is looked at many times: the first few tell as much as all.
    for chosen in [(request, number) for request, times in sent.items() for number in range(1, min(times, 3) + 1)]:
        turn()
        order_fault(neon.folder, None)
        neon.wait()
        source.end_sessions(ID)
        neon.wait()
        assert before == names(neon), chosen
    neon.discard(foreign)


def test_an_operation_that_fails_for_good_fails_the_dump_and_leaves_nothing(
    neon: NeonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "GIVEN_UP_SECONDS", 1.0)
    before = names(neon)
    order_fault(neon.folder, Fault(kind="operation_errors", path="create_branch"))

    with pytest.raises(Unreachable, match="create_branch failed: made to fail"), opened(neon).dump(ID, expect=None):
        pass

    assert before == names(neon)


def test_what_an_earlier_request_began_is_waited_for(neon: NeonServer) -> None:
    """Somebody else's change keeps the project busy: ours comes after it, and is not refused."""
    before, source = names(neon), opened(neon)
    answer = neon.send("POST", "/branches", {"branch": {"name": "theirs"}})

    with source.dump(ID, expect=None) as dump:
        archive = b"".join(dump.chunks())

    assert archive.startswith(b"PGDMP")
    assert {*before, "theirs"} == {*names(neon)}
    neon.discard(answer.json()["branch"]["id"])


def test_a_database_of_any_name(neon: NeonServer) -> None:
    """What means something in an address means nothing in a name."""
    name, branch = "a/b?c=d#e%20f é", neon.branch(name="odd / place?")["branch"]["id"]
    neon.post(f"/branches/{branch}/databases", {"database": {"name": name, "owner_name": "hotel_owner"}})

    with opened(neon, branch="odd / place?", database=name).dump(ID, expect=None) as dump:
        archive = b"".join(dump.chunks())

    assert archive.startswith(b"PGDMP")
    assert name == dump.facts.source.identity.database
    neon.discard(branch)


def test_another_identity_makes_no_branch(neon: NeonServer) -> None:
    before = names(neon)
    other = Identity(provider="neon", cluster="other/br-x", database="hotel")

    with pytest.raises(Conflict, match="expected was"), opened(neon).dump(ID, expect=other):
        pass

    assert before == names(neon)


def test_a_branch_that_was_left_is_swept_and_no_other(neon: NeonServer) -> None:
    """By its exact name; a longer one is somebody else's."""
    left(neon, NAME)
    other = left(neon, f"{NAME}-mine")

    swept = [opened(neon).end_sessions(ID), opened(neon).end_sessions(ID)]

    neon.wait()
    assert swept == [1, 0]
    assert NAME not in names(neon)
    assert f"{NAME}-mine" in names(neon)
    neon.discard(other)


def test_a_branch_that_somebody_else_made_is_left_alone(neon: NeonServer) -> None:
    """Though it has the name, it has not our mark."""
    other = left(neon, NAME, **{MARK: "another"})

    assert opened(neon).end_sessions(ID) == 0
    with pytest.raises(Refused, match="not ours"):
        opened(neon).drop(ID)
    with pytest.raises(Conflict, match="not ours"), opened(neon).dump(ID, expect=None):
        pass

    assert NAME in names(neon)
    neon.discard(other)


def test_a_branch_that_must_stay_keeps_no_debris(neon: NeonServer) -> None:
    """Somebody's branch hangs below it, or somebody protected it: it is left to the branches' duty, and the sweep goes on."""
    ours = left(neon, NAME)
    child = neon.branch(name="below", parent_id=ours, with_compute=False)["branch"]["id"]

    assert opened(neon).end_sessions(ID) == 0

    neon.discard(child)
    neon.patch(f"/branches/{ours}", {"branch": {"protected": True}})

    assert opened(neon).end_sessions(ID) == 0

    assert NAME in names(neon)
    neon.patch(f"/branches/{ours}", {"branch": {"protected": False}})
    neon.discard(ours)


def test_a_project_without_a_default_branch(neon: NeonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes a first policy is asked which one is meant."""
    monkeypatch.setattr(NeonProject, "branches", lambda _: Listed(branches=(), marks={}))

    with pytest.raises(Refused, match="no branch is the default one") as refused:
        find(neon.api_host, Revealed(neon.api_key), Asked(project=neon.project_id), Quick())

    assert refused.value.cure == "name one with --branch"


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"key": "no-such-key"}, "new API key"),
        ({"project": "no-such-project"}, "source.project"),
        ({"branch": "no-such-branch"}, "source.branch"),
        ({"database": "no_such_database"}, "source.database"),
    ],
)
def test_what_is_wrong_says_what_to_do(neon: NeonServer, wrong: dict[str, str], cure: str) -> None:
    with pytest.raises(Refused) as refused:
        opened(neon, **wrong).facts()

    assert cure in refused.value.cure
    assert neon.api_key not in refused.value.what
