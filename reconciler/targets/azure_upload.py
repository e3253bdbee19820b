"""Writing to Azure: one request for what is small, blocks and a list of them for what is not; conditions hold for both.

Each write carries an id of its own in the blob's metadata: where an answer was lost, or a repeated request is told that
somebody was first, the id tells whether that somebody was we. Azure compares every block with its MD5.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from math import inf
from threading import Event
from typing import Final, TypeVar

import httpx

from reconciler.errors import Absent, Conflict, ReconcilerError, Refused
from reconciler.targets.azure_container import WRITE_ID, AzureContainer
from reconciler.targets.parts import AIR, SETTLE_SECONDS, arrived, cut, take_effect
from reconciler.targets.retrying import PATIENT_SECONDS
from reconciler.world.clock import token
from reconciler.world.persist import persist
from reconciler.world.pool import ThreadPool
from reconciler.world.ports import ABSENT, Clock, Stored

T = TypeVar("T")

MIB: Final = 1 << 20
MOST_BLOCKS: Final = 50_000
"""Azure's limit."""

IN_FLIGHT: Final = 3
IN_FLIGHT_BYTES: Final = 64 * MIB
"""Blocks on their way at a time: so many, but no more than this together once they have grown (one always)."""

NO_ETAG: Final = '"0x0"'
"""Of no blob: a deletion on that condition tells whether we may delete, and deletes nothing."""


def block_bytes(number: int) -> int:
    """How large block `number` (from 1) is: 8 MiB for the first ten thousand (84 GB), then 64 MiB: 50,000 hold 2.5 TiB."""
    return MIB * (8 if number <= 10_000 else 64)


def write(
    container: AzureContainer, key: str, chunks: Iterable[bytes], *, expect: str | None, clock: Clock, stop: Event
) -> Stored:
    """The port's `write`."""
    parts = cut(chunks, block_bytes)
    first, is_last = next(parts)
    attempt = _Write(container, key, expect, clock, stop)
    return attempt.at_once(first) if is_last else attempt.in_blocks(first, parts)


def discard(container: AzureContainer, key: str) -> None:
    """Free the blocks of writes that were never completed. What is complete by now is not touched.

    Azure has no word for it: an empty list of blocks takes their place, if the blob is not there, and is removed again. Raises
    Refused, having done nothing, where we may not delete: Azure drops the blocks after a week.
    """
    deleting = container.doing("abort the unfinished write of", key, "d")
    container.wire.ask(deleting, "DELETE", container.at(key), headers={"If-Match": NO_ETAG}, fine=(404, 412))
    doing = container.doing("abort the unfinished write of", key, "w")
    headers = {"If-None-Match": "*"}
    try:
        made = container.wire.ask(doing, "PUT", container.at(key, comp="blocklist"), headers=headers, content=_block_list([]))
    except Conflict:
        return
    with suppress(Conflict):
        container.wire.ask(deleting, "DELETE", container.at(key), headers={"If-Match": made.headers["etag"]}, fine=(404,))


