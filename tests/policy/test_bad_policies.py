"""A bad policy is told at its place, in a sentence that says what would be right."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.policy.kinds import GOOD, faults, told

SLIPS = yaml.safe_load(Path(__file__).with_name("slips.yaml").read_text())


@pytest.mark.parametrize("slip", SLIPS, ids=[slip["bad"] for slip in SLIPS])
def test_one_slip_in_a_good_policy(slip: dict[str, Any]) -> None:
    """What is wrong is told with its place, its path and its cure, and nothing else is."""
    text = GOOD.replace(slip["good"], slip["bad"], 1)

    found = [told(finding).removeprefix("backup-policy.yaml:") for finding in faults(text)]

    assert text != GOOD
    assert slip["told"] == found


def test_the_good_policy_that_the_slips_are_made_of() -> None:
    """Without a slip nothing is told, so each of them is what is found."""
    assert faults(GOOD) == ()


def test_many_slips_at_once() -> None:
    """All are told at once, in the order of the text, whichever step finds them."""
    text = (
        GOOD.replace("rpo: 26h", "rpo: soon").replace("home: disk", "home: attic").replace("version: 1", "version: 1\nversion: 1")
    )

    expected = ["2:1  version", "12:11  databases.hotel.home", "14:23  databases.hotel.objectives.rpo"]
    assert expected == [finding.where.removeprefix("backup-policy.yaml:") for finding in faults(text)]


def test_a_thousand_slips() -> None:
    """Enough of them are told, and that there are more."""
    text = GOOD + "".join(f"      slip_{number}: 1\n" for number in range(1000))

    found = faults(text)

    assert 100 <= len(found) <= 102
    assert "has more faults than these" in {finding.what for finding in found}


def test_a_fault_in_the_defaults() -> None:
    """It is told once, where it stands, however many databases it would reach."""
    section = "  dumps: {schedule: '0 2 * * *', targets: [attic]}\n"
    text = GOOD.split("databases:\n", maxsplit=1)[0] + section
    text += "databases:\n" + "".join(f"  d{n}: {{source: {{provider: postgres, url: '${{U}}'}}}}\n" for n in range(3))

    expected = ['backup-policy.yaml:9:44  defaults.dumps.targets[0]  "attic" is not a target; declared are primary, disk']
    assert expected == [told(finding) for finding in faults(text)]


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2hunter2",
        "postgres://u:hunter2hunter2@h/d",
        "[hunter2hunter2]",
        "{hunter2hunter2: 1}",
        "{file: {a: hunter2hunter2}}",
        "{file: x, hunter2hunter2: y}",
        "{'postgres://u:hunter2hunter2@h/d': }",
        "'${DATABASE_URL:-hunter2hunter2}'",
        "'hunter2hunter2${DATABASE_URL}'",
        '"${DATABASE_URL}\\nhunter2hunter2"',
        "''",
        "22",
        "null",
        "{file: ''}",
        "{fiel: x}",
    ],
)
def test_a_literal_in_a_secret_field(secret: str) -> None:
    """It is a fault at its place, and the message shows nothing of it."""
    found = faults(GOOD.replace('"${DATABASE_URL}"', secret))

    assert [finding.where for finding in found] == ["backup-policy.yaml:12:39  databases.hotel.source.url"]
    assert "${NAME}" in found[0].what
    assert "hunter2" not in told(found[0])


@pytest.mark.parametrize(
    "slip",
    [
        "source: postgres://u:hunter2hunter2@h/d",
        "source: {provider: 'postgres://u:hunter2hunter2@h/d'}",
        "source: {provider: postgres, 'postgres://u:hunter2hunter2@h/d': }",
        "source: {provider: postgres, url: '${U}', ? 'u:hunter2hunter2@h' : 1}",
        "timezone: postgres://u:hunter2hunter2@h/d",
        "home: postgres://u:hunter2hunter2@h/d",
        "dumps: {schedule: 'postgres://u:hunter2hunter2@h/d', targets: ['postgres://u:hunter2hunter2@h/d']}",
    ],
)
def test_an_address_where_it_does_not_belong(slip: str) -> None:
    """A password that slipped into another field, or a key, is not shown either."""
    text = GOOD.split("  hotel:\n", maxsplit=1)[0] + f"  hotel:\n    {slip}\n"

    found = [told(finding) for finding in faults(text)]

    assert found
    assert "hunter2" not in " ".join(found)
