"""What a command says of how to type it again."""

import argparse
import re
from pathlib import Path

import pytest

import reconciler
from reconciler.cli.by_name import same
from reconciler.cli.frame import Call
from reconciler.policy.redaction import Redactor


def call(*words: str, policy: str = "backup-policy.yaml") -> Call:
    return Call(argparse.Namespace(policy=policy), {}, Redactor(), words)


def test_another_command_for_the_same_policy() -> None:
    """The policy is named unless it is the usual one; what a shell would take apart is quoted."""
    assert "reconcile apply" == call("plan").another("apply")
    assert "reconcile apply -p 'my policy.yaml'" == call("plan", policy="my policy.yaml").another("apply")


@pytest.mark.parametrize("digest", [("--allow-destructive", "abc"), ("--allow-destructive=abc",), ()])
def test_the_same_again(digest: tuple[str, ...]) -> None:
    """As typed, without a digest that did not fit."""
    words = ("backups", "delete", "2025", *digest, "--grace", "0", "-p", "pol.yaml")

    assert "reconcile backups delete 2025 --grace 0 -p pol.yaml" == same(call(*words))


NEEDS = (
    "freeze",
    "unfreeze",
    "adopt",
    *(f"backups {verb}" for verb in ("hold", "release", "delete", "undelete", "adopt", "sign")),
)


def test_what_is_advised_can_be_typed() -> None:
    """Whose backups, or which one: a command that lacks it is refused, and whoever is told to type it is in a hurry."""
    short = re.compile(rf"`reconcile ({'|'.join(NEEDS)})`")
    texts = {path: path.read_text(encoding="utf-8") for path in Path(reconciler.__file__).parent.rglob("*.py")}

    assert len(texts) > 200
    assert [] == [f"{path.name}: {found[0]}" for path, text in texts.items() for found in short.finditer(text)]
