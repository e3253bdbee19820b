"""The JSON Schema of a policy, made from the structs: the contract for people, editors and CI."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from reconciler.policy.fields import describe
from reconciler.policy.kinds import Kind, Kinds
from reconciler.policy.written import Document

_REFERENCE: Final = "#/$defs/{name}"


@cache
def schema(kinds: Kinds) -> Mapping[str, Any]:
    """The schema (draft 2020-12) of a policy that may name these kinds. `x-secret` marks what holds a secret's reference.

    Made once, and to be changed by nobody: making it takes longer than all else that reading a policy does.
    """
    structs = [Document, *(kind.settings for kind in (*kinds.targets, *kinds.providers, *kinds.scratches))]
    _, components = msgspec.json.schema_components(structs, schema_hook=describe, ref_template=_REFERENCE)
    definitions = {name: _tidy(component) for name, component in components.items()}
    typed = ((kind, "type") for kind in (*kinds.targets, *kinds.scratches))
    for kind, field in (*typed, *((kind, "provider") for kind in kinds.providers)):
        named = {"const": kind.type, "description": f"The kind: {kind.type}.", "examples": [kind.type]}
        definitions[kind.settings.__name__]["properties"][field] = named
    definitions["Target"] = _variants(kinds.targets, "type", "What kind of target this is.")
    definitions["Source"] = _variants(kinds.providers, "provider", "Who hosts the database.")
    definitions["Scratch"] = _variants(kinds.scratches, "type", "Where restores are rehearsed.")
    document = definitions.pop("Document")
    document["properties"]["targets"]["additionalProperties"] = {"$ref": _REFERENCE.format(name="Target")}
    document["properties"]["scratch"]["$ref"] = _REFERENCE.format(name="Scratch")
    definitions["Database"]["properties"]["source"]["$ref"] = _REFERENCE.format(name="Source")
    # Defaults may give them: what is missing after merging is found by comparing the two, which no schema can.
    del definitions["Dumps"]["required"]
    document["title"] = "Backup policy, version 1"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "$defs": definitions}


def _variants(kinds: Sequence[Kind], field: str, description: str) -> dict[str, Any]:
    """One of several shapes, chosen by a field. Not `oneOf`, whose only message is that none of them fits."""
    names = [kind.type for kind in kinds]
    return {
        "type": "object",
        "required": [field],
        "properties": {field: {"enum": names, "description": description, "examples": names[:1]}},
        "allOf": [
            {
                "if": {"properties": {field: {"const": kind.type}}, "required": [field]},
                "then": {"$ref": _REFERENCE.format(name=kind.settings.__name__)},
            }
            for kind in kinds
        ],
    }


def _tidy(schema: Any) -> Any:
    """Without the null that stands for "not said" in the structs: in a file, what is not said is left out.

    What is a word or a mapping is told apart by its type, so that the message is about the one that was meant.
    """
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    tidied = {key: _tidy(value) for key, value in schema.items() if not (key == "default" and value is None) and value != []}
    alternatives = [one for one in tidied.pop("anyOf", []) if one != {"type": "null"}]
    if len(alternatives) > 1:
        words, mapping = alternatives
        return {**tidied, "type": ["string", "object"], "if": {"type": "string"}, "then": words, "else": mapping}
    for alternative in alternatives:
        tidied = {**alternative, **tidied}
    if "enum" in tidied:
        tidied["enum"] = [value for value in tidied["enum"] if value is not None]
    return tidied
