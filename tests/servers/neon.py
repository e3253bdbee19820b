"""The sandbox's Neon for tests, one per worker: import `neon` in a conftest, then ask for the fixture.

Each answer is held against the published description on its way to the test.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from reconciler.sandbox.neon.service import remove_neon, start_neon
from reconciler.sandbox.patience import wait_for
from reconciler.world.wire import Doing, Wire
from tests.servers.neon_published import must_be_answered_as_published, must_be_asked_as_published

Json = dict[str, Any]


class NeonServer(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A running one, and how tests speak to it: HTTP and SQL, nothing else."""

    folder: Path
    api_host: str
    api_key: str
    project_id: str

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.api_host, headers={"Authorization": f"Bearer {self.api_key}"}, timeout=60)

    def send(self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None) -> httpx.Response:
        """One request below the project, held against the description."""
        full = f"/projects/{self.project_id}{path}"
        answer = self.http.request(method, full, json=body, params=query)
        must_be_answered_as_published(answer, full)
        return answer

    def get(self, path: str, **query: str) -> Json:
        """What is there."""
        return self._good(self.send("GET", path, query=query))

    def post(self, path: str, body: Json | None = None, **query: str) -> Json:
        """Done, all its operations too."""
        return self._done("POST", path, body, query)

    def patch(self, path: str, body: Json) -> Json:
        """Done, all its operations too."""
        return self._done("PATCH", path, body)

    def put(self, path: str, body: Json) -> Json:
        """Done."""
        return self._good(self.send("PUT", path, body))

    def delete(self, path: str, **query: str) -> Json:
        """Done, all its operations too."""
        return self._done("DELETE", path, query=query)

    def refused(self, method: str, path: str, body: Json | None = None, **query: str) -> tuple[int, str]:
        """Its status and sentence."""
        answer = self.send(method, path, body, query)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["message"]

    def wait(self, *operations: Json) -> list[Json]:
        """Until they are through, or all of the project's; as they are then."""

        def look() -> list[Json] | None:
            found = self.get("/operations", limit="1000")["operations"]
            wanted = {each["id"] for each in operations} or {each["id"] for each in found}
            now = [each for each in found if each["id"] in wanted]
            return None if any(each["status"] in {"scheduling", "running"} or "retry_at" in each for each in now) else now

        return wait_for(look, seconds=120, what="operations")

    @cached_property
    def main(self) -> str:
        """The default branch, at the time of asking first."""
        return next(str(branch["id"]) for branch in self.get("/branches")["branches"] if branch["default"])

    def branch(self, *, with_compute: bool = True, **wanted: Any) -> Json:
        """A new one, ready; the answer to its creation."""
        endpoints = [{"type": "read_write"}] if with_compute else []
        return self.post("/branches", {"branch": wanted, "endpoints": endpoints})

    def uri(self, branch: str = "") -> str:
        """The owner's way into the database of a branch, or of the default one."""
        query = {"branch_id": branch} if branch else {}
        return str(self.get("/connection_uri", database_name="hotel", role_name="hotel_owner", **query)["uri"])

    def connect(self, branch: str = "") -> "psycopg.Connection[tuple[Any, ...]]":
        """A session of the owner."""
        return psycopg.connect(self.uri(branch), autocommit=True)

    def rows(self, statement: str, branch: str = "") -> list[tuple[Any, ...]]:
        """What it selects there."""
        with self.connect(branch) as connection:
            return connection.execute(statement.encode()).fetchall()

    def discard(self, *branches: str) -> None:
        """Delete them for good, in that order."""
        for branch in branches:
            self.delete(f"/branches/{branch}", hard_delete="true")

    def _good(self, answer: httpx.Response) -> Json:
        assert answer.is_success, answer.text
        found: Json = answer.json() if answer.content else {}
        return found

    def _done(self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None) -> Json:
        def look() -> httpx.Response | None:
            answer = self.send(method, path, body, query)
            # What happens by itself, as the suspending of an idle compute, stands in the way for a moment.
            return None if answer.status_code == 423 else answer

        found = self._good(wait_for(look, seconds=60, what="operations that stand in the way"))
        done = self.wait(*found["operations"]) if found.get("operations") else []
        assert [each for each in done if each["status"] != "finished"] == []
        return found


def open_neon(folder: Path, *, plan: str = "scale", with_hotel: bool = False) -> NeonServer:
    """Start it, or meet the one that runs there."""
    neon = start_neon(folder, with_hotel=with_hotel, plan=plan)
    return NeonServer(folder=folder, api_host=neon.api_host, api_key=neon.api_key, project_id=neon.project_id)


@pytest.fixture(scope="session")
def neon() -> Iterator[NeonServer]:
    """One a worker, with an empty database: leave its main branch as it was."""
    with tempfile.TemporaryDirectory(prefix="neon-") as folder:
        try:
            yield open_neon(Path(folder) / "neon")
        finally:
            remove_neon(Path(folder) / "neon")


@pytest.fixture(scope="module")
def own_neon() -> Iterator[Callable[..., NeonServer]]:
    """Ones to kill, fill and reconfigure: `own_neon(plan="free")`; called again, the same one, started again if need be."""
    with tempfile.TemporaryDirectory(prefix="neon-") as folder:

        def opened(**wanted: Any) -> NeonServer:
            return open_neon(Path(folder) / "neon", **wanted)

        try:
            yield opened
        finally:
            remove_neon(Path(folder) / "neon")


@pytest.fixture(autouse=True)
def as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the provider asks of Neon and gets is held against the description, and so is the answer."""
    ask = Wire.ask

    def held(self: Wire, doing: Doing, method: str, url: str, **more: Any) -> httpx.Response:
        answer = ask(self, doing, method, url, **more)
        path = url.partition("/api/v2")[2]
        if path:
            must_be_asked_as_published(method, path, more.get("content", b""))
            must_be_answered_as_published(answer, path.partition("?")[0])
        return answer

    monkeypatch.setattr(Wire, "ask", held)
