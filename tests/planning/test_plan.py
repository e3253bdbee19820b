"""Actions and their identity, and what a consent lets through."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from reconciler.duties import DUTIES
from reconciler.duties.branches import ProtectBranch, SweepBranch
from reconciler.duties.copies import CopyBackup
from reconciler.duties.dumps import TakeDump
from reconciler.duties.holding import HoldBackup, ReleaseBackup, SpreadHold
from reconciler.duties.keeping import DeleteBackup, FreezeDeletions, LiftFreeze, RemovePin, UndeleteBackup
from reconciler.duties.leftovers import FinishDeletion, ForgetTombstone, RemoveIntent, SweepDebris
from reconciler.duties.pitr import NoteWindow, ShortenWindow, WidenWindow
from reconciler.duties.retention import PruneBackup
from reconciler.duties.snapshots import DeleteSnapshot, SetSchedule, ShrinkSchedule, TakeSnapshot
from reconciler.duties.verification import VerifyBackup
from reconciler.planning.plan import Action, Agreed, Consent, Plan, Shown, Step, agree, blocked_digest, digest_of, in_order
from reconciler.policy.firing import Firing
from reconciler.world.facts import Filters, Observation
from tests.building import (
    DAY,
    HOTEL,
    HOUR,
    NOW,
    REPOSITORY,
    catalogue,
    daily,
    observation,
    planned,
    policy,
    retention,
    unknown,
    utc,
)

GOLDEN = Path(__file__).parent / "golden" / "action_ids.json"
BACKUP = "20251025T020000Z-3f9c2a"
SNAPSHOT = "reconciler-hotel-5f0c1d2e-20251025T030000Z"
DAILY = Firing(frequency="daily", hour=3, retention=7 * DAY)
SLOT = utc("2025-10-25 02:00")


def dump(slot: datetime | None = SLOT, **fields: object) -> TakeDump:
    given = {"database": "hotel", "target": "primary", "repository": REPOSITORY, "identity": HOTEL} | fields
    return TakeDump(slot=slot, **given)  # type: ignore[arg-type]  # the struct checks its fields


ONE_OF_EACH: dict[str, Action] = {
    "take_dump": dump(),
    "take_dump, the first": dump(repository=None),
    "take_dump, manual": dump(
        None, backup_kind="manual", labels={"release": "1.2", "by": "ana"}, keep_until=utc("2025-11-24 12:00")
    ),
    "take_dump, filtered": dump(filters=Filters(exclude=("public.log",), exclude_data=("public.sessions",))),
    "copy_backup": CopyBackup(database="hotel", backup=BACKUP, origin="primary", target="offsite"),
    "prune_backup": PruneBackup(database="hotel", backup=BACKUP, targets=("offsite", "primary")),
    "sweep_debris": SweepDebris(database="hotel", backup=BACKUP, target="primary"),
    "finish_deletion": FinishDeletion(database="hotel", backup=BACKUP, target="primary"),
    "remove_intent": RemoveIntent(database="hotel", backup=BACKUP, target="primary"),
    "forget_tombstone": ForgetTombstone(database="hotel", backup=BACKUP, target="primary"),
    "freeze_deletions": FreezeDeletions(database="hotel", why="looking", who="ana", until=utc("2025-11-24 12:00")),
    "lift_freeze": LiftFreeze(database="hotel", who="ana", acknowledged=(BACKUP,)),
    "hold_backup": HoldBackup(database="hotel", backup=BACKUP, targets=("primary",), who="ana", why="legal 2024-118"),
    "spread_hold": SpreadHold(database="hotel", backup=BACKUP, origin="primary", targets=("offsite", "vault")),
    "release_backup": ReleaseBackup(database="hotel", backup=BACKUP, targets=("primary",)),
    "delete_backup": DeleteBackup(database="hotel", backup=BACKUP, targets=("primary",), who="ana", grace_seconds=604800),
    "undelete_backup": UndeleteBackup(database="hotel", backup=BACKUP, targets=("primary",)),
    "verify_backup": VerifyBackup(database="hotel", backup=BACKUP, target="primary", level="restore"),
    "widen_window": WidenWindow(database="hotel", project="quiet-hotel", was_seconds=86400, now_seconds=604800),
    "note_window": NoteWindow(database="hotel", project="quiet-hotel", was_seconds=None, now_seconds=604800),
    "note_window, again": NoteWindow(database="hotel", project="quiet-hotel", was_seconds=86400, now_seconds=604800),
    "shorten_window": ShortenWindow(database="hotel", project="quiet-hotel", was_seconds=604800, now_seconds=86400),
    "set_schedule": SetSchedule(database="hotel", project="quiet-hotel", was=(), now=(DAILY,)),
    "shrink_schedule": ShrinkSchedule(database="hotel", project="quiet-hotel", was=(DAILY,), now=()),
    "take_snapshot": TakeSnapshot(database="hotel", project="quiet-hotel", name=SNAPSHOT),
    "delete_snapshot": DeleteSnapshot(
        database="hotel", project="quiet-hotel", name=SNAPSHOT, snapshot="snap-1", repository=REPOSITORY
    ),
    "sweep_branch": SweepBranch(database="hotel", below=0, branch="br-1", name=f"reconciler-hotel-{BACKUP}"),
    "protect_branch": ProtectBranch(database="hotel", branch="br-main", name="main"),
    "remove_pin": RemovePin(database="hotel", key=f"hotel/pins/{BACKUP}-00ff.json", target="primary"),
}


def test_ids_of_actions() -> None:
    """An id is a promise to whoever saved a plan: it changes only when this file does, in review."""
    golden = msgspec.json.decode(GOLDEN.read_bytes())

    assert golden == {name: action.id for name, action in ONE_OF_EACH.items()}


def test_one_of_each_kind_is_in_the_golden_file() -> None:
    """A new kind of action comes with its id."""
    assert {kind.__struct_config__.tag for duty in DUTIES for kind in duty.actions} == {one.kind for one in ONE_OF_EACH.values()}


def test_ids_differ() -> None:
    """No two actions that differ in kind, database or a parameter are one."""
    others = [dump(database="reservas"), dump(SLOT + HOUR), dump(target="offsite")]
    ids = [action.id for action in (*ONE_OF_EACH.values(), *others)]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "zone", [timezone(timedelta(hours=2)), timezone(timedelta(hours=-9, minutes=-30)), ZoneInfo("Asia/Kathmandu")]
)
def test_id_of_an_instant_in_any_zone(zone: timezone | ZoneInfo) -> None:
    """An instant is the same whatever zone it is told in, and so are the id and the parameters."""
    told = dump(SLOT.astimezone(zone), keep_until=NOW.astimezone(zone))
    plain = dump(SLOT, keep_until=NOW)

    assert plain.id == told.id
    assert msgspec.json.encode(plain.parameters) == msgspec.json.encode(told.parameters)


def test_id_and_the_order_of_fields() -> None:
    """Neither the order of arguments nor that of labels tells two actions apart."""
    other = dump(labels={"by": "ana", "release": "1.2"}, repository=REPOSITORY, database="hotel")

    assert dump(labels={"release": "1.2", "by": "ana"}).id == other.id


def test_id_and_the_instant_of_planning() -> None:
    """What is shown of a step ages (`9h late`); what it is does not."""
    want, have = policy(), observation(primary=catalogue(daily(2, SLOT - DAY)))
    now, later = planned(want, have), planned(want, have, NOW + 2 * HOUR)

    assert [step.action.id for step in now.steps] == [step.action.id for step in later.steps]
    assert [step.shown.why for step in now.steps] != [step.shown.why for step in later.steps]


def test_id_and_the_schedule_of_a_prune() -> None:
    """Another retention that lets the same backup go plans the very same action."""
    have = observation(primary=catalogue(daily(4, SLOT)))
    one, other = planned(policy(keep=retention(keep_last=3)), have), planned(policy(keep=retention(keep_daily=3)), have)

    assert one.to_approve == other.to_approve != frozenset()


def step(action: Action) -> Step:
    return Step(action=action, shown=Shown(does="do"))


def test_order_of_steps() -> None:
    """Creations before deletions, the dump before copies, and the oldest backup first, in whatever order duties ask."""
    older = PruneBackup(database="hotel", backup="20250101T000000Z-ffffff", targets=("primary",))
    newer = PruneBackup(database="hotel", backup="20250102T000000Z-000000", targets=("primary",))
    steps = [step(newer), step(ONE_OF_EACH["copy_backup"]), step(older), step(dump())]

    expected = [dump(), ONE_OF_EACH["copy_backup"], older, newer]
    assert expected == [one.action for one in in_order(steps)] == [one.action for one in in_order(reversed(steps))]


WANT = policy("0 2 * * *", keep=retention(keep_last=3))
PRUNING = planned(WANT, observation(primary=catalogue(daily(4, SLOT - DAY))))
"""A dump to take, and a backup to prune."""
HELD = planned(WANT, observation(primary=catalogue(daily(20, SLOT - DAY))))
"""A dump to take, and seventeen prunes that the guard holds back."""


def kinds(agreed: Agreed) -> list[str]:
    return [one.action.kind for one in agreed.steps]


def test_plan_of_these_tests() -> None:
    """What the tests below build on."""
    assert ["take_dump", "prune_backup"] == [one.action.kind for one in PRUNING.steps]
    assert (1, 17) == (len(HELD.steps), len(HELD.blocked))


def test_consent_to_all() -> None:
    """Whoever says yes beforehand agrees to all that is freshly planned and not blocked."""
    agreed = agree(Consent(), PRUNING)

    assert PRUNING.steps == agreed.steps
    assert () == agreed.not_approved


def test_creations_need_no_approval() -> None:
    """An approval of nothing still takes the dump; the deletion is left, and named."""
    agreed = agree(Consent(approved=frozenset()), PRUNING)

    assert ["take_dump"] == kinds(agreed)
    assert ["prune_backup"] == [one.action.kind for one in agreed.not_approved]


def test_approved_and_freshly_planned() -> None:
    """A saved plan's deletion is done while it is still planned."""
    agreed = agree(Consent(approved=PRUNING.to_approve), PRUNING)

    assert ["take_dump", "prune_backup"] == kinds(agreed)
    assert () == agreed.not_approved


