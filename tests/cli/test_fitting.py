"""Every option with every verb: it is used there, or refused in a sentence."""

import argparse
from importlib import import_module

import pytest

from reconciler.cli.fitting import kept_as
from reconciler.cli.frame import Parser, _shared, run, typed
from reconciler.cli.main import COMMANDS

SHARED = {"--policy", "--database", "--format", "--log-format"}
ANYWHERE = {"--help"}
VALUES = {
    "ID": ["20251025"], "NAME": ["hotel"], "PLANFILE": ["plan.json"], "KIND": ["locked"], "--raw": ["--raw"],
    "--force": ["--force"], "--grace": ["--grace", "0"],
    "--format": ["--format", "json"], "--log-format": ["--log-format", "json"], "--jobs": ["--jobs", "2"], "--yes": ["--yes"],
    "--no-roles": ["--no-roles"], "--no-tablespaces": ["--no-tablespaces"], "--label": ["--label", "a=b"],
    "--keep": ["--keep", "3d"], "--level": ["--level", "hash"], "--until": ["--until", "2026-12-31"], "--purge": ["--purge"],
    "--detailed-exitcode": ["--detailed-exitcode"], "--fail-on": ["--fail-on", "violated"], "--next": ["--next", "2"],
    "--age": ["--age"], "--signing": ["--signing"], "--reference": ["--reference"], "--times": ["--times", "2"],
    "--seconds": ["--seconds", "2"], "--http-status": ["--http-status", "500"], "--provider": ["--provider", "neon"],
}  # fmt: skip
"""How one is typed; all others take any text."""
TAKEN = {
    "plan": SHARED | {"--out", "--detailed-exitcode", "--fail-on"},
    "apply": SHARED | {"PLANFILE", "--yes", "--allow-destructive"},
    "status": SHARED | {"--fail-on"},
    "validate": SHARED | {"--next"},
    "doctor": SHARED | {"--target"},
    "backups list": SHARED,
    "backups show": SHARED | {"ID", "--from"},
    "backups take": SHARED | {"--label", "--keep"},
    "backups fetch": SHARED - {"--format"} | {"ID", "--from", "--output", "--raw", "--force"},
    "backups restore": SHARED - {"--format"}
    | {"ID", "--from", "--into", "--jobs", "--map-role", "--no-roles", "--no-tablespaces", "--table", "--spool"},
    "backups restore --jobs 1": SHARED - {"--format"}
    | {"ID", "--from", "--into", "--jobs", "--map-role", "--no-roles", "--no-tablespaces", "--table"},
    "backups hold": SHARED | {"ID", "--why", "--until"},
    "backups release": SHARED | {"ID"},
    "backups delete": SHARED | {"ID", "--grace", "--allow-destructive"},
    "backups undelete": SHARED | {"ID"},
    "backups adopt": SHARED | {"ID"},
    "backups sign": SHARED | {"ID"},
    "backups verify": SHARED | {"ID", "--target", "--level"},
    "keys new --age": {"--format", "--log-format", "--age", "--out"},
    "keys new --signing": {"--format", "--log-format", "--signing", "--out"},
    "freeze hotel --why audit": SHARED - {"--database"} | {"--why", "--until"},
    "unfreeze hotel": SHARED - {"--database"},
    "adopt hotel": SHARED - {"--database"},
    "forget hotel": SHARED - {"--format"},
    "init": {
        "--policy", "--log-format", "--name", "--owner", "--provider", "--url-variable", "--bucket", "--gcs-bucket", "--azure",
        "--git-remote", "--path", "--schedule", "--rpo", "--force",
    },
    "init --bucket vault": {
        "--policy", "--log-format", "--name", "--owner", "--provider", "--url-variable", "--bucket", "--gcs-bucket", "--azure",
        "--git-remote", "--path", "--schedule", "--rpo", "--force", "--region", "--endpoint", "--prefix",
    },
    "init --azure account/vault": {
        "--policy", "--log-format", "--name", "--owner", "--provider", "--url-variable", "--bucket", "--gcs-bucket", "--azure",
        "--git-remote", "--path", "--schedule", "--rpo", "--force", "--prefix",
    },
    "init --provider neon": {
        "--policy", "--log-format", "--name", "--owner", "--provider", "--bucket", "--gcs-bucket", "--azure", "--git-remote",
        "--path", "--schedule", "--rpo", "--force", "--api-key-variable", "--api-host", "--project", "--branch",
        "--source-database", "--role",
    },
    "schema": {"--log-format", "NAME", "--write", "--reference"},
    "schema --write folder": {"--log-format", "--write"},
    "schema --reference": {"--log-format", "--reference"},
    "sandbox up": {"--policy", "--format", "--log-format", "--dir"},
    "sandbox up --dir box": {"--format", "--log-format", "--dir"},
    "sandbox down": {"--policy", "--format", "--log-format", "--dir", "--purge"},
    "sandbox status": {"--policy", "--format", "--log-format", "--dir"},
    "sandbox fault locked": {"--policy", "--format", "--log-format", "--dir", "--times", "--method", "--path"},
    "sandbox fault slow": {"--policy", "--format", "--log-format", "--dir", "--times", "--method", "--path", "--seconds"},
    "sandbox fault broken": {"--policy", "--format", "--log-format", "--dir", "--times", "--method", "--path", "--http-status"},
    "sandbox fault operation_fails": {"--policy", "--format", "--log-format", "--dir", "--times", "--path"},
    "sandbox fault lag": {"--policy", "--format", "--log-format", "--dir", "--times", "--seconds"},
    "sandbox fault none": {"--policy", "--format", "--log-format", "--dir"},
}  # fmt: skip
"""What is typed, and the options that mean something with it."""
VALUES_OF = {"schema": {"NAME": ["plan"]}}


