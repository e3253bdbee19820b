"""Writing to Google Cloud Storage: one request for what is small, a resumable upload for what is not; conditions hold for both.

Each write carries an id of its own in the object's metadata: where an answer was lost, or a repeated request is told that
somebody was first, the id tells whether that somebody was we. What arrived is compared by MD5 with what was sent.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from threading import Event
from typing import Any, Final

import httpx
import msgspec

from reconciler.errors import Absent, Conflict, Corrupt, ReconcilerError, Refused, Unreachable
from reconciler.targets.gcs_bucket import GcsBucket
from reconciler.targets.parts import arrived, take_effect
from reconciler.targets.retrying import PATIENT_SECONDS
from reconciler.world.clock import token
from reconciler.world.persist import persist
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import ABSENT, Clock, Stored
from reconciler.world.wire import json_of

PART_BYTES: Final = 16 << 20
"""A multiple of 256 KiB, as Google wants it. One part is kept until it has arrived, and one is being filled."""

LONGEST_BYTES: Final = 5 << 40
"""Of one object."""

WRITE_ID: Final = "write-id"

_RESUME: Final = 308


def write(
    bucket: GcsBucket,
    key: str,
    parts: Iterator[tuple[bytearray, bool]],
    *,
    expect: str | None,
    clock: Clock,
    stop: Event,
) -> Stored:
    """The port's `write`, of a stream that was cut into parts, each with whether it is the last."""
    first, is_last = next(parts)
    attempt = _Write(bucket, key, expect, clock, stop)
    try:
        return attempt.at_once(first) if is_last else attempt.in_parts(first, parts)
    except Corrupt as damaged:
        # Out here, since the removed object must not be looked for. It says nothing of what was to be written.
        raise Unreachable(damaged.what, cure=damaged.cure) from damaged


class _Write:
    """One write of one object."""

    def __init__(self, bucket: GcsBucket, key: str, expect: str | None, clock: Clock, stop: Event) -> None:
        self._bucket, self._key, self._clock, self._stop = bucket, key, clock, stop
        self._id = token(16)
        # Writing over an object takes both rights.
        self.doing = bucket.doing("write", key, "storage.objects.create and storage.objects.delete")
        self._described: dict[str, Any] = {
            "name": bucket.prefix + key,
            "contentType": "application/octet-stream",
            "metadata": {WRITE_ID: self._id},
        }
        self._condition = {} if expect is None else {"ifGenerationMatch": _generation(expect)}
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0

    def at_once(self, body: bytearray) -> Stored:
        self._count(body)
        described = {**self._described, "md5Hash": self._sum()}
        border = f"part-{self._id}"
        head = f"--{border}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode() + msgspec.json.encode(described)
        content = b"".join(
            (
                head,
                f"\r\n--{border}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                body,
                f"\r\n--{border}--\r\n".encode(),
            )
        )
        headers = {"Content-Type": f"multipart/related; boundary={border}"}
        url = self._bucket.upload(uploadType="multipart", **self._condition)
        ask = partial(self._bucket.wire.ask, self.doing, "POST", url, headers=headers, content=content)
        return self._take_effect(ask, within=PATIENT_SECONDS)

    def in_parts(self, first: bytearray, rest: Iterator[tuple[bytearray, bool]]) -> Stored:
        session = self._persist(self._begin)
        try:
            part, is_last, offset = first, False, 0
            while not is_last:
                self._count(part)
                self._wait_for(partial(self._persist, _Part(self, session, part, offset).send))
                offset += len(part)
                part, is_last = next(rest)
                self._refuse_too_long(offset + len(part))
            self._count(part)
            return self._take_effect(_Part(self, session, part, offset, total=offset + len(part)).send)
        except BaseException:
            self._abort(session)
            raise

    def put(self, session: str, headers: dict[str, str], content: bytes | memoryview = b"") -> httpx.Response:
        """One request of the upload. An upload that is gone can't be gone on with."""
        wire = self._bucket.wire
        response = wire.ask(self.doing, "PUT", session, headers=headers, content=bytes(content), fine=(_RESUME, 404, 410))
        if response.status_code in (404, 410):
            raise Unreachable(f"{self.doing}: the upload was lost by the store", cure="nothing: the next turn tries again")
        return response

    def _begin(self) -> str:
        """Repeated blindly: a second upload whose address was lost holds nothing, and is dropped by Google."""
        url = self._bucket.upload(uploadType="resumable", **self._condition)
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        content = msgspec.json.encode(self._described)
        try:
            response = self._bucket.wire.ask(self.doing, "POST", url, headers=headers, content=content)
        except Absent as gone:
            raise self._bucket.no_bucket(self.doing) from gone
        session: str = response.headers.get("location", "")
        # The credentials go there too, and over plain http all could read them.
        if _origin(session) != _origin(self._bucket.wire.endpoint):
            what = f"{self._bucket.target}: {self._bucket.wire.endpoint} sends uploads to another host, or to none"
            raise Refused(what, cure="correct `endpoint`")
        return session

    def _take_effect(self, request: Any, *, within: float = inf) -> Stored:
        def attempt() -> Stored:
            try:
                response: httpx.Response = request()
            except Absent as gone:
                raise self._bucket.no_bucket(self.doing) from gone
            return self._checked(json_of(response, self._bucket.target))

        return take_effect(attempt, self._find, clock=self._clock, stop=self._stop, within=within)

    def _checked(self, told: Any) -> Stored:
        """What the store says it has. Raises Corrupt, having removed it, where that is not what was sent."""
        stored = self._bucket.described(told)
        # Of some objects Google has no MD5; the size of all.
        if stored.size == self._size and told.get("md5Hash") in (None, self._sum()):
            return stored
        url = self._bucket.at(self._key, ifGenerationMatch=stored.etag)
        with suppress(ReconcilerError):
            self._persist(lambda: self._bucket.wire.ask(self.doing, "DELETE", url, fine=(404, 412)))
        raise Corrupt(f"{self.doing}: the store has other bytes than were sent", cure="nothing: the next turn tries again")

    def _find(self) -> Stored | None:
        """The object, if it is there by this very write."""
        try:
            told = self._persist(lambda: self._bucket.metadata(self._key), within=PATIENT_SECONDS)
        except Absent:
            return None
        return self._checked(told) if told.get("metadata", {}).get(WRITE_ID) == self._id else None

    def _wait_for(self, work: Callable[[], object]) -> None:
        """Beside, since one that hangs is not waited for until its time-out where we are asked to stop."""
        future = ThreadPool(1).submit(work)
        arrived({future}, self._stop)
        future.result()

    def _abort(self, session: str) -> None:
        """Google answers 499. What can't be aborted now is dropped by itself; the first failure is the one to tell of."""
        with suppress(ReconcilerError):
            self._bucket.wire.ask(self.doing, "DELETE", session, fine=(404, 410, 499))

    def _persist(self, work: Any, *, within: float = inf) -> Any:
        return persist(work, clock=self._clock, stop=self._stop, within=within)

    def _count(self, part: bytearray) -> None:
        self._md5.update(part)
        self._size += len(part)

    def _sum(self) -> str:
        return b64encode(self._md5.digest()).decode("ascii")

    def _refuse_too_long(self, size: int) -> None:
        if size > LONGEST_BYTES:
            raise Refused(f"{self.doing}: it is longer than 5 TiB, the most that Google takes", cure="dump less at a time")


