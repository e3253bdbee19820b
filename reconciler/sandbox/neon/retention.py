"""History: how far back it reaches, and what lies before that goes."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from reconciler.sandbox.neon.archive import drop_base, trim_log
from reconciler.sandbox.neon.book import Book, now
from reconciler.sandbox.neon.engine import Engine
from reconciler.sandbox.neon.records import Tick, Timeline
from reconciler.sandbox.neon.refusals import Refusal, invalid
from reconciler.sandbox.neon.work import Target


def reaches_back_to(book: Book, timeline: Timeline) -> datetime:
    """The earliest instant of it that can be asked for. Widening the window brings nothing back."""
    project = book.state.project
    window = now() - timedelta(seconds=project.history_retention_seconds)
    return max(window, project.reaches_back_to, timeline.born)


def must_be_kept(book: Book, timeline_id: str, target: Target) -> None:
    """Raises Refusal for a target that lies before the history that is kept."""
    timeline = book.state.timelines[timeline_id]
    earliest = reaches_back_to(book, timeline)
    if target.at is not None and target.at < earliest:
        window = f"the history retention window, which begins at {earliest.isoformat()}"
        raise invalid(f"timestamp {target.at.isoformat()} is outside {window}")
    if target.lsn is not None and target.lsn < cutoff(timeline, earliest):
        raise Refusal(406, "invalid branch start lsn: less than latest GC cutoff")


def cutoff(timeline: Timeline, earliest: datetime) -> int:
    """The place in its log that was written by then, as far as it was looked at."""
    return max([timeline.start, *(tick.lsn for tick in timeline.ticks if tick.at <= earliest)])


def look(engine: Engine, timeline: Timeline) -> None:
    """Note where the log of a running cluster stands, if it went on."""
    place = engine.clusters.now(timeline.id)
    if not timeline.ticks or place.lsn > timeline.ticks[-1].lsn:
        engine.book.edit(timeline, ticks=(*timeline.ticks, Tick(at=place.at, lsn=place.lsn)))


def trim(engine: Engine) -> None:
    """Delete the bases and the log that no place within the window, and no descendant, needs."""
    state = engine.book.state
    for timeline in list(state.timelines.values()):
        descendants = [other for other in state.timelines.values() if other.parent == timeline.id]
        first = _first_needed(timeline, reaches_back_to(engine.book, timeline), descendants)
        if first is None:
            continue
        old = [base for base in timeline.bases if base.start < first]
        ticks = tuple(tick for tick in timeline.ticks if tick.lsn >= first)
        if old or len(ticks) < len(timeline.ticks):
            kept = tuple(base for base in timeline.bases if base.start >= first)
            engine.book.put(msgspec.structs.replace(timeline, bases=kept, ticks=ticks))
        for base in old:
            drop_base(engine.clusters, timeline.id, base)
        trim_log(engine.clusters, timeline.id, before=first)


def _first_needed(timeline: Timeline, earliest: datetime, descendants: Iterable[Timeline]) -> int | None:
    """Where the base begins from which all that may be asked for is reached; None where that is an ancestor's."""
    places = [max([base.start for base in timeline.bases if base.stopped <= earliest], default=None)]
    places += [
        max([base.start for base in timeline.bases if base.stop <= descendant.start], default=None) for descendant in descendants
    ]
    return None if None in places else min(place for place in places if place is not None)
