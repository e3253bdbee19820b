"""Whether a dump of a source will work, hold the whole, and hurt nobody. What was seen is judged apart from looking."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from reconciler.doctor import clock
from reconciler.doctor.report import Notes, Passed, Verdict
from reconciler.errors import Finding, ReconcilerError, Severity
from reconciler.planning.text import age, counted
from reconciler.policy.model import DatabasePolicy
from reconciler.postgres.examination import Examination, Exclusive, Prepared
from reconciler.world.facts import SourceFacts
from reconciler.world.ports import World

WHERE: Final = "source"
NAMED: Final = 5
"""Objects named in a sentence; the rest is counted."""

FORGOTTEN: Final = timedelta(hours=1)
"""A prepared transaction is ended by its coordinator within seconds; one that old has lost it."""

LOCK_WAIT: Final = timedelta(seconds=30)
"""How long a dump waits for a lock."""

PERCENT_OF_LOCKS: Final = 50
"""Of all there are. TOAST tables may need locks too, and other sessions want theirs: beyond this it can fail on a busy day."""


@runtime_checkable
class Examinable(Protocol):
    """A source that can be looked at more closely than its port asks; not every one need be."""

    @property
    def client_bin(self) -> Path | None: ...

    def examine(self) -> Examination: ...


def examine_source(world: World, want: DatabasePolicy) -> tuple[list[Verdict], SourceFacts | None]:
    """Reached, and then all that can be seen from within; the facts for whoever needs the major."""
    notes, source = Notes(WHERE), world.provider.source()
    before = world.clock.now()
    facts = notes.attempt(source.facts)
    if facts is not None:
        role = "a standby" if facts.standby else "a primary"
        notes.passes(f"reached: PostgreSQL {facts.server_version}, {role}, {facts.identity}")
        notes.add([clock.judge(WHERE, clock.offset(facts.clock, before, world.clock.now()))])
    if isinstance(source, Examinable) and not notes.silent:
        _examine_within(source, notes, failed=facts is None, passwords=want.dumps.roles == "with_passwords")
    return notes.verdicts, facts


def _examine_within(source: Examinable, notes: Notes, *, failed: bool, passwords: bool) -> None:
    if failed:
        # What stopped the first look may be a right that the second one can name; if not, the first one's words do.
        with suppress(ReconcilerError):
            notes.add(judge(source.examine(), passwords=passwords))
        return
    seen = notes.attempt(source.examine)
    notes.add(judge(seen, passwords=passwords) if seen is not None else ())


def judge(seen: Examination, *, passwords: bool = False) -> list[Verdict]:
    """The worst of it keeps a dump from working; notes are for who wants to know. `passwords`: the policy asks for them."""
    return [
        *_rights(seen),
        *(_passwords(seen) if passwords else ()),
        _encryption(seen),
        _locks(seen),
        *_busy(seen.exclusive, seen),
        *_prepared(seen.prepared, seen),
        *_left_out(seen),
        *_manners(seen),
    ]


def _found(severity: Severity, what: str, cure: str) -> Finding:
    return Finding(severity=severity, where=WHERE, what=what, cure=cure)


def _rights(seen: Examination) -> Iterator[Verdict]:
    for name in seen.forbidden_functions:
        yield _found("error", f"{seen.role} may not call {name}", f"GRANT EXECUTE ON FUNCTION {name} TO {seen.role};")
    for lack in seen.shortfalls:
        yield _found("error", lack.what, lack.cure)
    if not seen.shortfalls:
        yield Passed(
            where=WHERE, what=f"{seen.role} may read all of it: {counted(seen.tables, 'table')}, sequences, large objects"
        )
    if seen.exported_snapshot:
        yield Passed(where=WHERE, what="a snapshot was exported")


def _passwords(seen: Examination) -> Iterator[Verdict]:
    if seen.reads_passwords:
        yield Passed(where=WHERE, what=f"{seen.role} may read the verifiers of passwords")
    else:
        what = f"{seen.role} may not read pg_authid: dumps.roles asks for passwords, and none are kept"
        yield _found("warning", what, f"GRANT pg_read_all_data TO {seen.role}; or write without_passwords")


def _encryption(seen: Examination) -> Verdict:
    if seen.encrypted or seen.local:
        return Passed(
            where=WHERE, what="the connection is encrypted" if seen.encrypted else "the connection stays on this machine"
        )
    cure = "add sslmode=verify-full and sslrootcert to the url, and switch TLS on in the server if it has none"
    return _found("warning", "the connection is not encrypted: whoever is on the way reads all data", cure)


def _locks(seen: Examination) -> Verdict:
    there = seen.locks_per_transaction * seen.transactions
    what = f"{counted(seen.tables, 'table')} to lock, and the server has room for {there} locks"
    if seen.tables * 100 <= there * PERCENT_OF_LOCKS:
        return Passed(where=WHERE, what=what)
    least = -(-seen.tables * 100 // (PERCENT_OF_LOCKS * seen.transactions))
    severity: Severity = "error" if seen.tables > there else "warning"
    return _found(severity, what, f"set max_locks_per_transaction = {least} or more in the server, and restart it")


def _busy(held: Sequence[Exclusive], seen: Examination) -> Iterator[Verdict]:
    """A lock just taken is nobody's concern: a dump waits for that long."""
    for lock in held:
        if lock.since is None or seen.at - lock.since > LOCK_WAIT:
            since = "nobody may tell us since when" if lock.since is None else f"for {age(seen.at - lock.since)}"
            what = f"{lock.table} is locked exclusively by {lock.holder}, {since}: a dump waits {age(LOCK_WAIT)} and gives up"
            yield _found("warning", what, "end that transaction, or wait for its end")