def _actions(command: str) -> dict[str, argparse.Action]:
    """Every option that the command was given, by the name that it is typed with."""
    parser = Parser(prog=command, allow_abbrev=False)
    _shared(parser)
    import_module(f"reconciler.cli.{command}").register(parser)
    return {_typed_as(action): action for action in parser._actions}


def _typed_as(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest).upper()


def _pairs() -> list[tuple[str, str]]:
    """All verbs times all options of their command, but for what is part of the verb itself."""
    return [
        (verb, option)
        for verb in TAKEN
        for option, action in _actions(verb.split()[0]).items()
        if option not in ANYWHERE and not (action.option_strings == [] and action.nargs is None)
        if option not in verb and not (option == "KIND" and "fault" in verb)
        if not (option in {"--age", "--signing"} and verb.startswith("keys"))
    ]


def _words(verb: str, option: str) -> list[str]:
    command = verb.split(maxsplit=1)[0]
    given = VALUES_OF.get(command, {}).get(option) or VALUES.get(option)
    given = given or [option, "text"]
    words = verb.split()[1:]
    # What stands without an option stands before them.
    first = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:first], *given, *words[first:]]


@pytest.mark.parametrize(("verb", "option"), _pairs(), ids=lambda words: words.replace(" ", "_"))
def test_an_option_is_used_or_refused(verb: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """None is passed over in silence; what refuses it names it, and says whose it is."""
    command = verb.split(maxsplit=1)[0]
    module = import_module(f"reconciler.cli.{command}")

    try:
        typed(command, module, _words(verb, option))
        said = ""
    except SystemExit as leaving:
        said = str(leaving.code)

    fits = option in TAKEN[verb]
    assert fits == (said == "")
    assert fits or (said.startswith(f"reconcile {command}: ") and " is for " in said and option in said)


def test_every_command_and_every_option_has_a_place_in_the_table() -> None:
    """An option that is new, or that nothing takes any more, is seen here."""
    assert set(COMMANDS) == {verb.split()[0] for verb in TAKEN}

    for command in COMMANDS:
        taken = set().union(*(options for verb, options in TAKEN.items() if verb.split()[0] == command))
        optional = {
            option for option, action in _actions(command).items() if action.option_strings or action.nargs is not None
        } - ANYWHERE
        assert optional - SHARED - {"KIND"} == taken - SHARED, command


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_rules_speak_of_options_that_there_are(command: str) -> None:
    """A rule about a misspelt option would refuse nothing."""
    known = {action.dest for action in _actions(command).values()}

    rules = getattr(import_module(f"reconciler.cli.{command}"), "FITS", ())

    assert not [option for rule in rules for option in rule.options if kept_as(option) not in known]


def test_a_default_that_is_typed_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types what is so anyway still meant something by it; nothing else is done then."""
    code = run("backups", import_module("reconciler.cli.backups"), ["list", "--jobs", "1"])

    assert 1 == code
    assert "reconcile backups: --jobs is for `backups restore`; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_offers_nothing_that_is_always_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that no verb of a command takes is not in its help."""
    run(command, import_module(f"reconciler.cli.{command}"), ["--help"])

    told = capsys.readouterr().out.partition("\neverywhere:\n")[2]
    taken = set[str]().union(*(options for verb, options in TAKEN.items() if verb.split()[0] == command))
    assert {option: option in taken for option in SHARED} == {option: f"{option} " in told for option in SHARED}
