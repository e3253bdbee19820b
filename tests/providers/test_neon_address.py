"""The way into a database at Neon: the direct host of that very compute, over TLS; nothing else is connected to."""

from datetime import UTC, datetime
from threading import Event
from typing import Any

import certifi
import msgspec
import pytest

from reconciler.errors import Refused
from reconciler.policy.secret import Revealed
from reconciler.providers.neon.answers import Branch, Endpoint, UriAnswer
from reconciler.providers.neon.api import Api
from reconciler.providers.neon.project import Login, NeonProject
from reconciler.world.clock import SystemClock

HOST = "ep-cool-darkness-a1b2c3d4.eu-central-1.aws.neon.tech"
POOLED = HOST.replace(".", "-pooler.", 1)
BRANCH = Branch(id="br-x", name="reconciler-hotel-x", created_at=datetime(2025, 1, 1, tzinfo=UTC), current_state="ready")
ENDPOINT = Endpoint(id="ep-x", branch_id="br-x", type="read_write", host=HOST, current_state="idle")
LOGIN = Login(role="owner", database="hotel")


@pytest.fixture
def learned() -> list[str]:
    return []


@pytest.fixture
def project(learned: list[str]) -> NeonProject:
    api = Api("https://neon.invalid", Revealed("key"), "quiet-hotel", clock=SystemClock(), stop=Event())
    return NeonProject(api, learn=learned.append)


def gives(project: NeonProject, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Let Neon give an address with that host. (No test has a compute of Neon's own.)"""

    def read(path: str, kind: type[UriAnswer], what: str, **query: str) -> UriAnswer:
        assert "/connection_uri" == path
        assert {"pooled": "false", "branch_id": "br-x", "endpoint_id": "ep-x"}.items() <= query.items()
        return UriAnswer(uri=f"postgresql://owner:stored@{host}/hotel?sslmode=require")

    monkeypatch.setattr(project.api, "read", read)


def parameters(project: NeonProject, login: Login, *, changed: bool = False) -> dict[str, Any]:
    return project.address(BRANCH, ENDPOINT, login, changed=changed).for_session("test")


def test_the_certificate_and_the_hosts_name_are_verified(
    project: NeonProject, monkeypatch: pytest.MonkeyPatch, learned: list[str]
) -> None:
    """Whatever the address asks for; and its password is known to whoever keeps passwords out of messages."""
    gives(project, monkeypatch, HOST)

    found = parameters(project, LOGIN)

    assert ("verify-full", certifi.where()) == (found["sslmode"], found["sslrootcert"])
    assert (HOST, "stored") == (found["host"], found["password"])
    assert any("stored" in uri for uri in learned)


@pytest.mark.parametrize("host", [POOLED, "ep-another-b1b2c3d4.eu-central-1.aws.neon.tech"])
def test_another_host_is_refused(project: NeonProject, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A pooler, or another branch's compute."""
    gives(project, monkeypatch, host)

    with pytest.raises(Refused):
        parameters(project, LOGIN)


def test_a_password_of_the_policys_own(project: NeonProject) -> None:
    """Then Neon need not store it: the compute's host is enough."""
    found = parameters(project, msgspec.structs.replace(LOGIN, password=Revealed("own")))

    assert (HOST, "owner", "own", "hotel", "verify-full") == tuple(
        found[name] for name in ("host", "user", "password", "dbname", "sslmode")
    )


def test_a_child_of_a_protected_branch_has_passwords_of_its_own(project: NeonProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy's is of no use there."""
    gives(project, monkeypatch, HOST)

    found = parameters(project, msgspec.structs.replace(LOGIN, password=Revealed("own")), changed=True)

    assert "stored" == found["password"]
