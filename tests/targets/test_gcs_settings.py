"""From what a policy says of a bucket at Google to the bucket: accounts, endpoints, rights."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from reconciler.errors import Refused, Unreachable
from reconciler.policy.folder import Folder
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.targets.gcs import KIND, GcsSettings
from reconciler.targets.gcs_target import GcsTarget
from tests.faults.clock import MovedClock
from tests.servers.gcs import RIGHTS, StrictGcs


def connected(settings: GcsSettings, environ: Mapping[str, str] | None = None) -> GcsTarget:
    surroundings = Surroundings(base=Path("/nowhere"), environ=environ or {}, redactor=Redactor())
    target: GcsTarget = KIND.connect("vault", settings, surroundings=surroundings, clock=MovedClock(), stop=Event())
    return target


def account(server: StrictGcs, email: str = "backup@test") -> dict[str, Any]:
    """A service account's key, whose tokens that server makes."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(public_exponent=65537, key_size=2048)
    server.accounts[email] = key.public_key()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "client_email": email,
        "private_key": text,
        "private_key_id": "1",
        "token_uri": f"{server.endpoint}/token",
    }


def of(server: StrictGcs, **more: Any) -> GcsSettings:
    return GcsSettings(bucket=server.new_bucket(), endpoint=Text.parse(server.endpoint), **more)


@pytest.mark.parametrize("prefix", ["", "backups", "backups/", "/a/b/"])
def test_a_bucket_by_references(strict_gcs: StrictGcs, prefix: str) -> None:
    """The endpoint comes from the environment; a prefix is a folder, however its slashes are written."""
    settings = GcsSettings(bucket=strict_gcs.new_bucket(), endpoint=Text.parse("${ENDPOINT}"), prefix=Folder.parse(prefix))
    target = connected(settings, {"ENDPOINT": f"{strict_gcs.endpoint}/"})
    target.write("hotel/x", [b"x"])

    expected = "/".join([*prefix.strip("/").split("/"), "hotel/x"]).removeprefix("/")
    assert [expected] == list(strict_gcs.buckets[settings.bucket].objects)
    store = strict_gcs.endpoint.partition("://")[2]
    assert f"gs://{settings.bucket}/{expected.removesuffix('hotel/x')} at {store}" == target.place


def test_a_service_account(strict_gcs: StrictGcs) -> None:
    """Its key signs for a token, and the token opens the bucket: once for many requests."""
    target = connected(of(strict_gcs, credentials=Secret.parse("${KEY}")), {"KEY": json.dumps(account(strict_gcs))})
    target.write("hotel/x", [b"x"])

    assert ["hotel/x"] == [item.key for item in target.list("").items]
    assert 1 == len(strict_gcs.rights)


def test_an_account_that_was_removed(strict_gcs: StrictGcs) -> None:
    """Google refuses the token, and the message says what may be the matter."""
    key = account(strict_gcs)
    strict_gcs.accounts.clear()
    target = connected(of(strict_gcs, credentials=Secret.parse("${KEY}")), {"KEY": json.dumps(key)})

    with pytest.raises(Refused, match="vault: Google's accounts refuse a token") as caught:
        target.list("")
    assert "revoked" in caught.value.cure


def test_accounts_that_do_not_answer(strict_gcs: StrictGcs) -> None:
    """No answer is unreachable, not refused."""
    key = account(strict_gcs) | {"token_uri": "http://127.0.0.1:1/token"}
    target = connected(of(strict_gcs, credentials=Secret.parse("${KEY}")), {"KEY": json.dumps(key)})

    with pytest.raises(Unreachable, match="vault: cannot get a token"):
        target.list("")


@pytest.mark.parametrize(
    "key", ["hunter2-hunter2", "{}", '{"private_key": "hunter2-hunter2", "client_email": "x", "token_uri": "y"}']
)
def test_a_key_that_is_none(strict_gcs: StrictGcs, key: str) -> None:
    """It is refused where it stands, and neither message nor chain shows it."""
    with pytest.raises(Refused, match=r"targets\.vault\.credentials is no key of a service account") as caught:
        connected(of(strict_gcs, credentials=Secret.parse("${KEY}")), {"KEY": key})
    assert caught.value.__context__ is None


