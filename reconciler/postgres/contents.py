"""An archive's table of contents, as pg_restore lists it: read from a stream, whose bytes are passed on afterwards."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from reconciler.errors import Corrupt, Full, ReconcilerError, Unreachable
from reconciler.postgres import client
from reconciler.postgres.child import Child
from reconciler.postgres.complaints import SPOKEN, kind_of
from reconciler.postgres.disk import on_disk
from reconciler.postgres.dump import Manners
from reconciler.postgres.environment import child_environment
from reconciler.postgres.failures import first_error
from reconciler.postgres.flow import Watch, feed
from reconciler.postgres.nameless import nameless, write

KINDS: Final = (
    "ACCESS METHOD", "ACL", "ACL LANGUAGE", "AGGREGATE", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "CAST",
    "CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT", "CONVERSION", "DATABASE", "DATABASE PROPERTIES", "DEFAULT",
    "DEFAULT ACL", "DOMAIN", "DUMMY TYPE", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FK CONSTRAINT", "FOREIGN DATA WRAPPER",
    "FOREIGN SERVER", "FOREIGN TABLE", "FUNCTION", "INDEX", "INDEX ATTACH", "LARGE OBJECT", "LARGE OBJECTS",
    "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY",
    "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "ROW SECURITY",
    "RULE", "SCHEMA", "SEARCHPATH", "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "SERVER", "SHELL TYPE",
    "STATISTICS", "STATISTICS DATA", "STDSTRINGS", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "TABLE", "TABLE ATTACH", "TABLE DATA",
    "TABLESPACE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE",
    "TRANSFORM", "TRIGGER", "TYPE", "USER MAPPING", "VIEW",
)  # fmt: skip
"""What pg_dump 14 to 18 calls its entries. One that is not among them is known by its first word."""
_LONGEST_FIRST: Final = sorted(KINDS, key=len, reverse=True)
_DEFAULTS: Final = "2604"
"""The catalog of columns' defaults, pg_attrdef. Default privileges are in another one."""
_LINE: Final = re.compile(r"(\d+); (\d+) (\d+) (.+)")
DOING: Final = "cannot list an archive's contents on this machine"
CURE: Final = "look at its disk (TMPDIR names the folder of temporary files) and its memory"
_NAME: Final = r'("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_HEAD: Final = re.compile(r"^-- (?:Data for )?Name: .*; Type: ([A-Z ]+); Schema: .*; Owner: .*$", re.MULTILINE)
_EXTENSION: Final = re.compile(rf"^CREATE EXTENSION IF NOT EXISTS {_NAME} WITH SCHEMA {_NAME};$", re.MULTILINE)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table of contents."""

    number: int
    kind: str
    rest: str
    """Schema (or `-`), name and owner, as listed: names may hold blanks, so nobody can tell them apart for sure."""

    @property
    def name(self) -> str:
        """Schema and name, for people."""
        schema, _, name = self.rest.rpartition(" ")[0].partition(" ")
        return name if schema == "-" else f"{schema}.{name}"

    def may_be(self, name: str) -> bool:
        """Whether it can be what lies in no schema and is called so, whoever owns it."""
        return self.rest.startswith(f"- {name} ")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds, and where its extensions go."""

    entries: tuple[Entry, ...]
    schemas: Mapping[str, str]
    """Extension → the schema that it lies in."""
    statements: tuple[tuple[str, str], ...] = ()
    """Of the kinds that were asked for: kind and SQL, in no order."""


def read_through(program: client.Client, chunks: Iterable[bytes], manners: Manners) -> Listed:
    """List it, and let pg_restore read all of it, to the last byte. Raises what `chunks` raises.

    Raises Corrupt where pg_restore says that it can't; Full, Unreachable or Refused where this machine is to blame.
    """
    listed, all_chunks = listing(program, chunks, manners)
    with Path(os.devnull).open("wb") as void:
        _run(program, ["--file=-"], all_chunks, void, manners, whole=True)
    return listed


def listing(
    program: client.Client,
    chunks: Iterable[bytes],
    manners: Manners,
    *,
    with_statements: Callable[[Entry], bool] = lambda _: False,
) -> tuple[Listed, Iterator[bytes]]:
    """The table of contents, which is an archive's beginning, and all its chunks from the first on.

    What must be held in memory meanwhile is what pg_restore takes to read it: the table, and what fills a pipe.
    """
    source = iter(chunks)
    head: list[bytes] = []
    with _output() as output:
        _run(program, ["--list"], _remembered(source, head), output, manners, whole=False)
        entries = tuple(_entries(_text(output)))
    schemas = _extension_schemas(program, entries, head, manners)
    statements = tuple(_statements(_sql(program, filter(with_statements, entries), head, manners)))
    return Listed(entries=entries, schemas=schemas, statements=statements), _rejoined(head, source)


