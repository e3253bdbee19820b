"""From what a policy says of a container at Azure to the container: keys, signatures, identities, rights."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from reconciler.errors import Refused
from reconciler.policy.folder import Folder
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.targets.azure import KIND, AzureSettings
from reconciler.targets.azure_account import shared_access
from reconciler.targets.azure_target import AzureTarget
from reconciler.world.ports import ABSENT
from tests.faults.clock import MovedClock
from tests.servers.azure import ACCOUNT, KEY, AzureServer

PAGE = Path(__file__).parents[2] / "docs" / "azure.md"


def connected(settings: AzureSettings, environ: Mapping[str, str] | None = None) -> AzureTarget:
    surroundings = Surroundings(base=Path("/nowhere"), environ=environ or {}, redactor=Redactor())
    target: AzureTarget = KIND.connect("vault", settings, surroundings=surroundings, clock=MovedClock(), stop=Event())
    return target


def of(server: AzureServer, **more: Any) -> AzureSettings:
    endpoint = Text.parse(server.endpoint)
    return AzureSettings(account=ACCOUNT, container=server.new_container(), endpoint=endpoint, **more)


@pytest.mark.parametrize("prefix", ["", "backups", "backups/", "/a/b/"])
def test_a_container_by_references(azure_server: AzureServer, prefix: str) -> None:
    """Endpoint and key come from the environment; a prefix is a folder, however its slashes are written."""
    settings = of(azure_server, prefix=Folder.parse(prefix), account_key=Secret.parse("${KEY}"))
    target = connected(settings, {"KEY": KEY})
    target.write("hotel/x", [b"x"])

    expected = "/".join([*prefix.strip("/").split("/"), "hotel/x"]).removeprefix("/")
    whole = connected(AzureSettings(**{**_fields(settings), "prefix": Folder()}), {"KEY": KEY})
    assert [expected] == [item.key for item in whole.list("").items]
    store = azure_server.endpoint.partition("://")[2]
    assert f"azure://{ACCOUNT}/{settings.container}/{expected.removesuffix('hotel/x')} at {store}" == target.place


def test_a_shared_access_signature(azure_server: AzureServer) -> None:
    """It goes with every request, with or without its question mark."""
    settings = of(azure_server, sas_token=Secret.parse("${SAS}"))
    signature = azure_server.signature(settings.container, "rcwdl")
    for written in (signature, f"?{signature}"):
        target = connected(settings, {"SAS": written})
        target.write("hotel/x", [b"x"])

        assert ["hotel/x"] == [item.key for item in target.list("").items]


def test_a_wrong_key(azure_server: AzureServer) -> None:
    """Is told apart from a right that is missing."""
    target = connected(of(azure_server, account_key=Secret.parse("${KEY}")), {"KEY": KEY.replace("E", "F")})

    with pytest.raises(Refused, match=r"403 (AuthorizationFailure|AuthenticationFailed)") as caught:
        target.list("")
    assert "account_key" in caught.value.cure or "credentials" in caught.value.cure


def test_a_key_that_is_none() -> None:
    """It is refused where it stands, and neither message nor chain shows it."""
    settings = AzureSettings(account="backups", container="vault", account_key=Secret.parse("${KEY}"))

    with pytest.raises(Refused, match=r"targets\.vault\.account_key is no key of a storage account") as caught:
        connected(settings, {"KEY": "hunter2-hunter2!"})
    assert caught.value.__context__ is None


def test_a_key_and_a_signature() -> None:
    """One of them would be passed over."""
    both = AzureSettings(
        account="backups", container="vault", account_key=Secret.parse("${KEY}"), sas_token=Secret.parse("${SAS}")
    )

    with pytest.raises(Refused, match="exclude each other"):
        connected(both, {"KEY": KEY, "SAS": "sig=x"})


def test_no_identity_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Azure's own tools would say, in our words."""
    from azure.core.exceptions import ClientAuthenticationError

    def nobody(*_: object, **__: object) -> None:
        raise ClientAuthenticationError("none of 9 ways led to an identity")

    # Looking for one in earnest asks addresses that exist at Azure only, and waits for them.
    monkeypatch.setattr("azure.identity.DefaultAzureCredential.get_token", nobody)
    target = connected(AzureSettings(account="backups", container="vault"))

    with pytest.raises(Refused, match="no usable identity for Azure was found"):
        target.list("")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cure is the command that installs it; who has a key or a signature does without."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)

    with pytest.raises(Refused) as caught:
        connected(AzureSettings(account="backups", container="vault"))
    assert caught.value.cure.startswith("pip install 'backup-reconciler[azure]'")
    connected(AzureSettings(account="backups", container="vault", account_key=Secret.parse("${KEY}")), {"KEY": KEY})


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [("http://blob.example.com", "is plain http to another machine"), ("https://u:hunter2@example.com", "is no URL of a store")],
)
def test_an_endpoint_that_is_none(endpoint: str, says: str) -> None:
    """Backups don't go in the clear, and a URL with a password is not shown."""
    with pytest.raises(Refused, match=says) as caught:
        connected(AzureSettings(account="backups", container="vault", endpoint=Text.parse(endpoint)))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "domain", "expected"),
    [
        (None, None, "azure:backups"),
        ("https://blob.example.com", None, "azure:blob.example.com"),
        ("http://127.0.0.1:10000/backups", None, "host:localhost"),
        (None, "azure-europe", "azure-europe"),
    ],
)
def test_what_fails_together(endpoint: str | None, domain: str | None, expected: str) -> None:
    """The account, unless the policy says otherwise."""
    key = Secret.parse("${KEY}")
    written = Text.parse(endpoint) if endpoint else None
    settings = AzureSettings(account="backups", container="vault", endpoint=written, domain=domain, account_key=key)

    assert expected == connected(settings, {"KEY": KEY}).domain


