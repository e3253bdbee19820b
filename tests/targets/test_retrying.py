"""What is tried again, how often, and what never is."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Conflict, Corrupt, Refused, Stopped, Unreachable
from reconciler.targets.local_target import LocalTarget
from reconciler.targets.retrying import HUNG_SECONDS, Patience, Retrying
from reconciler.world.persist import ATTEMPTS, LONGEST_WAIT_SECONDS, persist
from reconciler.world.ports import ABSENT, Blob, Listing, Stored
from tests.faults.clock import MovedClock


class Flaky(LocalTarget):
    """A folder whose answers get lost: `lost` requests in a row from now on."""

    def __init__(self, root: Path) -> None:
        super().__init__("disk", root, clock=MovedClock())
        self.lost = 0
        self.retry_after: timedelta | None = None
        self.break_after: list[int] = []
        self.on_reopen: Callable[[], object] = lambda: None

    def _maybe_lose(self) -> None:
        if self.lost:
            self.lost -= 1
            raise Unreachable("no answer", retry_after=self.retry_after)

    def list(self, prefix: str, *, versions: bool = False) -> Listing:
        self._maybe_lose()
        return super().list(prefix, versions=versions)

    def write(
        self, key: str, chunks: Iterable[bytes], *, expect: str | None = None, keep_until: datetime | None = None
    ) -> Stored:
        """The effect happens; it is the answer that gets lost."""
        stored = super().write(key, chunks, expect=expect)
        self._maybe_lose()
        return stored

    def read(self, key: str, *, start: int = 0, version: str | None = None) -> Blob:
        if start:
            self.on_reopen()
        blob = super().read(key, start=start, version=version)
        if not self.break_after:
            return blob
        return Blob(blob.stored, self._breaking(blob, self.break_after.pop(0)))

    def _breaking(self, blob: Blob, after: int) -> Iterator[bytes]:
        with blob:
            for _, byte in zip(range(after), b"".join(blob), strict=False):
                yield bytes([byte])
        raise Unreachable("the stream broke")


@pytest.fixture
def inside(tmp_path: Path) -> Flaky:
    return Flaky(tmp_path / "backups")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def retrying(inside: Flaky, clock: MovedClock) -> Retrying:
    return Retrying(inside, clock=clock, stop=Event())


def test_a_short_trouble_is_not_noticed(inside: Flaky, retrying: Retrying) -> None:
    """What is answered at the last attempt is as good as at the first."""
    inside.lost = ATTEMPTS - 1

    assert () == retrying.list("").items


def test_a_long_trouble_is_told(inside: Flaky, retrying: Retrying, clock: MovedClock) -> None:
    """After the last attempt the error goes through, waits having grown within their bound."""
    inside.lost = ATTEMPTS

    with pytest.raises(Unreachable, match="no answer"):
        retrying.list("")
    assert ATTEMPTS - 1 == len(clock.waits)
    assert clock.waits[0] < clock.waits[-1] <= LONGEST_WAIT_SECONDS + 1


def test_the_store_asks_for_patience(inside: Flaky, retrying: Retrying, clock: MovedClock) -> None:
    """Its Retry-After is waited for."""
    inside.lost, inside.retry_after = 1, timedelta(seconds=45)
    retrying.list("")

    assert [45.0] == clock.waits


def test_the_store_asks_for_too_much_patience(inside: Flaky, retrying: Retrying, clock: MovedClock) -> None:
    """A turn does not wait an hour: it ends, and the error says how long."""
    inside.lost, inside.retry_after = 1, timedelta(hours=1)

    with pytest.raises(Unreachable) as caught:
        retrying.list("")
    assert timedelta(hours=1) == caught.value.retry_after
    assert [] == clock.waits


def test_a_clear_no_is_final(tmp_path: Path, clock: MovedClock) -> None:
    """Refused is not tried again."""
    retrying = Retrying(LocalTarget("disk", tmp_path / "missing" / "root", clock=clock), clock=clock, stop=Event())

    with pytest.raises(Refused):
        retrying.list("")
    assert [] == clock.waits


def test_asked_to_stop_while_waiting(inside: Flaky, clock: MovedClock) -> None:
    """A wait ends at once; but a first attempt is made even then, for cleaning up."""
    stop = Event()
    stop.set()
    retrying = Retrying(inside, clock=clock, stop=stop)

    retrying.write("hotel/x", [b"x"])
    inside.lost = 1
    with pytest.raises(Stopped):
        retrying.list("")


def test_a_stream_is_written_once(inside: Flaky, retrying: Retrying) -> None:
    """Its producer could not begin again."""
    inside.lost = 1

    with pytest.raises(Unreachable):
        retrying.write("hotel/x", iter([b"x"]))


@pytest.mark.parametrize("chunks", [[b"on", b"e"], (b"one",), []])
def test_the_answer_to_a_conditional_write_is_lost(inside: Flaky, retrying: Retrying, chunks: list[bytes]) -> None:
    """The second attempt meets the first one's object, and knows it for its own."""
    inside.lost = 1
    stored = retrying.write("hotel/lease", chunks, expect=ABSENT)

    assert stored == inside.list("").items[0]


