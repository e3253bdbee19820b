"""Neon's published description, and what is held against it."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import jsonschema

DESCRIPTION = json.loads((Path(__file__).parents[1] / "sandbox" / "neon" / "neon-openapi.json").read_text())
"""Neon's own, as published, less prose and less what the sandbox does not serve."""
FORMATS = jsonschema.FormatChecker(formats=["uuid"])
Json = dict[str, Any]


@FORMATS.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def _nullable(schema: Any) -> Any:
    """OpenAPI's own word for "or null" in JSON Schema's."""
    if isinstance(schema, list):
        return [_nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _nullable(value) for name, value in schema.items()}
    return {"anyOf": [changed, {"type": "null"}]} if changed.pop("nullable", False) is True else changed


COMPONENTS = _nullable(DESCRIPTION["components"])


def described(method: str, path: str) -> Json:
    """The published operation. Fails where there is none."""
    for template, operations in DESCRIPTION["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path) and method.lower() in operations:
            found: Json = operations[method.lower()]
            return found
    raise AssertionError(f"{method} {path} is not published")


def must_be_answered_as_published(answer: httpx.Response, path: str) -> None:
    """The body is what the description promises for this status; errors are Neon's general one."""
    if answer.status_code == 204:
        assert answer.content == b""
        return
    responses = described(answer.request.method, path)["responses"]
    if answer.status_code >= 400:
        schema: Json = {"$ref": "#/components/schemas/GeneralError"}
    else:
        found = responses[str(answer.status_code)]
        schema = _resolved(found)["content"]["application/json"]["schema"]
    _validate(answer.json(), schema)


def must_be_asked_as_published(method: str, path: str, content: bytes) -> None:
    """Operation, query and body are those of the description, and hold nothing that it doesn't know: Neon passes that over."""
    path, _, query = path.partition("?")
    operation = described(method, path)
    known = {each["name"]: each for each in map(_resolved, operation.get("parameters", [])) if each["in"] == "query"}
    given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    assert given.keys() <= known.keys(), f"{method} {path} has no {given.keys() - known.keys()}"
    assert {name for name, each in known.items() if each.get("required")} <= given.keys()
    for name, value in given.items():
        schema = known[name]["schema"]
        _validate(value if schema["type"] == "string" else json.loads(value), schema)
    asked = operation.get("requestBody", {})
    assert bool(content) <= bool(asked), f"{method} {path} takes no body"
    if content:
        schema, body = asked["content"]["application/json"]["schema"], json.loads(content)
        _validate(body, schema)
        assert [] == list(_unknown(body, schema)), f"{method} {path} does not know them"
    else:
        assert not asked.get("required"), f"{method} {path} needs a body"


def _validate(value: Any, schema: Json) -> None:
    shape = {"components": COMPONENTS, **_nullable(schema)}
    jsonschema.Draft202012Validator(shape, format_checker=FORMATS).validate(value)


def _resolved(found: Json) -> Json:
    """What a reference leads to."""
    while "$ref" in found:
        _, _, kind, name = found["$ref"].split("/")
        found = DESCRIPTION["components"][kind][name]
    return found


def _unknown(value: Any, schema: Json) -> Iterator[str]:
    """Names in it that the description doesn't have, however deep."""
    schema = _resolved(schema)
    if isinstance(value, list):
        for each in value:
            yield from _unknown(each, schema["items"])
    elif isinstance(value, Mapping) and "additionalProperties" not in schema:
        known = {name: each for part in _parts(schema) for name, each in part.get("properties", {}).items()}
        yield from (name for name in value if name not in known)
        for name in value.keys() & known.keys():
            yield from _unknown(value[name], known[name])


def _parts(schema: Json) -> Iterator[Json]:
    yield schema
    for each in schema.get("allOf", []):
        yield from _parts(_resolved(each))
