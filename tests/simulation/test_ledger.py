"""What the worlds' memory says of births and losses."""

from datetime import datetime, timedelta

import msgspec
import pytest

from reconciler.backups import layout
from reconciler.errors import Unreachable
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Host, SimulatedProcess
from reconciler.simulation.ledger import Ledger, Turn
from reconciler.simulation.reach import Reach
from reconciler.simulation.store import Store
from reconciler.simulation.timeline import Timeline
from tests.building import NOW, policy

DAY = timedelta(days=1)


def test_what_a_clock_ahead_named_is_born_when_its_name_says() -> None:
    """As reconcilers must take it: once an instant has come, it tells nobody that its clock was wrong."""
    ledger = Ledger(Timeline(NOW))
    for days in range(4):
        ledger.births[f"{NOW + days * DAY:%Y%m%dT%H%M%SZ}-00000{days}"] = NOW

    assert (0, 4 + 1) == ledger.may_go(NOW, DAY)
    assert (0, 1 + 1) == ledger.may_go(NOW + 2 * DAY, DAY)


def test_who_reckons_by_a_clock_of_his_own_is_given_slack() -> None:
    """What was born or lost at either edge of the day counts in his favour."""
    ledger, minutes = Ledger(Timeline(NOW)), timedelta(minutes=4)
    for number, at in enumerate([NOW - DAY - minutes / 2, NOW - DAY + minutes / 2]):
        ledger.births[f"{at:%Y%m%dT%H%M%SZ}-00000{number}"] = at
        ledger.losses[f"gone-{number}"] = at

    assert (1, 1 + 1) == ledger.may_go(NOW, DAY)
    assert (0, 2 + 1) == ledger.may_go(NOW, DAY, minutes)


@pytest.mark.parametrize("is_over", [False, True])
def test_what_arrives_late_is_of_the_turn_that_asked_for_it(monkeypatch: pytest.MonkeyPatch, is_over: bool) -> None:
    """Its process may be in the next one by then, which knows nothing of it."""
    timeline, faults = Timeline(NOW), Faults(Chance(0), share=0.0)
    process = Host("host", timeline, boot="b", namespace="n", offset=0.0, drift=0.0).start()
    ledger, asked = Ledger(timeline), Turn(process, Reach(process, faults), policy())
    ledger.turns[id(process)] = asked
    seen: list[Turn | None] = []
    with monkeypatch.context() as staged:
        staged.setattr(faults, "draw", lambda *, changes: "late effect")
        with pytest.raises(Unreachable):
            asked.reach.call("write", "primary", "x", lambda: seen.append(ledger.turn_of(process)), changes=True)
    now = Turn(process, Reach(process, faults), policy()) if is_over else asked
    ledger.turns[id(process)] = now
    timeline.sleep(timeline.seconds + 60)

    assert [None if is_over else asked] == seen
    assert now is ledger.turn_of(process)


class TestGivenUp:
    """Of a backup that a thief gave up, and of its tombstone when a lock puts that off."""

    ID = "20251024T020000Z-0a0b0c"

    def setup_method(self) -> None:
        self.timeline = Timeline(NOW)
        self.host = Host("host", self.timeline, boot="b", namespace="n", offset=0.0, drift=0.0).start()
        self.store, self.ledger = Store("primary", self.timeline, versioned=False, locks=True), Ledger(self.timeline)
        self.put(f"{layout.backup_root('hotel', self.ID)}manifest.json", b"{}", by=None)

    def put(self, key: str, content: bytes, by: SimulatedProcess | None) -> None:
        if by is not None:
            self.ledger.record(self.store, key, content, by)
        self.store.put(key, content, expect=None, by=by)

    def bury(self, at: datetime, due: datetime, by: SimulatedProcess | None) -> str:
        key = layout.tombstone_key("hotel", self.ID, due)
        self.put(key, msgspec.json.encode({"id": self.ID, "at": at, "due": due}), by)
        return key

    def take_away(self, key: str) -> None:
        self.ledger.record_removal(self.store, key)
        self.store.remove(key, None, by=self.host)

    def test_what_is_put_off_is_no_loss_anew(self) -> None:
        self.bury(NOW - DAY, NOW, by=None)
        self.bury(NOW - DAY, NOW + DAY, by=self.host)
        assert {} == self.ledger.losses

        self.bury(NOW, NOW + 2 * DAY, by=self.host)
        assert {self.ID: NOW} == self.ledger.losses

    def test_what_is_put_off_stays_lost(self) -> None:
        first, second, third = (self.bury(NOW, NOW + days * DAY, by=self.host) for days in range(3))
        self.take_away(second)
        assert {self.ID: NOW} == self.ledger.losses

        self.take_away(third)
        self.take_away(first)
        assert {} == self.ledger.losses
