"""How instants, ages and sizes are written for people."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache


@lru_cache(maxsize=4096)
def instant(when: datetime) -> str:
    """`2025-10-24 02:00Z`: minutes are enough for a reader."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def age(span: timedelta) -> str:
    """Two units at most: `41s`, `5m`, `33h12m`, `12d`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    return f"{hours // 24}d"


def size(count: int) -> str:
    """Binary units, one digit: `1.2 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 backup`, `4 backups`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def plain(text: str) -> str:
    """Text that came from outside, for a terminal: no control or direction-changing character of it gets through."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
