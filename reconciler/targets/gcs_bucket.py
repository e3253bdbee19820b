"""One bucket of Google Cloud Storage as one target uses it: its URLs, what its faults mean, what it does by itself."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from reconciler.errors import Absent, Locked, ReconcilerError, Refused, Unreachable
from reconciler.targets.gcs_account import Authorise
from reconciler.world.facts import LifecycleRule
from reconciler.world.ports import Clock, Custody, Stored
from reconciler.world.wire import Doing, Fault, Wire, json_of

ASK_AGAIN_SECONDS: Final = 3600.0
"""Settings of a bucket change by hand, now and then; a plan is made several times a minute."""

_LOCKS: Final = {
    "objectUnderActiveHold": "wait until the hold is released",
    "retentionPolicyNotMet": "wait until the retention lets it go",
}
"""Why an object may be neither removed nor written over."""

_BUSY: Final = {"rateLimitExceeded", "userRateLimitExceeded"}
"""Google says so with 403, too."""

_CURES: Final = {
    "accountDisabled": "ask Google why this account was closed",
    "accountDisabledInProject": "see to the project's billing",
    "quotaExceeded": "raise the project's quota, or shorten the retention",
    "storageQuotaExceeded": "raise the project's quota, or shorten the retention",
    "userProjectMissing": "let the bucket's owner pay: requester-pays buckets are not supported",
}


class GcsBucket:
    """A bucket, a prefix in it, and the way to reach it."""

    def __init__(self, target: str, name: str, *, endpoint: str, prefix: str, authorise: Authorise) -> None:
        self.target: Final = target
        self.name: Final = name
        self.prefix: Final = prefix
        self.wire: Final = Wire(endpoint, authorise=authorise, read_fault=_read_fault, explain=self._explain)
        self._root = f"{endpoint}/storage/v1/b/{quote(name, safe='')}"
        self._upload = f"{endpoint}/upload/storage/v1/b/{quote(name, safe='')}/o"

    @property
    def place(self) -> str:
        return f"gs://{self.name}/{self.prefix}"

    def doing(self, verb: str, key: str, right: str) -> Doing:
        """For messages: what is being done, and the right that it takes."""
        return Doing(target=self.target, what=f"{verb} {self.place}{key}", right=f"the account {right} on bucket {self.name}")

    def url(self, **query: str) -> str:
        """Of the bucket itself."""
        return f"{self._root}?{urlencode(query)}" if query else self._root

    def objects(self, **query: str) -> str:
        """Of its listing."""
        return f"{self._root}/o?{urlencode(query)}"

    def at(self, key: str, **query: str) -> str:
        """Of one object."""
        return f"{self._root}/o/{quote(self.prefix + key, safe='')}" + (f"?{urlencode(query)}" if query else "")

    def upload(self, **query: str) -> str:
        """Where writes begin."""
        return f"{self._upload}?{urlencode(query)}"

    def described(self, told: Mapping[str, Any]) -> Stored:
        """An object as the API describes it. Its generation changes with every write, and is what conditions are about."""
        try:
            return Stored(
                key=str(told["name"]).removeprefix(self.prefix),
                size=int(told["size"]),
                etag=str(told["generation"]),
                modified=datetime.fromisoformat(told["updated"]).astimezone(UTC),
            )
        except (KeyError, ValueError) as error:
            what = f"{self.target}: {self.wire.endpoint} does not answer like Google Cloud Storage"
            raise Refused(what, cure="correct `endpoint`") from error

    def metadata(self, key: str) -> Mapping[str, Any]:
        """What the API tells of one object. Raises Absent."""
        return json_of(self.look_at(key), self.target)

    def look_at(self, key: str) -> httpx.Response:
        """The same, as it was answered."""
        return self.wire.ask(self.doing("look at", key, "storage.objects.get"), "GET", self.at(key))

    def no_bucket(self, doing: Doing) -> Refused:
        return Refused(f"{doing}: there is no such bucket", cure="make the bucket, or correct `bucket`")

    def _explain(self, fault: Fault, doing: Doing) -> ReconcilerError | None:
        if fault.status == 404 and "bucket does not exist" in fault.message:
            return self.no_bucket(doing)
        if fault.status == 400 and "MD5" in fault.message:
            return Unreachable(f"{doing}: it arrived damaged", cure="nothing: it is sent again")
        if cure := _LOCKS.get(fault.code):
            return Locked(f"{doing}: what is there is locked ({fault.code})", cure=cure)
        if fault.code in _BUSY:
            return Unreachable(
                f"{doing}: {fault.status} {fault.code}",
                cure="wait: it is asked for too much at a time",
                retry_after=fault.retry_after,
            )
        if cure := _CURES.get(fault.code):
            return Refused(f"{doing}: {fault.status} {fault.code}", cure=cure)
        return None


def _read_fault(response: httpx.Response) -> Fault:
    code, message = "", ""
    try:
        error = response.json()["error"]
        message = str(error.get("message", ""))
        code = str(error["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError, AttributeError):
        message = message or response.text[:200]
    return Fault(status=response.status_code, code=code if code.isalpha() else "", message=message)


class GcsCustody(Custody):
    """What a bucket's settings do with what lies in it."""

    # A resumable upload has a secret address, and no list shows it. Google drops it after a week.
    shows_unfinished = False

    def __init__(self, bucket: GcsBucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock
        self._known: Mapping[str, Any] = {}
        self._fresh_until = float("-inf")

    def default_retention(self) -> timedelta | None:
        """The bucket's retention policy."""
        seconds = self._told().get("retentionPolicy", {}).get("retentionPeriod")
        return timedelta(seconds=int(seconds)) if seconds else None

    def lifecycle(self) -> tuple[LifecycleRule, ...]:
        """Those that delete living objects. Google's archive classes are read at once, so that moving there is no matter."""
        rules = self._told().get("lifecycle", {}).get("rule", ())
        return tuple(found for number, rule in enumerate(rules, 1) for found in _read(rule, f"{number}", self._bucket.prefix))

    def _told(self) -> Mapping[str, Any]:
        """The bucket's settings, asked again after an hour."""
        now = self._clock.monotonic()
        if now >= self._fresh_until:
            doing = self._bucket.doing("ask for the settings of", "", "storage.buckets.get")
            url = self._bucket.url(fields="retentionPolicy,lifecycle")
            try:
                self._known = json_of(self._bucket.wire.ask(doing, "GET", url), self._bucket.target)
            except Absent as gone:
                raise self._bucket.no_bucket(doing) from gone
            self._fresh_until = now + ASK_AGAIN_SECONDS
        return self._known


def _read(rule: Mapping[str, Any], name: str, own: str) -> Iterator[LifecycleRule]:
    """What one rule does to living objects below our own prefix. Conditions that we can't follow are taken to hold at once."""
    when: Mapping[str, Any] = rule.get("condition", {})
    spares_living = when.get("isLive") is False or when.keys() & {
        "numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore",
        "daysSinceCustomTime", "customTimeBefore",  # a time that we give none of ours
    }  # fmt: skip
    if rule.get("action", {}).get("type") != "Delete" or spares_living:
        return
    for prefix in when.get("matchesPrefix", [""]):
        if prefix.startswith(own) or own.startswith(prefix):
            below = prefix.removeprefix(own) if prefix.startswith(own) else ""
            yield LifecycleRule(name=name, prefix=below, does="expires", after=timedelta(days=int(when.get("age", 0))))
