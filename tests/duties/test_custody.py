"""What stores do by themselves, and what is kept from deletion on them: things that a person should know."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from reconciler.backups.fetch import places_of
from reconciler.duties import copies, custody
from reconciler.duties.custody import reach
from reconciler.errors import Finding
from reconciler.policy.model import DatabasePolicy
from reconciler.world.facts import Catalogue, Copy, Known, LifecycleRule
from tests.building import DAY, HOUR, NOW, catalogue, copy, daily, kinds, observation, planned, policy, retention, tombstone, utc

TODAY = utc("2025-10-25 02:00")
WANT = policy(keep=retention(grace="7d", keep_daily=30))


def kept_by(known: Known[Catalogue], **fields: Any) -> Known[Catalogue]:
    """The same, as the store has more to say of it."""
    return Known(msgspec.structs.replace(known.value, **fields), known.at)


def rule(does: Any = "expires", days: int = 10, prefix: str = "") -> LifecycleRule:
    return LifecycleRule(name="old", prefix=prefix, does=does, after=timedelta(days=days))


def told(want: DatabasePolicy, *rules: LifecycleRule) -> list[Finding]:
    have = observation(primary=kept_by(catalogue([copy(TODAY)]), rules=rules))
    return list(custody.due(want, have, NOW).findings)


class TestRules:
    @pytest.mark.parametrize(
        ("against", "said"),
        [
            (rule(days=10), "expires everything after 10 d, where this policy needs it for good"),
            (rule(days=4000), "expires everything after 4000 d, where this policy needs it for good"),
            (rule(days=10, prefix="hotel/backups/"), "under hotel/backups/ after 10 d, where this policy needs it for 37d"),
            (rule(days=10, prefix="hotel/backups/2025"), "where this policy needs it for 37d"),
            (rule("archives", 30, "hotel/backups/"), "moves to an archive class what lies under hotel/backups/ after 30 d"),
            (rule("archives", 4000), "for good"),
            (rule("expires old versions of", 2), "expires old versions of everything after 2 d"),
        ],
    )
    def test_one_that_works_against_the_retention(self, against: LifecycleRule, said: str) -> None:
        """An error that names the rule, how soon it strikes and how long this policy keeps."""
        (found,) = told(WANT, against)

        assert ("error", "primary") == (found.severity, found.where)
        assert "the bucket's rule 'old'" in found.what
        assert said in found.what

    @pytest.mark.parametrize(
        "harmless",
        [
            rule(days=40, prefix="hotel/backups/"),
            rule("archives", 40, "hotel/backups/"),
            rule("expires old versions of", 7),
            rule(days=1, prefix="hotel-annex/"),
            rule(days=1, prefix="hotel/scratch/"),
            rule(days=1, prefix="reservas/"),
        ],
    )
    def test_one_that_does_no_harm(self, harmless: LifecycleRule) -> None:
        """Nothing is said where it strikes late enough, or elsewhere."""
        assert [] == told(WANT, harmless)

    def test_a_policy_that_keeps_all(self) -> None:
        """Then every rule strikes too soon."""
        assert 1 == len(told(policy(), rule(days=4000, prefix="hotel/backups/")))

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ({"keep_last": 3}, 3 * DAY),
            ({"keep_hourly": 48}, 2 * DAY),
            ({"keep_daily": 7, "keep_weekly": 8}, 56 * DAY),
            ({"keep_monthly": 12}, 372 * DAY),
            ({"keep_yearly": 2}, 732 * DAY),
            ({"keep_within": "1y1mo2d3h"}, 399 * DAY + 3 * HOUR),
        ],
    )
    def test_how_long_a_policy_reaches_back(self, rules: dict[str, Any], expected: timedelta) -> None:
        """By its farthest rule, and with its grace."""
        assert expected + DAY == reach(policy(keep=retention(grace="1d", **rules)), NOW)


def test_an_archived_backup() -> None:
    """It is there, and whoever wants to restore it must know that it takes hours first."""
    archived = [msgspec.structs.replace(each, archived="GLACIER") for each in daily(3, TODAY)]
    (found,) = custody.due(WANT, observation(primary=catalogue(archived)), NOW).findings

    assert "warning" == found.severity
    assert f"3 backups, the newest {archived[0].id}, cannot be read at once: class GLACIER" == found.what


def test_an_archived_copy_beside_one_that_can_be_read() -> None:
    """Further copies, and restores, are made from the latter, wherever the policy names it."""
    one = copy(TODAY)
    archived = catalogue([msgspec.structs.replace(one, archived="GLACIER")])
    have = observation(primary=archived, offsite=catalogue([one]), vault=catalogue())
    (step,) = copies.due(policy(targets=("primary", "offsite", "vault")), have, NOW).steps

    assert ("offsite", "vault") == (getattr(step.action, "origin", None), getattr(step.action, "target", None))
    assert ("offsite", "primary") == places_of(have.backups()[0], ("primary", "offsite"), None)


class TestAppendOnly:
    WANT = policy(targets=("primary", "vault"), keep=retention(keep_last=2))

    def test_what_retention_removes(self) -> None:
        """It is pruned where it may be; of the other place a note is told."""
        copies = daily(4, TODAY)
        have = observation(primary=catalogue(copies), vault=kept_by(catalogue(copies), append_only=True))
        found = planned(self.WANT, have)

        pruned = [step for step in (*found.steps, *(held.step for held in found.blocked)) if step.action.kind == "prune_backup"]
        assert [("primary",), ("primary",)] == [getattr(step.action, "targets", None) for step in pruned]
        assert ["2 backups that retention would remove stay there: it is append-only"] == [
            each.what for each in found.findings if each.severity == "note"
        ]

    def test_what_is_only_there(self) -> None:
        """Nothing is to be done about it, today or ever."""
        copies = daily(4, TODAY)
        have = observation(primary=catalogue(copies[:2]), vault=kept_by(catalogue(copies), append_only=True))

        assert [] == kinds(planned(self.WANT, have))

    @pytest.mark.parametrize("state", ["debris", "being_deleted"])
    def test_leftovers(self, state: Any) -> None:
        """Neither debris nor what an older policy condemned there is removed, or forgotten."""
        copies = daily(2, TODAY)
        left: Copy = copy(TODAY - 9 * DAY, state)
        stones = [tombstone(copy(TODAY - 90 * DAY), TODAY - 80 * DAY), tombstone(left, TODAY - 20 * DAY)]
        intent = msgspec.structs.replace(copies[0], writer="gone")
        vault = kept_by(catalogue([intent, copies[1], left], stones), append_only=True)

        assert [] == kinds(planned(self.WANT, observation(primary=catalogue(copies), vault=vault)))