class _Write:
    """One write of one blob."""

    def __init__(self, container: AzureContainer, key: str, expect: str | None, clock: Clock, stop: Event) -> None:
        self._container, self._key, self._clock, self._stop = container, key, clock, stop
        self._id = token(16)
        self._doing = container.doing("write", key, "cw")
        self._headers = {WRITE_ID: self._id, "x-ms-blob-content-type": "application/octet-stream"}
        if expect is not None:
            self._headers |= {"If-None-Match": "*"} if expect == ABSENT else {"If-Match": f'"{expect}"'}

    def at_once(self, body: bytearray) -> Stored:
        headers = {**self._headers, "x-ms-blob-type": "BlockBlob", **_checked(body)}
        return self._take_effect(self._container.at(self._key), headers, body, size=len(body), within=PATIENT_SECONDS)

    def in_blocks(self, first: bytearray, rest: Iterator[tuple[bytearray, bool]]) -> Stored:
        over = Event()
        try:
            size, names = self._send_all(_all(first, rest), over)
            headers = {**self._headers, "Content-Type": "application/xml"}
            return self._take_effect(self._container.at(self._key, comp="blocklist"), headers, _block_list(names), size=size)
        except BaseException:
            over.set()
            # What can't be freed now stays among the unfinished; the first failure is the one to tell of.
            with suppress(ReconcilerError):
                self._persist(lambda: discard(self._container, self._key))
            raise

    def _send_all(self, parts: Iterable[bytearray], over: Event) -> tuple[int, list[str]]:
        pool = ThreadPool(IN_FLIGHT)
        running: set[Future[None]] = set()
        size, names = 0, []

        def settle(most: int) -> None:
            nonlocal running
            while len(running) > most:
                done, running = arrived(running, self._stop)
                for future in done:
                    future.result()

        try:
            for number, part in enumerate(parts, start=1):
                self._refuse_too_long(number)
                settle(max(0, min(IN_FLIGHT, IN_FLIGHT_BYTES // len(part)) - 1))
                # All names of a blob's blocks must have one length.
                name = b64encode(f"{self._id}-{number:05d}".encode()).decode("ascii")
                AIR.enter(part, self._stop)
                running.add(pool.submit(partial(AIR.sent, part, partial(self._send, name, part, over))))
                names.append(name)
                size += len(part)
                if number == 1:
                    settle(0)  # from here on it is among the unfinished, for all to see
            settle(0)
        except BaseException:
            over.set()
            wait(running, timeout=SETTLE_SECONDS)
            raise
        return size, names

    def _send(self, name: str, part: bytearray, over: Event) -> None:
        url = self._container.at(self._key, comp="block", blockid=name)
        headers = _checked(part)
        ask = partial(self._container.wire.ask, self._doing, "PUT", url, headers=headers, content=part)
        self._persist(ask, may_retry=lambda: not over.is_set())

    def _take_effect(
        self, url: str, headers: Mapping[str, str], content: bytes | bytearray, *, size: int, within: float = inf
    ) -> Stored:
        def request() -> Stored:
            answer = self._container.wire.ask(self._doing, "PUT", url, headers=headers, content=content)
            return self._container.described(self._key, answer, size=size)

        return take_effect(request, lambda: self._find(size), clock=self._clock, stop=self._stop, within=within)

    def _find(self, size: int) -> Stored | None:
        """The blob, if it is there by this very write."""
        try:
            answer = self._persist(lambda: head(self._container, self._key), within=PATIENT_SECONDS)
        except Absent:
            return None
        own = answer.headers.get(WRITE_ID) == self._id and answer.headers.get("content-length") == str(size)
        return self._container.described(self._key, answer, size=size) if own else None

    def _persist(self, work: Callable[[], T], may_retry: Callable[[], bool] = lambda: True, within: float = inf) -> T:
        return persist(work, clock=self._clock, stop=self._stop, may_retry=may_retry, within=within)

    def _refuse_too_long(self, number: int) -> None:
        if number > MOST_BLOCKS:
            raise Refused(f"{self._doing}: it is longer than Azure's 50,000 blocks hold", cure="dump less at a time")


def head(container: AzureContainer, key: str) -> httpx.Response:
    """What Azure tells of a blob without its bytes. Raises Absent."""
    return container.wire.ask(container.doing("look at", key, "r"), "HEAD", container.at(key))


def _all(first: bytearray, rest: Iterator[tuple[bytearray, bool]]) -> Iterator[bytearray]:
    yield first
    yield from (part for part, _ in rest)


def _checked(body: bytes | bytearray) -> dict[str, str]:
    return {"Content-MD5": b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")}


def _block_list(names: Iterable[str]) -> bytes:
    inner = "".join(f"<Uncommitted>{name}</Uncommitted>" for name in names)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{inner}</BlockList>'.encode()
