"""Names of tables and other relations, strict and written in one way: `public.guests`, `public."Odd name"`.

One way whatever the server's major: which words PostgreSQL puts in quotes differs between majors.
"""

import re
from typing import Final

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*")
_PART: Final = re.compile(r'([a-z_][a-z0-9_$]*)|"((?:[^"\x00]|"")+)"')


class Relation(str):
    """A schema and a name in it; equal names are equal texts."""

    __slots__ = ("name", "schema")
    schema: str
    name: str

    def __new__(cls, schema: str, name: str) -> "Relation":
        """From the bare identifiers."""
        made = super().__new__(cls, f"{quoted(schema)}.{quoted(name)}")
        made.schema, made.name = schema, name
        return made

    @classmethod
    def parse(cls, text: str) -> "Relation":
        """Read `schema.name`, either part in double quotes where it is not plain. Raises ValueError with the reason."""
        first = _PART.match(text)
        second = _PART.fullmatch(text, first.end() + 1) if first and text[first.end() : first.end() + 1] == "." else None
        if first and second:
            return cls(*(one[1] or one[2].replace('""', '"') for one in (first, second)))
        raise ValueError(_why(text, whole=first is not None and first.end() == len(text)))


def _why(text: str, *, whole: bool) -> str:
    if whole:
        return f"needs its schema, too, as public.{text}"
    if any(mark in text for mark in "*?%") and '"' not in text:
        return "is a pattern: names are strict, so that nothing new is left out unnoticed; write each"
    return 'is no name of a table: write schema.name, with double quotes around what is not plain, as public."Odd name"'


def quoted(name: str) -> str:
    """One identifier, in quotes unless it is plain."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'