def use(target: AzureTarget) -> None:
    """Every request that the program makes of a store."""
    target.list("")
    first = target.write("hotel/x", [b"1"])
    target.write("hotel/x", [b"2"], expect=first.etag)
    target.write("hotel/long", (bytes(1 << 20) for _ in range(12)))
    with target.read("hotel/x", start=5) as blob:
        list(blob)
    for upload in target.unfinished(""):
        target.abort(upload)
    target.delete("hotel/x")


def limited(server: AzureServer, permissions: str) -> AzureTarget:
    container = server.container()
    signature = shared_access(server.signature(container.name, permissions))
    container = server.container(name=container.name, authorise=signature)
    return AzureTarget(container, domain="x", clock=MovedClock(), stop=Event())


class TestRights:
    def test_those_of_the_page_are_enough(self, azure_server: AzureServer) -> None:
        """The least rights as docs/azure.md has them."""
        (permissions,) = re.findall(r"--permissions (\w+)", PAGE.read_text())

        use(limited(azure_server, permissions))

    @pytest.mark.parametrize("missing", "rwdl")
    def test_the_one_that_is_missing_is_named(self, azure_server: AzureServer, missing: str) -> None:
        """Whatever the request, the message says what to give on which container."""
        target = limited(azure_server, "rcwdl".replace(missing, "").replace("c", "" if missing == "w" else "c"))

        with pytest.raises(Refused, match="403 AuthorizationPermissionMismatch") as caught:
            use(target)
        assert re.search(rf"the signature '\w*{missing}\w*'", caught.value.cure)
        assert "Storage Blob Data Contributor" in caught.value.cure

    def test_who_may_not_delete(self, azure_server: AzureServer) -> None:
        """A write that fails leaves nothing but blocks for Azure to drop: no empty blob that could not be removed again."""
        target = limited(azure_server, "rcwl")

        def dying() -> Iterator[bytes]:
            yield from (bytes(1 << 20) for _ in range(20))
            raise OSError("the producer's own")

        with pytest.raises(OSError, match="the producer's own"):
            target.write("hotel/long", dying(), expect=ABSENT)
        assert () == target.list("").items
        assert ["hotel/long"] == [upload.key for upload in target.unfinished("")]

    def test_the_role_of_the_page(self) -> None:
        """It is JSON, and its actions are those of the four permissions."""
        role = json.loads(PAGE.read_text().partition("```json\n")[2].partition("```")[0])

        assert {"read", "write", "delete", "action"} == {action.rpartition("/")[2] for action in role["DataActions"]}


def _fields(settings: AzureSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
