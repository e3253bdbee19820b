"""What a bucket does by itself with what lies in it: locks, expiry, archiving."""

from collections.abc import Callable, Container, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, Literal

import msgspec
from botocore.exceptions import ClientError

from reconciler.errors import Absent, Locked, ReconcilerError
from reconciler.targets.retrying import PATIENT_SECONDS
from reconciler.targets.s3_bucket import Bucket
from reconciler.targets.s3_errors import archive_of, code_of, translated
from reconciler.world.facts import LifecycleRule
from reconciler.world.persist import persist
from reconciler.world.ports import Custody

ASK_AGAIN_SECONDS: Final = 3600.0
"""Rules change by hand, now and then; a plan is made several times a minute."""

_MEANWHILE: Final = timedelta(seconds=5)

_NONE_SET: Final = {
    "MethodNotAllowed",
    "NoSuchLifecycleConfiguration",
    "NoSuchObjectLockConfiguration",
    "NotImplemented",
    "ObjectLockConfigurationNotFoundError",
}
"""There is no such setting, or the store has no such thing."""

_NOT_LOCKED: Final = _NONE_SET | {"InvalidRequest", "NoSuchObjectLegalHold"}
"""The bucket locks nothing, or not this object."""


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """Object Lock, as a policy asks for it."""

    mode: Literal["governance", "compliance"]
    retain: timedelta


class S3Custody(Custody):
    """Of one bucket. Safe to use from several threads: at worst the store is asked twice."""

    def __init__(self, bucket: Bucket, *, lock: Lock | None = None, single_writer: bool = False) -> None:
        self._bucket = bucket
        self._lock = lock
        self.single_writer = single_writer
        self.retain = lock.retain if lock else None
        self.holds = lock is not None
        self._rules: tuple[LifecycleRule, ...] = ()
        self._fresh_until = float("-inf")

    def lock_until(self, until: datetime | None) -> Mapping[str, Any]:
        """The part of a write's request that locks what it writes; none where the policy asks for no lock."""
        if until is None or self._lock is None:
            return {}
        return {"ObjectLockMode": self._lock.mode.upper(), "ObjectLockRetainUntilDate": until}

    def hold(self, key: str, version: str | None, *, held: bool) -> None:
        """A legal hold. Only one that is seen there is let go: who may not set one must be able to do without."""
        at = self._bucket.at(key) | ({"VersionId": version} if version else {})

        def attempt() -> None:
            if held or self._is_held(key, at):
                with translated(self._bucket.doing("hold" if held else "release", key, "PutObjectLegalHold")):
                    self._bucket.client.put_object_legal_hold(**at, LegalHold={"Status": "ON" if held else "OFF"})

        persist(attempt, clock=self._bucket.clock, stop=self._bucket.stop, within=PATIENT_SECONDS)

    def lock_on(self, key: str, version: str) -> Locked | None:
        """Why that version can't be deleted, if it is a lock; None where it is not.

        Raises Refused and Unreachable where the policy asks for locks and they can't be seen; elsewhere that is None, too.
        """
        try:
            return self._lock_on(key, self._bucket.at(key) | {"VersionId": version})
        except Absent:
            return None
        except ReconcilerError:
            if self.holds:
                raise
            return None

    def _lock_on(self, key: str, at: Mapping[str, Any]) -> Locked | None:
        what = f"{self._bucket.target}: {self._bucket.place}{key} is locked"
        if self._is_held(key, at):
            return Locked(f"{what} by a legal hold", cure="release the legal hold")
        answer = self._look(key, "GetObjectRetention", self._bucket.client.get_object_retention, at)
        until: datetime | None = answer.get("Retention", {}).get("RetainUntilDate")
        # One that ended since we were refused was the reason all the same.
        if until is None or until <= self._bucket.time_of(answer) - _MEANWHILE:
            return None
        return Locked(
            f"{what} until {until.astimezone(UTC):%Y-%m-%d %H:%MZ}", cure="wait until then", until=until.astimezone(UTC)
        )

    def _is_held(self, key: str, at: Mapping[str, Any]) -> bool:
        answer = self._look(key, "GetObjectLegalHold", self._bucket.client.get_object_legal_hold, at)
        return bool(answer.get("LegalHold", {}).get("Status") == "ON")

    def _look(self, key: str, right: str, request: Callable[..., Any], at: Mapping[str, Any]) -> Mapping[str, Any]:
        """Empty where there is none. By a request of its own: AWS leaves out of an object's description what we may not see."""
        with translated(self._bucket.doing("look for locks on", key, right)):
            return _unless(_NOT_LOCKED, lambda: request(**at))

    def default_retention(self) -> timedelta | None:
        """Asked once."""
        default = self._object_lock.get("Rule", {}).get("DefaultRetention", {})
        return timedelta(days=default.get("Days", 0) + 365 * default.get("Years", 0)) or None

    @property
    def can_lock(self) -> bool:
        """Whether the bucket was made with Object Lock, as far as we may ask."""
        try:
            return self._object_lock.get("ObjectLockEnabled") == "Enabled"
        except ReconcilerError:
            return True

    @cached_property
    def _object_lock(self) -> Mapping[str, Any]:
        answer = self._ask("Object Lock", "GetBucketObjectLockConfiguration", self._bucket.client.get_object_lock_configuration)
        configuration: Mapping[str, Any] = answer.get("ObjectLockConfiguration", {})
        return configuration

    def lifecycle(self) -> tuple[LifecycleRule, ...]:
        """Those that are enabled and reach what lies under the target's prefix."""
        now = self._bucket.clock.monotonic()
        if now >= self._fresh_until:
            ask = self._bucket.client.get_bucket_lifecycle_configuration
            answer = self._ask("lifecycle rules", "GetLifecycleConfiguration", ask)
            self._rules = tuple(found for rule in answer.get("Rules", ()) for found in _read(rule, self._bucket.prefix))
            self._fresh_until = now + ASK_AGAIN_SECONDS
        return self._rules

    def _ask(self, what: str, right: str, request: Callable[..., Any]) -> Mapping[str, Any]:
        """An empty answer where nothing is set."""

        def attempt() -> Mapping[str, Any]:
            with translated(self._bucket.doing(f"ask for the {what} of", "", right)):
                return _unless(_NONE_SET, lambda: request(Bucket=self._bucket.name))

        return persist(attempt, clock=self._bucket.clock, stop=self._bucket.stop, within=PATIENT_SECONDS)