class _Part:
    """One part on its way. Sent again, it goes on where the store says that it stopped."""

    def __init__(self, write: _Write, session: str, part: bytearray, offset: int, *, total: int | None = None) -> None:
        self._write, self._session, self._part, self._offset = write, session, memoryview(part), offset
        self._total = "*" if total is None else str(total)
        self._is_last = total is not None
        self._in_doubt = False

    def send(self) -> httpx.Response:
        """Until all of it has arrived: the answer to that, for the last part the object."""
        response = self._where() if self._in_doubt else None
        self._in_doubt = True
        while response is None or not self._is_done(response):
            arrived = self._arrived(response)
            rest = self._part[arrived:]
            begin = self._offset + arrived
            ranged = f"bytes {begin}-{begin + len(rest) - 1}/{self._total}" if rest else f"bytes */{self._total}"
            response = self._write.put(self._session, {"Content-Range": ranged}, rest)
            if not self._is_done(response) and self._arrived(response) <= arrived:
                raise Unreachable(f"{self._write.doing}: the store takes nothing more of it", cure="wait: it may be busy")
        return response

    def _is_done(self, response: httpx.Response) -> bool:
        return response.status_code != _RESUME or (not self._is_last and self._arrived(response) == len(self._part))

    def _where(self) -> httpx.Response:
        return self._write.put(self._session, {"Content-Range": f"bytes */{self._total}"})

    def _arrived(self, response: httpx.Response | None) -> int:
        """How many bytes of this part the store has, as far as it said."""
        if response is None:
            return 0
        _, _, last = response.headers.get("range", "").rpartition("-")
        return max(0, int(last) + 1 - self._offset) if last.isdigit() else 0


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port; None where it is no URL."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return parts.scheme, parts.host, parts.port


def _generation(expect: str) -> str:
    if expect == ABSENT:
        return "0"
    # An ETag that never was a generation is of nothing that could be there.
    if not expect.isdigit() or expect == "0":
        raise Conflict(f"{expect!r} is no generation of an object")
    return expect
