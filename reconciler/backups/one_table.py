"""What of an archive makes one table: the entries to restore, and the files that they need. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from reconciler.backups.archive import Entry
from reconciler.errors import Refused

OF_A_TABLE = {
    "INDEX", "INDEX ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "STATISTICS", "COMMENT",
    "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "TABLE ATTACH",
}  # fmt: skip
"""What belongs to whatever all its dependencies are of: with the table come its indexes, defaults and keys, but no view of it."""
MAY_NEED_MORE = {"INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "STATISTICS"}
"""Of these, what needs something that the table itself does not need (a function) brings it along."""
LEFT_OUT = {"ACL", "FK CONSTRAINT", "POLICY", "ROW SECURITY", "RULE", "TABLE", "TABLE ATTACH", "TRIGGER", *MAY_NEED_MORE}
"""What of a table speaks of things that are not there, and is told; so are tables that inherit from it."""
ATTACHED = {"TABLE ATTACH": {"TABLE"}, "INDEX ATTACH": {"INDEX", "CONSTRAINT"}}
"""Entries that make one thing a part of another, and what the two are."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an archive."""

    entries: tuple[int, ...]
    files: tuple[str, ...]
    extensions: tuple[str, ...]
    """Those that it needs."""
    left_out: tuple[str, ...]
    """What else the archive says of the table."""


def one_table(entries: Sequence[Entry], asked: str) -> Chosen:
    """The table `schema.name` with its rows, what it is made of (schema, types, sequences), its indexes and its own constraints,
    and what those need.

    With a partitioned table come its partitions; a partition comes alone, as a table of its own. Foreign keys to other tables,
    triggers, policies and grants are left out: they speak of what is not there. Raises Refused where there is none.
    """
    tables = [entry for entry in entries if entry.kind == "TABLE" and f"{entry.schema}.{entry.name}" == asked]
    if not tables:
        raise Refused(f"the archive has no table {asked}", cure="write it as schema.name, as the database has it")
    if len(tables) > 1:
        what = (
            f"the archive has {len(tables)} tables that are written {asked}, in schemas {' and '.join(e.schema for e in tables)}"
        )
        raise Refused(what, cure="restore all of it, or fetch the backup and use `pg_restore --schema --table`")
    contents = _Contents(entries)
    wanted = contents.with_partitions(tables[0].number)
    parts = {entry.number for entry in entries if contents.is_part(entry, wanted)}
    chosen = contents.with_what_they_need(wanted | parts)
    schemas = {entry.schema for entry in entries if entry.number in chosen}
    chosen |= {entry.number for entry in entries if entry.kind == "SCHEMA" and entry.name in schemas}
    chosen |= {entry.number for entry in entries if entry.kind == "TABLE DATA" and wanted.intersection(entry.depends_on)}
    while more := {entry.number for entry in entries if contents.belongs(entry, chosen)} - chosen:
        chosen |= more
    kept = [entry for entry in entries if entry.number in chosen]
    rest = [entry for entry in entries if entry.number not in chosen and contents.is_of(entry, wanted)]
    left_out = {f"{entry.kind} {entry.schema}: {entry.name}" for entry in rest}
    # Even an empty table has data, of no rows; one without was dumped without its rows.
    filled = {number for entry in kept if entry.kind == "TABLE DATA" for number in entry.depends_on}
    left_out |= {f"TABLE DATA {entry.schema}: {entry.name}" for entry in kept if contents.lacks_rows(entry, filled)}
    return Chosen(
        entries=tuple(entry.number for entry in kept),
        files=tuple(entry.file for entry in kept if entry.file),
        extensions=tuple(entry.name for entry in kept if entry.kind == "EXTENSION"),
        left_out=tuple(sorted(left_out)),
    )


class _Contents:
    """A table of contents whose dependencies are followed."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._by_number: Mapping[int, Entry] = {entry.number: entry for entry in entries}
        attached = [pair for entry in entries if entry.kind in ATTACHED for pair in self._attached(entry)]
        self._parts: dict[int, set[int]] = {}
        for part, whole in attached:
            self._parts.setdefault(whole, set()).add(part)
        # A part can do without its whole: that one only comes first.
        self._apart = set(attached)

    def _attached(self, entry: Entry) -> Iterator[tuple[int, int]]:
        both = [number for number in self._known(entry) if self._by_number[number].kind in ATTACHED[entry.kind]]
        yield from ((part, whole) for part in both for whole in both if whole in self._by_number[part].depends_on)

    def _known(self, entry: Entry) -> list[int]:
        return [number for number in entry.depends_on if number in self._by_number]

    def _needs(self, entry: Entry) -> list[int]:
        return [number for number in self._known(entry) if (entry.number, number) not in self._apart]

    def with_partitions(self, table: int) -> set[int]:
        """The table, its partitions, and theirs."""
        return _closure({table}, lambda number: self._parts.get(number, set()))

    def with_what_they_need(self, tables: set[int]) -> set[int]:
        """And what those need."""
        return _closure(tables, lambda number: self._needs(self._by_number[number]))

    def is_part(self, entry: Entry, tables: set[int]) -> bool:
        """Whether it is an index or suchlike of one of the tables. What speaks of another one, too, may be of that."""
        of = {number for number in self._known(entry) if self._by_number[number].kind == "TABLE"}
        return entry.kind in {*MAY_NEED_MORE, "FK CONSTRAINT"} and bool(of) and of <= tables

    def lacks_rows(self, entry: Entry, filled: set[int]) -> bool:
        """Whether it is a table of whose rows nothing is there. Those of a partitioned one are in its partitions."""
        return entry.kind == "TABLE" and entry.number not in filled and entry.number not in self._parts

    def belongs(self, entry: Entry, chosen: set[int]) -> bool:
        """Whether it is of what was chosen, and of nothing else."""
        needs = self._needs(entry)
        return entry.kind in OF_A_TABLE and bool(needs) and all(number in chosen for number in needs)

    def is_of(self, entry: Entry, tables: set[int]) -> bool:
        """Whether it is something else of one of the tables. A foreign key's name begins with its own table's."""
        of = tables.intersection(entry.depends_on)
        if entry.kind == "FK CONSTRAINT":
            return any(entry.name.startswith(f"{self._by_number[number].name} ") for number in of)
        return entry.kind in LEFT_OUT and bool(of)


def _closure(start: set[int], more_of: Callable[[int], Iterable[int]]) -> set[int]:
    found, open_ones = set(start), list(start)
    while open_ones:
        more = set(more_of(open_ones.pop())) - found
        found |= more
        open_ones += more
    return found