def _unless(none: Container[str], request: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The answer; an empty one where the store's refusal says that there is none."""
    try:
        return request()
    except ClientError as error:
        if code_of(error) not in none:
            raise
        return {}


def _read(rule: Mapping[str, Any], own: str) -> Iterator[LifecycleRule]:
    """What one rule does to keys below our own prefix."""
    chosen: Mapping[str, Any] = rule.get("Filter", {})
    both: Mapping[str, Any] = chosen.get("And", {})
    prefix = str(rule.get("Prefix") or chosen.get("Prefix") or both.get("Prefix") or "")
    by_tag = "Tag" in chosen or "Tags" in both  # no object of ours has any
    if rule.get("Status") != "Enabled" or by_tag or not (prefix.startswith(own) or own.startswith(prefix)):
        return

    def named(does: Literal["expires", "expires old versions of", "archives"], days: int) -> LifecycleRule:
        name = str(rule.get("ID") or "without a name")
        below = prefix.removeprefix(own) if prefix.startswith(own) else ""
        return LifecycleRule(name=name, prefix=below, does=does, after=timedelta(days=days))

    expiry: Mapping[str, Any] = rule.get("Expiration", {})
    if "Days" in expiry or "Date" in expiry:
        yield named("expires", expiry.get("Days", 0))
    if "NoncurrentDays" in (old := rule.get("NoncurrentVersionExpiration", {})):
        yield named("expires old versions of", old["NoncurrentDays"])
    for move in rule.get("Transitions", ()):
        if archive_of(move):
            yield named("archives", move.get("Days", 0))
