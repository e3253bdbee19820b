"""Compares a document with its schema and says each difference in a sentence.

jsonschema's own messages print values, secrets too, so none is passed on.

Imported only by functions that check, since jsonschema takes a twentieth of a second to load.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from reconciler.policy.fields import FIELDS, Field
from reconciler.policy.nodes import Fault, Node, Path, Place, child, plain
from reconciler.policy.sentences import SENTENCES, Said, repeated

MOST_ERRORS: Final = 1000
"""A hostile text has more; looking on would only take time."""


def check(root: Node, schema: Mapping[str, Any]) -> Iterator[Fault]:
    """All that the schema has against the document, as faults."""
    errors = list(islice(_validator(schema).iter_errors(plain(root)), MOST_ERRORS))
    # A field of ours is read as a whole, and its own sentence is the one to show: what lies beneath it says the same again.
    whole = {tuple(error.absolute_path) for error in errors if error.validator == "format"}
    # jsonschema has its own order; where only the first faults are told, they are the text's first.
    for error in sorted(errors, key=lambda error: _nearest(root, error.absolute_path).place):
        path = tuple(error.absolute_path)
        if error.validator != "format" and any(path[:length] in whole for length in range(len(path) + 1)):
            continue
        yield from _faults(root, path, error)


def _validator(schema: Mapping[str, Any]) -> Validator:
    formats = FormatChecker(formats=())
    for field in FIELDS.values():
        formats.checks(field.format, raises=ValueError)(_accepts(field))
    # The standard takes 3.0 for an integer; neither our structs nor a reader of the file does.
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: Any = extend(
        Draft202012Validator, {"uniqueItems": _unique_items, "additionalProperties": _additional}, type_checker=types
    )  # type: ignore[no-untyped-call]  # its stub has none
    validator: Validator = strict(schema, format_checker=formats)
    return validator


def _unique_items(_: Validator, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:  # noqa: FBT001  # jsonschema's shape
    """jsonschema's own compares each with each: fifteen thousand small mappings took it minutes."""
    if wanted and isinstance(instance, list) and repeated(instance) is not None:
        yield ValidationError("")


def _additional(validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """jsonschema's own goes through a set, so that which of very many faults are the first ones would be chance."""
    extra = [key for key in instance if key not in schema.get("properties", {})] if isinstance(instance, Mapping) else []
    if allowed is False and extra:
        yield ValidationError("")
    elif allowed is not False:
        for key in extra:
            yield from validator.descend(instance[key], allowed, path=key)


def _accepts(field: Field) -> Callable[[object], bool]:
    def accepts(written: object) -> bool:
        # What is no text at all is the type's to say, unless the field may be written in several ways.
        if isinstance(written, str) or field.keywords["type"] != "string":
            field.parse(written)
        return True

    return accepts


def _faults(root: Node, path: Path, error: ValidationError) -> Iterable[Fault]:
    keyword = "propertyNames" if "propertyNames" in error.schema_path else str(error.validator)
    for said in SENTENCES[keyword](error):
        place = _place(root, path, said)
        steps = (*path, said.key) if said.key is not None else path
        yield Fault(place=place, path=steps, what=said.what, cure=said.cure)


def _place(root: Node, path: Path, said: Said) -> Place:
    """Of a key where the sentence is about one that is written, else of the value."""
    node = _nearest(root, path)
    return node.keys.get(said.key or "", node.place)


def _nearest(root: Node, path: Iterable[str | int]) -> Node:
    node = root
    for step in path:
        node = child(node, step) or node
    return node