def _entries(text: str) -> Iterator[Entry]:
    # Of this end alone pg_restore makes a blank in names: any other would let a name forge an entry.
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match:
            kind = next((kind for kind in _LONGEST_FIRST if match[4].startswith(kind + " ")), match[4].partition(" ")[0])
            if (kind, match[2]) == ("DEFAULT ACL", _DEFAULTS):
                kind = "DEFAULT"  # in a schema ACL: of the kinds that a rehearsal leaves out, no other begins with another one
            yield Entry(number=int(match[1]), kind=kind, rest=match[4][len(kind) + 1 :])


def _extension_schemas(
    program: client.Client, entries: Sequence[Entry], head: Sequence[bytes], manners: Manners
) -> Mapping[str, str]:
    """As the archive's own statements say it: each is read by a strict pattern, and never run."""
    said = _sql(program, (entry for entry in entries if entry.kind == "EXTENSION"), head, manners)
    return {_plain(name): _plain(schema) for name, schema in _EXTENSION.findall(said)}


def _sql(program: client.Client, entries: Iterable[Entry], head: Sequence[bytes], manners: Manners) -> str:
    """What makes them; empty where there are none."""
    wanted = [entry.number for entry in entries]
    if not wanted:
        return ""
    with use_list(wanted) as chosen, _output() as output:
        arguments = ["--schema-only", f"--use-list={chosen}", "--file=-"]
        _run(program, arguments, iter(head), output, manners, whole=False)
        return _text(output)


def _statements(said: str) -> Iterator[tuple[str, str]]:
    """By the line that pg_restore puts above each."""
    heads = list(_HEAD.finditer(said))
    ends = [*(head.start() for head in heads[1:]), len(said)]
    for head, end in zip(heads, ends, strict=False):
        yield head[1], said[head.end() : end]


@contextmanager
def use_list(numbers: Iterable[int]) -> Iterator[Path]:
    """The path of a file that tells pg_restore which entries to restore, while we live. Raises Full, Refused."""
    with ExitStack() as stack:
        with on_disk(DOING, cure=CURE):
            file, path = stack.enter_context(nameless())
            write(file, "".join(f"{number};\n" for number in numbers).encode())
        yield path


def _output() -> IO[bytes]:
    """A file for what pg_restore writes; it goes when closed. Raises Full, Refused."""
    with on_disk(DOING, cure=CURE):
        return tempfile.TemporaryFile()


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode("utf-8", "replace")


def _remembered(chunks: Iterator[bytes], head: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        head.append(chunk)
        yield chunk


def _rejoined(head: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    while head:
        yield head.pop(0)
    yield from rest


def _run(
    program: client.Client,
    arguments: Sequence[str],
    chunks: Iterator[bytes],
    output: IO[bytes],
    manners: Manners,
    *,
    whole: bool,
) -> None:
    """Feed it until it has enough, or to the end where it must read the `whole`. Raises what `read_through` does."""
    argv = [str(program.folder / "pg_restore"), *arguments]
    child = Child(argv, environment=child_environment(None), fed=True, output=output.fileno())
    watch = Watch(manners.clock, manners.stop, manners.patience, "reading an archive")
    try:
        fed_all = feed(child, chunks, watch)
        code = child.finish(watch.check)
    finally:
        child.end()
    if code:
        raise _failure(code, child.complaints)
    if whole and not fed_all:
        raise Corrupt("pg_restore was done before the archive ended")


def _failure(code: int, complaints: str) -> ReconcilerError:
    """The archive is to blame only where pg_restore itself says so, and not for want of something on this machine."""
    if code < 0:
        return Unreachable(f"pg_restore was ended by signal {-code}", cure="look at memory and at who kills; try again")
    said = first_error(complaints)
    if not any(line.startswith(SPOKEN) for line in complaints.splitlines()):
        # It, its libraries or its guardian could not start, or had no memory to say more.
        what = f"pg_restore could not read an archive here: {said or f'exit code {code}, without a word'}"
        return Unreachable(what, cure="see whether pg_restore runs on this machine, and look at its memory")
    if kind_of(said) == "no room":
        return Full(f"{DOING}: {said}", cure=CURE)
    return Corrupt(f"pg_restore can't read the archive: {said}")
