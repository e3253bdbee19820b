"""A database at Neon as a source, against the sandbox's Neon."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from reconciler.errors import Conflict, Refused
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.providers.neon.settings import NeonSettings, connect
from reconciler.providers.neon.source import NeonSource
from reconciler.sandbox.neon.asking import order_fault
from reconciler.sandbox.neon.faults import Fault
from reconciler.world.clock import SystemClock
from reconciler.world.facts import Identity
from tests.servers.neon import NeonServer


@pytest.fixture(autouse=True)
def clean(neon: NeonServer) -> Iterator[None]:
    """No fault is left for the next test."""
    yield
    order_fault(neon.folder, None)
    neon.wait()


def opened(neon: NeonServer, **other: Any) -> NeonSource:
    wanted: dict[str, Any] = {
        "project": neon.project_id,
        "branch": "main",
        "database": "hotel",
        "role": "hotel_owner",
        "api_key": Secret.parse("${KEY}"),
        "api_host": Text.parse(neon.api_host),
    }
    surroundings = Surroundings(base=Path(), environ={"KEY": other.pop("key", neon.api_key)}, redactor=Redactor())
    settings = NeonSettings(**(wanted | other))
    return connect("hotel", settings, surroundings=surroundings, clock=SystemClock(), stop=Event()).source()


def rest(neon: NeonServer) -> str:
    """Suspend the main branch's compute; its id."""
    (endpoint,) = neon.get(f"/branches/{neon.main}/endpoints")["endpoints"]
    neon.wait()
    neon.post(f"/endpoints/{endpoint['id']}/suspend")
    return str(endpoint["id"])


def wake(neon: NeonServer) -> None:
    """Have it run."""
    neon.rows("SELECT 1")


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

    with source.dump("d1", expect=source.facts().identity) as dump:
        during = set(names(neon)) - set(before)
        archive = b"".join(dump.chunks())

    assert during == {"reconciler-hotel-d1"}
    assert archive.startswith(b"PGDMP")
    assert source.facts().identity == dump.facts.source.identity
    assert before == names(neon)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "locked", "times": 2},
        {"kind": "limited", "seconds": 1},
        {"kind": "broken", "status": 500, "method": "GET"},
        {"kind": "dropped", "method": "POST", "path": "/branches"},
        {"kind": "broken", "status": 500, "method": "POST", "path": "/branches"},
        {"kind": "dropped", "method": "DELETE", "path": "/branches"},
        {"kind": "operation_fails", "path": "create_branch"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())).replace("/", ""),
)
def test_short_troubles_are_borne(neon: NeonServer, fault: dict[str, Any]) -> None:
    """One branch is made, and none is left."""
    before, source = names(neon), opened(neon)
    order_fault(neon.folder, Fault(**fault))

    with source.dump("d2", expect=None) as dump:
        archive = b"".join(dump.chunks())

    order_fault(neon.folder, None)
    neon.wait()
    assert archive.startswith(b"PGDMP")
    assert before == names(neon)


def test_another_identity_makes_no_branch(neon: NeonServer) -> None:
    before = names(neon)
    other = Identity(provider="neon", cluster="other/br-x", database="hotel")

    with pytest.raises(Conflict, match="expected was"), opened(neon).dump("d3", expect=other):
        pass

    assert before == names(neon)


def test_a_branch_that_was_left_is_swept_and_no_other(neon: NeonServer) -> None:
    """By its exact name; a longer one is somebody else's."""
    neon.branch(name="reconciler-hotel-d4", with_compute=False)
    other = neon.branch(name="reconciler-hotel-d4-mine", with_compute=False)["branch"]["id"]

    swept = [opened(neon).end_sessions("d4"), opened(neon).end_sessions("d4")]

    neon.wait()
    assert swept == [1, 0]
    assert "reconciler-hotel-d4" not in names(neon)
    assert "reconciler-hotel-d4-mine" in names(neon)
    neon.discard(other)


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
