"""What is left when something is lost, with all that fails together with it."""

import msgspec
import pytest

from reconciler.planning.losses import losses
from reconciler.planning.render import text
from reconciler.policy.model import Age
from reconciler.policy.recipient import Recipient
from reconciler.world.facts import Identity, Observation
from tests.building import HOUR, NOW, catalogue, copy, history, observation, planned, policy, repository, unknown, window

WANT = policy(targets=("primary", "offsite"), pitr=window("1d"))
OLD, NEW = copy(NOW - 33 * HOUR), copy(NOW - 9 * HOUR)
DOMAINS = {"primary": "neon", "offsite": "gcp"}


def told(have: Observation) -> dict[str, str]:
    return {loss.of: loss.says for loss in losses(WANT, have, NOW)}


def seen(**fields: object) -> Observation:
    given = {"kept": history(), "primary": catalogue([NEW, OLD]), "offsite": catalogue([OLD])} | fields
    return observation(domain="neon", domains=DOMAINS, **given)  # type: ignore[arg-type]  # a test's own


def test_the_provider_and_a_target() -> None:
    """The history goes with its provider and with whatever shares its domain; a target elsewhere costs only its copies."""
    assert {
        "neon": "backup of 2025-10-24 02:12Z, 33h old, on offsite",
        "gcp": "any instant since 2025-10-24 11:12Z (window 1d)",
    } == told(seen())


def test_a_bare_server() -> None:
    """Without a history, the copies elsewhere are what is left."""
    assert {
        "neon": "backup of 2025-10-24 02:12Z, 33h old, on offsite",
        "gcp": "backup of 2025-10-25 02:12Z, 9h old, on primary",
    } == told(seen(kept=None))


def test_nothing() -> None:
    """Said plainly."""
    assert {"neon": "nothing"} == {of: says for of, says in told(seen(offsite=catalogue([]))).items() if of == "neon"}


def test_the_unknown() -> None:
    """Nobody counts on it, and nobody calls it nothing."""
    have = seen(offsite=unknown(), kept=unknown("503"))

    assert {"neon": "nothing known: offsite unknown", "gcp": "backup of 2025-10-25 02:12Z, 9h old, on primary"} == told(have)


def test_all_unknown() -> None:
    """The history is named too."""
    have = seen(primary=unknown(), offsite=unknown(), kept=unknown("503"))

    assert "nothing known: primary, the history unknown" == told(have)["gcp"]


def test_a_source_whose_domain_is_unknown() -> None:
    """It may be lost with anything, and so may its history."""
    have = msgspec.structs.replace(seen(), source_domain=None)

    assert {
        "neon": "backup of 2025-10-24 02:12Z, 33h old, on offsite",
        "gcp": "backup of 2025-10-25 02:12Z, 9h old, on primary",
    } == told(have)


@pytest.mark.parametrize(("kept", "says"), [(history(), "any instant since 2025-10-24 11:12Z (window 1d)"), (None, "nothing")])
def test_the_keys(kept: object, says: str) -> None:
    """Without them no copy can be read, whatever they are on."""
    recipient = Recipient.parse("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
    want = msgspec.structs.replace(WANT, encryption=Age(age_recipients=(recipient,)))

    assert says == losses(want, seen(kept=kept), NOW)[-1].says


def test_backups_of_another_source() -> None:
    """They are nobody's restore points here."""
    other = repository(Identity(provider="postgres", cluster="1", database="hotel"))
    have = seen(kept=None, primary=catalogue([NEW], whose=other), offsite=catalogue([OLD], whose=other))

    assert {"neon": "nothing", "gcp": "nothing"} == told(have)


def test_a_plan_shows_it() -> None:
    """Where the provider keeps a history: it is what makes one careless."""
    lines = text([planned(WANT, seen())]).splitlines()

    assert "  if neon is lost: backup of 2025-10-24 02:12Z, 33h old, on offsite" in lines
    assert not [line for line in text([planned(WANT, seen(kept=None))]).splitlines() if "is lost" in line]


def test_what_is_left_has_an_instant() -> None:
    """For whoever watches by JSON."""
    (neon, gcp) = losses(WANT, seen(), NOW)

    assert (OLD.instant, NOW) == (neon.leaves, gcp.leaves)
