"""The policy's JSON Schema → a reference in Markdown, for people. Pure; what the schema does not say is not said here either."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

Schema = Mapping[str, Any]

TITLE: Final = "# Policy reference"
OPENING: Final = """\
Every key of a `backup-policy.yaml`, made from the schema by `reconcile schema --reference`; don't edit it by hand.
`reconcile validate` checks a policy against it and names each fault by file, line and column.

A policy is YAML 1.2 in UTF-8: one document, no tags, no merge keys, at most 1 MiB. Keys that are not listed here are faults.
A name (of a target or a database) is a small letter and then small letters, digits, `_` or `-`, 63 at most.
`dumps.schedule` and `dumps.targets` are needed for each database: in the database itself or under `defaults`.
"""
HEAD: Final = ("| key | written as | default | what it means | example |", "|---|---|---|---|---|")

VALUES: Final[Mapping[str, tuple[str, str]]] = {
    "reconciler-duration": (
        "duration",
        "A length of time: `15m`, `6h`, `7d`, `2w`, `1d12h`. Units are `w d h m s`, largest first.",
    ),
    "reconciler-length": ("length", "A [duration](#duration) that is not nothing."),
    "reconciler-lock-time": ("lock time", "A [duration](#duration) of a minute at least."),
    "reconciler-span": (
        "span",
        "A length of calendar time: `14d`, `1mo`, `1y6mo`. Units are `y mo w d h`, largest first; a month is as long as it is.",
    ),
    "reconciler-size": ("size", "A number of bytes: `512`, `16MiB`, `1GB`."),
    "reconciler-rate": ("rate", "Bytes in a second: `512kB/s`, `50MiB/s`."),
    "reconciler-schedule": (
        "schedule",
        "Cron in five fields: minute, hour, day of month, month, day of week. `MON#1` is the first Monday of a month, `L` the "
        "last day of one. A slot that a change of the clock skips runs at the next minute there is; a doubled one runs once, "
        "but for schedules of every hour.",
    ),
    "reconciler-timing": (
        "schedule or auto",
        "Cron in five fields: minute, hour, day of month, month, day of week. `MON#1` is the first Monday of a month, `L` the "
        "last day of one. A slot that a change of the clock skips runs at the next minute there is; a doubled one runs once, "
        "but for schedules of every hour. Or `auto`: equal steps of the day, counted from its midnight and chosen from the RPO "
        "and from how long dumps take; `reconcile validate` and `reconcile status` show them.",
    ),
    "reconciler-window": (
        "window",
        "Cron in five fields, each minute that it names being part of the window: `* 17-21 * * FRI` is Friday from 17:00 until "
        "22:00 on the clock of the database's time zone. `0 17 * * FRI` is one minute.",
    ),
    "reconciler-timezone": ("time zone", "A name of the tz database, as `UTC` or `Europe/Madrid`."),
    "reconciler-relation": (
        "table",
        'A schema and a name in it: `public.guests`, or with double quotes around what is not plain: `public."Odd name"`. '
        "No patterns.",
    ),
    "reconciler-recipient": (
        "recipient",
        "A public key of age: `age1…`, or a line of an SSH public key of the kinds `ssh-ed25519` and `ssh-rsa`. A private key "
        "here is a fault, and `validate` does not echo it.",
    ),
    "reconciler-public-key": (
        "public key",
        "A public key of Ed25519: `ed25519:` and its 32 bytes in base64, as `reconcile keys new --signing` prints it.",
    ),
    "reconciler-text": (
        "text or reference",
        "The value itself, or a reference to it: `${NAME}` or `${NAME:-default}` for a variable of the environment, "
        "`{file: path}` for a file. A path is relative to the policy's folder. A reference is the whole value.",
    ),
    "reconciler-expectation": (
        "expectation",
        "A comparison and a value: `>= 1`, `> 1000`, `= ready`, `!= 0`. Numbers are compared as numbers; `=` and `!=` "
        "compare text too. A null meets nothing.",
    ),
    "reconciler-secret": (
        "secret",
        "Only a reference: `${NAME}` or `{file: path}`. The secret itself is a fault, and `validate` does not echo it. "
        "A variable that is empty counts as not set. A line break at the end of a file is left off.",
    ),
}
"""How each format of ours is called and explained."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One mapping of the policy: where it stands, and what may stand in it."""

    path: str
    schema: Schema


