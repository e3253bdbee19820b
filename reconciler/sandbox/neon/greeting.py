"""The first message of a PostgreSQL client: what it wants, and Neon's own words among its options, which PostgreSQL doesn't know.

(PostgreSQL: docs, "Message Formats", StartupMessage, SSLRequest, CancelRequest.)
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import Final

import msgspec

ENCRYPTION_REQUESTS: Final = {80877103, 80877104}
"""SSLRequest and GSSENCRequest."""
_STARTUP_MAJOR = 3
_LARGEST = 64 * 1024
_OWN_OPTIONS = ("endpoint", "project", "neon_timestamp", "neon_lsn")


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """The message as it is passed on, and what was in it for us."""

    code: int
    message: bytes
    pairs: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    """What the message says, where it asks to be let in."""
    own: dict[str, str] = msgspec.field(default_factory=dict)
    """Of Neon's options, those given: endpoint, neon_timestamp, neon_lsn."""

    @property
    def is_visit_to_the_past(self) -> bool:
        """Whether it asks for Time Travel."""
        return bool(self.own.keys() & {"neon_timestamp", "neon_lsn"})

    def told(self, settings: Mapping[str, str]) -> bytes:
        """The message, with these settings behind the guest's own, so that they win."""
        if not self.pairs or not settings:
            return self.message
        words = (f"-c {name}={value}" for name, value in settings.items())
        options = " ".join(filter(None, [self.pairs.get(b"options", b"").decode(errors="replace"), *words]))
        return _message(self.code, self.pairs | {b"options": options.encode()})


async def read_greeting(reader: asyncio.StreamReader) -> Greeting:
    """The next message of a client that hasn't been let in. Raises OSError for what is no PostgreSQL."""
    length, code = struct.unpack("!II", await reader.readexactly(8))
    if not 8 <= length <= _LARGEST:
        raise ConnectionAbortedError("this is no PostgreSQL client")
    body = await reader.readexactly(length - 8)
    if code >> 16 != _STARTUP_MAJOR:
        return Greeting(code=code, message=struct.pack("!II", length, code) + body)
    words = body.split(b"\0")
    pairs = dict(zip(words[:-2:2], words[1:-1:2], strict=False))
    own, options = _sort(pairs.get(b"options", b"").decode(errors="replace"))
    if own:
        pairs.pop(b"options")
        if options:
            pairs[b"options"] = options.encode()
    return Greeting(code=code, message=_message(code, pairs), pairs=pairs, own=own)


def _message(code: int, pairs: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(name + b"\0" + value + b"\0" for name, value in pairs.items()) + b"\0"
    return struct.pack("!II", len(body) + 8, code) + body


def complaint(message: str) -> bytes:
    """An ErrorResponse that ends a connection."""
    fields = b"SFATAL\0VFATAL\0C57P03\0M" + message.encode() + b"\0\0"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


def _sort(options: str) -> tuple[dict[str, str], str]:
    """Neon's options, written `endpoint=value` or `neon_lsn:value`, and the rest as it was."""
    own: dict[str, str] = {}
    rest = []
    for word in options.split():
        name, separator, value = word.partition(":" if word.startswith("neon_") else "=")
        if separator and name in _OWN_OPTIONS:
            own[name] = value
        else:
            rest.append(word)
    return own, " ".join(rest)
