"""The kinds of value that are written as text and mean more: how each is read, and how the schema describes it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from reconciler.policy.expectation import Expectation
from reconciler.policy.folder import Folder
from reconciler.policy.public_key import PublicKey
from reconciler.policy.recipient import Recipient
from reconciler.policy.relation import Relation
from reconciler.policy.schedule import Schedule
from reconciler.policy.secret import Secret, Text
from reconciler.policy.timing import Timing, Window
from reconciler.policy.units import ByteSize, Duration, Length, LockTime, Rate, Span, TimeZone, time_zones


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of value is written."""

    format: str
    """Our name for it in the schema. None is a standard format, since editors check those by the standard's rules."""
    parse: Callable[[Any], Any]
    """Raises ValueError with a reason that is fit to be shown."""
    keywords: Mapping[str, Any]
    known: Callable[[], Sequence[str]] | None = None
    """All right values, where they can be listed: one of them may have been meant."""


_FILE: Final = {
    "properties": {
        "file": {"type": "string", "minLength": 1, "description": "The file's path.", "examples": ["/run/secrets/url"]}
    },
    "required": ["file"],
    "additionalProperties": False,
}

_TEXT: Final = {"type": "string"}

_SPAN_OF_TIME: Final = {"type": "string", "pattern": "^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}

FIELDS: Final[Mapping[type, Field]] = {
    Duration: Field(format="reconciler-duration", parse=Duration.parse, keywords=_SPAN_OF_TIME),
    Length: Field(format="reconciler-length", parse=Length.parse, keywords=_SPAN_OF_TIME),
    LockTime: Field(format="reconciler-lock-time", parse=LockTime.parse, keywords=_SPAN_OF_TIME),
    Span: Field(
        format="reconciler-span",
        parse=Span.parse,
        keywords={"type": "string", "pattern": "^([0-9]+y)?([0-9]+mo)?([0-9]+w)?([0-9]+d)?([0-9]+h)?$"},
    ),
    ByteSize: Field(format="reconciler-size", parse=ByteSize.parse, keywords=_TEXT),
    Schedule: Field(format="reconciler-schedule", parse=Schedule.parse, keywords=_TEXT),
    Rate: Field(format="reconciler-rate", parse=Rate.parse, keywords=_TEXT),
    Timing: Field(format="reconciler-timing", parse=Timing.parse, keywords=_TEXT),
    Window: Field(format="reconciler-window", parse=Window.parse, keywords=_TEXT),
    TimeZone: Field(format="reconciler-timezone", parse=TimeZone.parse, keywords=_TEXT, known=time_zones),
    PublicKey: Field(format="reconciler-public-key", parse=PublicKey.parse, keywords=_TEXT),
    Relation: Field(format="reconciler-relation", parse=Relation.parse, keywords=_TEXT),
    Recipient: Field(format="reconciler-recipient", parse=Recipient.parse, keywords=_TEXT),
    Folder: Field(format="reconciler-folder", parse=Folder.parse, keywords=_TEXT),
    Expectation: Field(format="reconciler-expectation", parse=Expectation.parse, keywords=_TEXT),
    Text: Field(format="reconciler-text", parse=Text.parse, keywords={"type": ["string", "object"], "minLength": 1, **_FILE}),
    Secret: Field(
        format="reconciler-secret",
        parse=Secret.parse,
        keywords={
            "type": ["string", "object"],
            "pattern": "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$",
            **_FILE,
            "x-secret": True,
        },
    ),
}


def decode(kind: type, written: Any) -> Any:
    """What msgspec can't read by itself, read from how it is written."""
    return FIELDS[kind].parse(written)


def describe(kind: type) -> dict[str, Any]:
    """The schema of what msgspec can't describe by itself."""
    field = FIELDS[kind]
    return {**field.keywords, "format": field.format}
