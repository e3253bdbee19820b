"""What the documentation says is so: generated pages are fresh, links lead somewhere, commands and options exist."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from reconciler.backups import layout
from reconciler.backups.manifest import Compression as StoredCompression
from reconciler.backups.manifest import Manifest, Part, SourceRecord, StoredObject
from reconciler.cli import schema
from reconciler.cli.frame import Parser, _shared
from reconciler.cli.main import ALIASES, COMMANDS
from reconciler.connect import KINDS
from reconciler.policy.loading import load
from reconciler.policy.reference import anchor
from reconciler.world.facts import STATES, Filters
from reconciler.world.fingerprint import Summary, Uncovered
from tests.invariants.mutations import MUTATIONS, OF_HISTORY
from tests.postgres.hostile_mutations import OF_LISTS, OF_REHEARSALS, OF_SERVERS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
AGAIN = "write it again with `reconcile schema --write schemas/` and `reconcile schema --reference > docs/policy.md`"
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=command, allow_abbrev=False)
    _shared(parser)
    import_module(f"reconciler.cli.{command}").register(parser)
    return parser


def _options(command: str) -> set[str]:
    return {option for action in _parser(command)._actions for option in action.option_strings}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _commands(text: str) -> Iterator[list[str]]:
    """The words after each `reconcile` that is shown as something to type."""
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    lines = [
        *CODE.findall(BLOCK.sub("", text)),
        *(line for _, block in BLOCK.findall(text) for line in block.splitlines()),
        *indented,
    ]
    for line in lines:
        for typed in re.findall(r"(?:^|[\s/])reconcile ([\w-][^#|&>]*)", line.strip()):
            yield typed.split()


def test_the_schemas_are_fresh() -> None:
    """What is committed in `schemas/` is what `reconcile schema` prints."""
    expected = {schema.file_name(name): schema.text(name) for name in schema.SCHEMAS}

    found = {path.name: _text(path) for path in (ROOT / "schemas").glob("*.json")}

    assert expected == found, AGAIN


def test_the_policy_reference_is_fresh() -> None:
    """The page is what the generator makes of the schema."""
    assert schema.reference() == _text(ROOT / "docs" / "policy.md"), AGAIN


def test_every_field_of_a_manifest_is_explained() -> None:
    """The formats page is the promise: it names each field, inner ones too."""
    text = _text(ROOT / "docs" / "formats.md")
    structs = (Manifest, StoredObject, Part, SourceRecord, StoredCompression, Summary, Uncovered, Filters)
    fields = {field for struct in structs for field in struct.__struct_fields__}

    assert not {field for field in fields if f"`{field}`" not in text}


def test_every_key_of_the_layout_is_explained() -> None:
    """A key that the code can make stands on the formats page."""
    text = _text(ROOT / "docs" / "formats.md")
    names = (
        layout.MANIFEST,
        layout.INTENT,
        layout.HOLD,
        layout.DUMP,
        layout.GLOBALS,
        layout.FINGERPRINT,
        "tombstone-INSTANT.json",
    )
    keys = [
        layout.repository_key("DATABASE"),
        layout.lease_key("DATABASE", "keep"),
        "DATABASE/freeze.json",
        *(layout.object_key("DATABASE", "ID", name) for name in names),
    ]

    assert not [key for key in keys if f"`{key}`" not in text]
    assert not [folder for folder in layout._KNOWN_FOLDERS if f"`{folder}`" not in text]


def test_every_state_is_explained() -> None:
    """A state that a listing can show has a row."""
    text = _text(ROOT / "docs" / "formats.md")

    assert not [state for state in STATES if f"| `{state}` |" not in text]


@every_page
def test_its_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and a heading in it."""
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", _text(page))
    broken = []
    for link in links:
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (heading and heading not in _anchors(target)):
            broken.append(link)

    assert not broken


