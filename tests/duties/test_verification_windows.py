"""When verification waits."""

from collections.abc import Sequence

import msgspec

from reconciler.duties.verification import VerifyBackup, due
from reconciler.policy.model import DatabasePolicy, Verify
from reconciler.policy.units import Length
from tests.building import HOUR, NOW, catalogue, copy, observation, policy, utc


def want(never: Sequence[str]) -> DatabasePolicy:
    plain = policy(never=never)
    return msgspec.structs.replace(plain, dumps=msgspec.structs.replace(plain.dumps, verify=Verify(every=Length.parse("7d"))))


def test_in_a_window() -> None:
    """What is due by the schedule waits until it is over, and the plan says so; out of it, nothing keeps it."""
    have = observation(primary=catalogue([copy(NOW - HOUR)]))

    waiting, free = due(want(["* 11-12 * * *"]), have, NOW), due(want(["* 17-21 * * *"]), have, NOW)

    assert () == waiting.steps
    assert ['verification waits until 2025-10-25 13:00Z (never "* 11-12 * * *")'] == [found.what for found in waiting.findings]
    assert utc("2025-10-25 13:00") == waiting.next_at
    assert [VerifyBackup] == [type(step.action) for step in free.steps]


def test_nothing_to_verify_in_a_window() -> None:
    """Then there is nothing to say."""
    asked = due(want(["* * * * *"]), observation(primary=catalogue()), NOW)

    assert () == asked.findings
    assert not asked.stuck
