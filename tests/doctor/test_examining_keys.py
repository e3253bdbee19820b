"""Keys: what would not be read back, or not be trusted, is told before the day on which it is needed."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.backups import encryption, signing
from reconciler.doctor.keys import examine_keys
from reconciler.doctor.report import Passed, Verdict
from reconciler.errors import Finding
from reconciler.world.facts import Copy
from tests.building import HOUR, NOW, catalogue, copy, observation
from tests.doctor.standing import stand

IDENTITY, RECIPIENT = encryption.new_pair()
OTHER_IDENTITY, OTHER_RECIPIENT = encryption.new_pair()
READING = ", verify: {every: 7d, level: toc}"
NAMED = f"{{age_recipients: [{RECIPIENT}], age_identity: '${{AGE}}'}}"


def verdicts(
    folder: Path,
    encrypted: str = "none",
    *,
    dumps: str = "",
    more: str = "",
    variables: Mapping[str, str] | None = None,
    copies: tuple[Copy, ...] = (),
) -> list[Verdict]:
    standing = stand(folder, encryption=encrypted, dumps=dumps, more=more, variables=variables)
    return examine_keys(standing.policy.databases["hotel"], standing.world, observation(disk=catalogue(copies)))


def told(found: list[Verdict]) -> list[tuple[str, str]]:
    """Severity and sentence of each finding; each has a cure, and shows no secret."""
    findings = [one for one in found if isinstance(one, Finding)]
    assert all(one.cure for one in findings)
    assert not any(secret in one.what + one.cure for one in findings for secret in (IDENTITY, OTHER_IDENTITY, "KEY-1NONE"))
    return [(one.severity, one.what) for one in findings]


def test_the_right_identity(tmp_path: Path) -> None:
    """One recipient's is enough: the other one's lies in a safe."""
    recipients = f"{{age_recipients: [{RECIPIENT}, {OTHER_RECIPIENT}], age_identity: '${{AGE}}'}}"

    found = verdicts(tmp_path, recipients, variables={"AGE": IDENTITY})

    assert [Passed(where="keys", what="the identities at hand open what 1 of 2 recipients lock")] == found


def test_another_identity(tmp_path: Path) -> None:
    """Backups would be made that nobody here reads."""
    ((severity, what),) = told(verdicts(tmp_path, NAMED, variables={"AGE": OTHER_IDENTITY}))

    assert "error" == severity
    assert "open nothing of what the policy's recipients lock" in what


@pytest.mark.parametrize(("dumps", "severity"), [("", "warning"), (READING, "error")])
@pytest.mark.parametrize(
    ("variables", "why"), [({}, "AGE is not set"), ({"AGE": "AGE-SECRET-KEY-1NONE"}, "line 1 is no identity of age")]
)
def test_no_identity_at_hand(tmp_path: Path, dumps: str, severity: str, variables: dict[str, str], why: str) -> None:
    """A machine that only takes backups needs none; one that verifies does."""
    ((found, what),) = told(verdicts(tmp_path, NAMED, dumps=dumps, variables=variables))

    assert severity == found
    assert why in what


def test_recipients_alone(tmp_path: Path) -> None:
    """By intent, unless the policy asks for what must decrypt."""
    alone = f"{{age_recipients: [{RECIPIENT}]}}"
    old = (copy(NOW, recipients=(OTHER_RECIPIENT,)),)

    assert [] == verdicts(tmp_path, alone, copies=old)
    ((severity, what),) = told(verdicts(tmp_path, alone, dumps=READING.replace("toc", "hash")))
    assert "warning" == severity
    assert "they stay unproven" in what
    ((severity, what),) = told(verdicts(tmp_path, alone, dumps=READING))
    assert "error" == severity
    assert "asks for level toc" in what


def test_backups_that_need_an_old_identity(tmp_path: Path) -> None:
    """Counted, and named by their recipients; deleted ones and clear ones don't matter."""
    copies = (
        copy(NOW, recipients=(RECIPIENT,)),
        copy(NOW - HOUR, recipients=(OTHER_RECIPIENT,)),
        copy(NOW - 2 * HOUR, recipients=(OTHER_RECIPIENT,)),
        copy(NOW - 3 * HOUR, recipients=(OTHER_RECIPIENT, RECIPIENT)),
        copy(NOW - 4 * HOUR, "deleted", recipients=(OTHER_RECIPIENT,)),
        copy(NOW - 5 * HOUR),
    )

    ((severity, what),) = told(verdicts(tmp_path, NAMED, variables={"AGE": IDENTITY}, copies=copies))

    assert ("error", f"2 backups, the newest {copies[1].id}, can't be read back: encrypted to {OTHER_RECIPIENT}") == (
        severity,
        what,
    )
    both = {"AGE": f"{IDENTITY}\n{OTHER_IDENTITY}\n"}
    assert [] == told(verdicts(tmp_path, NAMED, variables=both, copies=copies))
    ((severity, what),) = told(verdicts(tmp_path, copies=copies))
    assert ("warning", "4 encrypted backups") == (severity, what.partition(",")[0])


def test_a_recipient_that_is_none(tmp_path: Path) -> None:
    """In the manifest of whoever wrote it: a finding like others."""
    copies = (copy(NOW, recipients=("age1nonsense",)),)

    ((severity, what),) = told(verdicts(tmp_path, NAMED, variables={"AGE": IDENTITY}, copies=copies))

    assert "error" == severity
    assert "age1nonsense is no recipient of age" in what


PRIVATE, PUBLIC = signing.new_pair()
STRANGER, STRANGERS_PUBLIC = signing.new_pair()
PINNED = f"    signatures: {{{{public_keys: ['{PUBLIC}']{{named}}}}}}\n"


@pytest.mark.parametrize(
    ("named", "variables", "expected"),
    [
        (", signing_key: '${SIGN}'", {"SIGN": STRANGER}, ("error", "none of those that the policy pins")),
        (", signing_key: '${SIGN}'", {"SIGN": "no key"}, ("error", "is no private key of Ed25519")),
        (", signing_key: '${SIGN}'", {}, ("error", "SIGN is not set")),
        ("", {}, ("warning", "names none that signs")),
    ],
)
def test_signing_keys(tmp_path: Path, named: str, variables: dict[str, str], expected: tuple[str, str]) -> None:
    """A backup that nobody trusts is worth nothing: it is told before one is taken."""
    found = verdicts(tmp_path, more=PINNED.format(named=named), variables=variables)

    ((severity, what),) = told(found)
    assert expected[0] == severity
    assert expected[1] in what


def test_the_pinned_signing_key(tmp_path: Path) -> None:
    """What it signs is checked as a reader does."""
    found = verdicts(tmp_path, more=PINNED.format(named=", signing_key: '${SIGN}'"), variables={"SIGN": PRIVATE})

    assert [Passed(where="keys", what="the signing key's public half is pinned, and what it signs is trusted")] == found


def test_the_public_half_of_the_wrong_key_is_shown(tmp_path: Path) -> None:
    """So that it can be pinned."""
    found = verdicts(tmp_path, more=PINNED.format(named=", signing_key: '${SIGN}'"), variables={"SIGN": STRANGER})

    assert STRANGERS_PUBLIC in next(one.cure for one in found if isinstance(one, Finding))