def _anchors(page: Path) -> set[str]:
    return {anchor(heading.replace("`", "")) for heading in re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)}


@every_page
def test_the_files_it_names_are_there(page: Path) -> None:
    """A path into this repository that stands in code quotes exists."""
    named = re.findall(r"`((?:reconciler|tests|schemas|docs|examples)/[\w./-]*)`", _text(page))

    assert not [path for path in named if not (ROOT / path).exists() and "NAME" not in path]


@every_page
def test_the_commands_it_shows_exist(page: Path) -> None:
    """Whatever is shown as `reconcile …` is a command, with options that its parser has."""
    wrong = []
    for words in _commands(_text(page)):
        command = ALIASES.get(words[0], words[0])
        if command in ("--help", "--version"):
            continue
        options = {option for word in words[1:] for option in OPTION.findall(word.split("=")[0])}
        if command not in COMMANDS or not options <= _options(command):
            wrong.append(" ".join(words))

    assert not wrong


def test_every_command_and_option_is_explained() -> None:
    """The command line's page leaves nothing out."""
    text = _text(ROOT / "docs" / "command-line.md")
    options = {option for command in COMMANDS for option in _options(command)} - {"-h"}

    assert not [command for command in COMMANDS if f"### reconcile {command}" not in text]
    assert not options - set(OPTION.findall(text))


def test_every_option_on_the_page_exists() -> None:
    """An option that was renamed or removed does not live on in the documentation."""
    text = "\n".join(CODE.findall(BLOCK.sub("", _text(ROOT / "docs" / "command-line.md"))))
    options = {option for command in COMMANDS for option in _options(command)} | {"--version", *ALIASES}

    assert not set(OPTION.findall(text)) - options


def test_the_make_targets_of_the_readme_exist() -> None:
    """`make demo` and `make test`, and whatever else it names."""
    targets = re.findall(r"^([a-z]+):", _text(ROOT / "Makefile"), re.MULTILINE)

    named = re.findall(r"(?:^ {4}|`)make ([a-z]+)", _text(ROOT / "README.md"), re.MULTILINE)

    assert {"demo", "test"} <= set(named) <= set(targets)


def test_the_policies_of_the_readme_are_valid() -> None:
    """What is shown first is what is copied first."""
    policies = [block for language, block in BLOCK.findall(_text(ROOT / "README.md")) if language == "yaml"]

    names = [list(load(text.encode(), KINDS, path=Path("README.md")).databases) for text in policies]

    assert len(names) == 1
    assert all(names)


def test_every_dependency_has_its_reason() -> None:
    """A library that nobody can explain is one to remove."""
    text = _text(ROOT / "docs" / "decisions" / "001-dependencies.md")
    named = re.findall(r'^    "([A-Za-z0-9-]+)(?:\[\w+\])?[><=]', _text(ROOT / "pyproject.toml"), re.MULTILINE)

    assert len(named) > 10
    assert not [name for name in named if name not in text and not name.startswith("types-")]


def test_the_breakings_of_rules_are_counted() -> None:
    """As many as there are, wherever a page says how many."""
    rules = len(MUTATIONS) + len(OF_HISTORY)
    hostile = len({*OF_LISTS, *OF_REHEARSALS, *OF_SERVERS})
    said = {
        page.name: re.findall(r"[Ee]ach of (?:the )?(\d+)(?: breakings)?", _text(page))
        for page in (ROOT / "docs" / "safety.md", ROOT / "docs" / "performance.md")
    }

    assert {"safety.md": [str(rules), str(hostile)], "performance.md": [str(rules)] * 2} == said


def test_every_decision_is_listed_and_short() -> None:
    """Under a screen each, and found from the list."""
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\((\d{3}-[\w-]+\.md)\)", _text(folder / "README.md"))

    assert sorted(path.name for path in folder.glob("[0-9]*.md")) == listed
    assert not [name for name in listed if len(_text(folder / name).splitlines()) > 50]
