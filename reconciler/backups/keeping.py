"""hold.json and freeze.json: what a person said must stay, and why."""

from datetime import UTC, datetime

import msgspec

from reconciler.backups import layout
from reconciler.backups.manifest import decode_record, encode
from reconciler.backups.records import read_whole
from reconciler.errors import Absent, Corrupt
from reconciler.world.facts import Instant
from reconciler.world.ports import Target


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Exempts one backup from every deletion."""

    who: str
    why: str
    at: Instant
    until: Instant | None = None

    def says(self, now: datetime) -> str:
        """For the reader; empty once it is over."""
        if self.until is not None and self.until <= now:
            return ""
        ends = f" until {self.until:%Y-%m-%d %H:%MZ}" if self.until else ""
        return f'held{ends} by {self.who}: "{self.why}"'


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


NO_HOLD = Hold(who="", why="", at=datetime.min.replace(tzinfo=UTC), until=datetime.min.replace(tzinfo=UTC))


def hold_at(target: Target, key: str) -> Hold:
    """One that can't be read holds all the same: somebody meant something by it."""
    try:
        text, _ = read_whole(target, key)
        return decode_record(text, Hold, key)
    except Absent:
        return NO_HOLD
    except Corrupt:
        return Hold(who="somebody", why="hold.json is there, and cannot be read", at=NO_HOLD.at)


def read_hold(target: Target, key: str, now: datetime) -> str:
    """What it says; empty where there is none, or it is over."""
    return hold_at(target, key).says(now)


def read_freeze(target: Target, key: str) -> Freeze:
    """One that can't be read freezes all the same."""
    try:
        text, _ = read_whole(target, key)
        return decode_record(text, Freeze, key)
    except Absent:
        return NO_FREEZE
    except Corrupt:
        return Freeze(who="unknown", why="freeze.json is there, and cannot be read")


def put_hold(target: Target, database: str, backup: str, hold: Hold) -> None:
    """Over whatever held it before."""
    target.write(layout.object_key(database, backup, layout.HOLD), [encode(hold)])


def put_freeze(target: Target, database: str, freeze: Freeze) -> None:
    """Over whatever was said before."""
    target.write(layout.freeze_key(database), [encode(freeze)])
