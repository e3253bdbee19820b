"""A scratch database: furnished by a superuser while it is empty, then restored, compared and asked without any rights."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg import sql

from reconciler.errors import Refused, Unreachable
from reconciler.policy.model import Check
from reconciler.postgres import amcheck, catalog, client, hostile
from reconciler.postgres.checks import run_check
from reconciler.postgres.child import Child
from reconciler.postgres.complaints import Complaints
from reconciler.postgres.conninfo import Conninfo
from reconciler.postgres.contents import Entry, Listed, listing, use_list
from reconciler.postgres.counting import count
from reconciler.postgres.disk import on_disk
from reconciler.postgres.dump import Manners
from reconciler.postgres.failures import translated
from reconciler.postgres.fingerprint import JOBS, take
from reconciler.postgres.flow import Watch, feed
from reconciler.postgres.money import reading_money
from reconciler.postgres.session import Session, session, time_limit, unlimited
from reconciler.postgres.spool import Spool, beginning, spooled
from reconciler.world.clock import token
from reconciler.world.evidence import Fault
from reconciler.world.facts import DumpFacts, Globals
from reconciler.world.fingerprint import Fingerprint, differences, gaps, other_rows, other_versions
from reconciler.world.scratch import Comparison, Inspection, Restoration

NAME: Final = "reconciler/rehearsal"
MADE_FOR: Final = "made by reconcile for "
"""Begins the comment of each role that is a rehearsal's own."""
INVALID: LiteralString = """
SELECT indexrelid::regclass::text, relkind = 'I' FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid
"""
UNPOPULATED: LiteralString = """
SELECT nspname || ' ' || relname, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'm' AND NOT relispopulated
"""


DOING: Final = "rehearsing a restore"
ROOM: Final = 2
"""Bytes on disk for each byte of an archive, indexes included: usually fewer, and a full disk is seen too late."""
SPARE_BYTES: Final = 256 * 1024 * 1024
"""An empty server with its WAL has about this."""
WORTH_BYTES: Final = 64 * 1024 * 1024
"""Below this, writing the archive down first costs more than several jobs save."""
MOST_JOBS: Final = 4
MORE_ROOM: Final = "name a folder with more room as scratch.folder"


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """How a scratch database is entered."""

    admin: Conninfo
    """Who furnished it. Runs nothing that was restored: catalog queries alone."""
    owner: Conninfo
    """Owns it and may do nothing else."""
    reader: Conninfo
    """May read everything in it and nothing else."""
    keeper: str
    """A role whose the tables of extensions are. Nobody enters as it."""
    major: int
    """Of the server."""


