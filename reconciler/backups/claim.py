"""Owner and heartbeat, one piece for lease and intent: a small object that says who, and is renewed while they live."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from threading import Lock

import msgspec

from reconciler.backups.manifest import decode_again, encode
from reconciler.backups.records import read_whole
from reconciler.errors import Absent, Conflict, Corrupt, Locked, ReconcilerError, Refused, Unreachable
from reconciler.world.facts import Instant, Owner
from reconciler.world.heart import Heart, in_a_thread
from reconciler.world.ports import ABSENT, Cache, Clock, Custody, Process, Target, custody_of

RENEW_SECONDS = 30.0
SILENT_SECONDS = 90.0
"""A counter that stood still for so long, watched on our own monotonic clock, has a dead owner."""
COVERED_SECONDS = 60.0
"""How long a confirmed renewal covers its holder: well before anybody else may take over. A suspended machine's time counts."""
YOUNG_SECONDS = 5.0
"""After a confirmed renewal, another one would tell nobody more."""
NO_ETAG = "0" * 32
"""Of no content: as long as an MD5, so that no store finds fault with its form."""


class ClaimRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the object says. `counter` grows with each renewal: the same bytes would look like none."""

    owner: Owner | None
    """None: given back."""
    counter: int
    since: Instant
    for_what: str
    """For the reader, e.g. `dump of slot 2025-10-25T02:00:00Z`."""
    slot: Instant | None = None
    kind: str | None = None
    repository: str | None = None


class Claim:
    """One held claim. `check` before every effect; a claim that was lost stays lost."""

    def __init__(self, target: Target, key: str, record: ClaimRecord, clock: Clock) -> None:
        self.target, self.key, self.record = target, key, record
        self._clock = clock
        self._etag = ""
        self._version: str | None = None
        self._covered_until = 0.0
        self._lost = ""
        self._lock = Lock()

    def write(self, expect: str) -> None:
        """Put it down, over nothing (ABSENT) or over the content with that ETag. Raises Conflict when somebody was first."""
        began = self._clock.elapsed()
        stored = self.target.write(self.key, [encode(self.record)], expect=expect)
        self._etag = stored.etag
        self._covered_until = began + COVERED_SECONDS
        superseded, self._version = self._version, stored.version
        # A versioned store would keep each renewal of a long dump. (Where versioning is suspended, all are called the same.)
        if superseded not in (None, self._version):
            with suppress(ReconcilerError):
                self.target.delete(self.key, version=superseded)

    def renew(self) -> None:
        """One heartbeat. What can't be reached is tried at the next; what was taken away is lost."""
        with self._lock:
            if self._lost:
                return
            self.record = msgspec.structs.replace(self.record, counter=self.record.counter + 1)
            try:
                self.write(self._etag)
            except Conflict:
                self._settle_conflict()
            except Refused as refusal:
                if isinstance(refusal, Locked) or custody_of(self.target).append_only:
                    self._rest()
            except ReconcilerError:
                return

    def refresh(self) -> None:
        """One heartbeat, unless the last one is as good: each costs a request or two, and waits for those before it."""
        if self._clock.elapsed() > self._covered_until - COVERED_SECONDS + YOUNG_SECONDS:
            self.renew()

    def _rest(self) -> None:
        """What the store lets nobody write over, nobody takes over, and where nothing is ever removed, nobody sweeps.

        While it is ours there, that covers us as a renewal would.
        """
        began = self._clock.elapsed()
        try:
            _, etag = read_claim(self.target, self.key)
        except Absent:
            self._lost = "it was taken away"
        except ReconcilerError:
            return
        else:
            if etag == self._etag:
                self._covered_until = began + COVERED_SECONDS

    def _settle_conflict(self) -> None:
        """After a lost answer the newer content may be our own write."""
        try:
            record, etag = read_claim(self.target, self.key)
        except Absent:
            self._lost = "it was taken away"
            return
        except ReconcilerError:
            return
        if record is not None and record.owner == self.record.owner:
            self._etag = etag
            # That one is of some time ago; only a renewal confirmed now covers us.
            with suppress(ReconcilerError):
                self.write(etag)
        else:
            self._lost = f"it was taken over by {describe(record)}"

    def honours_conditions(self) -> bool:
        """Whether the store keeps its word: our own record, written over itself on a false condition, must be refused."""
        for expect in (ABSENT, NO_ETAG):
            self.record = msgspec.structs.replace(self.record, counter=self.record.counter + 1)
            try:
                self.write(expect)
            except Conflict:
                continue
            return False
        return True

    def forget_history(self) -> None:
        """Remove what a versioned store keeps of former holders, as far as it lets us."""
        if not self.target.versioned:
            return
        with suppress(ReconcilerError):
            for item in self.target.list(self.key, versions=True).items:
                if item.key == self.key and not item.latest:
                    self.target.delete(item.key, version=item.version)

    def check(self) -> None:
        """Raises Conflict when the last confirmed renewal no longer covers us."""
        if self._lost:
            raise Conflict(f"{self.target.name}: {self.key}: {self._lost}")
        if self._clock.elapsed() >= self._covered_until:
            raise Conflict(
                f"{self.target.name}: {self.key} could not be renewed for {COVERED_SECONDS:.0f} s, so another may have taken over"
            )

    def give_back(self) -> None:
        """Say that it is free, if it is still ours. Failing is harmless: its owner will be seen to be gone."""
        with self._lock:
            if self._lost:
                return
            self.record = msgspec.structs.replace(self.record, owner=None, counter=self.record.counter + 1)
            try:
                self.write(self._etag)
            except ReconcilerError:
                return


