"""What a command says of how to type it again."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import reconciler
from reconciler.cli.by_name import same
from reconciler.cli.fitting import NO_POLICY
from reconciler.cli.frame import Call, typed
from reconciler.cli.main import COMMANDS, main, split
from reconciler.cli.naming import WITHOUT_POLICY, complete
from reconciler.policy.redaction import Redactor
from tests.building import policy_file


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("look, then `reconcile unfreeze hotel`", "look, then `reconcile unfreeze hotel -p my.yaml`"),
        ("`reconcile --plan` or `reconcile forget x`", "`reconcile --plan -p my.yaml` or `reconcile forget x -p my.yaml`"),
        ("`reconcile keys new --age` prints it", None),
        ("see `reconcile COMMAND --help`, or `reconcile`", None),
        ("reconcile apply, `pg_dump` or `reconcile apply", None),
        ("`reconcile apply -p other.yaml`, `reconcile --policy other.yaml status`", None),
        ("`reconcile apply\n` of two lines", None),
    ],
)  # fmt: skip
def test_commands_in_a_text(text: str, expected: str | None) -> None:
    """Only what is a command of ours that reads a policy, and names none."""
    assert (expected or text) == complete(text, "-p my.yaml")
    assert text == complete(text, "")


def test_which_commands_read_no_policy() -> None:
    """They refuse one: what is told to be typed must not name it."""
    modules = {name: import_module(f"reconciler.cli.{name}") for name in COMMANDS}

    assert list(WITHOUT_POLICY) == [name for name, module in modules.items() if NO_POLICY in getattr(module, "FITS", ())]


def sentences() -> Iterator[str]:
    """All texts of the program, each part that is only known later as a word."""
    for path in sorted(Path(reconciler.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "2025" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_command_that_is_told_can_be_typed_with_a_policy() -> None:
    """What is printed can be copied as it stands, and meets the policy that it was printed for."""
    texts = (complete(text, "-p 'my policy.yaml'") for text in sentences())
    told = {found for text in texts for found in re.findall(r"`reconcile ([^`\n]+ -p 'my policy.yaml')`", text)}

    assert len(told) > 25
    for words in sorted(told):
        name, rest = split(shlex.split(words))
        assert name is not None
        assert "my policy.yaml" == typed(name, import_module(f"reconciler.cli.{name}"), rest).policy, words


def test_what_is_printed_names_the_policy_and_what_is_read_by_programs_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was given; the usual one needs no name. JSON is the same however the file was named."""
    monkeypatch.chdir(tmp_path)
    for name in ("backup-policy.yaml", "my policy.yaml"):
        Path(name).write_text(policy_file("NOWHERE_AT_ALL"))

    said, plans = [], []
    for options in ([], ["-p", "my policy.yaml"]):
        assert 1 == main(["backups", "show", "20250101T000000Z-aaaaaa", *options])
        said.append(capsys.readouterr().err)
        main(["plan", "--format", "json", *options])
        plans.append(capsys.readouterr().out)

    assert "`reconcile backups list` shows" in said[0]
    assert "`reconcile backups list -p 'my policy.yaml'` shows" in said[1]
    assert plans[0] == plans[1]
