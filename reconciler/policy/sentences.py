"""What is wrong with a value, and what would be right: one sentence for each way in which a schema can be missed."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from reconciler.policy.fields import FIELDS
from reconciler.policy.recipient import Unsayable
from reconciler.policy.secret import REFERENCE_RULE
from reconciler.policy.spelling import nearest

_KINDS: Final = {
    "object": "a mapping (lines of key: value)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence about a value, or about one key of it."""

    what: str
    cure: str = ""
    key: str | None = None


class Miss(Protocol):
    """What of a validator's error is needed to say it."""

    @property
    def validator(self) -> Any: ...
    @property
    def validator_value(self) -> Any: ...
    @property
    def instance(self) -> Any: ...
    @property
    def schema(self) -> Any: ...
    @property
    def cause(self) -> Any: ...


def shown(value: object) -> str:
    """A value as a message may show it: in quotes, on one line, and not too long. Never for what lies in a secret's field."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    # What names a user or a host is no schedule and no duration: it is an address in the wrong place, maybe with its password.
    if "://" in text or "@" in text.lstrip('"@'):
        return "what stands here"
    return text if len(text) <= 60 else f"{text[:57]}…"


def repeated(items: Iterable[object]) -> object:
    """The first item that is there a second time; None if each is there once."""
    seen: set[str] = set()
    for item in items:
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            return item
        seen.add(text)
    return None


def _type(error: Miss) -> Iterator[Said]:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    names = " or ".join(_KINDS[name] for name in wanted)
    if error.instance is None:
        yield Said(what="is empty", cure=f"{names} belongs here; leave the key out if nothing is meant")
    else:
        yield Said(what=f"is {_kind(error.instance)}", cure=f"{names} belongs here{_example(error.schema)}")


def _enum(error: Miss) -> Iterator[Said]:
    allowed = [str(value) for value in error.validator_value]
    if isinstance(error.instance, int) and not isinstance(error.instance, bool):
        yield Said(what=f"{error.instance} is not known here", cure=f"write {_either(allowed)}")
        return
    if isinstance(error.instance, str) and error.instance in allowed:
        what, cure = "is text", f"write {error.instance} without quotes"
    elif isinstance(error.instance, str) and error.instance:
        what, cure = f"{shown(error.instance)} is not known here", nearest(error.instance, allowed)
    else:
        what, cure = f"is {_kind(error.instance)}", ""
    yield Said(what=what, cure=cure or f"write {_either(allowed)}")


def _required(error: Miss) -> Iterator[Said]:
    # jsonschema reports each missing key on its own and names it in its message alone: all are said each time, and told once.
    for name in error.validator_value:
        if name not in error.instance:
            yield Said(what="is missing", cure=_about(error.schema, name), key=name)


OF_OTHERS = {
    "object_lock": "only targets of type s3 lock; on gcs and azure, a policy of the bucket or container keeps what lies there"
}
"""Keys that are meant well, and mean nothing where they stand."""


def _additional(error: Miss) -> Iterator[Said]:
    known = list(error.schema["properties"])
    for key in error.instance:
        if key not in known:
            cure = nearest(key, known) or f"known here: {', '.join(known)}"
            yield Said(what="unknown key", cure=f"{OF_OTHERS[key]}; {cure}" if key in OF_OTHERS else cure, key=key)


def _names(error: Miss) -> Iterator[Said]:
    yield Said(
        what="is no name",
        cure="a name begins with a letter a-z and goes on with a-z, 0-9, _ or -, 63 at most",
        key=error.instance,
    )


def _format(error: Miss) -> Iterator[Said]:
    if error.schema.get("x-secret"):
        yield Said(what=str(error.cause) if isinstance(error.instance, str | dict) else REFERENCE_RULE)
    elif isinstance(error.cause, Unsayable):
        yield Said(what=str(error.cause))
    elif isinstance(error.instance, str) and error.instance:
        known = next(field.known for field in FIELDS.values() if field.format == error.validator_value)
        cure = (nearest(error.instance, known()) or f"write one{_example(error.schema)}") if known else ""
        yield Said(what=f"{shown(error.instance)}: {error.cause}", cure=cure)
    else:
        yield Said(what=f"is {_kind(error.instance)}", cure=f"text belongs here{_example(error.schema)}")


def _pattern(error: Miss) -> Iterator[Said]:
    yield Said(what=f"{shown(error.instance)} is not written as it must be", cure=f"it must match {error.validator_value}")


def _bound(error: Miss) -> Iterator[Said]:
    low, high = error.schema.get("minimum"), error.schema.get("maximum")
    cure = f"{low} or more" if high is None else f"{low} to {high}"
    yield Said(what=f"{error.instance} is out of range", cure=f"it is {cure}")


def _few(error: Miss) -> Iterator[Said]:
    yield Said(what="is empty", cure=f"at least one belongs here{_example(error.schema)}")


def _length(error: Miss) -> Iterator[Said]:
    low, high, length = error.schema.get("minLength", 0), error.schema.get("maxLength"), len(error.instance)
    if length == 0:
        yield Said(what="is empty", cure=f"text belongs here{_example(error.schema)}")
    else:
        cure = f"{low} or more" if high is None else f"{low} to {high}"
        yield Said(what=f"{shown(error.instance)} has {length} character{'s' * (length != 1)}", cure=f"it has {cure}")


def _unique(error: Miss) -> Iterator[Said]:
    yield Said(what=f"{shown(repeated(error.instance))} stands twice", cure="each is named once")


SENTENCES: Final[Mapping[str, Callable[[Any], Iterable[Said]]]] = {
    "type": _type,
    "enum": _enum,
    "const": _enum,
    "required": _required,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "format": _format,
    "pattern": _pattern,
    "minimum": _bound,
    "maximum": _bound,
    "minItems": _few,
    "minLength": _length,
    "maxLength": _length,
    "minProperties": _few,
    "uniqueItems": _unique,
}
"""By the schema's keyword; a test holds that none that a schema of ours uses is missing."""


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return "a whole number" if isinstance(value, int) else "a number with a fraction"
    if isinstance(value, str):
        return "text" if value else "empty"
    return {"dict": "a mapping", "list": "a list"}.get(type(value).__name__, "empty")


def _example(schema: Mapping[str, Any]) -> str:
    examples = schema.get("examples")
    # A mapping on one line is no example of how anybody writes it.
    return f", as {json.dumps(examples[0], ensure_ascii=False)}" if examples and not isinstance(examples[0], dict) else ""


def _about(schema: Mapping[str, Any], name: str) -> str:
    described = schema["properties"].get(name, {})
    sentence = str(described.get("description", "")).rstrip(".")
    return f"add it: {sentence}{_example(described)}"


def _either(names: list[str]) -> str:
    return " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
