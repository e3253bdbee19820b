"""What of an archive makes one table: the entries to restore, and the files that they need. Pure."""

from collections.abc import Sequence

import msgspec

from reconciler.backups.toc import Entry
from reconciler.errors import Refused

OF_A_TABLE = {
    "INDEX", "INDEX ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "STATISTICS", "COMMENT",
    "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET",
}  # fmt: skip
"""What belongs to whatever all its dependencies are of: with the table come its indexes, defaults and keys, but no view of it."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an archive."""

    entries: tuple[int, ...]
    files: tuple[str, ...]


def one_table(entries: Sequence[Entry], asked: str) -> Chosen:
    """The table `schema.name` with its rows, what it is made of (schema, types, sequences), its indexes and its own constraints.

    Foreign keys, triggers, policies and grants are left out: they speak of what is not there. Raises Refused where there is none.
    """
    tables = [entry for entry in entries if entry.kind == "TABLE" and f"{entry.schema}.{entry.name}" == asked]
    if not tables:
        raise Refused(f"the archive has no table {asked}", cure="write it as schema.name, as the database has it, without quotes")
    by_number = {entry.number: entry for entry in entries}
    chosen = _with_what_it_needs(tables[0], by_number)
    chosen |= {
        entry.number for entry in entries if entry.kind == "SCHEMA" and entry.name in {by_number[n].schema for n in chosen}
    }
    chosen |= {entry.number for entry in entries if entry.kind == "TABLE DATA" and tables[0].number in entry.depends_on}
    while more := {entry.number for entry in entries if _belongs(entry, chosen, by_number)} - chosen:
        chosen |= more
    kept = [entry for entry in entries if entry.number in chosen]
    return Chosen(entries=tuple(entry.number for entry in kept), files=tuple(entry.file for entry in kept if entry.file))


def _with_what_it_needs(table: Entry, by_number: dict[int, Entry]) -> set[int]:
    chosen, open_ones = {table.number}, [table]
    while open_ones:
        for number in open_ones.pop().depends_on:
            if number in by_number and number not in chosen:
                chosen.add(number)
                open_ones.append(by_number[number])
    return chosen


def _belongs(entry: Entry, chosen: set[int], by_number: dict[int, Entry]) -> bool:
    needs = [number for number in entry.depends_on if number in by_number]
    return entry.kind in OF_A_TABLE and bool(needs) and all(number in chosen for number in needs)
