"""`backups hold`, `release`, `delete`, `undelete`, `adopt` and `sign`: keeping one backup, or letting it go, by name."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from reconciler.cli.backups_read import find
from reconciler.cli.by_name import do_one, whoever
from reconciler.cli.frame import Call
from reconciler.cli.session import open_session
from reconciler.duties.adopting import plan_adopt_backup
from reconciler.duties.holding import HoldBackup, ReleaseBackup
from reconciler.duties.keeping import plan_delete, plan_undelete
from reconciler.duties.retention import due, grace_of, min_verified_of
from reconciler.duties.vouching import plan_sign
from reconciler.errors import Absent, Refused
from reconciler.planning.plan import Shown, Step
from reconciler.policy.model import DatabasePolicy
from reconciler.policy.units import Duration
from reconciler.world.facts import Backup, Observation

Asked = Callable[[Backup, Observation, DatabasePolicy], Step]
Warned = Callable[[str, Observation, DatabasePolicy, datetime], str]

_SAY_AGAIN = "what lies there stays as it is; say this again once it can be seen"


def register(parser: argparse.ArgumentParser) -> None:
    """Their options."""
    group = parser.add_argument_group("hold, release, delete and undelete")
    group.add_argument("--why", metavar="TEXT", help="said wherever the hold is met (hold)")
    group.add_argument("--until", metavar="DATE", type=until, help="when it ends by itself, e.g. 2026-12-31 (hold)")
    group.add_argument(
        "--grace", metavar="SPAN", type=_grace, help="how long it can come back; 0: not at all (delete; default: the policy's)"
    )
    group.add_argument(
        "--allow-destructive", metavar="DIGEST", help="let through what the guard holds back, as it printed it (delete)"
    )


def until(text: str) -> datetime:
    """A day (its end, in UTC) or an instant."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a date such as 2026-12-31, or an instant such as 2026-12-31T12:00Z") from None
    if len(text) == 10:
        found = found.replace(hour=23, minute=59, second=59)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _grace(text: str) -> Duration:
    try:
        return Duration(0) if text == "0" else Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def hold(call: Call) -> int:
    """Nothing deletes it until it is released."""
    why = reason(call, "a hold")

    def ask(backup: Backup, have: Observation, want: DatabasePolicy) -> Step:
        action = HoldBackup(
            database=have.database,
            backup=backup.id,
            targets=tuple(sorted(backup.copies)),
            who=whoever(),
            why=why,
            until=call.arguments.until,
        )
        return Step(action=action, shown=Shown(does="hold", to=backup.id))

    return _by_id(call, ask, elsewhere="what lies there is held by the first `reconcile apply` that sees it")


def reason(call: Call, what: str) -> str:
    """Why it was asked for. Raises Refused where that is left open, or blank."""
    why = (call.arguments.why or "").strip()
    if not why:
        raise Refused(f"{what} needs a reason: whoever meets it must know whether it still matters", cure="add --why TEXT")
    return str(why)


def release(call: Call) -> int:
    """Retention governs it again."""

    def ask(backup: Backup, have: Observation, want: DatabasePolicy) -> Step:
        action = ReleaseBackup(database=have.database, backup=backup.id, targets=tuple(sorted(backup.copies)))
        return Step(action=action, shown=Shown(does="release", to=backup.id))

    undone = "a hold that lies there comes back to every copy once it can be seen; say this again then"
    return _by_id(call, ask, elsewhere=undone)


def delete(call: Call) -> int:
    """Whatever retention says of it; the last good ones, held ones and ones being read are refused."""

    def ask(backup: Backup, have: Observation, want: DatabasePolicy) -> Step:
        grace = grace_of(want) if call.arguments.grace is None else call.arguments.grace
        return plan_delete(backup, have, who=whoever(), grace=grace, min_verified=min_verified_of(want))

    return _by_id(call, ask)


def undelete(call: Call) -> int:
    """If all of it is still there."""

    def warn(backup: str, have: Observation, want: DatabasePolicy, now: datetime) -> str:
        again = any(step.action.loses == backup for step in due(want, have, now).steps)
        keeps = f"`reconcile backups hold {backup} --why TEXT` keeps it"
        return f"nothing keeps {backup}, and the next turn gives it up again: {keeps}" if again else ""

    return _by_id(call, lambda backup, have, _: plan_undelete(backup, have), elsewhere=_SAY_AGAIN, warn=warn)


def adopt(call: Call) -> int:
    """Data that lost its manifest becomes a backup again, after every byte of it was read."""
    return _by_id(call, lambda backup, have, _: plan_adopt_backup(backup, have))


def sign(call: Call) -> int:
    """For what was taken before signatures were asked for, and that somebody vouches for."""
    return _by_id(call, lambda backup, have, _: plan_sign(backup, have), elsewhere=_SAY_AGAIN)


def _by_id(call: Call, asked: Asked, *, elsewhere: str = "", warn: Warned | None = None) -> int:
    session = open_session(call)
    found = find(call, session)

    def ask(have: Observation) -> Step:
        for backup in have.backups():
            if backup.id == found.backup.id:
                return asked(backup, have, found.want)
        raise Absent(f"{found.backup.id} is gone")

    def warned(have: Observation, now: datetime) -> str:
        return warn(found.backup.id, have, found.want, now) if warn is not None else ""

    allow = call.arguments.allow_destructive
    return do_one(call, session, found.want, ask, allow_destructive=allow, elsewhere=elsewhere, warn=warned)
