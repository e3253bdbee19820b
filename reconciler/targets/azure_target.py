"""Blobs of a container of Azure Blob Storage, under a prefix, as a target.

Only living blobs are looked at: what an account's versioning or soft delete keeps besides is its owner's, and is not counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Final
from xml.etree import ElementTree as ET

from reconciler.errors import Absent, Locked, Refused
from reconciler.targets.azure import host_of_account
from reconciler.targets.azure_container import AzureContainer
from reconciler.targets.azure_upload import discard, head, write
from reconciler.targets.keys import check_key
from reconciler.world.endpoint import place_in
from reconciler.world.ports import Blob, Clock, Custody, Listing, Stored, Upload


class AzureCustody(Custody):
    """What Azure does by itself, as far as these credentials see it."""

    # To free them takes the right to delete. After a week Azure does.
    drops_unfinished = True


class AzureTarget:
    """Implements the `Target` port. One attempt a request, but for writes: what may be repeated elsewhere, a wrapper repeats."""

    versioned: Final = False

    def __init__(self, container: AzureContainer, *, domain: str, clock: Clock, stop: Event, page_items: int = 5000) -> None:
        self._container: Final = container
        self._wire = container.wire
        self._clock, self._stop = clock, stop
        self._page_items = page_items
        self.domain: Final = domain
        self.custody: Final = AzureCustody()

    @property
    def name(self) -> str:
        return self._container.target

    @property
    def place(self) -> str:
        return place_in(self._container.place, self._wire.endpoint, host_of_account(self._container.account))

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        return self._list(prefix)

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        check_key(key)
        if version is not None:
            raise Absent(f"{self.name}: {key} has no version {version}: versions are not looked at there")
        doing = self._container.doing("read", key, "r")
        opened = self._wire.open(doing, self._container.at(key), start=start)
        if opened is None:
            told = head(self._container, key)
            return Blob(self._container.described(key, told, size=int(told.headers["content-length"])), iter(()))
        response, whole = opened
        try:
            size = int(response.headers["content-length"]) if whole is None else whole
            stored = self._container.described(key, response, size=size)
        except (KeyError, ValueError) as error:
            response.close()
            raise self._container.no_azure() from error
        except Refused:
            response.close()
            raise
        return Blob(stored, self._wire.chunks(doing, response), response.close)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        check_key(key)
        return write(self._container, key, chunks, expect=expect, clock=self._clock, stop=self._stop)

    def delete(self, key: str, *, version: str | None = None) -> None:
        check_key(key)
        if version is not None:
            return
        try:
            self._wire.ask(self._container.doing("delete", key, "d"), "DELETE", self._container.at(key))
        except Absent:
            return
        except Refused as refusal:
            locked = self._lock_on(key)
            if locked is None:
                raise
            raise locked from refusal

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        """What has blocks and was never completed. Where a blob of that key is complete, Azure does not show them, and drops
        them with its next write or after a week."""
        begun = self._list(prefix, include="uncommittedblobs").items
        complete = {item.key for item in self._list(prefix).items}
        return tuple(
            Upload(key=item.key, upload_id="uncommitted", begun=item.modified) for item in begun if item.key not in complete
        )

    def abort(self, upload: Upload) -> None:
        check_key(upload.key)
        # Not by its date: Azure tells none of what is not committed, and each listing gives its own.
        if any(found.key == upload.key for found in self.unfinished(upload.key)):
            discard(self._container, upload.key)

    def _list(self, prefix: str, **include: str) -> Listing:
        pages = list(self._pages(prefix, include))
        found = [item for time, page in pages for item in self._container.listed(page, time)]
        return Listing(items=tuple(sorted(found, key=lambda item: item.key)), store_time=pages[0][0])

    def _pages(self, prefix: str, include: dict[str, str]) -> Iterator[tuple[datetime, ET.Element]]:
        doing = self._container.doing("list", prefix, "l")
        query = {"prefix": self._container.prefix + prefix, "maxresults": str(self._page_items), **include}
        while True:
            try:
                response = self._wire.ask(doing, "GET", self._container.listing(**query))
            except Absent as gone:
                what = f"{doing}: there is no such container"
                raise Refused(what, cure="make the container, or correct `container`") from gone
            page = self._container.page(response)
            yield self._wire.time_of(response, self.name), page
            following = page.findtext("NextMarker")
            if not following:
                return
            if following == query.get("marker"):
                what = f"{doing}: the store says that there is more, but not where"
                raise Refused(what, cure="use another store: this one can't list")
            query["marker"] = following

    def _lock_on(self, key: str) -> Locked | None:
        """Why the blob can't be deleted, if immutability of its own keeps it; None where none does, or it can't be seen.

        What the container's policy keeps, Azure tells by its refusal alone.
        """
        try:
            told = head(self._container, key)
        except (Absent, Refused):
            return None
        what = f"{self.name}: {self._container.place}{key} is locked"
        if told.headers.get("x-ms-legal-hold") == "true":
            return Locked(f"{what} by a legal hold", cure="release the legal hold")
        text = told.headers.get("x-ms-immutability-policy-until-date")
        until = parsedate_to_datetime(text).astimezone(UTC) if text else None
        if until is None or until <= self._wire.time_of(told, self.name):
            return None
        return Locked(f"{what} until {until:%Y-%m-%d %H:%MZ}", cure="wait until then", until=until)
