"""The schema is a valid one, says what every field is, and agrees with what loads."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from reconciler.policy.kinds import Kind, Kinds
from reconciler.policy.model import Retention
from reconciler.policy.schema import schema
from reconciler.policy.sentences import SENTENCES
from reconciler.policy.units import format_duration
from reconciler.providers import PROVIDERS
from reconciler.scratch import SCRATCHES
from reconciler.targets import TARGETS
from tests.policy.kinds import GOOD, KINDS, Folder, faults, loaded

REAL = Kinds(targets=TARGETS, providers=PROVIDERS, scratches=SCRATCHES)
SCHEMA = schema(REAL)
STRUCTURE = {"properties", "if", "then", "else", "allOf", "items", "$ref", "$defs", "$schema"}
NOTES = {"title", "description", "examples", "default", "x-secret"}


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping in the schema that is itself a schema, examples and defaults left out."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from nodes(item, f"{path}[{number}]")
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            if key in {"properties", "$defs"}:
                for name, one in inner.items():
                    yield from nodes(one, f"{path}.{name}")
            elif key not in {"examples", "default", "enum", "required"}:
                yield from nodes(inner, f"{path}.{key}")


def fields(described: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of the policy. The tests of `if` are none."""
    for path, node in nodes(described):
        if not path.endswith(".if"):
            for name, field in node.get("properties", {}).items():
                yield f"{path}.{name}", field


def test_the_schema_itself() -> None:
    """It is valid, of draft 2020-12, and the same each time."""
    Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert msgspec.json.encode(schema.__wrapped__(REAL)) == msgspec.json.encode(SCHEMA)


def test_every_field() -> None:
    """It has a description and an example that the schema accepts."""
    missing = [path for path, field in fields(SCHEMA) if not field.get("description") or not field.get("examples")]
    refused = [
        (path, example)
        for path, field in fields(SCHEMA)
        if not path.endswith("databases")  # its example leaves out what defaults supply, and its own `source` is checked below
        for example in field["examples"]
        if not Draft202012Validator({**field, "$defs": SCHEMA["$defs"]}).is_valid(example)
    ]

    assert missing == []
    assert refused == []


def test_every_mapping() -> None:
    """It accepts no other keys, so that a misspelt one is a fault."""
    loose = [path for path, node in nodes(SCHEMA) if "properties" in node and node.get("additionalProperties") is not False]

    # Those that choose a variant, and what they choose by: the variants themselves are strict.
    assert [path for path in loose if not path.startswith((".Target", ".Source", ".Scratch"))] == []


def test_every_keyword() -> None:
    """For each that the schema uses there is a sentence, so that no message of a library is ever shown."""
    used = {keyword for _, node in nodes(SCHEMA) for keyword in node}

    assert used - STRUCTURE - NOTES <= set(SENTENCES)


SECRETS = {"api_key", "password", "url", "access_key_id", "secret_access_key", "age_identity", "signing_key", "expect_secret"} | {
    "credentials",
    "account_key",
    "sas_token",
    "token",
}


def test_secrets_are_marked() -> None:
    """Tools can tell them from other fields."""
    marked = {path for path, field in fields(SCHEMA) if field.get("x-secret")}

    assert {path.rpartition(".")[2] for path in marked} == SECRETS


def test_defaults_as_the_schema_states_them() -> None:
    """They are those that apply."""
    retention = SCHEMA["$defs"]["Retention"]["properties"]["grace"]["default"]
    timezone = SCHEMA["$defs"]["Database"]["properties"]["timezone"]["default"]
    database = loaded(GOOD.replace("  timezone: Europe/Madrid\n", "")).databases["hotel"]

    assert retention == format_duration(Retention().grace)
    assert timezone == database.timezone


def test_a_plain_validator_on_the_good_policy() -> None:
    """An editor with the schema alone accepts what loads."""
    Draft202012Validator(schema(KINDS)).validate(yaml.safe_load(GOOD))

    assert faults(GOOD) == ()


@pytest.mark.parametrize(
    "slip",
    [
        "version: 2",
        "targets: {disk: {type: local}}",
        "databases: {}",
        "databases: {hotel: {source: {provider: postgres, url: hunter2}}}",
    ],
)
def test_a_plain_validator_on_a_bad_policy(slip: str) -> None:
    """An editor with the schema alone shows what is wrong."""
    document = {**yaml.safe_load(GOOD), **yaml.safe_load(slip)}

    assert not Draft202012Validator(schema(KINDS)).is_valid(document)


def test_kinds_that_do_not_fit_their_settings() -> None:
    """A slip in a registry is found when it is imported."""
    with pytest.raises(ValueError, match="must have tag='folder'"):
        Kind(type="folder", settings=Folder, connect=print)
    with pytest.raises(ValueError, match="must have tag_field='provider'"):
        Kinds(targets=(), providers=KINDS.targets, scratches=())