def test_another_writer_was_first(inside: Flaky, retrying: Retrying) -> None:
    """Without a lost answer in between, Conflict is Conflict, even with the same bytes."""
    inside.write("hotel/lease", [b"one"])

    with pytest.raises(Conflict):
        retrying.write("hotel/lease", [b"one"], expect=ABSENT)


def test_another_writer_came_between(
    inside: Flaky, retrying: Retrying, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a lost answer, other bytes than ours are a Conflict."""
    inside.lost = 1

    def overtaken(seconds: float, stop: Event) -> bool:
        inside.write("hotel/lease", [b"two"])
        return False

    monkeypatch.setattr(clock, "wait", overtaken)

    with pytest.raises(Conflict):
        retrying.write("hotel/lease", [b"one"], expect=ABSENT)
    with inside.read("hotel/lease") as blob:
        assert b"two" == b"".join(blob)


def test_a_stream_breaks_while_being_read(inside: Flaky, retrying: Retrying) -> None:
    """It goes on at the byte that was reached, however often it breaks, as long as something arrives."""
    inside.write("hotel/x", [b"0123456789" * 2])
    inside.break_after = [3, 1, 1, 1, 1, 1, 1, 1, 2]
    with retrying.read("hotel/x", start=1) as blob:
        assert (b"0123456789" * 2)[1:] == b"".join(blob)


def test_a_stream_breaks_for_ever(inside: Flaky, retrying: Retrying) -> None:
    """Without any progress the attempts are bounded."""
    inside.write("hotel/x", [b"0123456789"])
    inside.break_after = [3, *[0] * 100]

    with retrying.read("hotel/x") as blob, pytest.raises(Unreachable):
        b"".join(blob)
    assert 100 - ATTEMPTS < len(inside.break_after)


@pytest.mark.parametrize("meanwhile", ["overwritten", "deleted"])
def test_the_object_changes_while_the_stream_is_broken(inside: Flaky, retrying: Retrying, meanwhile: str) -> None:
    """Two contents are never joined."""
    inside.write("hotel/x", [b"0123456789"])
    inside.break_after = [3]
    happenings: dict[str, Callable[[], object]] = {
        "overwritten": lambda: inside.write("hotel/x", [b"abcdefghij"]),
        "deleted": lambda: inside.delete("hotel/x"),
    }
    inside.on_reopen = happenings[meanwhile]

    with retrying.read("hotel/x") as blob, pytest.raises(Corrupt, match="at byte 3 of 10"):
        b"".join(blob)


def test_a_store_that_never_answered_is_asked_once_for_a_while(inside: Flaky) -> None:
    """A turn looks at a target several times: its patience is spent once, and comes back with the first answer or with time."""
    clock = MovedClock()
    target = Retrying(inside, clock=clock, stop=Event())

    def attempts() -> int:
        inside.lost = 100
        with pytest.raises(Unreachable):
            target.list("")
        return 100 - inside.lost

    first, second = attempts(), attempts()
    clock.waits.append(31.0)
    third = attempts()
    inside.lost = 0
    target.list("")

    assert (ATTEMPTS, 1, ATTEMPTS) == (first, second, third)
    assert attempts() == ATTEMPTS


def test_a_store_that_hangs_costs_one_time_out(inside: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five would be minutes. Then it is not asked at all for a while, whoever opens it, and after that once more."""
    clock, patience, asked = MovedClock(), Patience(), []

    def hang(prefix: str, *, versions: bool = False) -> Listing:
        asked.append(prefix)
        clock.waits.append(60.0)
        raise Unreachable("no answer within 60 s")

    monkeypatch.setattr(inside, "list", hang)
    opened = [Retrying(inside, clock=clock, stop=Event(), patience=patience) for _ in range(2)]
    for target in (*opened, *opened):
        with pytest.raises(Unreachable, match="no answer within 60 s"):
            target.list("")
    clock.waits.append(HUNG_SECONDS)
    with pytest.raises(Unreachable):
        opened[0].list("")

    assert 2 == len(asked)


def test_patience_within_patience_is_no_more_than_one(clock: MovedClock) -> None:
    """What an inner one has asked often enough, the outer one doesn't ask again: five times, not twenty-five."""
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise Unreachable("no answer")

    with pytest.raises(Unreachable):
        persist(lambda: persist(ask, clock=clock, stop=Event()), clock=clock, stop=Event())
    assert len(asked) == ATTEMPTS
