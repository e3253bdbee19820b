"""When a backup schedule fires: whole hours, in UTC."""

from datetime import datetime, timedelta

from reconciler.sandbox.neon.records import ScheduleItem


def latest_firing(item: ScheduleItem, now: datetime) -> datetime:
    """The last one that is not later than now. A day that a month doesn't have is its last one."""
    at = now.replace(hour=item.hour or 0, minute=0, second=0, microsecond=0)
    while at > now or not _is_its_day(item, at):
        at -= timedelta(days=1)
    return at


def _is_its_day(item: ScheduleItem, at: datetime) -> bool:
    if item.frequency == "weekly":
        return at.isoweekday() == item.day
    if item.frequency == "monthly":
        is_last = (at + timedelta(days=1)).day == 1
        return at.day == item.day or (is_last and at.day < (item.day or 1))
    return True
