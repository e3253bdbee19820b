"""What a plan comes to for whoever reads its exit code alone."""

import pytest

from reconciler.cli.plan import exit_code
from reconciler.planning.plan import Plan
from tests.building import catalogue, observation, planned, policy, unknown
from tests.situations import plans


def blind() -> Plan:
    """Of a database none of whose targets can be seen."""
    return planned(policy(rpo="26h"), observation(primary=unknown()))


def stuck() -> Plan:
    """Of a database whose first dump is due and can't be begun."""
    return planned(policy(), observation(unknown("no answer"), primary=catalogue(begun=False)))


@pytest.mark.parametrize("detailed", [False, True])
def test_nothing_is_known_of_one_of_two(detailed: bool) -> None:
    """ "Nothing is due" would be said of both, and of one nobody knows."""
    settled = plans("nothing_to_do")

    assert 0 == exit_code(settled, (), detailed=detailed)
    assert 1 == exit_code([*settled, blind()], (), detailed=detailed)


def test_what_is_known_to_fail_comes_first() -> None:
    """An objective that fails is told as such, whatever else can't be seen."""
    assert 3 == exit_code([*plans("nothing_to_do"), blind()], ("unproven",))


def test_a_dump_is_due_that_can_not_be_begun() -> None:
    """It is due all the same."""
    assert 2 == exit_code([stuck()], (), detailed=True)
    assert 0 == exit_code([stuck()], ())