def _prepared(held: Sequence[Prepared], seen: Examination) -> Iterator[Verdict]:
    for one in held:
        if seen.at - one.since > FORGOTTEN:
            what = f"the prepared transaction {one.name} has been open for {age(seen.at - one.since)}: what it did is in no dump"
            yield _found(
                "warning", what, "COMMIT PREPARED or ROLLBACK PREPARED, in that database, whichever its coordinator says"
            )


def _left_out(seen: Examination) -> Iterator[Verdict]:
    if seen.subscriptions and not seen.superuser:
        what = f"pg_dump leaves {_some('subscription', seen.subscriptions)} out, as {seen.role} is no superuser"
        yield _found("warning", what, "note down how they were made, or dump as a superuser")
    if seen.mappings and not seen.superuser:
        named = _some("user mapping", seen.mappings)
        what = f"pg_dump leaves the options of {named} out, passwords too, as {seen.role} is no superuser"
        yield _found("warning", what, "note down which they are, or dump as a superuser")
    if seen.foreign:
        what = f"the rows of {_some('foreign table', seen.foreign)} lie elsewhere, and are in no dump"
        yield _found("note", what, "see that they are backed up where they are")
    if seen.unlogged and seen.standby:
        what = f"the rows of {_some('unlogged table', seen.unlogged)} are on no standby, and so in no dump"
        yield _found("warning", what, "dump from the primary, or make them logged: ALTER TABLE … SET LOGGED")
    elif seen.unlogged:
        what = f"{_some('unlogged table', seen.unlogged)}: dumped as of that moment, but a crash of the server empties them"
        yield _found("note", what, "make them logged if that would matter: ALTER TABLE … SET LOGGED")


def _manners(seen: Examination) -> Iterator[Verdict]:
    for limit in seen.timeouts:
        what = f"{limit.name} = {limit.value} is set for the {limit.set_for.replace('global', 'role of everybody')}"
        yield _found("note", f"{what}; our sessions switch it off", "nothing need be done")
    if seen.superuser:
        cure = "CREATE ROLE backup LOGIN BYPASSRLS; GRANT pg_read_all_data TO backup; and a grant for each large object"
        what = f"{seen.role} is a superuser: more than a dump needs, and tables of others are then counted without checksums"
        yield _found("note", what, cure)


def _some(what: str, names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return f"{what}{'s' if len(names) > 1 else ''} " + ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
