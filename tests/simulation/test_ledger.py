"""What the worlds' memory says of births and losses."""

from datetime import timedelta

from reconciler.simulation.ledger import Ledger
from reconciler.simulation.timeline import Timeline
from tests.building import NOW

DAY = timedelta(days=1)


def test_what_a_clock_ahead_named_is_born_when_its_name_says() -> None:
    """As reconcilers must take it: once an instant has come, it tells nobody that its clock was wrong."""
    ledger = Ledger(Timeline(NOW))
    for days in range(4):
        ledger.births[f"{NOW + days * DAY:%Y%m%dT%H%M%SZ}-00000{days}"] = NOW

    assert (0, 4 + 1) == ledger.may_go(NOW, DAY)
    assert (0, 1 + 1) == ledger.may_go(NOW + 2 * DAY, DAY)