def test_approved_and_gone() -> None:
    """What is approved and no longer planned is not done."""
    nothing = planned(WANT, observation(primary=catalogue(daily(3, SLOT))))

    assert () == agree(Consent(approved=PRUNING.to_approve), nothing).steps


def test_approval_of_another_deletion() -> None:
    """Only the ids that were approved are: a deletion that the plan file did not show is left."""
    later = planned(WANT, observation(primary=catalogue(daily(4, SLOT))))

    assert [] == kinds(agree(Consent(approved=PRUNING.to_approve), later))
    assert 1 == len(agree(Consent(approved=PRUNING.to_approve), later).not_approved)


@pytest.mark.parametrize("approved", [None, frozenset[str](), frozenset(held.step.action.id for held in HELD.blocked)])
def test_blocked_without_the_digest(approved: frozenset[str] | None) -> None:
    """No approval lets through what the guard holds back, not even one by id."""
    assert ["take_dump"] == kinds(agree(Consent(approved=approved), HELD))


@pytest.mark.parametrize("digest", ["", "0" * 12, digest_of([]), digest_of([HELD.blocked[0].step.action.id])])
def test_wrong_digest(digest: str) -> None:
    """A digest of anything but just these ids lets nothing through."""
    assert ["take_dump"] == kinds(agree(Consent(allow_destructive=digest), HELD))


