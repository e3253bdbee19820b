"""Objects of an S3 bucket, under a prefix, as a target."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import Any, Final

from reconciler.errors import Conflict, Locked, LockUnseen, Refused
from reconciler.targets.keys import check_key
from reconciler.targets.s3 import AMAZON
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_copy import copy
from reconciler.targets.s3_custody import S3Custody
from reconciler.targets.s3_errors import archive_of, code_of, translated
from reconciler.targets.s3_upload import write
from reconciler.world.endpoint import place_in
from reconciler.world.ports import Blob, CopyWithin, Listing, Stored, Target, Upload
from reconciler.world.ranges import whole_size

CHUNK_BYTES: Final = 1 << 20

_MARKS: Final = {
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_object_versions": {"KeyMarker": "NextKeyMarker", "VersionIdMarker": "NextVersionIdMarker"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
}
"""How each listing goes on: field of the next request → field of the last answer."""


class S3Target:
    """Implements the `Target` port. One attempt a request, but for writes: what may be repeated elsewhere, a wrapper repeats."""

    def __init__(self, bucket: Bucket, *, domain: str, custody: S3Custody | None = None) -> None:
        self.bucket: Final = bucket
        self._client = bucket.client
        self.domain: Final = domain
        self.custody: Final = custody or S3Custody(bucket)

    @property
    def name(self) -> str:
        return self.bucket.target

    @property
    def place(self) -> str:
        return place_in(self.bucket.place, self.bucket.account.endpoint, AMAZON)

    @cached_property
    def versioned(self) -> bool:
        """Asked once. A bucket whose versioning is suspended still shows its old versions, and hides by markers."""
        with translated(self.bucket.doing("ask for the versioning of", "", "GetBucketVersioning")):
            try:
                answer = self._client.get_bucket_versioning(Bucket=self.bucket.name)
            except self._client.exceptions.ClientError as error:
                if code_of(error) not in ("NotImplemented", "MethodNotAllowed"):
                    raise
                return False  # a store that knows no versions
        return answer.get("Status") in ("Enabled", "Suspended")

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        """Of versions, the newest of a key comes first. What a plain listing shows has no `version`."""
        if versions and self.versioned:
            pages = self._pages("list_object_versions", prefix, right="ListBucketVersions")
        else:
            pages = self._pages("list_objects_v2", prefix, right="ListBucket")
        found: list[Stored] = []
        first = next(pages)
        for page in chain([first], pages):
            found += [self._listed(each) for kind in ("Contents", "Versions") for each in page.get(kind, ())]
            found += [self._listed(each, marker=True) for each in page.get("DeleteMarkers", ())]
        found.sort(key=lambda item: (item.key, not item.latest, -item.modified.timestamp()))
        return Listing(items=tuple(found), store_time=self.bucket.time_of(first))

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        check_key(key)
        request = self.bucket.at(key) | ({"VersionId": version} if version else {})
        doing = self.bucket.doing("read", key, "GetObjectVersion" if version else "GetObject")
        with translated(doing):
            try:
                answer = self._client.get_object(**request | ({"Range": f"bytes={start}-"} if start else {}))
            except self._client.exceptions.ClientError as error:
                if code_of(error) not in ("InvalidRange", "416"):
                    raise
                head = self._client.head_object(**request)
                return Blob(self.bucket.described(key, head, size=head["ContentLength"]), iter(()))
        body = answer["Body"]
        try:
            whole = whole_size(answer.get("ContentRange", ""), start, doing)
        except Refused:
            body.close()
            raise

        def chunks() -> Iterator[bytes]:
            while True:
                with translated(doing):
                    chunk = body.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

        return Blob(
            self.bucket.described(key, answer, size=whole or int(self.bucket.told(answer, "ContentLength"))), chunks(), body.close
        )

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        check_key(key)
        lock = self.custody.lock_until(keep_until)
        try:
            return write(self.bucket, key, chunks, expect=expect, lock=lock)
        except Refused as refusal:
            if not lock or self.custody.can_lock:
                raise
            cure = "let the target be a bucket that was made with Object Lock, or remove `object_lock`"
            raise Refused(f"{self.name}: the bucket {self.bucket.name} can lock nothing", cure=cure) from refusal

    def copy_within(self, origin: Target, wanted: CopyWithin) -> bool:
        """From another bucket, or another prefix of this one, with the same keys at the same endpoint."""
        check_key(wanted.key)
        if not isinstance(origin, S3Target) or origin.bucket.account != self.bucket.account:
            return False
        return copy(self.bucket, origin.bucket, wanted, lock=self.custody.lock_until(wanted.keep_until))

    def delete(self, key: str, *, version: str | None = None) -> None:
        """On a versioned bucket, a key is hidden by a marker and a version is really removed, unless a lock keeps it."""
        check_key(key)
        if version is not None and not self.versioned:
            return
        right = "DeleteObjectVersion" if version else "DeleteObject"
        try:
            with translated(self.bucket.doing("delete", key, right)):
                self._client.delete_object(**self.bucket.at(key) | ({"VersionId": version} if version else {}))
        except Refused as refusal:
            locked = self._lock_on(key, version, refusal) if version else None
            if locked is None:
                raise
            raise locked from refusal

    def _lock_on(self, key: str, version: str, refusal: Refused) -> Locked | None:
        try:
            return self.custody.lock_on(key, version)
        except Refused as unseen:
            raise LockUnseen(refusal.what, cure=f"{unseen.cure}; if that shows no lock, {refusal.cure}") from unseen

    def unfinished(self, prefix: str) -> Sequence[Upload]:
        pages = self._pages("list_multipart_uploads", prefix, right="ListBucketMultipartUploads")
        return tuple(
            Upload(key=self._key(each), upload_id=each["UploadId"], begun=each["Initiated"].astimezone(UTC))
            for page in pages
            for each in page.get("Uploads", ())
        )

    def abort(self, upload: Upload) -> None:
        check_key(upload.key)
        try:
            with translated(self.bucket.doing("abort the unfinished write of", upload.key, "AbortMultipartUpload")):
                self._client.abort_multipart_upload(**self.bucket.at(upload.key), UploadId=upload.upload_id)
        except Conflict:
            return  # completed or aborted before: nothing is held any more

    def _pages(self, operation: str, prefix: str, *, right: str) -> Iterator[Mapping[str, Any]]:
        doing = self.bucket.doing("list", prefix, right)
        first = request = {"Bucket": self.bucket.name, "Prefix": self.bucket.prefix + prefix}
        while True:
            with translated(doing):
                page: Mapping[str, Any] = getattr(self._client, operation)(**request)
            # An answer that is no listing must not pass for an empty one.
            self.bucket.told(page, "IsTruncated")
            yield page
            if not page["IsTruncated"]:
                return
            following = {field: page[mark] for field, mark in _MARKS[operation].items() if page.get(mark)}
            if not following or following.items() <= request.items():
                raise Refused(
                    f"{doing}: the store says that there is more, but not where", cure="use another store: this one can't list"
                )
            # From the first: a mark that the last page had and this one has not is of another key.
            request = first | following

    def _listed(self, each: Mapping[str, Any], *, marker: bool = False) -> Stored:
        return Stored(
            key=self._key(each),
            size=each.get("Size", 0),
            etag=str(each.get("ETag", "")).strip('"'),
            modified=each["LastModified"].astimezone(UTC),
            version=each.get("VersionId"),
            latest=each.get("IsLatest", True),
            marker=marker,
            archive=archive_of(each),
        )

    def _key(self, each: Mapping[str, Any]) -> str:
        return str(each["Key"]).removeprefix(self.bucket.prefix)
