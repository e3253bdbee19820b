"""Puts an archive into an empty database: all of it in one transaction, or nothing; or by several jobs, which is faster."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import LiteralString

import msgspec

from reconciler.errors import Corrupt, ReconcilerError, Refused, Unreachable
from reconciler.postgres import catalog, client, restorer
from reconciler.postgres.archive_order import largest_first
from reconciler.postgres.archive_roles import toc_with_roles, with_roles
from reconciler.postgres.child import Child
from reconciler.postgres.conninfo import ChildAddress, Conninfo
from reconciler.postgres.contents import Entry, Listed, listing, use_list
from reconciler.postgres.dump import Manners
from reconciler.postgres.failures import first_error, from_words, translated
from reconciler.postgres.flow import Watch, feed
from reconciler.postgres.hosted import is_of_host, refuse_source, restorable, was_hosted, without_host
from reconciler.postgres.money import reading_money
from reconciler.postgres.opener import Deserted
from reconciler.postgres.piped import LOOK_SECONDS, Piped, Pipes, piped
from reconciler.postgres.roles import create_roles, finish_database, missing_roles, rename_roles, without_roles
from reconciler.postgres.session import NOTICE_MILLISECONDS, Session, session, time_limit, unlimited, watches_clients
from reconciler.postgres.spool import Spool, beginning, spooled
from reconciler.postgres.words import RestoreWords
from reconciler.world.facts import DumpFacts, Globals, Identity, SourceFacts

LOCKS_ARE_OUT = "out of shared memory"
NAMED = 5
NO_ROLES = ("--no-owner", "--no-privileges")
CONTENTS: LiteralString = """
SELECT pg_describe_object(o.kind, o.oid, 0) FROM (
    SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
              WHERE nspname <> 'public' AND NOT starts_with(nspname, 'pg_') AND oid >= 16384
    UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class
              WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't' AND oid >= 16384
    UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
              WHERE (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c') AND t.oid >= 16384
    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
    UNION ALL SELECT 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata
) o (kind, oid)
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.kind AND d.objid = o.oid AND d.deptype IN ('e', 'i'))
ORDER BY 1
"""
"""All that no new database has (16384 is the first oid that is not PostgreSQL's own), but for extensions and what is theirs."""


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What of a backup is restored otherwise than it was."""

    roles: Mapping[str, str] = {}
    """Old name → that of a role that the server has: it gets what the old one owned and was granted."""
    no_roles: bool = False
    """No role is made, and everything belongs to whoever restores; rights are left out."""
    no_tablespaces: bool = False
    """Everything goes into the default one."""


AS_IT_WAS = Choices()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What of an archive is restored alone. The database that it goes into stays what it is: its owner, rights and settings."""

    entries: Sequence[int]
    """Of the table of contents."""
    extensions: Collection[str]
    """That these need."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did, and what it left for people to do."""

    target: SourceFacts
    client_version: str
    roles_created: tuple[str, ...]
    left_out: tuple[str, ...]
    """Each a sentence: a right that only a superuser may give, a password to be set."""


def restore_into(
    conninfo: Conninfo,
    chunks: Iterable[bytes],
    *,
    facts: DumpFacts,
    globals: Globals,  # noqa: A002  the port's word for them
    sources: Sequence[Identity],
    manners: Manners,
    by_jobs: Spool | Pipes | None = None,
    choices: Choices = AS_IT_WAS,
    part: Part | None = None,
) -> Restored:
    """Restore the archive in `chunks`, which came with `facts` and `globals`; roles first, the database's settings last.

    Raises Refused, before a byte is read, if the database is not empty, is one of `sources`, or differs in encoding or locale,
    or if the server lacks an extension, a tablespace or a role that is mapped to.
    Whatever is raised later (what `chunks` raises goes through), nothing of the archive stays; roles that were created do.
    `by_jobs`: by several sessions, after which a failure leaves part of it in the database: with a Spool, the archive is kept on
    disk and found sound before they begin; with Pipes, its files are read instead of `chunks`, while they work.
    `part`: what of it is restored; None: all.
    """
    with session(conninfo, "reconciler/restore") as connection:
        with translated(conninfo, "cannot restore into"), time_limit(connection):
            target = catalog.source_facts(connection)
            _check_target(target, facts, sources, conninfo)
            refuse_source(connection, sources, conninfo.place)
            _check_empty(connection, conninfo)
            _check_locale(catalog.locale(connection), facts, conninfo)
            versions = _check_extensions(connection, _needed(facts, part), conninfo)
            _check_tablespaces(connection, globals, choices, conninfo)
            _check_roles(connection, globals, choices, conninfo, facts.encoding)
            program = client.for_restore(
                client.find("pg_restore", manners.client_bin), archive=client.major_of(facts.client_version), server=target.major
            )
            reading = reading_money(connection, globals, conninfo.place)
            kept, hosts_left_out = without_host(globals)
            wanted = rename_roles(kept, choices.roles)
            who = restorer.Restorer.of(connection)
            created, roles_left_out = ((), []) if choices.no_roles else create_roles(connection, wanted)
            left_out = [*versions, *hosts_left_out, *roles_left_out]
            missing = missing_roles(connection, wanted)
        info = connection.info
        user = info.user
        pinned = conninfo.pinned(host=info.host, hostaddr=info.hostaddr, port=info.port)
        settings = unlimited(target.major) | {"default_transaction_read_only": "off"} | reading
        if watches_clients(connection):
            # Else what a pg_restore that was ended was at, an index of hours, would go on in the server.
            settings["client_connection_check_interval"] = NOTICE_MILLISECONDS
        address = pinned.for_child("reconciler/restore", settings)
    words = [*(NO_ROLES if choices.no_roles else ()), *(("--no-tablespaces",) if choices.no_tablespaces else ())]
    run = Run(
        program=program,
        address=address,
        conninfo=pinned,
        manners=manners,
        words=tuple(words),
        user=user,
        superuser=who.superuser,
        missing=missing,
    )
    owning = () if choices.no_roles else {*choices.roles.values(), *(role.name for role in wanted.roles)}
    with _roles_told(created):
        left_out += _fill(run, chunks, by_jobs, choices, part, owning=owning, hosted=was_hosted(globals))
    if part is None:
        left_out += _finish(pinned, without_roles(wanted) if choices.no_roles else wanted)
    return Restored(target=target, client_version=program.version, roles_created=created, left_out=tuple(left_out))


def _fill(
    run: "Run",
    chunks: Iterable[bytes],
    by_jobs: Spool | Pipes | None,
    choices: Choices,
    part: Part | None,
    *,
    owning: Collection[str],
    hosted: bool,
) -> Sequence[str]:
    """What the archive holds goes in; returns what of it was left out. `owning`: whose its objects may be."""
    entries = None if part is None else part.entries
    with ExitStack() as held:
        pipes = None
        if isinstance(by_jobs, Pipes):
            ordered = largest_first(toc_with_roles(by_jobs.files.toc(), choices.roles), by_jobs.files.raw_bytes)
            pipes = held.enter_context(piped(by_jobs, ordered.toc, run.manners, run.doing))
            entries = None if entries is None else [ordered.numbers.get(number, number) for number in entries]
        source = with_roles(chunks, choices.roles) if pipes is None else beginning(pipes.path)
        chosen = _chosen(run, source, entries, owning, hosted=hosted)
        run = run.giving_to(chosen.owners)
        if chosen.entries is not None:
            run = run.told(f"--use-list={held.enter_context(use_list(chosen.entries))}")
        if pipes is not None:
            _restore_from_pipes(run, pipes)
        elif isinstance(by_jobs, Spool):
            _restore_by_jobs(run, chosen.chunks, by_jobs)
        else:
            _restore(run, chosen.chunks)
    return chosen.left_out


def _finish(conninfo: Conninfo, wanted: Globals) -> list[str]:
    finishing = translated(conninfo, "cannot finish the restore into")
    with _all_but_settings(conninfo), session(conninfo, "reconciler/restore") as connection, finishing, time_limit(connection):
        return finish_database(connection, wanted)


class _Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What of an archive is restored."""

    entries: Sequence[int] | None
    """None: all."""
    chunks: Iterable[bytes]
    left_out: Sequence[str] = ()
    owners: tuple[str, ...] = ()


def _chosen(run: "Run", chunks: Iterable[bytes], asked: Sequence[int] | None, roles: Collection[str], *, hosted: bool) -> _Chosen:
    """What was `asked` for (None: all), but for what its host put there for itself, and for what whoever restores may not make
    though nothing else rests on it. `roles`: whose the archive's objects may be."""
    if run.superuser and not run.missing and (asked is not None or not hosted):
        return _Chosen(entries=asked, chunks=chunks)
    ours = None if asked is None else set(asked)
    listed, whole = listing(run.program, chunks, run.manners, with_statements=lambda entry: run.names_roles(entry, ours))
    _refuse_rights(run, listed)
    numbers, hosts = restorable(listed.entries)
    ours = set(numbers) if ours is None else ours
    entries = [entry for entry in listed.entries if entry.number in ours]
    forbidden = {} if run.superuser else _forbidden(run, entries, roles)
    return _Chosen(
        entries=[entry.number for entry in entries if entry.number not in forbidden],
        chunks=whole,
        left_out=(*(hosts if asked is None else ()), *forbidden.values()),
        owners=() if run.superuser else restorer.owners(entries, roles),
    )


def _refuse_rights(run: "Run", listed: Listed) -> None:
    """Rights come last, policies once all rows are there: what they lack is told before."""
    if missing := restorer.named_by(listed.statements, run.missing):
        what = f"the server of {run.conninfo.place} has not the roles that rights or policies of the backup name"
        others = (
            "" if run.gives_no_rights else ", or add --map-role OLD=NEW for each; --no-roles leaves rights out, but no policies"
        )
        raise Refused(f"{what}: {', '.join(missing)}", cure=f"make them there first{others}")
    if grantors := () if run.superuser else restorer.granted_by(listed.statements, run.user):
        what = f"{', '.join(grantors)} granted rights on what is somebody else's, which only a superuser can repeat"
        raise Refused(what, cure=f"restore as a superuser, or add --map-role OLD={run.user} for each, or --no-roles")


def _forbidden(run: "Run", entries: Sequence[Entry], roles: Collection[str]) -> Mapping[int, str]:
    if not restorer.may_be_forbidden(entries):
        return {}
    looking = translated(run.conninfo, "cannot restore into")
    with session(run.conninfo, "reconciler/restore") as connection, looking, time_limit(connection):
        return restorer.forbidden(connection, entries, roles)


def _check_target(target: SourceFacts, facts: DumpFacts, sources: Sequence[Identity], conninfo: Conninfo) -> None:
    client.check_supported(target.major, conninfo.place)
    # Who hosts it does not matter: the same cluster and name is the same database, whatever a policy calls its provider.
    if any((source.cluster, source.database) == (target.identity.cluster, target.identity.database) for source in sources):
        raise Refused(
            f"{conninfo.place} is a source of the policy, and is never restored into", cure="create an empty database beside it"
        )
    if target.standby:
        raise Refused(f"{conninfo.place} is a standby, which can't be written to", cure="restore into its primary")
    if target.major < facts.source.major:
        raise Refused(
            f"{conninfo.place} is PostgreSQL {target.major}, older than the backup's {facts.source.major}",
            cure=f"restore into PostgreSQL {facts.source.major} or newer",
        )


def _check_empty(connection: Session, conninfo: Conninfo) -> None:
    found = [row[0] for row in connection.execute(CONTENTS)]
    if found:
        rest = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise Refused(
            f"{conninfo.place} is not empty: it has {', '.join(found[:NAMED])}{rest}", cure="restore into a new database"
        )


def _check_locale(found: catalog.Locale, facts: DumpFacts, conninfo: Conninfo) -> None:
    """Text would be refused, or sorted otherwise than the indexes' owners expect."""
    if not facts.encoding:
        return  # An adopted orphan whose archive does not tell: what its manifest knew of the locale is lost.
    had = catalog.Locale(
        encoding=facts.encoding,
        collate=facts.collate,
        ctype=facts.ctype,
        provider=facts.locale_provider,
        locale=facts.locale,
    )
    if _comparable(found) == _comparable(had):
        return
    provider = catalog.PROVIDER_OPTIONS.get(had.provider, "").replace("{}", f"'{had.locale}'")
    raise Refused(
        f"{conninfo.place} has encoding {found.encoding} and locale {_said(found)}, "
        f"the backup has {had.encoding} and {_said(had)}",
        cure=f"CREATE DATABASE … TEMPLATE template0 ENCODING '{had.encoding}' "
        f"LC_COLLATE '{had.collate}' LC_CTYPE '{had.ctype}'{provider};",
    )


def _comparable(one: catalog.Locale) -> tuple[str, ...]:
    # ICU's own way to write a locale came with PostgreSQL 16: en_US became en-US.
    name = one.locale.replace("_", "-").lower() if one.provider == "icu" else one.locale
    return one.encoding, _plain(one.collate), _plain(one.ctype), one.provider, name


def _said(one: catalog.Locale) -> str:
    return one.collate if one.provider == "libc" else f"{one.collate}, ordered by {one.provider} {one.locale}"


def _needed(facts: DumpFacts, part: Part | None) -> Mapping[str, str]:
    """Extensions with their versions."""
    return {name: version for name, version in facts.extensions.items() if part is None or name in part.extensions}


def _check_extensions(connection: Session, needed: Mapping[str, str], conninfo: Conninfo) -> list[str]:
    """Returns what is told of other versions."""
    # One that a template brought is there already, in the version that it has.
    there = catalog.available_extensions(connection) | catalog.extensions(connection)
    missing = [f"{name} ({version})" for name, version in sorted(needed.items()) if name not in there]
    if missing:
        raise Refused(
            f"the server of {conninfo.place} has not the extensions that the backup needs: {', '.join(missing)}",
            cure="install them on the server, or restore into one that has them",
        )
    return [
        f"extension {name}: the server has {there[name]}, the backup was of {version}"
        for name, version in sorted(needed.items())
        if there[name] != version
    ]


def _check_tablespaces(connection: Session, wanted: Globals, choices: Choices, conninfo: Conninfo) -> None:
    missing = sorted(set(wanted.tablespaces) - catalog.tablespaces(connection))
    if missing and not choices.no_tablespaces:
        raise Refused(
            f"the server of {conninfo.place} has not the tablespaces that the backup names: {', '.join(missing)}",
            cure="make them there, or add --no-tablespaces to put everything into the default one",
        )


def _check_roles(connection: Session, wanted: Globals, choices: Choices, conninfo: Conninfo, encoding: str) -> None:
    if encoding != "UTF8" and not all(name.isascii() for pair in choices.roles.items() for name in pair):
        raise Refused(
            f"the archive is in {encoding or 'an unknown encoding'}, in which only names of ASCII letters can be mapped",
            cure="rename the role before, or restore with --no-roles",
        )
    known = {role.name for role in wanted.roles} | {wanted.database_owner}
    there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    for old, new in choices.roles.items():
        if old not in known:
            raise Refused(f"the backup has no role {old} to map", cure=f"it has {', '.join(sorted(known))}")
        if new not in there:
            raise Refused(f"the server of {conninfo.place} has no role {new} to map {old} to", cure="make it there first")


def _plain(locale: str) -> str:
    """`en_US.UTF-8` and `en_US.utf8` are one locale, named by two systems."""
    language, dot, codeset = locale.partition(".")
    return language + dot + codeset.lower().replace("-", "")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A pg_restore to be run."""

    program: client.Client
    address: ChildAddress
    conninfo: Conninfo
    manners: Manners
    words: tuple[str, ...]
    """What it is told beside where to."""
    user: str
    """Who restores."""
    superuser: bool
    """Whether he is one."""
    missing: tuple[str, ...] = ()
    """Roles of the backup that the server has not."""
    owners: tuple[str, ...] = ()
    """Roles that own something of what it restores, where whoever restores may not be able to give it to them."""

    @property
    def gives_no_rights(self) -> bool:
        """Whether owners and rights are left out."""
        return "--no-privileges" in self.words

    def names_roles(self, entry: Entry, ours: Collection[int] | None) -> bool:
        """Whether it is restored, and speaks of roles. `ours`: what is restored; None: all."""
        kinds = ("POLICY",) if self.gives_no_rights else ("POLICY", "ACL", "DEFAULT ACL")
        return entry.kind in kinds and (ours is None or entry.number in ours) and not is_of_host(entry)

    @property
    def doing(self) -> str:
        """For people."""
        return f"restoring into {self.conninfo.place}"

    def giving_to(self, owners: tuple[str, ...]) -> "Run":
        """The same of what these own."""
        return msgspec.structs.replace(self, owners=owners)

    def told(self, word: str) -> "Run":
        """The same with one word more."""
        return msgspec.structs.replace(self, words=(*self.words, word))

    def argv(self, *more: str) -> list[str]:
        """All that it is told."""
        program = str(self.program.folder / "pg_restore")
        # All rows are in before a table's row security is: it concerns materialized views alone, whose owners fill them under it
        # as they did at the source. Off, it would be an error.
        # Verbose, or an error would not say which entry it is of.
        words = ("--exit-on-error", "--verbose", "--no-password", "--enable-row-security")
        return [program, *words, *self.words, f"--dbname={self.address.conninfo}", *more]


def _restore(run: Run, chunks: Iterable[bytes]) -> None:
    said = RestoreWords()
    child = Child(run.argv("--single-transaction"), environment=run.address.environment, fed=True, hear=said.hear)
    watch = Watch(run.manners.clock, run.manners.stop, run.manners.patience, run.doing)
    try:
        was_fed = feed(child, _but_last_late(chunks), watch)
        # The indexes are built from now on, and take as long as they take.
        code = child.finish(Watch(run.manners.clock, run.manners.stop, None, run.doing).check)
    finally:
        # Never an end of file first: a program that is still fed must not take what it has for the whole.
        child.end()
    try:
        _refuse_failure(code, said, run)
    except Refused as error:
        if LOCKS_ARE_OUT in error.what:
            # Each table, index and large object that is made stays locked to the end of its transaction.
            error.cure = (
                f"{error.cure}; or add --jobs 2 or more: then it is not one transaction, and a failure leaves a part behind"
            )
        raise
    if not was_fed:
        raise Corrupt(
            f"pg_restore into {run.conninfo.place} was done before the archive ended",
            cure="don't trust it; drop it, check the backup",
        )


def _restore_by_jobs(run: Run, chunks: Iterable[bytes], spool: Spool) -> None:
    reading = Watch(run.manners.clock, run.manners.stop, run.manners.patience, f"reading what is {run.doing}")
    with spooled(chunks, spool, reading) as path:
        said = RestoreWords()
        child = Child(run.argv(f"--jobs={spool.jobs}", str(path)), environment=run.address.environment, hear=said.hear)
        with _in_part(run.conninfo):
            try:
                code = child.finish(Watch(run.manners.clock, run.manners.stop, None, run.doing).check)
            finally:
                child.end()
            _refuse_failure(code, said, run)


def _restore_from_pipes(run: Run, folder: Piped) -> None:
    argv = run.argv(f"--jobs={folder.jobs}", str(folder.path))
    said = RestoreWords()
    child = Child(argv, environment=run.address.environment, keeps=folder.keeps, opener=folder.opener, hear=said.hear)
    with _in_part(run.conninfo):
        try:
            code = child.finish(folder.look, look_seconds=LOOK_SECONDS)
        except Deserted:
            code = child.end()
        finally:
            child.end()
        if code:
            folder.raise_failure()
        _refuse_failure(code, said, run)
        folder.check_all_read()


@contextmanager
def _in_part(conninfo: Conninfo) -> Iterator[None]:
    """Says of what goes wrong in the body that it left something behind."""
    try:
        yield
    except ReconcilerError as error:
        cure = f"{error.cure}; " if error.cure else ""
        error.cure = f"{cure}part of it was restored: drop {conninfo.place} before trying again"
        error.left_a_part = True
        raise


@contextmanager
def _roles_told(created: Sequence[str]) -> Iterator[None]:
    """Says of what goes wrong in the body which roles stay: the next try finds them there, and says nothing of them."""
    try:
        yield
    except ReconcilerError as error:
        if created:
            made = f"roles were made, and stay, without what no backup has (passwords above all): {', '.join(created)}"
            error.cure = f"{error.cure}; {made}" if error.cure else made
        raise


@contextmanager
def _all_but_settings(conninfo: Conninfo) -> Iterator[None]:
    """Says of what goes wrong in the body that all else was restored: no other copy must be tried."""
    try:
        yield
    except ReconcilerError as error:
        cure = f"{error.cure}; " if error.cure else ""
        missing = "some of its settings, rights, comment and owner may be missing: set them by hand, or drop it and try again"
        error.cure = f"{cure}all that is in {conninfo.place} was restored, and {missing}"
        error.left_a_part = True
        raise


def _refuse_failure(code: int, said: RestoreWords, run: Run) -> None:
    if code < 0:
        raise Unreachable(
            f"pg_restore into {run.conninfo.place} was ended by signal {-code}", cure="look at memory and at who kills; try again"
        )
    if code > 0:
        why = first_error(said.complaints) or f"exit code {code}, without a word"
        at = f" at {said.failed_at}" if said.failed_at else ""
        failure = from_words(why, run.conninfo, f"pg_restore failed{at} on")
        if run.owners and restorer.is_about_roles(why):
            with suppress(ReconcilerError), session(run.conninfo, "reconciler/restore") as connection, time_limit(connection):
                failure.cure = restorer.cure(connection, run.owners, said.entry, why) or failure.cure
        raise failure


def _but_last_late(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each chunk only once there is a next one or the end, so that nothing commits before all of the archive was found sound."""
    held = b""
    for chunk in chunks:
        if held and chunk:
            yield held
        held = chunk or held
    if held:
        yield held
