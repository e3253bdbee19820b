"""hold.json and freeze.json: what a person said must stay, and why."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from reconciler.backups import layout
from reconciler.backups.manifest import EARLIEST, decode_again, encode
from reconciler.backups.records import read_whole
from reconciler.errors import Absent, Conflict, Corrupt, Refused
from reconciler.world.facts import Instant
from reconciler.world.ports import ABSENT, Target, custody_of


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Exempts one backup from every deletion."""

    who: str
    why: str
    at: Instant
    until: Instant | None = None
    unasked: bool = False
    """The store here was to keep it by itself too, and gave no answer: it is asked again."""
    refused: Instant | None = None
    """When the store here refused to: it is asked again a day later, for somebody may have given the right."""

    def says(self, now: datetime) -> str:
        """For the reader; empty once it is over."""
        if self.until is not None and self.until <= now:
            return ""
        ends = f" until {self.until:%Y-%m-%d %H:%MZ}" if self.until else ""
        return f'held{ends} by {self.who}: "{self.why}"'

    def lasts_as_long_as(self, other: "Hold") -> bool:
        """Whether nothing is gained by putting the other one in its place, now that the store was asked."""
        mine, its = end_of(self.until), end_of(other.until)
        return mine > its or (mine == its and not self.unasked and self.refused is None)


def end_of(until: datetime | None) -> datetime:
    """When what lasts until then is over, for comparing: what has no end outlasts all that has."""
    return until or datetime.max.replace(tzinfo=UTC)


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Stops every deletion of one database, until somebody lifts it. What was acknowledged stays so after that."""

    who: str
    why: str
    at: Instant | None = None
    until: Instant | None = None
    lifted: bool = False
    acknowledged: tuple[str, ...] = ()

    def says(self, now: datetime) -> str:
        """Why nothing may be deleted; empty where all may."""
        if self.lifted or (self.until is not None and self.until <= now):
            return ""
        ends = f" until {self.until:%Y-%m-%d %H:%MZ}" if self.until else ""
        return f"{self.why} ({self.who}{ends})"


NO_FREEZE = Freeze(who="", why="", lifted=True)
UNREADABLE = Freeze(who="unknown", why="freeze.json is there, and cannot be read")
TRIES = 5
"""Of a record that others write at the same time."""

NO_HOLD = Hold(who="", why="", at=datetime.min.replace(tzinfo=UTC), until=datetime.min.replace(tzinfo=UTC))


UNREADABLE_HOLD = Hold(who="somebody", why="hold.json is there, and cannot be read", at=EARLIEST)


class HoldRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A hold as it lies there."""

    hold: Hold
    text: bytes
    """To be passed on."""
    etag: str | None
    """What to expect where it is written over."""

    def as_refused(self, now: datetime) -> "HoldRecord":
        """The same, where a store was asked in vain. One that can't be read is left as somebody meant it."""
        if self.hold == UNREADABLE_HOLD:
            return self
        hold = msgspec.structs.replace(self.hold, unasked=False, refused=now)
        return msgspec.structs.replace(self, hold=hold, text=encode(hold))


def hold_at(target: Target, key: str) -> Hold:
    """One that can't be read holds all the same: somebody meant something by it."""
    return read_hold_record(target, key).hold


def read_hold_record(target: Target, key: str) -> HoldRecord:
    """With its very bytes, so that what somebody meant by it is passed on as it is."""
    try:
        text, stored = read_whole(target, key)
    except Absent:
        return HoldRecord(hold=NO_HOLD, text=b"", etag=ABSENT)
    except Corrupt:
        return HoldRecord(hold=UNREADABLE_HOLD, text=encode(UNREADABLE_HOLD), etag=None)
    try:
        hold = decode_again(text, Hold, key)
    except Corrupt:
        return HoldRecord(hold=UNREADABLE_HOLD, text=text, etag=stored.etag)
    # What a store answered is said of that store alone.
    passed_on = encode(msgspec.structs.replace(hold, unasked=False, refused=None)) if hold.unasked or hold.refused else text
    return HoldRecord(hold=hold, text=passed_on, etag=stored.etag)


def read_hold(target: Target, key: str, now: datetime) -> str:
    """What it says; empty where there is none, or it is over."""
    return hold_at(target, key).says(now)


def read_freeze(target: Target, key: str) -> Freeze:
    """One that can't be read freezes all the same."""
    return _read_freeze(target, key)[0]


