"""What a command says of how to type it again."""

import argparse

import pytest

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