def test_no_account_anywhere(strict_gcs: StrictGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Google's own tools would say, in our words."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    target = connected(GcsSettings(bucket="backups"))

    with pytest.raises(Refused, match="no credentials for Google were found") as caught:
        target.list("")
    assert "credentials" in caught.value.cure


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cure is the command that installs it."""
    monkeypatch.setitem(sys.modules, "google.auth", None)

    with pytest.raises(Refused) as caught:
        connected(GcsSettings(bucket="backups"))
    assert "pip install 'backup-reconciler[gcs]'" == caught.value.cure


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://gcs.example.com", "is plain http to another machine"),
        ("https://user:hunter2@example.com", "is no URL of a store"),
        ("gcs.example.com", "is no URL of a store"),
    ],
)
def test_an_endpoint_that_is_none(endpoint: str, says: str) -> None:
    """Credentials and backups don't go in the clear, and a URL with a password is not shown."""
    with pytest.raises(Refused, match=f"targets.vault.endpoint {says}") as caught:
        connected(GcsSettings(bucket="backups", endpoint=Text.parse(endpoint)))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "domain", "expected"),
    [
        (None, None, "gcs:google"),
        ("https://gcs.example.com", None, "gcs:gcs.example.com"),
        ("http://localhost:4443", None, "host:localhost"),
        (None, "gcp-europe", "gcp-europe"),
    ],
)
def test_what_fails_together(endpoint: str | None, domain: str | None, expected: str) -> None:
    """Google as a whole, unless the policy says otherwise."""
    settings = GcsSettings(bucket="backups", endpoint=Text.parse(endpoint) if endpoint else None, domain=domain)

    assert expected == connected(settings).domain


def use(target: GcsTarget) -> None:
    """Every request that the program makes of a store."""
    target.list("")
    first = target.write("hotel/x", [b"1"])
    target.write("hotel/x", [b"2"], expect=first.etag)
    target.write("hotel/long", (bytes(1 << 20) for _ in range(4)))
    with target.read("hotel/x", start=5) as blob:
        list(blob)
    target.delete("hotel/x")
    target.custody.lifecycle()


class TestRights:
    def test_those_of_the_page_are_enough(self, strict_gcs: StrictGcs) -> None:
        """The least rights as docs/gcs.md has them, and no others."""
        page = (Path(__file__).parents[2] / "docs" / "gcs.md").read_text()
        document = json.loads(page.partition("```json\n")[2].partition("```")[0])
        rights = document["includedPermissions"]
        bucket = strict_gcs.bucket(authorise=strict_gcs.allow(*rights))
        use(GcsTarget(bucket, domain="x", clock=MovedClock(), stop=Event(), part_bytes=1 << 20))

        assert set(RIGHTS.values()) == set(rights)

    @pytest.mark.parametrize("missing", sorted(RIGHTS.values()))
    def test_the_one_that_is_missing_is_named(self, strict_gcs: StrictGcs, missing: str) -> None:
        """Whatever the request, the message says which right to give on which bucket."""
        bucket = strict_gcs.bucket(authorise=strict_gcs.allow(*set(RIGHTS.values()) - {missing}))

        with pytest.raises(Refused, match="403 forbidden") as caught:
            use(GcsTarget(bucket, domain="x", clock=MovedClock(), stop=Event(), part_bytes=1 << 20))
        assert missing in caught.value.cure
        assert bucket.name in caught.value.cure

    def test_a_token_that_nobody_knows(self, strict_gcs: StrictGcs) -> None:
        """401 is about who we are, not about what we may."""
        strict_gcs.allow()
        target = GcsTarget(strict_gcs.bucket(), domain="x", clock=MovedClock(), stop=Event())

        with pytest.raises(Refused, match="401") as caught:
            target.list("")
        assert "credentials" in caught.value.cure
