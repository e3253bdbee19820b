"""Backups: list them, look at one, take one now, fetch, verify or restore one, keep one or let it go.

examples:
  reconcile backups list
  reconcile backups show 20251025T020000Z-3f9c2a
  reconcile backups take --database hotel --label release=1.2 --keep 30d
  reconcile backups fetch 20251025T020000Z-3f9c2a --output hotel.dump      then: pg_restore … hotel.dump
  reconcile backups restore 20251025T020000Z-3f9c2a --into '${NEW_DATABASE_URL}'
  reconcile backups verify                       the newest on each target; or an ID, --target, --level hash|toc|restore
  reconcile backups hold 20251025T020000Z-3f9c2a --why "legal 2024-118"      and later: release
  reconcile backups delete 20251025T020000Z-3f9c2a                           and within the grace: undelete
"""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from reconciler.cli import backups_keep, backups_read, backups_take, backups_verify
from reconciler.cli.fitting import Only, by_verb
from reconciler.cli.frame import Call
from reconciler.cli.session import Session, open_session
from reconciler.duties import DUTIES
from reconciler.duties.verification import told_failed
from reconciler.planning.planner import FOREIGN
from reconciler.planning.proof import proven, refuted
from reconciler.planning.table import table
from reconciler.planning.text import instant, plain, size
from reconciler.turn import Survey, survey
from reconciler.world.evidence import Evidence
from reconciler.world.facts import Backup, State, Unknown

FITS = (
    *by_verb(
        "backups",
        {
            "list": (),
            "show": ("ID", "--from"),
            "take": backups_take.TAKES,
            "fetch": ("ID", "--from", *backups_read.FETCH_TAKES),
            "restore": ("ID", "--from", *backups_read.RESTORE_TAKES),
            "hold": ("ID", "--why", "--until"),
            "release": ("ID",),
            "delete": ("ID", "--grace", "--allow-destructive"),
            "undelete": ("ID",),
            "adopt": ("ID",),
            "sign": ("ID",),
            "verify": ("ID", *backups_verify.TAKES),
        },
    ),
    Only(("--spool",), "a restore by several jobs", lambda typed: typed.jobs != 1),
    Only(("--format",), "verbs that can answer either way", lambda typed: typed.verb not in {"fetch", "restore"}),
)
HEAD = ("ID", "DATABASE", "INSTANT", "KIND", "STATE", "TARGETS", "STORED", "VERIFIED")


