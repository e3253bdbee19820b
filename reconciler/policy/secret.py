"""References to what must not, or need not, stand in the policy: an environment variable or a file, resolved as late as possible.

A resolved secret lives in `Revealed`, whose every rendering is `***`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from reconciler.errors import Refused
from reconciler.policy.redaction import Redactor

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\}", re.DOTALL)
_LARGEST: Final = 64 * 1024
"""Bytes of a referenced file: keys and passwords are far smaller, and `/dev/zero` has no end."""

REFERENCE_RULE: Final = "a secret is written as a reference, ${NAME} or {file: path}, never itself"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value is to be found: a variable of the environment, or a file (relative to the policy's folder)."""

    kind: Literal["variable", "file"]
    name: str
    default: str | None = None
    """Of a variable that is not set or empty."""

    def __str__(self) -> str:
        return f"${{{self.name}}}" if self.kind == "variable" else f"{{file: {self.name}}}"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where references lead: the policy's folder, the environment, and the redactor that learns every secret revealed."""

    base: Path
    environ: Mapping[str, str]
    redactor: Redactor


class Revealed:
    """A resolved secret. Renders as `***` however it is printed; nothing serialises it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def expose(self) -> str:
        """The secret itself: for the call that needs it, never for a message."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a revealed secret is not serialised")


class Secret:
    """A field that holds a reference, never a value: `url: ${DATABASE_URL}` or `{file: /run/secrets/url}`."""

    __slots__ = ("reference",)

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    @classmethod
    def parse(cls, written: object) -> "Secret":
        """Read a reference. Raises ValueError with a reason that shows nothing of what is written."""
        reference = _reference(written)
        if reference is None:
            raise ValueError(REFERENCE_RULE)
        if reference.default is not None:
            raise ValueError("a secret takes no default, which would stand in the policy for all to read; write ${NAME}")
        return cls(reference)

    def reveal(self, surroundings: Surroundings, *, field: str) -> Revealed:
        """The secret, known to the redactor from now on.

        `field` is where it stands, as `databases.hotel.source.url`. Raises Refused, which names the variable or file and the
        field, when there is no value.
        """
        value = _resolve(self.reference, surroundings, field)
        surroundings.redactor.learn(value)
        return Revealed(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reference == other.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def __repr__(self) -> str:
        return f"Secret({self.reference})"


class Text:
    """A field that holds a value, or a reference to one that is no secret: `region: eu-west-1` or `${AWS_REGION:-eu-west-1}`."""

    __slots__ = ("written",)

    def __init__(self, written: str | Reference) -> None:
        self.written = written

    @classmethod
    def parse(cls, written: object) -> "Text":
        """Read a literal or a reference. Raises ValueError with the reason."""
        reference = _reference(written)
        if reference is not None:
            return cls(reference)
        if not isinstance(written, str) or not written:
            raise ValueError("text, ${NAME}, ${NAME:-default} or {file: path} belongs here")
        if "${" in written:
            raise ValueError("a reference is the whole value: ${NAME} with nothing before or after it")
        return cls(written)

    def reveal(self, surroundings: Surroundings, *, field: str) -> str:
        """The value. Raises Refused, which names the variable or file and the field, when there is none."""
        return self.written if isinstance(self.written, str) else _resolve(self.written, surroundings, field)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.written == other.written

    def __hash__(self) -> int:
        return hash(self.written)

    def __str__(self) -> str:
        return str(self.written)

    def __repr__(self) -> str:
        return f"Text({self.written})"


def _reference(written: object) -> Reference | None:
    if isinstance(written, str):
        match = _VARIABLE.fullmatch(written)
        return Reference(kind="variable", name=match[1], default=match[2]) if match else None
    if isinstance(written, Mapping) and set(written) == {"file"}:
        path = written["file"]
        return Reference(kind="file", name=path) if isinstance(path, str) and path and "\0" not in path else None
    return None


def _resolve(reference: Reference, surroundings: Surroundings, field: str) -> str:
    if reference.kind == "file":
        return _read(surroundings.base / reference.name, field)
    # As in a shell, empty counts as not set: an empty password is a forgotten one.
    value = surroundings.environ.get(reference.name) or reference.default
    if value is None:
        raise Refused(f"{field}: the environment variable {reference.name} is not set or empty", cure=f"set {reference.name}")
    return value


def _read(path: Path, field: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise Refused(
            f"{field}: cannot read {path}: {error.strerror}", cure="put the value there, readable by this user"
        ) from error
    if len(content) > _LARGEST:
        raise Refused(
            f"{field}: {path} is larger than 64 KiB", cure="a file that is referred to holds one value and nothing else"
        )
    return _text(content, path, field)


def _text(content: bytes, path: Path, field: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    # Out of the handler, since the decoding error carries the file's bytes and would be chained.
    if "\0" in text:
        raise Refused(f"{field}: {path} is not UTF-8 text", cure="write the value as text")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Refused(f"{field}: {path} is empty", cure="put the value there")
    return text