class PostgresRoom:
    """One rehearsal's database."""

    def __init__(
        self,
        keys: Keys,
        facts: DumpFacts,
        globals_: Globals,
        tools: client.Client,
        manners: Manners,
        *,
        place: str,
        reveal: Callable[[Check], str | None],
        folder: Path | None = None,
        lacks: tuple[str, ...] = (),
    ) -> None:
        """`folder`: where the database's files lie, if that is this machine: there must be room for them.

        `lacks`: what could not be done for its safety, for people.
        """
        self.place = place
        self._folder, self._lacks = folder, lacks
        self._keys, self._facts, self._globals, self._tools, self._manners = keys, facts, globals_, tools, manners
        self._reveal = reveal
        self._entries: tuple[Entry, ...] = ()
        self._excused = False
        """Whether something was left out, so that what misses it proves nothing."""
        self._fell_short = False
        """Whether pg_restore met that: then rows, too, may be missing for want of it."""
        self._shape_compared = False

    def restore(self, chunks: Iterable[bytes], *, raw_bytes: int) -> Restoration:
        """By several jobs from a file where that is worth it and there is room for both, else from the stream."""
        jobs = self._jobs(raw_bytes)
        if jobs == 1 or self._folder is None:
            listed, whole = listing(self._tools, chunks, self._manners)
            return self._bring_back(listed, whole, jobs=1)
        watch = Watch(self._manners.clock, self._manners.stop, self._manners.patience, "reading an archive")
        with spooled(chunks, Spool(jobs=jobs, folder=self._folder, raw_bytes=raw_bytes, cure=MORE_ROOM), watch) as path:
            listed, _ = listing(self._tools, beginning(path), self._manners)
            return self._bring_back(listed, path, jobs=jobs)

    def _jobs(self, raw_bytes: int) -> int:
        """Raises Refused where there is no room for what is restored, counted with its indexes."""
        if self._folder is None:
            return 1
        with on_disk(f"cannot look at {self._folder}", cure=MORE_ROOM):
            free = shutil.disk_usage(self._folder).free
        needed = ROOM * raw_bytes + SPARE_BYTES
        if free < needed:
            what = f"{self._folder} has room for {free} bytes, and rehearsing this backup takes about {needed}"
            raise Refused(what, cure=MORE_ROOM)
        is_worth_it = raw_bytes >= WORTH_BYTES and free >= needed + raw_bytes
        return min(MOST_JOBS, os.cpu_count() or 1) if is_worth_it else 1

    def _bring_back(self, listed: Listed, source: Iterator[bytes] | Path, *, jobs: int) -> Restoration:
        """Extensions first, then all entries but those left out, then count."""
        with self._admin("furnish") as admin:
            owner = self._keys.owner.user
            reading = reading_money(admin, self._globals, self.place)
            # A manifest that was lost and made anew lists none, not even plpgsql.
            wanted = self._facts.extensions or dict.fromkeys(listed.schemas, "")
            made, faults, notes = hostile.make_extensions(admin, wanted, listed.schemas, owner, self._keys.keeper)
        self._entries, left_out = hostile.restorable(listed, made, [role.name for role in self._globals.roles])
        self._excused = bool(faults) or any(entry.kind in hostile.NEEDED_BY_OTHERS for entry in listed.entries)
        complaints = Complaints()
        self._run_restore(source, complaints, reading, jobs=jobs)
        complained = tuple(complaints.faults(excused=self._excused))
        faults += complained
        self._excused = self._excused or any(fault.result == "unproven" for fault in faults)
        # What pg_restore was told to bring back and did not complain of is there, whatever else was left out.
        self._fell_short = self._excused and bool(complained)
        with self._admin("count the objects of") as admin:
            objects, missing = count(admin, self._entries, excused=self._fell_short)
        return Restoration(
            did=f"restored {len(self._entries)} entries by pg_restore {self._tools.version}"
            + (f" with {jobs} jobs" if jobs > 1 else "")
            + f", counted {objects} objects",
            faults=(*faults, *missing),
            left_out=(*self._lacks, *left_out, *notes, *complaints.rights()),
        )

    def compare(self, expected: Fingerprint) -> Comparison:
        """As the owner, whom row security does not bind any more."""
        owner = self._keys.owner
        clock, stop = self._manners.clock, self._manners.stop
        found = take(owner, application_name=NAME, level=expected.level, clock=clock, stop=stop, jobs=JOBS[expected.level])
        self._shape_compared = expected.shape is not None and found.shape is not None
        certain = () if self._fell_short else other_rows(expected, found)
        faults = [
            Fault(where="fingerprint", what=what, result="failed" if what in certain else self._blame())
            for what in differences(expected, found, left_out=hostile.KINDS_LEFT_OUT)
        ]
        faults += [Fault(where="fingerprint", what=what, result="unproven") for what in gaps(expected, found)]
        notes = [f"{one.what}: not compared: {one.why}" for one in expected.uncovered]
        return Comparison(
            did=f"compared {len(found.tables)} tables with {found.rows} rows ({expected.level}) with what the source held",
            faults=tuple(faults),
            notes=(*notes, *other_versions(expected, found)),
        )

    def inspect(self) -> Inspection:
        """By catalog queries, and by pg_amcheck where it is there."""
        with self._admin("inspect") as admin:
            invalid = admin.execute(INVALID).fetchall()
            unpopulated = admin.execute(UNPOPULATED).fetchall()
            refusal = amcheck.refusal(admin, self._tools, self._keys.owner.user)
        faults = [
            # Of a partitioned table's it may have been so at the source: the archive says nothing about that.
            Fault(where=f"index {name}", what="was left invalid", result="unproven" if partitioned else "failed")
            for name, partitioned in invalid
            if not (partitioned and self._shape_compared)
        ]
        filled = [entry.rest for entry in self._entries if entry.kind == "MATERIALIZED VIEW DATA"]
        faults += [
            Fault(where=f"materialized view {name}", what="was left without its rows", result=self._blame())
            for listed, name in unpopulated
            if any(rest.startswith(f"{listed} ") for rest in filled)
        ]
        if refusal:
            return Inspection(faults=tuple(faults), notes=(f"pages and indexes were not checked: {refusal}",))
        faults += amcheck.damages(self._tools, self._keys.owner, self._manners, name=NAME, major=self._keys.major)
        return Inspection(faults=tuple(faults))

    def check(self, check: Check) -> Fault | None:
        """Under the reader's name."""
        try:
            secret = self._reveal(check)
        except Refused as error:
            return Fault(where=f"check {check.name}", what=f"can't be asked: {error.what}", result="unproven")
        with translated(self._keys.reader, "cannot check"):
            return run_check(
                self._keys.reader, check, secret, self._globals.settings, excused=self._excused, short=self._fell_short
            )

    def _blame(self) -> "hostile.Blame":
        return "unproven" if self._excused else "failed"

    @contextmanager
    def _admin(self, doing: str) -> Iterator[Session]:
        with (
            session(self._keys.admin, NAME) as connection,
            translated(self._keys.admin, f"cannot {doing}"),
            time_limit(connection),
        ):
            yield connection

    def _run_restore(self, source: Iterator[bytes] | Path, complaints: Complaints, reading: dict[str, str], *, jobs: int) -> None:
        address = self._keys.owner.for_child(NAME, unlimited(self._keys.major) | reading)
        is_stream = not isinstance(source, Path)
        with use_list(entry.number for entry in self._entries) as chosen:
            argv = [
                str(self._tools.folder / "pg_restore"),
                "--verbose",  # or an error would not say which entry it is of
                "--no-owner",
                "--no-tablespaces",
                "--no-password",
                f"--use-list={chosen}",
                f"--dbname={address.conninfo}",
                *(() if is_stream else (f"--jobs={jobs}", str(source))),
            ]
            child = Child(argv, environment=address.environment, fed=is_stream, hear=complaints.hear)
            try:
                if not isinstance(source, Path):
                    self._feed(child, source)
                code = child.finish(Watch(self._manners.clock, self._manners.stop, None, DOING).check)
            finally:
                child.end()
        if code < 0:
            raise Unreachable(f"pg_restore was ended by signal {-code}", cure="look at memory and at who kills")
        complaints.end(code)
        if complaints.stuck:
            what = f"the restore could not go on: {complaints.stuck}"
            raise Unreachable(what, cure="look at disk and memory of its machine")

    def _feed(self, child: Child, chunks: Iterator[bytes]) -> None:
        if not feed(child, chunks, Watch(self._manners.clock, self._manners.stop, self._manners.patience, DOING)):
            for _ in chunks:  # what is wrong with the rest of the archive must be seen too
                pass


