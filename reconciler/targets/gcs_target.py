"""Objects of a bucket of Google Cloud Storage, under a prefix, as a target.

Only living objects are looked at: what a bucket's versioning or soft delete keeps besides is its owner's, and is not counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any, Final

import httpx

from reconciler.errors import Absent, Locked, Refused
from reconciler.targets.gcs import GOOGLE_HOST
from reconciler.targets.gcs_bucket import GcsBucket, GcsCustody
from reconciler.targets.gcs_upload import PART_BYTES, write
from reconciler.targets.keys import check_key
from reconciler.targets.parts import cut
from reconciler.world.endpoint import place_in
from reconciler.world.ports import Blob, Clock, Listing, Stored, Upload
from reconciler.world.wire import json_of


class GcsTarget:
    """Implements the `Target` port. One attempt a request, but for writes: what may be repeated elsewhere, a wrapper repeats."""

    versioned: Final = False

    def __init__(
        self,
        bucket: GcsBucket,
        *,
        domain: str,
        clock: Clock,
        stop: Event,
        page_items: int = 1000,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._bucket: Final = bucket
        self._wire = bucket.wire
        self._clock, self._stop = clock, stop
        self._page_items, self._part_bytes = page_items, part_bytes
        self.domain: Final = domain
        self.custody: Final = GcsCustody(bucket, clock)

    @property
    def name(self) -> str:
        return self._bucket.target

    @property
    def place(self) -> str:
        return place_in(self._bucket.place, self._wire.endpoint, GOOGLE_HOST)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        found: list[Stored] = []
        time: datetime | None = None
        for response, page in self._pages(prefix):
            time = time or self._wire.time_of(response, self.name)
            found += (self._bucket.described(each) for each in page.get("items", ()))
        assert time is not None  # noqa: S101 - there is one page at least
        return Listing(items=tuple(sorted(found, key=lambda item: item.key)), store_time=time)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        check_key(key)
        if version is not None:
            raise Absent(f"{self.name}: {key} has no version {version}: versions are not looked at there")
        doing = self._bucket.doing("read", key, "storage.objects.get")
        opened = self._wire.open(doing, self._bucket.at(key, alt="media"), start=start)
        if opened is None:
            return Blob(self._bucket.described(self._bucket.metadata(key)), iter(()))
        response, whole = opened
        try:
            stored = self._read_head(key, response, whole)
        except BaseException:
            response.close()
            raise
        return Blob(stored, self._wire.chunks(doing, response), response.close)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        check_key(key)
        sized = cut(chunks, lambda _: self._part_bytes)
        return write(self._bucket, key, sized, expect=expect, clock=self._clock, stop=self._stop)

    def delete(self, key: str, *, version: str | None = None) -> None:
        check_key(key)
        if version is not None:
            return
        doing = self._bucket.doing("delete", key, "storage.objects.delete")
        try:
            self._wire.ask(doing, "DELETE", self._bucket.at(key))
        except Absent:
            return
        except Refused as refusal:
            locked = self._lock_on(key)
            if locked is None:
                raise
            raise locked from refusal

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """None: Google shows nobody the uploads that were begun, and drops them after a week."""
        return ()

    def abort(self, upload: Upload) -> None:
        """There are none to name."""
        check_key(upload.key)

    def _pages(self, prefix: str) -> Iterator[tuple[httpx.Response, Mapping[str, Any]]]:
        doing = self._bucket.doing("list", prefix, "storage.objects.list")
        query = {
            "prefix": self._bucket.prefix + prefix,
            "maxResults": str(self._page_items),
            "fields": "kind,nextPageToken,items(name,size,generation,updated)",
        }
        while True:
            try:
                response = self._wire.ask(doing, "GET", self._bucket.objects(**query))
            except Absent as gone:
                raise self._bucket.no_bucket(doing) from gone
            page = json_of(response, self.name)
            # An answer that is no listing must not pass for an empty one.
            if page.get("kind") != "storage#objects":
                what = f"{self.name}: {self._wire.endpoint} does not answer like Google Cloud Storage"
                raise Refused(what, cure="correct `endpoint`")
            yield response, page
            following = page.get("nextPageToken")
            if not following:
                return
            if following == query.get("pageToken"):
                what = f"{doing}: the store says that there is more, but not where"
                raise Refused(what, cure="use another store: this one can't list")
            query["pageToken"] = following

    def _read_head(self, key: str, response: httpx.Response, whole: int | None) -> Stored:
        size = whole or response.headers.get("x-goog-stored-content-length") or response.headers.get("content-length")
        generation, modified = response.headers.get("x-goog-generation"), response.headers.get("last-modified")
        if not (size and generation):
            what = f"{self.name}: {self._wire.endpoint} does not answer like Google Cloud Storage"
            raise Refused(what, cure="correct `endpoint`")
        time = parsedate_to_datetime(modified).astimezone(UTC) if modified else self._wire.time_of(response, self.name)
        return Stored(key=key, size=int(size), etag=generation, modified=time)

    def _lock_on(self, key: str) -> Locked | None:
        """Why the object can't be deleted, if a retention or a hold keeps it; None where none does, or it can't be seen."""
        try:
            answer = self._bucket.look_at(key)
            told, now = json_of(answer, self.name), self._wire.time_of(answer, self.name)
        except (Absent, Refused):
            return None
        what = f"{self.name}: {self._bucket.place}{key} is locked"
        if told.get("temporaryHold") or told.get("eventBasedHold"):
            return Locked(f"{what} by a hold", cure="release the hold")
        # The bucket's policy and a retention of the object's own; Google goes by the later one.
        told_until = (told.get("retentionExpirationTime"), told.get("retention", {}).get("retainUntilTime"))
        until = max((datetime.fromisoformat(text).astimezone(UTC) for text in told_until if text), default=now)
        # One that is over keeps nothing, though Google goes on telling of it: the refusal had another reason.
        return Locked(f"{what} until {until:%Y-%m-%d %H:%MZ}", cure="wait until then", until=until) if until > now else None
