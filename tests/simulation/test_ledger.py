"""What the worlds' memory says of births and losses."""

from datetime import timedelta

import pytest

from reconciler.errors import Unreachable
from reconciler.simulation.chance import Chance
from reconciler.simulation.faults import Faults
from reconciler.simulation.host import Host
from reconciler.simulation.ledger import Ledger, Turn
from reconciler.simulation.reach import Reach
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
