"""Whether a document is as its schema says, and no more: jsonschema, which can also tell what is wrong, takes as long to load as
all else that reads a policy. It is asked about whatever does not pass here, so it alone ever refuses anything.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from reconciler.policy.fields import FIELDS, accepts
from reconciler.policy.sentences import repeated

T = TypeVar("T")

Fits = Callable[[Any, Mapping[str, Any]], bool]
"""Whether a value is as a part of the schema says."""

_TYPES: Final = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
_FORMATS: Final = {field.format: field for field in FIELDS.values()}
_DEFINITION: Final = "#/$defs/"


class _UnsureError(Exception):
    """Not ours to say. Never leaves this module."""


def passes(document: Any, schema: Mapping[str, Any]) -> bool:
    """True: jsonschema would find nothing. False: it may, or the schema says something that is not known here."""

    def fits(value: Any, part: Mapping[str, Any]) -> bool:
        return all(_known(rules, keyword)(value, wanted, part, fits) for keyword, wanted in part.items() if keyword not in NOTES)

    def referred(value: Any, wanted: str, _: Any, __: Any) -> bool:
        return fits(value, _known(schema["$defs"], wanted.removeprefix(_DEFINITION)))

    rules = {**RULES, "$ref": referred}
    try:
        return fits(document, schema)
    except _UnsureError:
        return False


def _known(things: Mapping[str, T], name: str) -> T:
    if name not in things:
        raise _UnsureError
    return things[name]


def _type(value: Any, wanted: str | list[str], _: Any, __: Any) -> bool:
    return any(type(value) is _known(_TYPES, name) for name in ([wanted] if isinstance(wanted, str) else wanted))


def _enum(value: Any, wanted: list[Any], _: Any, __: Any) -> bool:
    # The standard takes 1.0 for 1; a policy has no use for fractions.
    if isinstance(value, float):
        raise _UnsureError
    return any(type(value) is type(one) and value == one for one in wanted)


def _format(value: Any, wanted: str, _: Any, __: Any) -> bool:
    try:
        return accepts(_known(_FORMATS, wanted), value)
    except ValueError:
        return False


def _properties(value: Any, wanted: Mapping[str, Any], _: Any, fits: Fits) -> bool:
    return not isinstance(value, dict) or all(fits(value[key], part) for key, part in wanted.items() if key in value)


def _additional(value: Any, wanted: Any, schema: Mapping[str, Any], fits: Fits) -> bool:
    if not isinstance(value, dict):
        return True
    extra = [value[key] for key in value if key not in schema.get("properties", {})]
    return wanted or not extra if isinstance(wanted, bool) else all(fits(one, wanted) for one in extra)


def _branch(value: Any, wanted: Mapping[str, Any], schema: Mapping[str, Any], fits: Fits) -> bool:
    branch = "then" if fits(value, wanted) else "else"
    return branch not in schema or fits(value, schema[branch])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


RULES: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any], Fits], bool]]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value, wanted, schema, fits: _enum(value, [wanted], schema, fits),
    "format": _format,
    "pattern": lambda value, wanted, _, __: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minLength": lambda value, wanted, _, __: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda value, wanted, _, __: not isinstance(value, str) or len(value) <= wanted,
    "minimum": lambda value, wanted, _, __: not _is_number(value) or value >= wanted,
    "maximum": lambda value, wanted, _, __: not _is_number(value) or value <= wanted,
    "required": lambda value, wanted, _, __: not isinstance(value, dict) or all(key in value for key in wanted),
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": lambda value, wanted, _, fits: not isinstance(value, dict) or all(fits(key, wanted) for key in value),
    "minProperties": lambda value, wanted, _, __: not isinstance(value, dict) or len(value) >= wanted,
    "items": lambda value, wanted, _, fits: not isinstance(value, list) or all(fits(item, wanted) for item in value),
    "minItems": lambda value, wanted, _, __: not isinstance(value, list) or len(value) >= wanted,
    "uniqueItems": lambda value, wanted, _, __: not wanted or not isinstance(value, list) or repeated(value) is None,
    "allOf": lambda value, wanted, _, fits: all(fits(value, part) for part in wanted),
    "if": _branch,
}
"""By keyword: value, what the keyword says, the schema that it stands in, and how its parts are held against a value."""

NOTES: Final = {"$schema", "$defs", "title", "description", "examples", "default", "x-secret", "then", "else"}
"""Say nothing of a value: `then` and `else` go with their `if`."""
