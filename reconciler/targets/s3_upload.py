"""Writing to S3: one request for what is small, a multipart upload for what is not; never twice, and never half.

Each write carries an id of its own in the object's metadata. Where an answer was lost, or a repeated request is told that
somebody was first, the id tells whether that somebody was we.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from itertools import chain
from math import inf
from threading import Event
from typing import Any, Final

import msgspec

from reconciler.errors import Absent, ReconcilerError, Refused
from reconciler.targets.parts import AIR, SETTLE_SECONDS, arrived, cut, take_effect
from reconciler.targets.retrying import PATIENT_SECONDS
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_errors import Doing, translated
from reconciler.world.clock import token
from reconciler.world.persist import persist
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import ABSENT, Stored

MIB: Final = 1 << 20
MOST_PARTS: Final = 10_000
"""S3's limit."""

IN_FLIGHT: Final = 3
IN_FLIGHT_BYTES: Final = 64 * MIB
"""Parts on their way at a time: so many, but no more than this together once they have grown (one always)."""

WRITE_ID: Final = "write-id"


def part_bytes(number: int) -> int:
    """How large part `number` (from 1) is: 8 MiB for the first thousand, then growing so that 10,000 of them hold 5 TiB.

    The first 8 GiB are in equal parts because some stores (Cloudflare R2) take no others.
    """
    return MIB * round(8 * 1.00068 ** max(0, number - 1000))


def write(bucket: Bucket, key: str, chunks: Iterable[bytes], *, expect: str | None, lock: Mapping[str, Any]) -> Stored:
    """The port's `write`, with the request's part that locks. Holds a part or two in memory besides those on their way."""
    parts = cut(chunks, part_bytes)
    first, is_whole = next(parts)
    attempt = _Write(bucket, key, expect, lock)
    return attempt.at_once(first) if is_whole else attempt.in_parts(chain([first], (part for part, _ in parts)))


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that has arrived, as completing the upload must name it."""

    number: int
    size: int
    etag: str
    checksum: Mapping[str, Any]

    def named(self) -> dict[str, Any]:
        return {"PartNumber": self.number, "ETag": self.etag, **self.checksum}


class _Write:
    """One write of one object."""

    def __init__(self, bucket: Bucket, key: str, expect: str | None, lock: Mapping[str, Any]) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._key = key
        self._id = token(16)
        self._doing = bucket.writing("write", key, lock)
        self._marked = {**bucket.at(key), **lock, "Metadata": {WRITE_ID: self._id}}
        self._condition: dict[str, Any] = {}
        if expect is not None:
            self._condition = {"IfNoneMatch": "*"} if expect == ABSENT else {"IfMatch": f'"{expect}"'}

    def at_once(self, body: bytearray) -> Stored:
        request = {**self._marked, **self._condition, **self._bucket.checksum(body), "Body": body}
        return self._take_effect(lambda: self._client.put_object(**request), size=len(body), within=PATIENT_SECONDS)

    def in_parts(self, parts: Iterable[bytearray]) -> Stored:
        upload = {**self._bucket.at(self._key), "UploadId": self._begin()}
        over = Event()
        try:
            sent = self._send_all(upload, parts, over)
            named: Any = {"Parts": [part.named() for part in sent]}
            return self._take_effect(
                lambda: self._client.complete_multipart_upload(**upload, **self._condition, MultipartUpload=named),
                size=sum(part.size for part in sent),
            )
        except BaseException:
            over.set()
            self._abort(upload)
            raise

    def _begin(self) -> str:
        """Repeated blindly: a second upload whose id was lost holds nothing, and is swept with what is unfinished."""
        request = {**self._marked, **self._bucket.upload_checksum}
        answer = self._persist(lambda: self._client.create_multipart_upload(**request))
        return self._bucket.told(answer, "UploadId")

    def _send_all(self, upload: Mapping[str, Any], parts: Iterable[bytearray], over: Event) -> list[_Part]:
        pool = ThreadPool(IN_FLIGHT)
        sent: list[_Part] = []
        running: set[Future[_Part]] = set()

        def settle(most: int) -> None:
            nonlocal running
            while len(running) > most:
                done, running = arrived(running, self._bucket.stop)
                sent.extend(future.result() for future in done)

        try:
            for number, part in enumerate(parts, start=1):
                self._refuse_too_long(number)
                settle(max(0, min(IN_FLIGHT, IN_FLIGHT_BYTES // len(part)) - 1))
                AIR.enter(part, self._bucket.stop)
                running.add(pool.submit(partial(AIR.sent, part, partial(self._send, upload, number, part, over))))
            settle(0)
        except BaseException:
            over.set()
            wait(running, timeout=SETTLE_SECONDS)
            raise
        return sorted(sent, key=lambda part: part.number)

    def _send(self, upload: Mapping[str, Any], number: int, part: bytearray, over: Event) -> _Part:
        request = {**upload, **self._bucket.checksum(part), "PartNumber": number, "Body": part}
        answer = self._persist(lambda: self._client.upload_part(**request), may_retry=lambda: not over.is_set())
        etag, checksum = self._bucket.told(answer, "ETag"), self._bucket.part_checksum(answer)
        return _Part(number=number, size=len(part), etag=etag, checksum=checksum)

    def _take_effect(self, request: Callable[[], Mapping[str, Any]], *, size: int, within: float = inf) -> Stored:
        """By the very request that makes the object; an answer that is not clear is settled by looking."""

        def attempt() -> Stored:
            with translated(self._doing):
                return self._bucket.described(self._key, request(), size=size)

        return take_effect(attempt, lambda: self._find(size), clock=self._bucket.clock, stop=self._bucket.stop, within=within)

    def _find(self, size: int) -> Stored | None:
        """The object, if it is there by this very write."""

        looking = self._bucket.doing("look at", self._key, "GetObject")
        try:
            ask = partial(self._client.head_object, **self._bucket.at(self._key))
            answer = self._persist(ask, doing=looking, within=PATIENT_SECONDS)
        except Absent:
            return None
        own = answer.get("Metadata", {}).get(WRITE_ID) == self._id and answer["ContentLength"] == size
        return self._bucket.described(self._key, answer, size=size) if own else None

    def _abort(self, upload: Mapping[str, Any]) -> None:
        """What can't be aborted now stays among the unfinished; the first failure is the one to tell of."""
        with suppress(ReconcilerError):
            self._persist(lambda: self._client.abort_multipart_upload(**upload))

    def _persist(
        self,
        request: Callable[[], Any],
        *,
        doing: Doing | None = None,
        may_retry: Callable[[], bool] = lambda: True,
        within: float = inf,
    ) -> Any:
        def attempt() -> Any:
            with translated(doing or self._doing):
                return request()

        return persist(attempt, clock=self._bucket.clock, stop=self._bucket.stop, may_retry=may_retry, within=within)

    def _refuse_too_long(self, number: int) -> None:
        if number > MOST_PARTS:
            raise Refused(f"{self._doing}: it is longer than 5 TiB, the most that S3 takes", cure="dump less at a time")
