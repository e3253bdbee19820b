"""Copies inside one S3 store: no byte comes by here, and the store's own checksum of each part is compared."""

from base64 import b64encode
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from reconciler.errors import Absent, Corrupt, ReconcilerError, Stopped
from reconciler.targets.parts import take_effect
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_errors import code_of, translated
from reconciler.targets.s3_upload import MOST_PARTS, WRITE_ID
from reconciler.world.clock import token
from reconciler.world.persist import persist
from reconciler.world.ports import CopyWithin, Hashed, Stored

SHORTEST_PART: Final = 5 << 20
"""S3's limit, for all but the last."""

_UNKNOWN: Final = {"NotImplemented", "MethodNotAllowed", "InvalidRequest", "InvalidArgument"}
"""The store has no such request, or not with a SHA-256."""

_UNABLE: Final = _UNKNOWN | {"InvalidRange", "AccessDenied"}
"""Or not for these two places; or streaming says better what is wrong."""


def copy(bucket: Bucket, origin: Bucket, wanted: CopyWithin, *, lock: Mapping[str, Any]) -> bool:
    """The port's `copy_within`, of two buckets of one account."""
    if bucket.checksums == "md5" or not _is_fit(wanted.parts):
        return False
    return _Copy(bucket, origin, wanted, lock).run()


def _is_fit(parts: Sequence[Hashed]) -> bool:
    """Whether S3 would take these parts. What is shorter than two of them is as quick to stream."""
    return 1 < len(parts) <= MOST_PARTS and all(part.size >= SHORTEST_PART for part in parts[:-1])


class _Copy:
    """One object."""

    def __init__(self, bucket: Bucket, origin: Bucket, wanted: CopyWithin, lock: Mapping[str, Any]) -> None:
        self._bucket, self._origin, self._wanted, self._lock = bucket, origin, wanted, lock
        self._client = bucket.client
        self._id = token(16)
        what = f"copy {origin.place}{wanted.key} to"
        self._doing = bucket.writing(what, wanted.key, lock)
        self._size = sum(part.size for part in wanted.parts)

    def run(self) -> bool:
        marked = {**self._bucket.at(self._wanted.key), **self._lock, "Metadata": {WRITE_ID: self._id}}
        answer = self._unless(_UNKNOWN, lambda: self._client.create_multipart_upload(**marked, ChecksumAlgorithm="SHA256"))
        if answer is None:
            return False
        upload = {**self._bucket.at(self._wanted.key), "UploadId": self._bucket.told(answer, "UploadId")}
        try:
            parts = self._copy_all(upload)
            if parts is None:
                self._abort(upload)
                return False
            self._wanted.about_to()
            self._complete(upload, parts)
        except BaseException:
            self._abort(upload)
            raise
        return True

    def _copy_all(self, upload: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The parts as completing must name them; None where the store can't, or does not prove what it copied."""
        source = {"Bucket": self._origin.name, "Key": self._origin.prefix + self._wanted.key}
        named: list[dict[str, Any]] = []
        start = 0
        for number, part in enumerate(self._wanted.parts, 1):
            if self._bucket.stop.is_set():
                raise Stopped("asked to stop in the middle of a copy")
            ranged = f"bytes={start}-{start + part.size - 1}"
            request = {**upload, "PartNumber": number, "CopySource": source, "CopySourceRange": ranged}
            answer = self._unless(_UNABLE, partial(self._client.upload_part_copy, **request))
            result = answer and answer["CopyPartResult"]
            if not result or not result.get("ChecksumSHA256"):
                return None
            if result["ChecksumSHA256"] != b64encode(bytes.fromhex(part.sha256)).decode("ascii"):
                where = f"{self._origin.target}: {self._wanted.key}, part {number} of {len(self._wanted.parts)}"
                raise Corrupt(f"{where}: the bytes are not those that were written", cure="use another copy of this backup")
            named.append({"PartNumber": number, "ETag": result["ETag"], "ChecksumSHA256": result["ChecksumSHA256"]})
            start += part.size
            self._wanted.moved(start)
        return named

    def _unless(self, refused: Container[str], request: Callable[[], Any]) -> Mapping[str, Any] | None:
        def attempt() -> Mapping[str, Any] | None:
            with translated(self._doing):
                try:
                    answer: Mapping[str, Any] = request()
                except self._client.exceptions.ClientError as error:
                    if code_of(error) not in refused:
                        raise
                    return None
                return answer

        return persist(attempt, clock=self._bucket.clock, stop=self._bucket.stop)

    def _complete(self, upload: Mapping[str, Any], parts: list[dict[str, Any]]) -> None:
        named: Any = {"Parts": parts}

        def request() -> Stored:
            with translated(self._doing):
                answer = self._client.complete_multipart_upload(**upload, IfNoneMatch="*", MultipartUpload=named)
                return self._bucket.described(self._wanted.key, answer, size=self._size)

        take_effect(request, self._find, clock=self._bucket.clock, stop=self._bucket.stop)

    def _find(self) -> Stored | None:
        """The object, if it is there by this very copy."""
        try:
            answer = self._ask(lambda: self._client.head_object(**self._bucket.at(self._wanted.key)))
        except Absent:
            return None
        own = answer.get("Metadata", {}).get(WRITE_ID) == self._id and answer["ContentLength"] == self._size
        return self._bucket.described(self._wanted.key, answer, size=self._size) if own else None

    def _abort(self, upload: Mapping[str, Any]) -> None:
        """What can't be aborted now stays among the unfinished; the first failure is the one to tell of."""
        with suppress(ReconcilerError):
            self._ask(lambda: self._client.abort_multipart_upload(**upload))

    def _ask(self, request: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            with translated(self._doing):
                return request()

        return persist(attempt, clock=self._bucket.clock, stop=self._bucket.stop)
