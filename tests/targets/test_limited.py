"""A rate that is kept on average, whoever writes, and that nothing small waits for."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reconciler.connect import KINDS, Means, connect
from reconciler.errors import Stopped
from reconciler.policy.loading import load
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Surroundings
from reconciler.targets.limited import FREE_BYTES, Bucket, Limited
from reconciler.targets.local_target import LocalTarget
from reconciler.world.cache import FileCache
from reconciler.world.clock import token
from reconciler.world.pool import InlinePool
from reconciler.world.ports import Stored
from reconciler.world.process import SystemProcess
from tests.faults.clock import MovedClock

MIB = 1 << 20


def limited(folder: Path, rate: int, clock: MovedClock, stop: Event | None = None) -> Limited:
    return Limited(LocalTarget("disk", folder / "backups", clock=clock), Bucket(rate, clock, stop or Event()))


def test_a_stream_takes_its_time(tmp_path: Path) -> None:
    """Twenty MiB at two a second are nine seconds: the first is free, having gone unused before."""
    clock = MovedClock()
    target = limited(tmp_path, 2 * MIB, clock)

    target.write("hotel/dump.zst", (bytes(MIB) for _ in range(20)))

    assert 9 == pytest.approx(clock.monotonic())
    with target.read("hotel/dump.zst") as blob:
        assert bytes(20 * MIB) == b"".join(blob)
    assert 9 == pytest.approx(clock.monotonic())


def test_a_large_chunk_goes_in_pieces(tmp_path: Path) -> None:
    """No wait is longer than a moment, so that the target sees a steady stream."""
    clock = MovedClock()

    limited(tmp_path, 64 * 1024, clock).write("hotel/dump.zst", iter([bytes(4 * MIB)]))

    assert max(clock.waits) <= 0.3
    assert 63 == pytest.approx(clock.monotonic())


def test_two_targets_of_one_bucket(tmp_path: Path) -> None:
    """What one writes, the other waits for: streams side by side share the rate."""
    clock = MovedClock()
    bucket = Bucket(MIB, clock, Event())
    one, other = (Limited(LocalTarget(name, tmp_path / name, clock=clock), bucket) for name in ("one", "other"))

    one.write("x", iter([bytes(MIB)] * 4))
    other.write("x", iter([bytes(MIB)] * 4))

    assert 7 == pytest.approx(clock.monotonic())


def test_a_record_does_not_wait(tmp_path: Path) -> None:
    """A lease must be renewed in time, however deep in debt a dump has put the bucket; the next dump waits for it too."""
    clock = MovedClock()
    target = limited(tmp_path, 1024, clock)
    target.write("hotel/dump.zst", iter([bytes(10 * 1024)]))
    before = clock.monotonic()

    target.write("hotel/lease.json", [bytes(FREE_BYTES)])
    assert before == clock.monotonic()

    target.write("hotel/next.zst", iter([bytes(1024)]))
    assert before + 65 == pytest.approx(clock.monotonic())


def test_a_record_stays_what_can_be_written_again(tmp_path: Path) -> None:
    """A list goes through as a list: who repeats a write after a lost answer must be able to."""
    seen: list[object] = []

    class Looking(LocalTarget):
        def write(
            self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
        ) -> Stored:
            seen.append(chunks)
            return super().write(key, chunks, expect=expect, keep_until=keep_until)

    clock, record = MovedClock(), [b"{}"]
    Limited(Looking("disk", tmp_path / "backups", clock=clock), Bucket(1024, clock, Event())).write("lease.json", record)

    assert [record] == seen
    assert isinstance(seen[0], Sequence)


def test_asked_to_stop(tmp_path: Path) -> None:
    """Waiting ends at once, and nothing is stored."""
    stop = Event()
    target = limited(tmp_path, 1024, MovedClock(), stop)
    stop.set()

    with pytest.raises(Stopped):
        target.write("hotel/dump.zst", iter([bytes(MIB)]))
    assert () == target.list("").items


@given(some.lists(some.tuples(some.integers(1, 5000), some.floats(0, 3)), min_size=1), some.integers(1, 4000))
def test_the_rate_is_never_exceeded(takes: list[tuple[int, float]], rate: int) -> None:
    """Over any stretch of time, no more passes than the rate and one second's worth, whatever was taken and when."""
    clock, over = MovedClock(), Event()
    bucket = Bucket(rate, clock, over)
    passed = [(0.0, 0)]
    for count, pause in takes:
        clock.wait(pause, over)
        bucket.wait_for(count)
        passed.append((clock.monotonic(), passed[-1][1] + count))

    for start, (began, before) in enumerate(passed):
        for ended, after in passed[start + 1 :]:
            last = takes[start][0]
            assert after - before <= rate * (ended - began + 1) + last + 0.001 * rate
    assert all(one[0] <= other[0] for one, other in pairwise(passed))


POLICY = """\
version: 1
metadata: {{name: x, owner: y}}
targets: {{disk: {{type: local, path: ./backups}}}}
databases:
  hotel:
    source: {{provider: postgres, url: "${{URL}}"}}
    dumps: {{schedule: "0 2 * * *", targets: [disk], limits: {limits}}}
"""


@pytest.mark.parametrize(("limits", "seconds"), [("{rate: 2MiB/s}", 4), ("{}", 0)])
def test_the_rate_of_a_policy(tmp_path: Path, limits: str, seconds: int) -> None:
    """What a policy says is what its targets are opened with."""
    clock, file = MovedClock(), tmp_path / "backup-policy.yaml"
    policy = load(POLICY.format(limits=limits).encode(), KINDS, path=file)
    surroundings = Surroundings(base=tmp_path, environ={"URL": "postgres://db.internal/hotel"}, redactor=Redactor())
    means = Means(
        surroundings=surroundings,
        clock=clock,
        process=SystemProcess(),
        pool=InlinePool(),
        cache=FileCache(tmp_path / "cache"),
        stop=Event(),
        tell=lambda _: None,
        token=token,
    )

    world = connect(policy, policy.databases["hotel"], means, writable=True)
    world.targets["disk"].write("hotel/dump.zst", iter([bytes(MIB)] * 10))

    assert seconds == pytest.approx(clock.monotonic())