def markdown(schema: Schema) -> str:
    """The whole reference. The same schema gives the same text."""
    sections = list(_sections(schema))
    places = {reference: section.path for reference, section in sections}
    lines = [TITLE, "", OPENING]
    for _, section in sections:
        lines += [f"## {section.path}", "", str(section.schema["description"]), "", *HEAD]
        lines += [_row(key, value, section, places) for key, value in section.schema["properties"].items()]
        lines.append("")
    lines += ["## Kinds of value", ""]
    used = _formats(schema)
    for name, (called, says) in VALUES.items():
        if name in used:
            lines += [f"### {called}", "", says, ""]
    return "\n".join(lines)


def anchor(heading: str) -> str:
    """How Markdown renderers name a heading in links."""
    return "".join("-" if letter == " " else letter for letter in heading.lower() if letter.isalnum() or letter in " -_")


def _sections(schema: Schema) -> Iterator[tuple[str, Section]]:
    """Each mapping once, at its first place; `defaults` last, since what it holds is explained where it is used."""
    definitions = schema["$defs"]
    seen: set[str] = set()

    def below(path: str, parent: Schema) -> Iterator[tuple[str, Section]]:
        properties = sorted(parent["properties"].items(), key=lambda item: item[0] == "defaults")
        for key, value in properties:
            here = f"{path}.{key}" if path else key
            inner, items = value.get("additionalProperties"), value.get("items")
            where, holder = (f"{here}.NAME", inner) if isinstance(inner, Mapping) else (here, value)
            holder = holder.get("else", holder)
            if isinstance(items, Mapping) and "$ref" in items:
                where, holder = f"{here}[]", items
            if "$ref" in holder and holder["$ref"] not in seen:
                seen.add(holder["$ref"])
                yield from named(where, holder["$ref"])

    def named(path: str, reference: str) -> Iterator[tuple[str, Section]]:
        found = definitions[reference.rpartition("/")[2]]
        for variant in found.get("allOf", ()):
            (field, chosen), then = next(iter(variant["if"]["properties"].items())), variant["then"]["$ref"]
            yield from named(f"{path} with {field} {chosen['const']}", then)
        if "allOf" not in found:
            yield reference, Section(path=path, schema=found)
            yield from below(path, found)

    yield "#", Section(path="The file", schema=schema)
    yield from below("", schema)


def _row(key: str, value: Schema, section: Section, places: Mapping[str, str]) -> str:
    is_needed = key in section.schema.get("required", ()) or "const" in value
    default = "**needed**" if is_needed else f"`{_flow(value['default'])}`" if value.get("default", "") != "" else ""
    example = f"`{_flow(value['examples'][0])}`" if value.get("examples") else ""
    cells = (f"`{key}`", _written_as(value, places), default, str(value.get("description", "")), example)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _written_as(value: Schema, places: Mapping[str, str]) -> str:
    inner = value.get("additionalProperties")
    if isinstance(inner, Mapping):
        return f"name → {_written_as(inner, places)}"
    if "else" in value:
        return f"{_written_as(value['then'], places)} or {_written_as(value['else'], places)}"
    if "$ref" in value:
        path = places.get(value["$ref"])
        # One of several shapes has a section each, and none of its own.
        return f"[{path}](#{anchor(path)})" if path else "mapping, see below"
    if value.get("format") in VALUES:
        called = VALUES[value["format"]][0]
        return f"[{called}](#{anchor(called)})"
    if "const" in value or "enum" in value:
        return " or ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_written_as(value['items'], places)}"
    return _plain_type(value)


def _plain_type(value: Schema) -> str:
    if value.get("type") != "integer":
        return "text" if value.get("type") == "string" else str(value.get("type", "anything"))
    least, most = value.get("minimum"), value.get("maximum")
    limits = f", {least} to {most}" if most is not None else f", {least} or more" if least is not None else ""
    return f"whole number{limits}"


def _formats(part: Any) -> set[str]:
    if isinstance(part, Mapping):
        own = {part["format"]} if isinstance(part.get("format"), str) else set()
        return own.union(*(_formats(inner) for inner in part.values()))
    is_list = isinstance(part, Sequence) and not isinstance(part, str)
    return set().union(*(_formats(inner) for inner in part)) if is_list else set()


def _flow(value: Any) -> str:
    """As YAML in one line, which JSON is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