def read_claim(target: Target, key: str) -> tuple[ClaimRecord | None, str]:
    """What it says (None: it is empty or torn, so nobody knows whose it is), and its ETag. Raises Absent."""
    text, stored = read_whole(target, key)
    try:
        return decode_again(text, ClaimRecord, key), stored.etag
    except Corrupt:
        return None, stored.etag


def describe(record: ClaimRecord | None) -> str:
    """Who holds it, for the reader."""
    if record is None:
        return "somebody whose record is torn"
    if record.owner is None:
        return "nobody"
    return f"process {record.owner.pid} on {record.owner.host}, since {record.since:%Y-%m-%d %H:%MZ}"


def beating(claim: Claim, every: float = RENEW_SECONDS, *, heart: Heart = in_a_thread) -> AbstractContextManager[None]:
    """Renews while the body runs."""
    return heart(every, claim.renew)


class Watch:
    """Tells dead owners by their silence. May be forgotten at any time: then the watching begins again."""

    def __init__(self, clock: Clock, process: Process) -> None:
        self._clock, self._process = clock, process
        self._seen: dict[str, tuple[str, float]] = {}
        self._moved: set[str] = set()

    def is_gone(self, name: str, record: ClaimRecord | None, etag: str) -> bool | None:
        """True: dead, or given back. False: alive. None: not known yet, ask again later. `name` is unique among all targets."""
        if record is not None:
            proven = True if record.owner is None else self._process.is_gone(record.owner)
            if proven is not None:
                return proven
        # Not while our machine was suspended: who is watched may be on it, and have been silent for no other reason.
        now = self._clock.monotonic()
        last = self._seen.get(name)
        if last is None or last[0] != etag:
            if last is not None:
                self._moved.add(name)
            self._seen[name] = (etag, now)
            return False if name in self._moved else None
        if now - last[1] >= SILENT_SECONDS:
            return True
        return False if name in self._moved else None


Sleep = Callable[[float], bool]


def take(
    claim: Claim,
    watch: Watch,
    sleep: Sleep,
    waiting: Callable[[str], None] = lambda _: None,
    *,
    step: float = RENEW_SECONDS / 3,
    cache: Cache | None = None,
) -> None:
    """Put the claim down over nothing, a free one, or a dead owner's. Raises Conflict while another lives (or stays undecided).

    An owner whose death can't be proven from here is watched until its counter moves, or has stood still for long enough.
    Raises Refused where a claim would protect nothing, or could not be renewed; `cache` remembers which stores are fit.
    """
    custody = custody_of(claim.target)
    _refuse_locking(claim, custody)
    try:
        _put_down(claim, watch, sleep, waiting, step)
        _try_conditions(claim, custody, cache)
    except Locked as locked:
        # Not every store tells beforehand that it will.
        raise Refused(f"{locked.what}: so no lease can be renewed there", cure="let another target be `home`") from locked
    claim.forget_history()


def _try_conditions(claim: Claim, custody: Custody, cache: Cache | None) -> None:
    try:
        if not custody.single_writer:
            _refuse_careless(claim, cache)
    except ReconcilerError:
        claim.give_back()
        raise


def _refuse_locking(claim: Claim, custody: Custody) -> None:
    locked = None
    # Who may not ask is not hindered: at worst versions pile up.
    with suppress(ReconcilerError):
        locked = custody.default_retention()
    if locked:
        raise Refused(
            f"{claim.target.name}: its default retention locks all that is written for {locked.days} d, renewals of a lease too",
            cure="remove the bucket's default retention and set `object_lock` instead, or let another target be `home`",
        )


def _refuse_careless(claim: Claim, cache: Cache | None) -> None:
    name = f"honours conditions\n{claim.target.place}"
    if cache is not None and cache.get(name) is not None:
        return
    if not claim.honours_conditions():
        raise Refused(
            f"{claim.target.name}: the store ignores the conditions of conditional writes, so a lease there protects nothing",
            cure="let another target be `home`, or run one program at a time and set `single_writer: true` on this one",
        )
    if cache is not None:
        cache.put(name, b"yes")


def _put_down(claim: Claim, watch: Watch, sleep: Sleep, waiting: Callable[[str], None], step: float) -> None:
    told = False
    while True:
        try:
            record, etag = read_claim(claim.target, claim.key)
        except Absent:
            _put_down_first(claim, ABSENT)
            return
        gone = watch.is_gone(f"{claim.target.name}:{claim.key}", record, etag)
        if gone:
            _put_down_first(claim, etag)
            return
        if gone is False:
            raise _held(claim, record)
        if not told:
            waiting(f"{claim.key} on {claim.target.name} is held by {describe(record)}; watching whether it lives")
            told = True
        if sleep(step):
            raise Unreachable("asked to stop while waiting for a lease")


def _put_down_first(claim: Claim, expect: str) -> None:
    """Raises Conflict that says who was faster."""
    try:
        claim.write(expect)
    except Conflict:
        with suppress(Absent, Unreachable):
            record, _ = read_claim(claim.target, claim.key)
            raise _held(claim, record) from None
        raise


def _held(claim: Claim, record: ClaimRecord | None) -> Conflict:
    return Conflict(f"{claim.key} on {claim.target.name} is held by {describe(record)}", cure="wait for it to finish, or end it")
