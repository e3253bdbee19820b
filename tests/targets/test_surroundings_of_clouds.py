"""Proxies, authorities and identities that the environment names and nobody can use: told in a sentence, by a target alone."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from reconciler.errors import ReconcilerError, Refused, Unreachable
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings
from reconciler.targets.azure import KIND as AZURE
from reconciler.targets.azure import AzureSettings
from reconciler.targets.gcs import KIND as GCS
from reconciler.targets.gcs import GcsSettings
from reconciler.targets.gcs_account import _Account, service_account
from reconciler.world.ports import Target
from tests.faults.clock import MovedClock
from tests.servers.azure import KEY
from tests.servers.gcs import StrictGcs
from tests.targets.test_gcs_settings import account

VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def google() -> Target:
    surroundings = Surroundings(base=Path("/nowhere"), environ={}, redactor=Redactor())
    target: Target = GCS.connect(
        "vault", GcsSettings(bucket="backups"), surroundings=surroundings, clock=MovedClock(), stop=Event()
    )
    return target


def azure(**more: Any) -> Target:
    surroundings = Surroundings(base=Path("/nowhere"), environ={"KEY": KEY}, redactor=Redactor())
    settings = AzureSettings(account="backups", container="vault", **more)
    target: Target = AZURE.connect("vault", settings, surroundings=surroundings, clock=MovedClock(), stop=Event())
    return target


def azure_with_a_key() -> Target:
    return azure(account_key=Secret.parse("${KEY}"))


@pytest.mark.parametrize("opened", [google, azure_with_a_key])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "names no certificates"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "names a SOCKS proxy"),
        ("NO_PROXY", "10.0.0.0/8,fe80::/10", "NO_PROXY can't be understood"),
        ("HTTPS_PROXY", "http://user:hunter2@proxy:3128x", "can't be understood"),
        ("HTTPS_PROXY", "foo://proxy:3128", "can't be understood"),
    ],
)
def test_proxies_and_authorities(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[], Target], name: str, value: str, says: str
) -> None:
    """The target is refused, and with it nothing else; neither message nor chain shows a proxy's password."""
    monkeypatch.setenv(name, value)

    with pytest.raises(Refused, match=says) as caught:
        opened()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere.pem"},
        {"AZURE_TENANT_ID": "no/tenant", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"},
        {"AZURE_AUTHORITY_HOST": "http://login.example.com"},
    ],
    ids=["a certificate that is not there", "no tenant", "an authority over plain http"],
)
def test_an_identity_at_azure(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """What names nothing is told, with the variables to look at. Nobody is asked."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(Refused, match="what the environment says of an identity for Azure can't be used") as caught:
        azure().list("")
    assert "AZURE_CLIENT_CERTIFICATE_PATH" in caught.value.cure


def test_credentials_at_google_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder, as a container has where a file was to be mounted; or a file that holds another kind of JSON."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    with pytest.raises(Refused, match="the credentials for Google can't be read"):
        google().list("")
    (tmp_path / "key.json").write_text("[]")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(Refused, match="are not as Google makes them"):
        google().list("")


class Answers:
    """A server that gives each path the same answer."""

    def __init__(self) -> None:
        self.status, self.kind, self.body = 200, "text/html", b"<html>Welcome</html>"
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(answers.status)
                for name, value in (("Content-Type", answers.kind), ("Metadata-Flavor", "Google")):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                self.wfile.write(answers.body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.server.shutdown()


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"access_token": "x", "expires_in": "soon"}'])
def test_something_answers_in_the_place_of_googles_accounts(strict_gcs: StrictGcs, answers: Answers, body: bytes) -> None:
    """A portal's page has the status of a success, too: no token, and a sentence."""
    answers.kind, answers.body = "application/json", body
    key = json.dumps(account(strict_gcs) | {"token_uri": f"http://{answers.host}/token"})
    authorise = service_account(key, field="targets.vault.credentials", redactor=Redactor())

    with pytest.raises(Refused, match="vault: no token"):
        authorise(httpx.Request("GET", strict_gcs.endpoint))


@pytest.mark.parametrize(
    ("status", "error"), [(503, Unreachable), (404, Refused)], ids=["is busy", "says that the machine has none"]
)
def test_the_machines_own_account(monkeypatch: pytest.MonkeyPatch, status: int, error: type[ReconcilerError]) -> None:
    """What can't be asked just now is unreachable; google-auth tells it like a clear no."""
    from google.auth import compute_engine

    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    authorise = _Account("vault", compute_engine.Credentials)
    authorise._client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(status, text="no")))

    with pytest.raises(error, match="vault"):
        authorise(httpx.Request("GET", "https://storage.googleapis.com"))
