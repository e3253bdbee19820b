"""Each example is a policy that works: it validates, lints as its header says, and is planned without touching the world."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.connect import KINDS
from reconciler.duties import DUTIES
from reconciler.planning.plan import Plan
from reconciler.planning.planner import plan
from reconciler.policy.lint import lint
from reconciler.policy.loading import load, places
from reconciler.policy.model import DatabasePolicy
from reconciler.world.evidence import Chain
from reconciler.world.facts import Catalogue, Identity, Known, Observation, SourceFacts

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)

every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def _empty(want: DatabasePolicy) -> Observation:
    """Everything can be seen, and nothing is there yet."""
    nothing = Catalogue(repository=None, copies=(), tombstones=(), store_time=NOW)
    identity = Identity(provider="postgres", cluster="7411111111111111111", database=want.name)
    return Observation(
        database=want.name,
        place="postgres db.internal/x",
        source=Known(SourceFacts(identity=identity, server_version="17.2", major=17, clock=NOW), NOW),
        source_domain="host:db.internal",
        catalogues={target: Known(nothing, NOW) for target in want.dumps.targets},
        domains=dict.fromkeys(want.dumps.targets, "elsewhere"),
        evidence=Known(Chain(), NOW),
    )


def _planned(want: DatabasePolicy) -> Plan:
    return plan(DUTIES, want, _empty(want), NOW, policy_digest="0" * 64)


def test_there_are_examples() -> None:
    """The other tests here would pass over an empty folder."""
    assert len(EXAMPLES) >= 7


@every_example
def test_it_lints_as_its_header_says(path: Path) -> None:
    """`# lint: none`, or a line for each finding: severity and path."""
    text = path.read_bytes()
    expected = re.findall(r"^# lint: (.+)$", text.decode(), re.MULTILINE)

    found = lint(load(text, KINDS, path=path), places(text, path), now=NOW)

    assert expected == ([f"{one.severity} {one.where.split()[-1]}" for one in found] or ["none"])


@every_example
def test_the_first_plan_is_a_dump_of_each_database(path: Path) -> None:
    """In an empty world each database is due for one dump, on the first of its targets, and for nothing else."""
    policy = load(path.read_bytes(), KINDS, path=path)

    planned = {name: _planned(want) for name, want in policy.databases.items()}

    assert {name: [("take dump", f"→ {want.dumps.targets[0]}")] for name, want in policy.databases.items()} == {
        name: [(step.shown.does, step.shown.to) for step in found.steps] for name, found in planned.items()
    }
    assert not [held for found in planned.values() for held in found.blocked]


@every_example
def test_the_next_firing_is_known(path: Path) -> None:
    """Every schedule fires again, within a month and a half."""
    policy = load(path.read_bytes(), KINDS, path=path)

    upcoming = [_planned(want).next_at for want in policy.databases.values()]

    assert all(when is not None and NOW < when < NOW + timedelta(days=45) for when in upcoming)


@every_example
def test_no_secret_is_written_in_it(path: Path) -> None:
    """What an example shows is what people copy: no url with a password stands in its values."""
    values = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())

    assert "://" not in re.sub(r"https?://[a-z0-9.:-]+", "", values)
    assert "@" not in values