@contextmanager
def furnished(admin: Conninfo, facts: DumpFacts, globals_: Globals, *, database: str, place: str) -> Iterator[Keys]:
    """A new database like the source's, with its three roles and those that its rights name. Dropping them is others' work.

    Raises Refused where the server can't have one like it.
    """
    owner, reader, keeper = _roles_of(database)
    passwords = token(16), token(16)
    with session(admin, NAME) as connection, translated(admin, "cannot make a scratch database on"), time_limit(connection):
        _make_roles(connection, globals_, database, passwords)
        _make_database(connection, facts, database, owner, place)
    inside = admin.in_database(database)
    with session(inside, NAME) as connection, translated(inside, "cannot furnish"), time_limit(connection):
        # Before PostgreSQL 15 it is the superuser's, and everybody's to create in.
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(owner)))
        major = connection.info.server_version // 10000
    yield Keys(
        admin=inside,
        owner=admin.as_role(owner, passwords[0], database),
        reader=admin.as_role(reader, passwords[1], database),
        keeper=keeper,
        major=major,
    )


def _make_roles(connection: Session, globals_: Globals, database: str, passwords: tuple[str, str]) -> None:
    """The three of its own carry its mark. `passwords`: of owner and reader."""
    hostile.make_roles(connection, globals_)
    owner, reader, keeper = _roles_of(database)
    for name, password in zip((owner, reader), passwords, strict=True):
        create = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}")
        hostile.make_role(connection, create.format(sql.Identifier(name), sql.Literal(password)), name, MADE_FOR + database)
    hostile.make_role(connection, sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(keeper)), keeper, MADE_FOR + database)
    # Row security must hide nothing from who compares and asks, nor from a materialized view that is filled: at the source its
    # owner was another than the table's, whom it may bind.
    for name in (owner, reader):
        connection.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(name)))
    # The keeper looks into each schema that a table of his lies in.
    for name in (reader, keeper):
        connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(name)))


def _roles_of(database: str) -> tuple[str, str, str]:
    """Owner, reader and keeper."""
    return f"{database}_owner", f"{database}_reader", f"{database}_keeper"


def _make_database(connection: Session, facts: DumpFacts, database: str, owner: str, place: str) -> None:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
        sql.Identifier(database),
        sql.Identifier(owner),
        sql.Literal(facts.encoding or "UTF8"),
        sql.Literal(facts.collate or "C"),
        sql.Literal(facts.ctype or "C"),
    )
    # What orders text decides whether indexes and constraints on it hold.
    create += sql.SQL(catalog.PROVIDER_OPTIONS.get(facts.locale_provider, "")).format(sql.Literal(facts.locale))
    try:
        connection.execute(create)
    except (
        psycopg.errors.WrongObjectType,
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.FeatureNotSupported,  # built without ICU
    ) as error:
        locale = facts.collate + (f", ordered by {facts.locale_provider} {facts.locale}" if facts.locale else "")
        locale_gen = f"make the locale on that machine, e.g. `locale-gen {facts.collate}`"
        raise Refused(
            f"{place} can't have a database like the source's, with encoding {facts.encoding} and locale {locale}: "
            f"{error.diag.message_primary}",
            cure="name a server that was built with ICU under `scratch:`" if facts.locale_provider == "icu" else locale_gen,
        ) from error
    # What goes wrong is told apart by the server's words, and those we know in English.
    connection.execute(sql.SQL("ALTER DATABASE {} SET lc_messages = 'C'").format(sql.Identifier(database)))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
    reader = sql.Identifier(f"{database}_reader")
    connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(database), reader))


def tools_for(explicit: Path | None, facts: DumpFacts, server: int) -> client.Client:
    """The pg_restore that reads this dump's archive. Raises Refused."""
    return client.for_restore(client.find("pg_restore", explicit), archive=client.major_of(facts.client_version), server=server)