def _read_freeze(target: Target, key: str) -> tuple[Freeze, str | None]:
    """What it says, and what to expect where it is written over."""
    try:
        text, stored = read_whole(target, key)
    except Absent:
        return NO_FREEZE, ABSENT
    except Corrupt:
        return UNREADABLE, None
    try:
        return decode_again(text, Freeze, key), stored.etag
    except Corrupt:
        return UNREADABLE, stored.etag


def put_hold(target: Target, database: str, backup: str, hold: Hold) -> None:
    """Over whatever held it before."""
    target.write(layout.object_key(database, backup, layout.HOLD), [encode(hold)])


def pass_on_hold(target: Target, database: str, backup: str, record: HoldRecord) -> bool:
    """Whether it was written: not over one that lasts as long. Raises Conflict where somebody was faster each time."""
    key = layout.object_key(database, backup, layout.HOLD)

    def wanted() -> tuple[bytes | None, str | None]:
        there = read_hold_record(target, key)
        return None if there.hold.lasts_as_long_as(record.hold) else record.text, there.etag

    return _write_over(target, key, wanted)


def end_hold(target: Target, database: str, backup: str, now: datetime) -> None:
    """Where nothing is deleted: what is over holds nothing."""
    key = layout.object_key(database, backup, layout.HOLD)

    def wanted() -> tuple[bytes | None, str | None]:
        there = read_hold_record(target, key)
        over = msgspec.structs.replace(there.hold, until=now)
        return encode(over) if there.hold.says(now) else None, there.etag

    _write_over(target, key, wanted)


def hold_in_store(target: Target, database: str, backup: str, *, held: bool) -> None:
    """What the backup is made of, where the store itself can keep it from everybody's deletion."""
    custody, root = custody_of(target), layout.backup_root(database, backup)
    if not custody.holds:
        return
    for item in target.list(root, versions=target.versioned).items:
        if not item.marker and (item.latest or not held) and layout.is_lasting(item.key.removeprefix(root)):
            custody.hold(item.key, item.version, held=held)


def keep_in_store(target: Target, database: str, backup: str, hold: Hold) -> Refused | None:
    """Let the store keep it by itself; why it does not, though it might. None where it does, or never can.

    Before the record, or while an intent lies there: a record alone would tell nobody that the store was never asked.
    """
    if hold.until is not None:
        return None  # what ends by itself here would not end there
    try:
        hold_in_store(target, database, backup, held=True)
    except Refused as error:
        return error
    return None


def told(target: Target, refused: Refused | None) -> list[str]:
    """For whoever wanted the store to keep it."""
    if refused is None:
        return []
    return [f"{target.name} does not keep it by itself: {refused.what}; {refused.cure}; it is asked again after a day"]


def keep_as_recorded(target: Target, database: str, backup: str, now: datetime) -> list[str]:
    """The same of a hold that lies there already."""
    if not custody_of(target).holds:
        return []
    key = layout.object_key(database, backup, layout.HOLD)
    refused = keep_in_store(target, database, backup, hold_at(target, key))

    def wanted() -> tuple[bytes | None, str | None]:
        there = read_hold_record(target, key)
        return there.as_refused(now).text if there.hold.says(now) else None, there.etag

    if refused is not None:
        # Where it can't be written down, nobody asks again until the hold is put once more, and that is all.
        with suppress(Refused, Conflict):
            _write_over(target, key, wanted)
    return told(target, refused)


def refuse_frozen(home: Target, database: str, now: datetime) -> None:
    """For whoever deletes, at the last moment: people freeze while a plan is carried out. Raises Conflict."""
    if says := read_freeze(home, layout.freeze_key(database)).says(now):
        raise Conflict(f"deletions of {database} are frozen by now: {says}", cure=f"look, then `reconcile unfreeze {database}`")


def change_freeze(target: Target, database: str, change: Callable[[Freeze], Freeze]) -> None:
    """Write what `change` makes of the record there, over that very content: what others said meanwhile is read again, not lost.

    What `change` raises goes through, with nothing written. Raises Conflict where somebody was faster each time.
    """
    key = layout.freeze_key(database)

    def wanted() -> tuple[bytes, str | None]:
        before, etag = _read_freeze(target, key)
        return encode(change(before)), etag

    _write_over(target, key, wanted)


def _write_over(target: Target, key: str, wanted: Callable[[], tuple[bytes | None, str | None]]) -> bool:
    """Write what is `wanted`, given a fresh look, over just what that look found. Whether there was anything to write."""
    for left in reversed(range(TRIES)):
        text, etag = wanted()
        if text is None:
            return False
        try:
            target.write(key, [text], expect=etag)
        except Conflict:
            # Perhaps our own write, whose answer was lost: the next look finds it.
            if not left:
                raise
            continue
        return True
    return False
