"""Claims in a store whose own retention policy lets nobody write over anything, for as long as it lasts."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from reconciler.backups.claim import Claim, ClaimRecord, Watch, take
from reconciler.errors import Conflict, Refused
from reconciler.targets.append_only import AppendOnly
from reconciler.targets.gcs_target import GcsTarget
from reconciler.world.ports import ABSENT
from reconciler.world.process import SystemProcess
from tests.backups.faking import MovedClock
from tests.servers.gcs import StrictGcs, strict_gcs

__all__ = ["strict_gcs"]

KEY = "hotel/backups/x/intent.json"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def claim(strict_gcs: StrictGcs, clock: MovedClock) -> Claim:
    """Put down in a bucket that keeps all for a day."""
    bucket = strict_gcs.bucket(retentionPolicy={"retentionPeriod": "86400"})
    target = GcsTarget(bucket, domain="x", clock=clock, stop=Event())
    record = ClaimRecord(owner=SystemProcess().begin(), counter=0, since=clock.now(), for_what="copy")
    claim = Claim(target, KEY, record, clock)
    claim.write(ABSENT)
    return claim


def test_it_lasts(claim: Claim, clock: MovedClock) -> None:
    """Nobody can take it over either: who copies for hours is not taken for dead."""
    for _ in range(5):
        clock.wait(30, Event())
        claim.renew()

    claim.check()


@pytest.mark.parametrize(("append_only", "lasts"), [(True, True), (False, False)])
def test_who_may_not_write_over(strict_gcs: StrictGcs, clock: MovedClock, *, append_only: bool, lasts: bool) -> None:
    """Google takes the right to delete for that. Where nobody ever removes anything, a claim lasts all the same."""
    may = strict_gcs.allow("storage.objects.list", "storage.objects.get", "storage.objects.create")
    inside = GcsTarget(strict_gcs.bucket(authorise=may), domain="x", clock=clock, stop=Event())
    target = AppendOnly(inside) if append_only else inside
    owner = SystemProcess().begin()
    claim = Claim(target, KEY, ClaimRecord(owner=owner, counter=0, since=clock.now(), for_what="copy"), clock)
    claim.write(ABSENT)
    for _ in range(3):
        clock.wait(30, Event())
        claim.renew()

    with nullcontext() if lasts else pytest.raises(Conflict, match="could not be renewed"):
        claim.check()


def test_nothing_renews_it(claim: Claim, clock: MovedClock) -> None:
    """Its holder's silence is silence there, too."""
    clock.wait(61, Event())

    with pytest.raises(Conflict, match="could not be renewed"):
        claim.check()


def test_the_lock_ended_and_another_took_it_over(strict_gcs: StrictGcs, claim: Claim, clock: MovedClock) -> None:
    """A lock on what is another's by now covers nobody."""
    (bucket,) = strict_gcs.buckets.values()
    bucket.objects[KEY].kept_until = datetime.now(UTC) - timedelta(seconds=1)
    claim.target.write(KEY, [b"{}"])
    clock.wait(61, Event())
    claim.renew()

    with pytest.raises(Conflict):
        claim.check()


def test_somebody_took_it_away(strict_gcs: StrictGcs, claim: Claim, clock: MovedClock) -> None:
    """As ever: then it is lost."""
    (bucket,) = strict_gcs.buckets.values()
    bucket.objects.clear()
    claim.renew()

    with pytest.raises(Conflict, match="taken away"):
        claim.check()


def test_a_lease_that_an_unseen_retention_locks(strict_gcs: StrictGcs, claim: Claim, clock: MovedClock) -> None:
    """Where the bucket may not be asked for its retention, the lease of one who died tells: another target must be `home`."""
    strict_gcs.buckets[claim.target.place.split("/")[2]].settings = {}
    process = SystemProcess()
    assert claim.record.owner is not None
    process.end(claim.record.owner)
    claim.record = ClaimRecord(owner=process.begin(), counter=0, since=clock.now(), for_what="keep")

    with pytest.raises(Refused, match="no lease can be renewed there") as caught:
        take(claim, Watch(clock, process), lambda seconds: clock.wait(seconds, Event()))
    assert "let another target be `home`" == caught.value.cure