@pytest.mark.parametrize("approved", [None, frozenset[str]()])
def test_exact_digest(approved: frozenset[str] | None) -> None:
    """The digest under the plan lets through just what it names, with a plan file or without."""
    agreed = agree(Consent(approved=approved, allow_destructive=blocked_digest(HELD)), HELD)

    assert ["take_dump", *["prune_backup"] * 17] == kinds(agreed)
    assert () == agreed.not_approved


def test_digest_after_one_more_backup() -> None:
    """A digest names these ids: once another backup would go with them, a person looks again."""
    later = planned(WANT, observation(primary=catalogue(daily(21, SLOT))))

    assert [] == kinds(agree(Consent(allow_destructive=blocked_digest(HELD)), later))


def test_digest_and_what_is_not_approved() -> None:
    """The guard's digest approves nothing beside what the guard holds back."""
    swept = daily(20, SLOT - DAY)
    debris = msgspec.structs.replace(swept[0], id="20251025T030000Z-aaaaaa", state="debris")
    plan = planned(WANT, observation(primary=catalogue([*swept, debris])))

    agreed = agree(Consent(approved=frozenset(), allow_destructive=blocked_digest(plan)), plan)

    assert ["take_dump", *["prune_backup"] * 17] == kinds(agreed)
    assert ["sweep_debris"] == [one.action.kind for one in agreed.not_approved]


MANY = daily(20, SLOT - DAY)


@pytest.mark.parametrize(
    ("have", "by"),
    [
        (observation(primary=catalogue(MANY), offsite=unknown()), "unknown"),
        (observation(primary=catalogue(MANY, frozen="a drill failed")), "freeze"),
        (observation(primary=catalogue(MANY, skew=HOUR)), "clock"),
    ],
    ids=["unknown", "freeze", "clock"],
)
def test_digest_where_another_rule_blocks(have: Observation, by: str) -> None:
    """Only what the guard holds back can be let through: nothing else has a digest."""
    plan = planned(WANT, have)

    assert {by} == {held.by for held in plan.blocked}
    assert None is blocked_digest(plan)
    assert ["take_dump"] == kinds(agree(Consent(allow_destructive=all_blocked(plan)), plan))


def all_blocked(plan: Plan) -> str:
    return digest_of(held.step.action.id for held in plan.blocked)
