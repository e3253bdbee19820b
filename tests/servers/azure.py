"""Azurite, Microsoft's own fake of Azure Blob Storage, one per worker: import `azure_server` in a conftest, then ask for it."""

import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from reconciler.sandbox import ports
from reconciler.targets.azure_account import Authorise, shared_key
from reconciler.targets.azure_container import AzureContainer
from tests.servers.npm import program
from tests.servers.waiting import until

VERSION = "3.37.0"

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite: it is in its documentation."""


class AzureServer(msgspec.Struct, frozen=True, kw_only=True):
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def authorise(self) -> Authorise:
        return shared_key(ACCOUNT, KEY, field="targets.azure.account_key")

    def new_container(self) -> str:
        """One that nobody else uses."""
        name = f"test-{token_hex(6)}"
        self.ask("PUT", f"{self.endpoint}/{name}?restype=container")
        return name

    def container(
        self, *, name: str = "", prefix: str = "", endpoint: str = "", authorise: Authorise | None = None
    ) -> AzureContainer:
        """A new one unless it is named, as the target uses it; `endpoint`: of a proxy before the server."""
        return AzureContainer(
            "azure",
            ACCOUNT,
            name or self.new_container(),
            endpoint=endpoint or self.endpoint,
            prefix=prefix,
            authorise=authorise or self.authorise(),
        )

    def ask(self, method: str, url: str, **headers: str) -> httpx.Response:
        """To set the world up without the code under test."""
        with httpx.Client() as client:
            request = client.build_request(method, url, headers=headers)
            self.authorise()(request)
            return client.send(request).raise_for_status()

    def signature(self, container: str, permissions: str) -> str:
        """A shared access signature for that container, an hour long."""
        import hmac
        from base64 import b64decode, b64encode

        begin, end = (f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (-5, 60))
        version = "2020-12-06"
        lines = [permissions, begin, end, f"/blob/{ACCOUNT}/{container}", "", "", "", version, "c", "", "", "", "", "", "", ""]
        signature = b64encode(hmac.digest(b64decode(KEY), "\n".join(lines).encode(), "sha256")).decode()
        return urlencode({"sv": version, "st": begin, "se": end, "sr": "c", "sp": permissions, "sig": signature})


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    azurite = program("azurite", VERSION, "azurite-blob")
    with tempfile.TemporaryDirectory(prefix="azurite-") as folder:
        # Below those that the system gives to anybody's connection before the server binds it.
        (port,) = ports.choose(1, Path(folder), purpose="azurite")
        options = [
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            "--extentMemoryLimit",
            "512",
        ]
        process = subprocess.Popen(
            [*azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(port, process)
            yield AzureServer(port=port)
        finally:
            process.kill()
            process.wait()