class CopyView(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of it."""

    target: str
    state: State
    why: str
    can_come_back_until: datetime | None
    held: str
    """Why nobody may delete it there, or empty."""
    failed: str
    """What a verification found wrong with it, or empty: it counts for nothing then, however whole it lies there."""


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """One backup. `targets` are those with a whole copy; `state` is the best that any copy is in."""

    id: str
    database: str
    targets: tuple[str, ...]
    instant: datetime
    kind: str
    partial: bool
    """Whole tables were left out of it: no objective rests on it."""
    slot: datetime | None
    stored_bytes: int
    """Of one copy."""
    state: State
    verified: datetime | None
    """When a restore last proved it; null: never, or where evidence lies can't be seen."""
    labels: dict[str, str]
    keep_until: datetime | None
    copies: tuple[CopyView, ...]


class UnknownTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A target that could not be listed: what it holds is unknown, not nothing."""

    database: str
    target: str
    reason: str
    cure: str


class BackupsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `backups list --format json` prints."""

    format: int
    backups: tuple[BackupView, ...]
    unknown: tuple[UnknownTarget, ...]


def register(parser: argparse.ArgumentParser) -> None:
    """Its subcommands, each of which takes the options that all commands share."""
    parser.set_defaults(verb=None)
    parser.add_argument("verb", choices=tuple(VERBS), help="what to do")
    parser.add_argument("id", metavar="ID", nargs="?", help="of the backup, or an unambiguous beginning (all but list and take)")
    parser.add_argument("--from", metavar="TARGET", dest="origin", help="read this copy only (show, fetch, restore)")
    backups_take.register(parser)
    backups_read.register(parser)
    backups_verify.register(parser)
    backups_keep.register(parser)


def run(call: Call) -> int:
    """One of them."""
    return VERBS[call.arguments.verb](call)


def _list(call: Call) -> int:
    surveys = look(open_session(call))
    views = [
        view(backup, one.have.database, proofs.get(backup.id), bad, FOREIGN if one.plan.foreign else "")
        for one in surveys
        for proofs, bad in [({}, {}) if one.plan.foreign else (proven(one.have), refuted(one.have))]
        for backup in one.have.backups()
    ]
    unknown = [
        UnknownTarget(database=one.have.database, target=name, reason=seen.reason, cure=seen.cure)
        for one in surveys
        for name, seen in one.have.unknown().items()
    ]
    if call.json:
        call.answer_json(BackupsDocument(format=1, backups=tuple(views), unknown=tuple(unknown)))
    else:
        unread = {one.have.database for one in surveys if isinstance(one.have.evidence, Unknown)}
        call.answer(_text(views, unknown, unread))
    return 1 if surveys and all(one.plan.blind for one in surveys) else 0


def look(session: Session) -> list[Survey]:
    """All databases that were asked for."""
    return [survey(world, want, DUTIES) for want, world in session.worlds(writable=False)]


def view(
    backup: Backup, database: str, proof: Evidence | None, bad: Mapping[tuple[str, str], Evidence], foreign: str = ""
) -> BackupView:
    """As JSON shows it. `bad`: copies that are refuted; `foreign`: why all of it is another's, or empty."""
    copies = tuple(
        CopyView(
            target=name,
            state="foreign" if foreign else copy.state,
            why=foreign or copy.why,
            can_come_back_until=copy.due if copy.state == "deleted" else None,
            held=copy.held,
            failed=told_failed(bad[name, backup.id]) if (name, backup.id) in bad else "",
        )
        for name, copy in sorted(backup.copies.items())
    )
    return BackupView(
        id=backup.id,
        database=database,
        targets=() if foreign else backup.whole_on,
        instant=backup.instant,
        kind=backup.kind,
        partial=backup.partial,
        slot=backup.slot,
        stored_bytes=backup.stored_bytes,
        state="foreign" if foreign else backup.state,
        verified=proof.finished if proof else None,
        labels=dict(backup.labels),
        keep_until=backup.keep_until,
        copies=copies,
    )


def _text(views: Sequence[BackupView], unknown: Sequence[UnknownTarget], unread: Collection[str]) -> str:
    """`unread`: databases whose evidence is unknown."""
    nothing = "no backups" if not unknown else "no backups that can be seen"
    lines = [table(HEAD, [_row(one, _proven(one, unread)) for one in views]) if views else nothing]
    for one in views:
        lines += [f"{one.id} on {copy.target}: {copy.state}: {plain(copy.why)}" for copy in one.copies if copy.why]
        lines += [f"{one.id} on {copy.target} {plain(copy.failed)}" for copy in one.copies if copy.failed]
        lines += kept_because(one)
    for missing in unknown:
        lines.append(
            plain(
                f"{missing.database}: {missing.target} unknown: {missing.reason}" + (f"; {missing.cure}" if missing.cure else "")
            )
        )
    return "\n".join(lines)


def kept_because(one: BackupView) -> list[str]:
    """Holds, and how long it was asked to be kept."""
    held: dict[str, list[str]] = {}
    for copy in one.copies:
        if copy.held:
            held.setdefault(copy.held, []).append(copy.target)
    lines = [f"{one.id} on {', '.join(names)}: {plain(says)}" for says, names in held.items()]
    return lines + ([f"{one.id} is kept until {instant(one.keep_until)}"] if one.keep_until else [])


def _proven(one: BackupView, unread: Collection[str]) -> str:
    if one.verified:
        return instant(one.verified)
    failed = [copy.target for copy in one.copies if copy.failed and copy.target in one.targets]
    if failed:
        return "failed" if len(failed) == len(one.targets) else f"failed on {', '.join(failed)}"
    # Of what lies nowhere as a whole there is nothing to prove.
    return "–" if not one.targets else "unknown" if one.database in unread else "never"


def _row(one: BackupView, proven: str) -> tuple[str, ...]:
    where = ", ".join(one.targets) or ", ".join(copy.target for copy in one.copies)
    return (
        one.id,
        one.database,
        instant(one.instant),
        one.kind + (", partial" if one.partial else ""),
        one.state,
        where,
        size(one.stored_bytes),
        proven,
    )


VERBS: Mapping[str, Callable[[Call], int]] = {
    "list": _list,
    "show": backups_read.show,
    "take": backups_take.take,
    "fetch": backups_read.fetch,
    "restore": backups_read.restore,
    "hold": backups_keep.hold,
    "release": backups_keep.release,
    "delete": backups_keep.delete,
    "verify": backups_verify.verify,
    "undelete": backups_keep.undelete,
    "adopt": backups_keep.adopt,
    "sign": backups_keep.sign,
}
