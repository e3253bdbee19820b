"""What is asked of a provider's history: what none keeps, and what two databases of one project can't both have."""

import pytest

from reconciler.policy.lint import lint
from reconciler.policy.loading import places
from tests.building import NOW
from tests.policy.kinds import FILE, faults, loaded, told

HEAD = """\
version: 1
metadata: {name: agente-hotel, owner: backend-ops}
targets:
  primary: {type: s3, bucket: backups, domain: %s, object_lock: governance}
defaults:
  encryption: none
  dumps: {schedule: "0 2 * * *", targets: [primary], retention: {keep_last: 3}}
databases:
"""


def document(*databases: str, domain: str = "aws") -> str:
    return HEAD % domain + "".join(f"  {one}\n" for one in databases)


def hosted(name: str, rest: str, project: str = "hotel") -> str:
    return f"{name}: {{source: {{provider: hosted, project: {project}}}{rest}}}"


def test_two_windows_of_one_project() -> None:
    """A fault at the second one, with both: each turn would undo what the other did."""
    text = document(hosted("one", ", pitr: {window: 7d}"), hosted("other", ", pitr: {window: 1d}"))

    assert [
        "backup-policy.yaml:10:70  databases.other.pitr.window  one project has one window, and one is of the same project: "
        "1d here, 7d for one; say the same in both, the larger one"
    ] == [told(finding) for finding in faults(text)]


@pytest.mark.parametrize(
    "databases",
    [
        (hosted("one", ", pitr: {window: 7d}"), hosted("other", ", pitr: {window: 168h}")),
        (hosted("one", ", pitr: {window: 7d}"), hosted("other", ", pitr: {window: 1d}", project="elsewhere")),
        (hosted("one", ", pitr: {window: 7d}"), hosted("other", ", pitr: {window: 1d, manage: false}")),
        (hosted("one", ", pitr: {window: 7d}"), hosted("other", "")),
    ],
)
def test_windows_that_do_not_quarrel(databases: tuple[str, ...]) -> None:
    """The same one, another project's, one that is only looked at, none."""
    assert faults(document(*databases)) == ()


def test_a_history_that_nobody_keeps() -> None:
    """A bare server has no window."""
    text = document('one: {source: {provider: postgres, url: "${URL}"}, pitr: {window: 7d}}')

    (found,) = faults(text)
    assert "asks for a history, and this source's provider keeps none" == found.what


def test_a_window_of_nothing() -> None:
    """It would destroy all there is."""
    (found,) = faults(document(hosted("one", ", pitr: {window: 0s}")))

    assert "keeps no history at all" == found.what


@pytest.mark.parametrize(
    ("rest", "domain", "said"),
    [
        ("", "aws", []),
        (", objectives: {rpo: 5m}", "aws", ["fails together with hosted: nothing is promised for that day"]),
        (", objectives: {rpo: 5m, disaster: {rpo: 30h}}", "aws", []),
        ("", "hosted", ["when hosted is lost, nothing is left"]),
        (", objectives: {disaster: {rpo: 30h}}", "hosted", ["no copy would be left"]),
    ],
)
def test_what_is_left_when_the_provider_is_lost(rest: str, domain: str, said: list[str]) -> None:
    """An RPO that only the history meets is no fault, and what nobody promised for the provider's loss is told."""
    text = document(hosted("one", rest), domain=domain)
    found = [one.what for one in lint(loaded(text), places(text.encode(), FILE), now=NOW)]

    assert len(said) == len(found)
    assert all(words in what for words, what in zip(said, found, strict=True)), found


def test_auto_follows_the_disaster() -> None:
    """Where the history meets the RPO, dumps are for the day on which it is gone."""
    text = document(hosted("one", ", objectives: {rpo: 5m, disaster: {rpo: 24h}}, dumps: {schedule: auto}"))

    assert loaded(text).databases["one"].slots().largest_gap(NOW, "UTC") > 10 * (NOW - NOW.replace(minute=0))


@pytest.mark.parametrize(
    ("asked", "where", "said"),
    [
        ('{schedule: "30 3 * * *", retain: 7d, via: neon}', "schedule", "schedule fires on whole hours only"),
        ('{schedule: "0 * * * *", retain: 7d, via: neon}', "schedule", "schedule takes numbers only"),
        ('{schedule: "0 3 * * *", retain: 36d, via: neon}', "retain", "schedule keeps a snapshot from 1h to 35d"),
        ('{schedule: "0 3 * * *", retain: 0s, via: reconciler}', "retain", "keeps nothing"),
        ('{schedule: "0 3 * * *", retain: 7d, via: reconciler, takeover: true}', "takeover", "speaks of the provider's schedule"),
    ],
)
def test_snapshots_that_can_not_be(asked: str, where: str, said: str) -> None:
    """What the provider's schedule can't express is a fault, and not a surprise."""
    (found,) = faults(document(hosted("one", f", snapshots: {asked}")))

    assert f"databases.one.snapshots.{where}" in found.where
    assert said in found.what


def test_two_schedules_of_one_branch() -> None:
    """The provider has one a branch."""
    one, other = (f', snapshots: {{schedule: "0 {hour} * * *", retain: 7d, via: neon}}' for hour in (3, 4))

    assert ["one branch has one schedule, and one is of the same branch and wants another"] == [
        found.what for found in faults(document(hosted("one", one), hosted("other", other)))
    ]
    assert faults(document(hosted("one", one), hosted("other", one))) == ()


@pytest.mark.parametrize("asked", ["branches: {protect: true}", 'snapshots: {schedule: "0 3 * * *", retain: 7d, via: neon}'])
def test_what_a_bare_server_can_not_do(asked: str) -> None:
    """Nothing is accepted that would not be done."""
    (found,) = faults(document(f'one: {{source: {{provider: postgres, url: "${{URL}}"}}, {asked}}}'))

    assert "asks for a history, and this source's provider keeps none" == found.what
